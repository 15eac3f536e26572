package sudo

import (
	"context"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/soe-agent/soe-agent/internal/system"
)

// A book stands for sudo and the name service of a machine in memory. It reads the files on its own, so that what the agent's parser is wrong about is
// not what the truth is: as far as the lines go that a grove grows. The real sudo reads
// what is odder, in boxes.
type book struct {
	*memory
	directory []string // users to whom a source beside the files gives a shell
	silent    bool     // that source does not answer
}

// A clause is a grant or a denial, as it is listed.
type clause struct {
	source   string
	users    []string
	as       []string
	groups   []string
	options  []string
	commands []string
}

// A reading is what the files say.
type reading struct {
	clauses  []clause
	aliases  map[string][]string
	defaults [][2]string // a scope of users, or "", and the setting
	broken   string      // the place because of which sudo works for nobody
	roll
}

// A roll is the lines of /etc/passwd and /etc/group.
type roll struct{ passwd, group [][]string }

func (b book) roll(staged map[string][]byte) roll {
	if groups, is := staged["/etc/group"]; is {
		return roll{b.lines("/etc/passwd"), newFields(string(groups))}
	}
	return roll{b.lines("/etc/passwd"), b.lines("/etc/group")}
}

// A bookLine is a line of a sudoers file that says something. One of its fields is set.
type bookLine struct {
	number     int
	broken     bool
	include    string
	includeDir string
	alias      string
	members    []string // of the alias
	scope      string   // of the settings: a list of users, or "" for everybody
	settings   []string
	clause     *clause
}

var (
	clauseLine  = regexp.MustCompile(`^(.+?)\s+ALL\s*=\s*(?:\(([^)]*)\))?\s*(.+)$`)
	aliasLine   = regexp.MustCompile(`^User_Alias\s+([A-Z]+)\s*=\s*(.+)$`)
	defaultLine = regexp.MustCompile(`^Defaults(:\S+)?\s+(.+)$`)
	includeLine = regexp.MustCompile(`^[#@]include(dir)?\s+(\S+)$`)
	tagged      = regexp.MustCompile(`^([A-Z]+):\s*`)
)

// file is the content of a file by the rules of sudo: "" if it passes over it.
func (b book) file(name string, staged map[string][]byte) string {
	if content, is := staged[name]; is {
		return string(content)
	}
	n, is := b.get(name)
	if !is || n.info.Mode&0o002 != 0 {
		return ""
	}
	return n.content
}

func (b book) read(staged map[string][]byte) *reading {
	r := &reading{aliases: map[string][]string{}, roll: b.roll(staged)}
	b.readFile(r, "/etc/sudoers", staged, 0)
	return r
}

func (b book) readFile(r *reading, name string, staged map[string][]byte, depth int) {
	for _, line := range b.known.bookLines(b.file(name, staged)) {
		switch {
		case line.include != "" && depth < 8:
			b.readFile(r, line.include, staged, depth+1)
		case line.includeDir != "" && depth < 8:
			for _, base := range b.entries(line.includeDir, staged) {
				if !strings.Contains(base, ".") && !strings.HasSuffix(base, "~") {
					b.readFile(r, line.includeDir+"/"+base, staged, depth+1)
				}
			}
		case line.broken:
			if r.broken == "" {
				r.broken = name + ": syntax error near line " + strconv.Itoa(line.number)
			}
		case line.alias != "":
			if _, defined := r.aliases[line.alias]; !defined { // of two the first counts
				r.aliases[line.alias] = line.members
			}
		case line.settings != nil:
			for _, setting := range line.settings {
				r.defaults = append(r.defaults, [2]string{line.scope, setting})
			}
		case line.clause != nil:
			r.clauses = append(r.clauses, *line.clause)
		}
	}
}

func newBookLines(content string) (all []bookLine) {
	number := 0
	for line := range strings.SplitSeq(strings.ReplaceAll(content, "\\\n", "\x00"), "\n") {
		number += 1 + strings.Count(line, "\x00")
		line = strings.ReplaceAll(line, "\x00", " ")
		if m := includeLine.FindStringSubmatch(line); m != nil {
			if m[1] == "" {
				all = append(all, bookLine{include: m[2]})
			} else {
				all = append(all, bookLine{includeDir: m[2]})
			}
			continue
		}
		if line == "" || line[0] == '#' && (len(line) == 1 || line[1] < '0' || line[1] > '9') {
			continue
		}
		line = strings.TrimSpace(line)
		switch a, d, c := aliasLine.FindStringSubmatch(line), defaultLine.FindStringSubmatch(line), clauseLine.FindStringSubmatch(line); {
		case strings.HasPrefix(line, "Defaults broken"):
			all = append(all, bookLine{number: number, broken: true})
		case a != nil:
			all = append(all, bookLine{alias: a[1], members: list(a[2])})
		case d != nil:
			all = append(all, bookLine{scope: strings.TrimPrefix(d[1], ":"), settings: list(d[2])})
		case c != nil:
			own := newClause(c[1], c[2], c[3])
			all = append(all, bookLine{clause: &own})
		}
	}
	return all
}

func (b book) entries(dir string, staged map[string][]byte) (names []string) {
	for _, name := range b.files(dir) {
		names = append(names, path.Base(name))
	}
	for name := range staged {
		if path.Dir(name) == dir && !slices.Contains(names, path.Base(name)) {
			names = append(names, path.Base(name))
		}
	}
	slices.Sort(names)
	return names
}

func list(text string) (all []string) {
	for part := range strings.SplitSeq(text, ",") {
		all = append(all, strings.TrimSpace(part))
	}
	return all
}

func newClause(users, as, commands string) clause {
	c := clause{source: "Sudoers entry", users: list(users), as: []string{"root"}}
	if as != "" {
		who, groups, both := strings.Cut(as, ":")
		if c.as = list(who); both {
			c.groups = list(groups)
		}
	}
	for m := tagged.FindStringSubmatch(commands); m != nil; m = tagged.FindStringSubmatch(commands) {
		switch m[1] {
		case "NOPASSWD":
			c.options = append(c.options, "!authenticate")
		case "NOEXEC":
			c.options = append(c.options, "noexec")
		}
		commands = commands[len(m[0]):]
	}
	c.commands = list(commands)
	return c
}

// matches says whether a list of users means somebody: of those that do the last decides.
func (r *reading) matches(users []string, user string, depth int) (means, says bool) {
	for _, one := range slices.Backward(users) {
		one, negated := strings.CutPrefix(one, "!")
		is, positive := false, true
		if members, isAlias := r.aliases[one]; isAlias && depth < 8 {
			positive, is = r.matches(members, user, depth+1)
		} else {
			is = r.isOne(one, user)
		}
		if is {
			return positive != negated, true
		}
	}
	return false, false
}

var hexed = regexp.MustCompile(`\\x([0-9a-f]{2})`)

func (n roll) isOne(one, user string) bool {
	if one = strings.Trim(one, `"`); strings.Contains(one, `\x`) {
		one = hexed.ReplaceAllStringFunc(one, func(h string) string {
			n, _ := strconv.ParseUint(h[2:], 16, 8)
			return string(rune(n))
		})
	}
	account := n.account(user)
	if gid, isGID := strings.CutPrefix(one, "%#"); isGID {
		return slices.ContainsFunc(n.groups(user), func(g []string) bool { return g[2] == gid })
	}
	if group, isGroup := strings.CutPrefix(one, "%"); isGroup {
		return slices.ContainsFunc(n.groups(user), func(g []string) bool { return g[0] == group })
	}
	if uid, isUID := strings.CutPrefix(one, "#"); isUID {
		return account != nil && account[2] == uid
	}
	return one == "ALL" || strings.EqualFold(one, user)
}

// lines are those of a file in fields. Nobody changes them: they are shared.
func (b book) lines(name string) [][]string {
	file, _ := b.get(name)
	return b.known.fields(file.content)
}

func newFields(content string) (all [][]string) {
	for line := range strings.Lines(content) {
		all = append(all, strings.Split(strings.TrimSpace(line), ":"))
	}
	return all
}

func (n roll) account(key string) []string {
	for _, a := range n.passwd {
		if a[0] == key || a[2] == key {
			return a
		}
	}
	return nil
}

// groups are those that somebody is in.
func (n roll) groups(user string) (all [][]string) {
	account := n.account(user)
	for _, g := range n.group {
		if account != nil && g[2] == account[3] || strings.Contains(","+g[3]+",", ","+user+",") {
			all = append(all, g)
		}
	}
	return all
}

// clausesOf are those that mean somebody.
func (b book) clausesOf(r *reading, user string) (own []clause) {
	for _, c := range r.clauses {
		if means, _ := r.matches(c.users, user, 0); means {
			own = append(own, c)
		}
	}
	if slices.Contains(b.directory, user) && !b.silent {
		own = append(own, clause{source: "SSSD Role: shells", as: []string{"root"}, commands: []string{"/usr/bin/bash"}})
	}
	return own
}

// rights are the commands that somebody may run.
func (b book) rights(r *reading, user string) (commands []string) {
	if r.broken != "" {
		return nil
	}
	for _, c := range b.clausesOf(r, user) {
		for _, command := range c.commands {
			switch denied, isDenial := strings.CutPrefix(command, "!"); {
			case !isDenial:
				commands = append(commands, command)
			case denied == "ALL" && slices.Equal(c.as, []string{"ALL"}) && slices.Equal(c.groups, c.as):
				commands = nil
			}
		}
	}
	return commands
}

func (b book) list(r *reading, user string) system.Output {
	if r.account(user) == nil {
		return system.Output{ExitCode: 1, Stderr: []byte("sudo: unknown user: " + user + "\n")}
	}
	var said strings.Builder
	var settings []string
	for _, d := range r.defaults {
		if means, _ := r.matches(list(d[0]), user, 0); d[0] == "" || means {
			settings = append(settings, d[1])
		}
	}
	if len(settings) > 0 {
		said.WriteString("Matching Defaults entries for " + user + " on here:\n    " + strings.Join(settings, ", ") + "\n\n")
	}
	own := b.clausesOf(r, user)
	if len(own) == 0 {
		return system.Output{ExitCode: 1, Stdout: []byte(said.String() + "User " + user + " is not allowed to run sudo on here.\n")}
	}
	said.WriteString("User " + user + " may run the following commands on here:\n")
	for _, c := range own {
		said.WriteString("\n" + c.source + ":\n    RunAsUsers: " + strings.Join(c.as, ", ") + "\n")
		if len(c.groups) > 0 {
			said.WriteString("    RunAsGroups: " + strings.Join(c.groups, ", ") + "\n")
		}
		if len(c.options) > 0 {
			said.WriteString("    Options: " + strings.Join(c.options, ", ") + "\n")
		}
		said.WriteString("    Commands:\n\t" + strings.Join(c.commands, "\n\t") + "\n")
	}
	return system.Output{Stdout: []byte(said.String())}
}

// Run implements system.Runner.
func (b book) Run(_ context.Context, c system.Command) (system.Output, error) {
	last := c.Argv[len(c.Argv)-1]
	answer := func(fields []string) (system.Output, error) {
		if fields == nil {
			return system.Output{ExitCode: 2}, nil
		}
		return system.Output{Stdout: []byte(strings.Join(fields, ":") + "\n")}, nil
	}
	switch c.Argv[0] {
	case "visudo", "sudo":
		if c.Argv[0] == "sudo" && b.silent {
			return system.Output{}, context.DeadlineExceeded
		}
		r := b.read(c.Staged)
		if r.broken != "" {
			return system.Output{ExitCode: 1, Stderr: []byte(">>> " + r.broken + " <<<")}, nil
		}
		if c.Argv[0] == "visudo" {
			return system.Output{}, nil
		}
		return b.list(r, last), nil
	case "getent":
		n := b.roll(nil)
		if c.Argv[1] == "passwd" {
			return answer(n.account(last))
		}
		for _, g := range n.group {
			if g[0] == last || g[2] == last {
				return answer(g)
			}
		}
		return answer(nil)
	case "id":
		n := b.roll(nil)
		if n.account(last) == nil {
			return system.Output{ExitCode: 1, Stderr: []byte("id: '" + last + "': no such user\n")}, nil
		}
		var in []string
		for _, g := range n.groups(last) {
			in = append(in, g[0])
		}
		return system.Output{Stdout: []byte(strings.Join(in, "\x00") + "\x00")}, nil
	case "gpasswd":
		return system.Output{}, b.leave(c.Argv[2], c.Argv[3])
	}
	return system.Output{}, system.ErrNotInstalled
}

func (b book) leave(person, group string) error {
	var out strings.Builder
	file, _ := b.get("/etc/group")
	for _, g := range newFields(file.content) {
		if g[0] == group {
			g[3] = strings.Join(slices.DeleteFunc(list(g[3]), func(m string) bool { return m == person }), ",")
		}
		out.WriteString(strings.Join(g, ":") + "\n")
	}
	b.replace("/etc/group", out.String())
	return nil
}
