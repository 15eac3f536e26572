package sudoers

import (
	"context"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/soe-agent/soe-agent/internal/sudotext"
	"github.com/soe-agent/soe-agent/internal/system"
)

// A Listing is what sudo says that somebody may do, whatever source it has that from:
// the sudoers files, LDAP, the directory by way of SSSD.
type Listing struct {
	// Defaults are those that hold for whatever the user runs; of two the later one decides.
	Defaults []sudotext.Setting
	Entries  []Entry // in the order in which they count: the last match decides
}

// An Entry is a grant, or a denial, in a Listing.
type Entry struct {
	Source   string   // as sudo names it: "Sudoers entry", "SSSD Role: admins", with the file and line since 1.9.15
	As       []string // users; none is root
	AsGroups []string
	Options  []string // such as "!authenticate"
	Commands []string // with a "!" in front where they are denied
	// Bounds are the keys of what else binds it, such as "NotAfter", "Role" or "Chroot": it
	// is perhaps not in force. A Timeout by which there is time to work is none.
	Bounds []string
}

// ErrUnknownUser is the error of List when the machine knows no such user, who can do
// nothing.
var ErrUnknownUser = errors.New("the machine does not know the user")

var (
	listHeading = regexp.MustCompile(`(?m)^User .* may run the following commands on .*:$`)
	listRefusal = regexp.MustCompile(`(?m)^User .* is not allowed to run sudo on .*\.$`)
)

// List asks sudo what a user may do (sudo -ll -U, sudo(8)), as root only can. What it
// says and cannot be understood is an error, and so is that it did not answer in time:
// then it is not known what the user may do.
func List(ctx context.Context, s *system.System, user string, changes map[string][]byte) (Listing, error) {
	out, err := s.Runner.Run(ctx, system.Command{
		Argv: []string{"sudo", "-n", "-ll", "-U", user}, ReadOnly: true, Staged: changes, Timeout: AnswerTimeout, Terminal: true,
		Env: []string{"COLUMNS=1000000"}, // or it breaks long lines
	})
	if err != nil {
		return Listing{}, fmt.Errorf("cannot ask sudo what %s may do: %w", user, err)
	}
	if strings.Contains(string(out.Stderr), "unknown user") {
		return Listing{}, fmt.Errorf("cannot ask sudo what %s may do: %w", user, ErrUnknownUser)
	}
	listing, ok := parseListing(string(out.Stdout))
	if !ok {
		said := out.LastLine()
		if len(out.Stderr) > 0 {
			said = firstLine(string(out.Stderr))
		}
		return Listing{}, fmt.Errorf("cannot tell what %s may do from what sudo says: %s", user, said)
	}
	isDir := IsDir(s.FS)
	for i := range listing.Entries {
		bounds := &listing.Entries[i].Bounds
		*bounds = slices.DeleteFunc(*bounds, func(b string) bool { dir, is := strings.CutPrefix(b, inDir); return is && isDir(dir) })
	}
	if listing.Entries, err = asTheyCount(ctx, s, listing.Entries); err != nil {
		return Listing{}, fmt.Errorf("cannot tell what %s may do: %w", user, err)
	}
	return listing, nil
}

// inDir begins the Bound of an entry whose commands are run in a directory that is not there:
// sudo runs none.
const inDir = "Cwd: "

// keys of an entry whose values are lists.
func (e *Entry) list(key string) *[]string {
	switch key {
	case "RunAsUsers":
		return &e.As
	case "RunAsGroups":
		return &e.AsGroups
	case "Options":
		return &e.Options
	}
	return nil
}

var (
	sourceLine = regexp.MustCompile(`^(Sudoers entry|[A-Z]+ Role): ?(.*)$`)
	keyLine    = regexp.MustCompile(`^    ([A-Za-z]+): ?(.*)$`)
)

// parseListing reads what "sudo -ll" prints. ok is false when something of it is not
// understood.
func parseListing(text string) (l Listing, ok bool) {
	lines := strings.Split(text, "\n")
	defaults, told, commands := false, false, false
	for _, line := range lines {
		last := len(l.Entries) - 1
		switch key := keyLine.FindStringSubmatch(line); {
		case strings.HasPrefix(line, "Matching Defaults entries for "):
			defaults = true
		case strings.HasPrefix(line, "Runas and Command-specific defaults for "):
			defaults = false
		case listHeading.MatchString(line), listRefusal.MatchString(line):
			told, defaults = true, false
		case line == "":
			commands = false
		case defaults:
			d, understood := sudotext.ParseDefaults("Defaults " + strings.TrimSpace(line))
			if !understood {
				return l, false
			}
			l.Defaults = append(l.Defaults, d.Settings...)
		case !told: // defaults bound to a command
		case sourceLine.MatchString(line):
			l.Entries = append(l.Entries, Entry{Source: strings.TrimSuffix(strings.TrimSpace(line), ":")})
			commands = false
		case last < 0:
			return l, false
		case commands && strings.HasPrefix(line, "\t"):
			l.Entries[last].Commands = append(l.Entries[last].Commands, strings.TrimSpace(line))
		case key != nil && key[1] == "Commands":
			commands = true
		case key != nil:
			if list := l.Entries[last].list(key[1]); list != nil {
				*list = splitList(key[2])
			} else if key[1] == "Cwd" {
				if path.IsAbs(key[2]) {
					l.Entries[last].Bounds = append(l.Entries[last].Bounds, inDir+key[2])
				}
			} else if seconds, err := strconv.Atoi(key[2]); key[1] != "Timeout" || err != nil || seconds < sudotext.LeastTime {
				l.Entries[last].Bounds = append(l.Entries[last].Bounds, key[1])
			}
		default:
			return l, false
		}
	}
	return l, told
}

// splitList splits a list of sudo's; a comma that is part of a name has a backslash.
func splitList(text string) (words []string) {
	rest := text
	for i := 0; i < len(rest); i++ {
		switch {
		case rest[i] == '\\':
			i++
		case strings.HasPrefix(rest[i:], ", "):
			words, rest, i = append(words, rest[:i]), rest[i+2:], -1
		}
	}
	return append(words, rest)
}

// Everything is the command that stands for all of them.
const Everything = "ALL"

// Granted are the entries by which the user may do something, without the commands
// that are denied: all that stand behind the last denial of everything.
func (l Listing) Granted() []Entry {
	var granted []Entry
	for _, e := range l.Entries {
		rest := e
		rest.Commands = nil
		for _, command := range e.Commands {
			switch {
			case e.deniesAll(command):
				granted, rest.Commands = e.leaves(granted), nil
			case command == "!"+Everything:
				rest.Commands = nil // as those whom this entry is about
			case !strings.HasPrefix(command, "!"):
				rest.Commands = append(rest.Commands, command)
			}
		}
		if len(rest.Commands) > 0 {
			granted = append(granted, rest)
		}
	}
	return granted
}

// deniesAll says whether a command of an entry is the denial of everything, whoever it would
// be run as: nobody is shut out of that, and nothing binds it.
func (e Entry) deniesAll(command string) bool {
	surely, _ := matches(e.As, func(name string) bool { return name == "ALL" }, anybody)
	return command == "!"+Everything && surely && len(e.Bounds) == 0
}

// leaves are those of the grants before it that a denial of everything leaves: what may be
// run as a group, where that is no denial for all groups.
func (e Entry) leaves(granted []Entry) []Entry {
	if groups, _ := matches(e.AsGroups, func(name string) bool { return name == "ALL" }, anybody); groups {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(granted), func(g Entry) bool { return len(g.AsGroups) == 0 })
}

func anybody(string) bool { return true }

// matches says whether a list of sudo's means somebody, surely or perhaps: is says of a name
// that it does, mayBe that it may. The last name that does decides.
func matches(list []string, is, mayBe func(string) bool) (surely, perhaps bool) {
	surely = true
	for _, word := range slices.Backward(list) {
		name, negated := strings.CutPrefix(word, "!")
		switch {
		case is(name):
			return surely && !negated, perhaps || !negated
		case mayBe(name) && negated:
			surely = false
		case mayBe(name):
			perhaps = true
		}
	}
	return false, perhaps
}

// asRoot says whether an entry is about what is run as root.
func (e Entry) asRoot() (surely, perhaps bool) {
	if len(e.As) == 0 { // with a group it is about whoever runs it
		return len(e.AsGroups) == 0, len(e.AsGroups) == 0
	}
	return matches(e.As,
		func(name string) bool { return name == "ALL" || name == "root" || name == "#0" },
		func(name string) bool { // a group, or an alias that stands for nobody knows whom
			return strings.HasPrefix(name, "%") || strings.HasPrefix(name, "+") || name != "" && name[0] >= 'A' && name[0] <= 'Z' && strings.ToUpper(name) == name
		})
}

// Conceded has sudo say how it lists commands, were they all that its files grant a user.
func Conceded(ctx context.Context, s *system.System, user string, commands []sudotext.Command) ([]Entry, error) {
	content := "root ALL = (ALL) ALL\n"
	for _, c := range commands {
		content += sudotext.Quote(user) + " ALL = " + c.String() + "\n"
	}
	l, err := List(ctx, s, user, map[string][]byte{Main: []byte(content)})
	if err != nil {
		return nil, err
	}
	l.Entries = slices.DeleteFunc(l.Entries, func(e Entry) bool { return !strings.HasPrefix(e.Source, localSource) })
	if len(l.Entries) != len(commands) {
		return nil, fmt.Errorf("cannot tell how sudo lists what the policy grants to %s: it lists %d of %d commands", user, len(l.Entries), len(commands))
	}
	return l.Entries, nil
}

// localSource is how the source of an entry begins that stands in a file.
const localSource = "Sudoers entry"

// Compare says what a user may do more, and less, than is conceded: no entry behind the last
// denial of everything may be missing, or be one too many, and none may be denied again.
func Compare(l Listing, conceded []Entry) (more, less []Entry) {
	wanted := map[string]int{}
	for _, e := range single(conceded) {
		wanted[e.key()]++
	}
	for _, e := range single(l.Granted()) {
		if wanted[e.key()]--; wanted[e.key()] < 0 {
			more = append(more, e)
		}
	}
	denied := l.denied()
	for _, e := range single(conceded) {
		switch wanted[e.key()]--; {
		case wanted[e.key()] >= 0:
			less = append(less, e)
		case slices.ContainsFunc(denied, func(command string) bool { return mayDeny(command, e.Commands[0]) }):
			less = append(less, e)
		}
	}
	return more, less
}

// single are entries with one command each.
func single(entries []Entry) (singles []Entry) {
	for _, e := range entries {
		for _, command := range e.Commands {
			one := e
			one.Commands = []string{command}
			singles = append(singles, one)
		}
	}
	return singles
}

// key is the same for entries that grant the same, whatever their source.
func (e Entry) key() string {
	return fmt.Sprintf("%q %q %q %q", e.As, e.AsGroups, e.Options, e.Commands)
}

// denied are the commands that are denied behind the last denial of everything, without
// their mark: where what the policy concedes stands directly behind that, they may be among it.
func (l Listing) denied() (denied []string) {
	for _, e := range l.Entries {
		for _, command := range e.Commands {
			switch text, negated := strings.CutPrefix(command, "!"); {
			case e.deniesAll(command):
				denied = nil
			case negated:
				denied = append(denied, text)
			}
		}
	}
	return denied
}

// mayDeny says whether a denial may be of a granted command: sudo compares files, and so
// what has the same name in another directory may be the same.
func mayDeny(denied, granted string) bool {
	program := func(command string) string { p, _, _ := strings.Cut(command, " "); return p }
	d, g := program(denied), program(granted)
	return d == Everything || strings.HasSuffix(d, "/") || sudotext.IsPattern(d) || path.Base(d) == path.Base(g) || strings.HasSuffix(g, "/") || sudotext.IsPattern(g)
}

// Administers says whether the user can become root by whatever command: everything may be
// run as root, and nothing behind that denies more of it than single programs, or has what
// is run be less than root.
func (l Listing) Administers() bool {
	administers := false
	for _, e := range l.Entries {
		surely, perhaps := e.asRoot()
		for _, command := range e.Commands {
			text, denies := strings.CutPrefix(command, "!")
			switch {
			case denies && perhaps && isMany(text):
				administers = false
			case !denies && text == Everything && perhaps && e.hampers():
				administers = false
			case !denies && text == Everything && surely && len(e.Bounds) == 0:
				administers = true
			}
		}
	}
	return administers
}

// isMany says whether a command of a list stands for more than one program.
func isMany(command string) bool {
	program, _, _ := strings.Cut(command, " ")
	return command == Everything || strings.HasPrefix(command, "sha") && strings.HasSuffix(command, " "+Everything) ||
		strings.HasSuffix(program, "/") || strings.HasPrefix(program, "^") || sudotext.IsPattern(program)
}

// hampers says whether what is run by an entry cannot do what root can.
func (e Entry) hampers() bool {
	return slices.Contains(e.Options, "noexec") || slices.ContainsFunc(e.Bounds, func(bound string) bool {
		return bound == "Chroot" || bound == "Timeout" || bound == "Privs" || bound == "Limitprivs" || strings.HasPrefix(bound, inDir)
	})
}

// Weak are the Defaults in force by which sudo asks less than it does by itself, as
// sudoers(5) writes them. personal says of each whether it is about the password of the
// one who asks alone.
func (l Listing) Weak() map[string]bool { return sudotext.Weak(l.Defaults) }

func (e Entry) String() string {
	as := strings.Join(e.As, ", ")
	if len(e.AsGroups) > 0 {
		as += " : " + strings.Join(e.AsGroups, ", ")
	}
	if as == "" {
		as = "root"
	}
	return fmt.Sprintf("(%s) %s, by %s", as, strings.Join(e.Commands, ", "), e.Source)
}
