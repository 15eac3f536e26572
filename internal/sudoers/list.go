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

// A Listing is what sudo says a user may do, from all its sources: the sudoers files, LDAP, the
// directory through SSSD.
type Listing struct {
	// Defaults are those that apply to all commands of the user. If two contradict, the later one
	// decides.
	Defaults []sudotext.Setting
	Entries  []Entry // in order of evaluation: the last match decides
}

// An Entry is a grant or a denial in a Listing.
type Entry struct {
	Source   string   // as sudo names it: "Sudoers entry", "SSSD Role: admins"; with the file and line since 1.9.15
	As       []string // users; an empty list means root
	AsGroups []string
	Options  []string // such as "!authenticate"
	Commands []string // denied commands begin with "!"
	// Bounds are the keys of other restrictions, such as "NotAfter", "Role" or "Chroot", with which
	// the entry may not be in force. A Timeout that leaves enough time to work is not among them.
	Bounds []string
}

// ErrUnknownUser is the error of List if the machine does not know the user. Such a user cannot do
// anything.
var ErrUnknownUser = errors.New("the machine does not know the user")

var (
	listHeading = regexp.MustCompile(`(?m)^User .* may run the following commands on .*:$`)
	listRefusal = regexp.MustCompile(`(?m)^User .* is not allowed to run sudo on .*\.$`)
)

// List asks sudo what a user may do (sudo -ll -U, sudo(8)), which only root can. It returns an
// error if sudo does not answer in time or its output cannot be parsed: it is then unknown what the
// user may do.
func List(ctx context.Context, s *system.System, user string, changes map[string][]byte) (Listing, error) {
	return list(ctx, s, user, system.Command{Staged: changes})
}

// ListUncovered is List as it would be without what is mounted at some points.
func ListUncovered(ctx context.Context, s *system.System, user string, points []string) (Listing, error) {
	return list(ctx, s, user, system.Command{Staged: system.Staged{}, Uncovered: points})
}

func list(ctx context.Context, s *system.System, user string, as system.Command) (Listing, error) {
	out, err := s.Runner.Run(ctx, system.Command{
		Argv: []string{"sudo", "-n", "-ll", "-U", user}, ReadOnly: true, Staged: as.Staged, Uncovered: as.Uncovered, Timeout: AnswerTimeout, Terminal: true,
		Env: []string{"COLUMNS=1000000"}, // otherwise sudo breaks long lines
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

// inDir is the prefix of the bound of an entry whose commands run in a directory that does not
// exist: sudo runs none of them.
const inDir = "Cwd: "

// list returns the field of a key whose value is a list, or nil.
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

// parseListing parses the output of "sudo -ll". ok is false if a part of it is not understood.
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
		case !told: // defaults of a single command
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

// splitList splits a list of sudo's output. A comma inside a name is escaped with a backslash.
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

// Everything is the command that means all commands.
const Everything = "ALL"

// Granted returns the entries that allow something, without their denied commands. Only entries
// after the last denial of everything count.
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
				rest.Commands = nil // for the users of this entry
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

// deniesAll reports whether a command of an entry denies everything, as any user: the run-as list
// excludes nobody, and the entry has no other restrictions.
func (e Entry) deniesAll(command string) bool {
	surely, _ := matches(e.As, func(name string) bool { return name == "ALL" }, anybody)
	return command == "!"+Everything && surely && len(e.Bounds) == 0
}

// leaves returns the earlier grants that remain after this denial of everything: commands that may
// be run as a group, if the denial does not include all groups.
func (e Entry) leaves(granted []Entry) []Entry {
	if groups, _ := matches(e.AsGroups, func(name string) bool { return name == "ALL" }, anybody); groups {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(granted), func(g Entry) bool { return len(g.AsGroups) == 0 })
}

func anybody(string) bool { return true }

// matches reports whether a list of sudo includes somebody, surely or perhaps. is reports that a
// name means them, mayBe that it may. The last name that does decides.
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

// asRoot reports whether an entry applies to commands run as root.
func (e Entry) asRoot() (surely, perhaps bool) {
	if len(e.As) == 0 { // with groups alone, commands run as the invoking user
		return len(e.AsGroups) == 0, len(e.AsGroups) == 0
	}
	return matches(e.As,
		func(name string) bool { return name == "ALL" || name == "root" || name == "#0" },
		func(name string) bool { // a group, or an alias whose members are not known
			return strings.HasPrefix(name, "%") || strings.HasPrefix(name, "+") || name != "" && name[0] >= 'A' && name[0] <= 'Z' && strings.ToUpper(name) == name
		})
}

// Conceded asks sudo how it lists these commands if its files grant a user nothing else.
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

// localSource is the prefix of the source of entries from files.
const localSource = "Sudoers entry"

// Compare returns what a user may do in addition to what is conceded, and what of it is missing.
// After the last denial of everything there must be exactly the conceded entries, and none of them
// may be denied again.
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

// single returns the entries split into entries with one command each.
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

// key returns a text that is equal for entries that grant the same, regardless of source.
func (e Entry) key() string {
	return fmt.Sprintf("%q %q %q %q", e.As, e.AsGroups, e.Options, e.Commands)
}

// denied returns the commands that are denied after the last denial of everything, without the "!".
// If the policy's grants directly follow that denial, these may affect them.
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

// mayDeny reports whether a denial may include a granted command. sudo compares files, so a program
// with the same name in another directory may be the same one.
func mayDeny(denied, granted string) bool {
	program := func(command string) string { p, _, _ := strings.Cut(command, " "); return p }
	d, g := program(denied), program(granted)
	return d == Everything || strings.HasSuffix(d, "/") || sudotext.IsPattern(d) || path.Base(d) == path.Base(g) || strings.HasSuffix(g, "/") || sudotext.IsPattern(g)
}

// Administers reports whether the user can become root with any command: everything may be run as
// root, and no later entry denies more of that than single programs, or restricts the commands so
// that they cannot do what root can.
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

// isMany reports whether a command of a list means more than one program.
func isMany(command string) bool {
	program, _, _ := strings.Cut(command, " ")
	return command == Everything || strings.HasPrefix(command, "sha") && strings.HasSuffix(command, " "+Everything) ||
		strings.HasSuffix(program, "/") || strings.HasPrefix(program, "^") || sudotext.IsPattern(program)
}

// hampers reports whether commands run through an entry cannot do everything that root can.
func (e Entry) hampers() bool {
	return slices.Contains(e.Options, "noexec") || slices.ContainsFunc(e.Bounds, func(bound string) bool {
		return bound == "Chroot" || bound == "Timeout" || bound == "Privs" || bound == "Limitprivs" || strings.HasPrefix(bound, inDir)
	})
}

// Weak returns the Defaults in force that make sudo ask for less than it does by default, as
// sudoers(5) writes them. The value says whether the setting is only about the invoking user's own
// password.
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
