package sudo

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

// A grove is a machine of which sudoers, polkit and groups are as a seed has it.
type grove struct {
	*rand.Rand
	toml     string
	allow    []string
	rooted   []string // groups that are as good as root
	files    map[string]string
	modes    map[string]fs.FileMode
	book     book
	conceded map[string][]string // by user
	parsed   *policy.Policy      // of toml
}

// policy is what toml says.
func (g *grove) policy(t *testing.T) *policy.Policy {
	t.Helper()
	if g.parsed == nil {
		g.parsed = kindtest.Policy(t, g.toml)
	}
	return g.parsed
}

// villagers are everybody with a shell but root, by name, and what is said of them.
var villagers = map[string]string{
	"alice": "alice:x:1001:1001::/home/alice:/bin/sh", "bob": "bob:x:1000:1000::/home/bob:/bin/sh",
	"carol": "carol:x:1002:1002::/home/carol:/bin/sh", "dave": "dave:x:1003:700::/home/dave:/bin/sh",
}

// oneOf is one of some.
func oneOf[T any](g *grove, all ...T) T { return all[g.IntN(len(all))] }

// often says yes in n of ten cases.
func (g *grove) often(n int) bool { return g.IntN(10) < n }

// users are a list of users as somebody might write it.
func (g *grove) users() string {
	var all []string
	for range 1 + g.IntN(3) {
		all = append(all, oneOf(g, "alice", "bob", "carol", "dave", "Bob", `b\x6fb`, `"bob"`, "ALL", "%wheel", "%admins", "%ops", "#1000", "#1001", "%#10", "%#500", "OPS", "BOB", "!bob", "!alice", "!OPS", "nobody-knows"))
	}
	return strings.Join(all, ", ")
}

// line is one of a sudoers file.
func (g *grove) line() string {
	switch n := g.IntN(20); {
	case n < 2:
		return oneOf(g, "User_Alias OPS = bob, carol", "User_Alias OPS = %ops, !carol", "User_Alias OPS = ALL, !alice")
	case n < 4:
		return oneOf(g, "Defaults !authenticate", "Defaults env_reset", "Defaults targetpw", "Defaults:alice !authenticate", "Defaults:bob !authenticate", "Defaults insults", "# a comment", "")
	case n < 5 && g.often(2):
		return "Defaults broken"
	}
	as := oneOf(g, "(ALL) ", "(ALL:ALL) ", "(root) ", "(carol) ", "")
	what := oneOf(g, "ALL", "ALL", "NOPASSWD: ALL", "/usr/bin/bash", "/usr/bin/id, /usr/bin/vi", "!ALL", "!/bin/su, !/bin/sh", "ALL, !/bin/su", "!ALL, /usr/bin/id")
	return g.users() + oneOf(g, " ALL=", " ALL = ", " \\\n ALL=") + as + what
}

func (g *grove) lines() string {
	var all strings.Builder
	for range 1 + g.IntN(3) {
		all.WriteString(g.line() + "\n")
	}
	return all.String()
}

func newGrove(seed uint64) *grove {
	g := &grove{Rand: rand.New(rand.NewPCG(seed, 7)), modes: map[string]fs.FileMode{}, conceded: map[string][]string{}}
	g.allow = oneOf(g, []string{"%admins"}, []string{"alice"}, []string{"root", "%admins"}, []string{"%admins", "dave"})
	// Not of the seed's own numbers, which stay as they were. Ops may have no member by /etc/group, and has dave by his account.
	if rand.New(rand.NewPCG(seed, 63)).IntN(6) == 0 {
		g.allow = oneOf(&grove{Rand: rand.New(rand.NewPCG(seed, 65))}, []string{"%ops"}, []string{"%ops", "alice"})
	}
	g.rooted = []string{"docker"}
	if rand.New(rand.NewPCG(seed, 11)).IntN(2) == 0 {
		g.rooted = append(g.rooted, "wheel", "ops")
		g.rooted = slices.DeleteFunc(g.rooted, func(group string) bool { return slices.Contains(g.allow, "%"+group) })
	}
	g.toml = fmt.Sprintf("[sudo]\nallow = [\"%s\"]\nroot_groups = [\"%s\"]\n", strings.Join(g.allow, `", "`), strings.Join(g.rooted, `", "`))
	if g.often(3) {
		g.toml += "[sudo.commands]\nbob = [\"(root) NOPASSWD: /usr/bin/dmesg\"]\n"
		g.conceded["bob"] = []string{"/usr/bin/dmesg"}
	}
	people := []string{"root:x:0:0::/root:/bin/sh", "daemon:x:2:2::/:/usr/sbin/nologin"}
	for _, name := range sortedKeys(villagers) {
		people = append(people, villagers[name])
	}
	g.files = map[string]string{
		"/usr/bin/sudo": "", "/etc/sudoers.d/": "", rulesDir + "/": "", "/home/": "", "/opt/more/": "",
		"/proc/1/stat": stat(1), "/proc/77/stat": stat(77), "/etc/nsswitch.conf": "sudoers: files\n",
		"/etc/passwd": strings.Join(people, "\n") + "\n",
		"/etc/group": "root:x:0:\nwheel:x:10:" + oneOf(g, "bob", "bob,carol", "") + "\nadmins:x:500:" + oneOf(g, "alice", "alice", "alice,carol") +
			"\nops:x:700:" + oneOf(g, "", "bob", "alice,bob") + "\ndocker:x:600:" + oneOf(g, "", "daemon", "bob", "alice,bob,carol") + "\n",
	}
	g.sudoers(seed)
	g.polkit()
	return g
}

func (g *grove) sudoers(seed uint64) {
	main := "Defaults env_reset\nroot ALL=(ALL) ALL\n"
	if g.often(5) {
		main += "%wheel ALL=(ALL) ALL\n"
	}
	if g.often(3) {
		main += "%admins ALL=(ALL) NOPASSWD: ALL\n"
	}
	for g.often(2) {
		main += g.line() + "\n"
	}
	if g.often(2) {
		main += "#include /etc/sudoers.local\n"
		g.files["/etc/sudoers.local"] = g.lines()
	}
	main += oneOf(g, "#includedir ", "@includedir ") + "/etc/sudoers.d\n"
	for g.often(2) {
		main += g.line() + "\n"
	}
	if strings.Contains(main, "Defaults broken") {
		main = strings.ReplaceAll(main, "Defaults broken", "Defaults insults") // not the agent's to mend
	}
	g.files["/etc/sudoers"] = main
	for range g.IntN(4) {
		name := "/etc/sudoers.d/" + oneOf(g, "00-a", "50-x", "50-y", "zzz", "x.bak", "y~")
		switch content := g.lines(); {
		case g.often(1):
			g.files[name], g.files["/srv/"+filepath.Base(name)] = "-> /srv/"+filepath.Base(name), content
			g.modes["/srv/"+filepath.Base(name)] = 0o440
		case g.often(1):
			g.files[name], g.files["/opt/more/x"] = "@includedir /opt/more\n", content
		default:
			g.files[name] = content
			if g.often(1) {
				g.modes[name] = 0o446
			}
		}
	}
	switch g.IntN(4) {
	case 0: // what an agent has left, under this policy or another
		g.files[grantsPath] = string(grants(g.allow))
		g.files[denialPath] = string(denial(append([]string{"root"}, g.allow...), nil, nil))
	case 1:
		g.files[denialPath] = g.lines()
	}
	if g.often(1) {
		g.files["/etc/nsswitch.conf"] = "sudoers: files sss\n"
		g.book.directory, g.book.silent = []string{oneOf(g, "alice", "bob", "carol")}, g.often(4)
	}
	if rand.New(rand.NewPCG(seed, 111)).IntN(6) == 0 { // nor this of the seed's own numbers
		g.files["/etc/nsswitch.conf"], g.book.silent = "sudoers: files sss\n", true
	}
}

func (g *grove) polkit() {
	yes := oneOf(g, "return polkit.Result.YES;", `return "y"+"es";`)
	for range g.IntN(3) {
		name := oneOf(g, rulesDir, rulesDir, vendorRules) + "/" + oneOf(g, "00-0a", "10-x", "50-y") + ".rules"
		g.files[name] = oneOf(g,
			"polkit.addRule(function(a, s) { "+yes+" });\n",
			"polkit.addRule(function(a, s) { if (a.id == \""+execAction+"\") "+yes+" });\n",
			"polkit.addRule(function(a, s) { if (s.active && a.id == \""+unitsAction+"\") "+yes+" });\n",
			"polkit.addRule(function(a, s) { if (a.id == \"org.example.print\") "+yes+" });\n",
			"polkit.addRule(function(a, s) { if (a.id == \""+unitsAction+"\") return polkit.Result.AUTH_SELF; });\n",
			"polkit.addAdminRule(function(a, s) { return [\"unix-user:bob\"]; });\n",
		)
	}
	if g.often(2) {
		g.files["/usr/share/polkit-1/actions/open.policy"] = "/usr/bin/bash\n"
	}
	if g.often(2) {
		g.files[authorityDir+"/50-x.conf"] = "[Configuration]\nAdminIdentities=unix-user:bob\n"
	}
}

// plant makes a machine of it.
func (g *grove) plant() *memory {
	modes := maps.Clone(g.modes)
	for name := range g.files {
		if _, set := modes[name]; !set && (strings.HasPrefix(name, "/etc/sudoers") || strings.HasPrefix(name, "/opt/more/")) {
			modes[name] = 0o440
		}
	}
	return newMemory(g.files, modes)
}

// allowed says whether the policy lets somebody administer.
func (g *grove) allowed(n roll, user string) bool {
	return user == "root" || slices.Contains(g.allow, user) ||
		slices.ContainsFunc(n.groups(user), func(group []string) bool { return slices.Contains(g.allow, "%"+group[0]) })
}

// administers says whether sudo lets somebody do everything as root.
func (b book) administers(r *reading, user string) bool {
	may := false
	for _, c := range b.clausesOf(r, user) {
		asRoot := slices.Contains(c.as, "ALL") || slices.Contains(c.as, "root")
		for _, command := range c.commands {
			if asRoot && (command == "ALL" || command == "!ALL") {
				may = command == "ALL" && !slices.Contains(c.options, "noexec")
			}
		}
	}
	return may && r.broken == ""
}

// administrators are those whom sudo lets do everything.
func (b book) administrators() (names []string) {
	r := b.read(nil)
	for _, name := range append([]string{"root"}, sortedKeys(villagers)...) {
		if b.administers(r, name) {
			names = append(names, name)
		}
	}
	return names
}

// left are the rights that somebody has who is not allowed, by what each resource is about.
func (g *grove) left(t *testing.T, b book) map[string][]string {
	t.Helper()
	left := map[string][]string{}
	r := b.read(nil)
	authority := fewActions{standIn{memory: b.memory, known: b.known}}
	for _, name := range sortedKeys(villagers) {
		if g.allowed(r.roll, name) {
			continue
		}
		for _, command := range b.rights(r, name) {
			if !slices.Contains(g.conceded[name], command) {
				left["sudo/allow"] = append(left["sudo/allow"], name+": "+command)
			}
		}
		for _, pid := range []int{1, 77} {
			uid := 0
			fmt.Sscan(r.account(name)[2], &uid)
			if pid == 77 && uid != 1000 { // whose session it is
				continue
			}
			var questions []system.Question
			actions := []string{execAction, unitsAction}
			if _, installed := g.files["/usr/share/polkit-1/actions/open.policy"]; installed {
				actions = append(actions, "org.example.open")
			}
			for _, action := range actions {
				questions = append(questions, system.Question{Action: action, UID: uid, PID: pid})
			}
			answers, err := authority.Authorized(t.Context(), questions)
			if err != nil {
				t.Fatal(err)
			}
			for i, yes := range answers {
				if yes {
					left["sudo/polkit"] = append(left["sudo/polkit"], fmt.Sprintf("%s at %d: %s", name, pid, questions[i].Action))
				}
			}
		}
		if slices.ContainsFunc(r.groups(name), func(group []string) bool { return slices.Contains(g.rooted, group[0]) }) {
			left["sudo/root_groups"] = append(left["sudo/root_groups"], name)
		}
	}
	for _, d := range r.defaults {
		if d[0] == "" && d[1] == "!authenticate" || d[1] == "authenticate" {
			left["defaults"] = []string{d[1]}
		}
	}
	if slices.Equal(left["defaults"], []string{"!authenticate"}) {
		left["sudo/allow"] = append(left["sudo/allow"], "Defaults !authenticate")
	}
	delete(left, "defaults")
	return left
}

// fewActions is a polkit of a machine with few actions.
type fewActions struct{ standIn }

func (f fewActions) Actions(ctx context.Context) (few []system.Action, err error) {
	all, err := f.standIn.Actions(ctx)
	for _, a := range all {
		if a.ID == execAction || a.ID == unitsAction || strings.HasPrefix(a.ID, "org.example.") {
			few = append(few, a)
		}
	}
	return few, err
}
