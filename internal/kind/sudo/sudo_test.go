package sudo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/sudoers"
	"github.com/soe-agent/soe-agent/internal/sudotext"
	"github.com/soe-agent/soe-agent/internal/system"
)

// directory stands for the name service, and for a visudo and a sudo before 1.9 that find no
// fault but with the word "broken". The real ones are asked in boxes.
type directory struct {
	files  system.FS
	users  map[string]string // name or uid → line of passwd
	groups map[string]string // name or gid → line of group
	member map[string]string // user → groups
}

func (d directory) Run(_ context.Context, c system.Command) (system.Output, error) {
	key := c.Argv[len(c.Argv)-1]
	answer := func(line string, found bool) (system.Output, error) {
		if !found {
			return system.Output{ExitCode: 2}, nil
		}
		return system.Output{Stdout: []byte(line + "\n")}, nil
	}
	switch c.Argv[0] {
	case "visudo", "sudo":
		tree, err := sudoers.Read(d.files, c.Staged)
		if err != nil {
			return system.Output{}, err
		}
		for _, line := range tree.Lines {
			if strings.HasPrefix(line.Text, "Defaults broken") {
				return system.Output{ExitCode: 1, Stderr: fmt.Appendf(nil, ">>> %s: syntax error near line %d <<<", line.File, line.First)}, nil
			}
		}
		return system.Output{Stdout: []byte("User root may run the following commands on here:\n")}, nil
	case "getent":
		if c.Argv[1] == "passwd" {
			line, found := d.users[key]
			return answer(line, found)
		}
		line, found := d.groups[key]
		return answer(line, found)
	case "id":
		return system.Output{Stdout: []byte(strings.ReplaceAll(d.member[key], ",", "\x00"))}, nil
	}
	return system.Output{}, system.ErrNotInstalled
}

func people() directory {
	alice, bob := "alice:x:1001:1001::/home/alice:/bin/sh", "bob:x:1000:1000::/home/bob:/bin/sh"
	return directory{
		users:  map[string]string{"alice": alice, "1001": alice, "bob": bob, "1000": bob},
		groups: map[string]string{"admins": "admins:x:500:alice", "500": "admins:x:500:alice", "empty": "empty:x:501:", "wheel": "wheel:x:10:bob"},
		member: map[string]string{"alice": "alice,admins", "bob": "bob,wheel"},
	}
}

const mainFile = "Defaults env_reset\nroot ALL=(ALL) ALL\n%wheel ALL=(ALL) ALL\n#includedir /etc/sudoers.d\n"

func machine(t *testing.T, files map[string]string) string {
	t.Helper()
	all := map[string]string{
		"/etc/sudoers.d/": "", "/etc/polkit-1/rules.d/": "", "/home/": "",
		"/usr/bin/sudo": "", "/etc/sudoers": mainFile,
		"/etc/passwd": "root:x:0:0::/root:/bin/sh\nalice:x:1001:1001::/home/alice:/bin/sh\nbob:x:1000:1000::/home/bob:/bin/sh\n",
		"/etc/group":  "root:x:0:\nwheel:x:10:bob\nadmins:x:500:alice\nempty:x:501:\n",
	}
	maps.Copy(all, files)
	return kindtest.Root(t, all)
}

func pass(t *testing.T, root string, allow []string, gate system.Gate) (sudo, polkit converge.Resource) {
	t.Helper()
	s := kindtest.Open(t, system.Options{Root: root, Gate: gate})
	runner := people()
	runner.files = s.FS
	s.Runner = runner
	ledger := kindtest.Ledger(t, root)
	p := &policy.Policy{Resources: []policy.Resource{{ID: "sudo/allow", Spec: policy.Sudo{Allow: allow}}}}
	result := kindtest.Engine(p, New(p, s), ledger, s.Clock).Pass(t.Context())
	if len(result.Resources) != 2 {
		t.Fatalf("got %+v", result.Resources)
	}
	return result.Resources[0], result.Resources[1]
}

func TestAFileThatSortsLastCannotIncludeAnother(t *testing.T) {
	root := machine(t, map[string]string{"/etc/sudoers.d/zzz": "#include /opt/x\n", "/opt/x": "bob ALL=ALL\n", "/etc/sudoers.d/x.bak": "bob ALL=ALL\n"})
	if r, _ := pass(t, root, []string{"%admins"}, nil); r.State != converge.Corrected {
		t.Errorf("it is %s: %s", r.State, r.Reason)
	}
	if got := kindtest.Read(t, root, "/etc/sudoers.d/zzz"); got != mark+"#include /opt/x\n" {
		t.Errorf("got %s", got)
	}
	if got := kindtest.Read(t, root, "/etc/sudoers.d/x.bak"); got != "bob ALL=ALL\n" {
		t.Errorf("a file that sudo skips was changed: %s", got)
	}
}

func TestNothingIsChangedWhenNobodyCouldAdminister(t *testing.T) {
	for _, allow := range [][]string{{"root", `%EXAMPLE\Admins`}, {"nobody-knows"}, {"%empty"}} {
		root := machine(t, map[string]string{"/etc/sudoers.d/50-x": "bob ALL=ALL\n"})
		recorder := &system.Recorder{}
		r, polkit := pass(t, root, allow, recorder.Gate)
		for _, r := range []converge.Resource{r, polkit} {
			if r.State != converge.Failed || !strings.Contains(r.Reason, "no administrator") {
				t.Errorf("%v: %s is %s: %s", allow, r.ID, r.State, r.Reason)
			}
		}
		if changes := recorder.Changes(); len(changes) > 0 {
			t.Errorf("%v: it changed something: %v", allow, changes)
		}
	}
}

func TestWhatIsNotTheAgentsToMendIsReported(t *testing.T) {
	for want, files := range map[string]map[string]string{
		"does not include":       {"/etc/sudoers": "root ALL=(ALL) ALL\n"},
		"does not edit":          {"/etc/sudoers": mainFile + "Defaults broken\n"},
		"before the agent's own": {"/usr/share/polkit-1/rules.d/00-0a.rules": "polkit.addAdminRule(f)"},
	} {
		root := machine(t, files)
		r, polkit := pass(t, root, []string{"%admins"}, nil)
		if said := r.Reason + polkit.Reason; !strings.Contains(said, want) || (r.State != converge.Failed && polkit.State != converge.Failed) {
			t.Errorf("want %q, got %s: %s / %s: %s", want, r.State, r.Reason, polkit.State, polkit.Reason)
		}
	}
}

func TestOnlyTheLineThatBreaksSudoBecomesAComment(t *testing.T) {
	root := machine(t, map[string]string{
		"/etc/sudoers.d/50-x": "alice ALL=NOPASSWD: ALL\nDefaults broken\nalice ALL=ALL\n", "/etc/sudoers.d/60-y": "Defaults broken, \\\n x\n",
	})
	if r, _ := pass(t, root, []string{"%admins"}, nil); r.State != converge.Corrected {
		t.Errorf("it is %s: %s", r.State, r.Reason)
	}
	for name, want := range map[string]string{
		"/etc/sudoers.d/50-x": "alice ALL=NOPASSWD: ALL\n" + broken + "Defaults broken\nalice ALL=ALL\n",
		"/etc/sudoers.d/60-y": broken + "Defaults broken, \\\n" + broken + " x\n",
	} {
		if got := kindtest.Read(t, root, name); got != want {
			t.Errorf("%s holds\n%s", name, got)
		}
	}
}

func TestAGrantBehindTheIncludeBecomesACommentInTheMainFileTooAndNothingElseOfItChanges(t *testing.T) {
	behind := "# carla's\nbob ALL=(ALL) ALL\nalice, bob ALL=(ALL) NOPASSWD: ALL\nDefaults !authenticate\n%admins ALL=(ALL) ALL\n#include /etc/sudoers.local\n"
	root := machine(t, map[string]string{"/etc/sudoers": mainFile + behind, "/etc/sudoers.local": "bob ALL=ALL\n"})
	if err := os.Chmod(filepath.Join(root, "etc/sudoers"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r, _ := pass(t, root, []string{"%admins"}, nil); r.State != converge.Corrected {
		t.Errorf("it is %s: %s", r.State, r.Reason)
	}
	want := mainFile + "# carla's\n" + mark + "bob ALL=(ALL) ALL\n" + partly + "alice, bob ALL=(ALL) NOPASSWD: ALL\nalice ALL=(ALL) NOPASSWD: ALL\n" +
		weak + "Defaults !authenticate\n%admins ALL=(ALL) ALL\n#include /etc/sudoers.local\n"
	if got := kindtest.Read(t, root, "/etc/sudoers"); got != want {
		t.Errorf("it holds\n%s", got)
	}
	if info, err := os.Stat(filepath.Join(root, "etc/sudoers")); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if got := kindtest.Read(t, root, "/etc/sudoers.local"); got != mark+"bob ALL=ALL\n" {
		t.Errorf("what it includes holds\n%s", got)
	}
	if r, _ := pass(t, root, []string{"%admins"}, nil); r.State != converge.Compliant {
		t.Errorf("then it is %s: %s", r.State, r.Reason)
	}
}

// full is a disk without room, but for what replaces the reserved file.
func full(c system.Change) error {
	if c.Op == "create" || c.Op == "append" {
		return unix.ENOSPC
	}
	return nil
}

func TestWithoutRoomOnTheDiskAGrantIsTakenAllTheSame(t *testing.T) {
	const grant = "alice ALL=ALL\nbob ALL=ALL\n"
	root := machine(t, nil)
	pass(t, root, []string{"%admins"}, nil)
	write := func(name string) {
		if err := os.WriteFile(filepath.Join(root, name), []byte(grant), 0o440); err != nil {
			t.Fatal(err)
		}
	}
	write("/etc/sudoers.d/zzz")
	if err := os.WriteFile(filepath.Join(root, "/etc/sudoers"), []byte(mainFile+"bob ALL=ALL\n"), 0o440); err != nil {
		t.Fatal(err)
	}
	// The room that is kept is for the main file; the other one is set aside.
	if r, _ := pass(t, root, []string{"%admins"}, full); r.State == converge.Compliant || r.State == converge.Unknown {
		t.Errorf("it is %s: %s", r.State, r.Reason)
	}
	if got := kindtest.Read(t, root, "/etc/sudoers"); got != mainFile+mark+"bob ALL=ALL\n" {
		t.Errorf("the main file holds\n%s", got)
	}
	if _, err := os.Lstat(filepath.Join(root, "/etc/sudoers.d/zzz")); !os.IsNotExist(err) || kindtest.Read(t, root, "/etc/sudoers.d/zzz.soe-aside") != grant {
		t.Errorf("the grant is not set aside: %v", err)
	}
	if r, _ := pass(t, root, []string{"%admins"}, full); r.State.InLine() || !strings.Contains(r.Reason, "no space") {
		t.Errorf("then it is %s: %s", r.State, r.Reason)
	}
	if r, _ := pass(t, root, []string{"%admins"}, nil); r.State != converge.Corrected {
		t.Errorf("with room again it is %s: %s", r.State, r.Reason)
	}
	if got := kindtest.Read(t, root, "/etc/sudoers.d/zzz"); got != "alice ALL=ALL\n"+mark+"bob ALL=ALL\n" {
		t.Errorf("it holds\n%s", got)
	}
	if _, err := os.Lstat(filepath.Join(root, "/etc/sudoers.d/zzz.soe-aside")); !os.IsNotExist(err) {
		t.Errorf("the old one is still there: %v", err)
	}
	if info, err := os.Lstat(filepath.Join(root, system.Spare("/etc/sudoers.d"))); err != nil || info.Size() != system.SpareSize {
		t.Errorf("no room is kept again: %v", err)
	}
}

// A disk that is sick takes no file any more, or does not make it lasting; a name it may still give.
func TestAGrantInAFileThatCannotBeWrittenIsTakenAllTheSame(t *testing.T) {
	const grant, name = "alice ALL=ALL\nbob ALL=ALL\n", "/etc/sudoers.d/zzz"
	for _, fault := range []error{unix.EIO, unix.ENOMEM, unix.EMFILE} {
		for _, op := range []string{"create", "write", "sync"} {
			root := machine(t, nil)
			pass(t, root, []string{"%admins"}, nil)
			if err := os.WriteFile(filepath.Join(root, name), []byte(grant), 0o440); err != nil {
				t.Fatal(err)
			}
			failed := false
			r, _ := pass(t, root, []string{"%admins"}, func(c system.Change) error {
				if c.Op == op && strings.Contains(c.Target, "zzz") {
					failed = true
					return fault
				}
				return nil
			})
			if _, err := os.Lstat(filepath.Join(root, name)); !failed || !os.IsNotExist(err) {
				t.Errorf("%v of %s: it stands in force, and is %s: %s", fault, op, r.State, r.Reason)
			}
			if r, _ := pass(t, root, []string{"%admins"}, nil); r.State != converge.Corrected {
				t.Errorf("%v of %s: afterwards it is %s: %s", fault, op, r.State, r.Reason)
			}
			if got := kindtest.Read(t, root, name); got != "alice ALL=ALL\n"+mark+"bob ALL=ALL\n" {
				t.Errorf("%v of %s: it holds\n%s", fault, op, got)
			}
		}
	}
}

// groveOf is one with these files in /etc/sudoers.d, and no others there.
func groveOf(allow string, files map[string]string) *grove {
	g := newGrove(1)
	g.toml, g.allow, g.modes = "[sudo]\nallow = [\""+allow+"\"]\n", []string{allow}, map[string]fs.FileMode{}
	g.files["/etc/sudoers"] = "root ALL=(ALL) ALL\n%wheel ALL=(ALL) ALL\n#includedir /etc/sudoers.d\n"
	g.files["/etc/group"] = "root:x:0:\nwheel:x:10:carol\nadmins:x:500:alice\n"
	maps.DeleteFunc(g.files, func(name, _ string) bool { return path.Dir(name) == sudoers.Dir })
	maps.Copy(g.files, files)
	return g
}

// A file that cannot be written takes nothing from anybody but what stands in it, unless by it
// the administrators themselves would be denied.
func TestAFileThatCannotBeWrittenHoldsUpTheDenialOnlyWhereItDeniesTheAdministrators(t *testing.T) {
	for content, denied := range map[string]bool{
		"bob ALL=(ALL) ALL, !/usr/bin/su\n":           true,
		"%admins, bob ALL=(root) /usr/bin/id, !ALL\n": false,
	} {
		g := groveOf("alice", map[string]string{sudoers.Dir + "/50-x": content})
		wall := kindtest.Open(t, system.Options{Root: t.TempDir()})
		b := book{memory: g.plant()}
		o := &outing{g: g, book: b, clock: wall.Clock, complain: t.Errorf, gate: func(c system.Change) error {
			if c.Target == sudoers.Dir+"/50-x" {
				return unix.EROFS
			}
			return nil
		}}
		if r := o.pass(t)["sudo/allow"]; r.State.InLine() {
			t.Errorf("%q: it is %s", content, r.State)
		}
		if got := !b.administers(b.read(nil), "carol"); got != denied {
			t.Errorf("%q: carol is denied: %v", content, got)
		}
	}
}

// A file that denies the allowed something and grants others something is written twice. Where it cannot be written it is
// set aside with both, unless the allowed would not be let in then either.
func TestAFileWithoutRoomThatDeniesTheAllowedToIsSetAsideUnlessTheyWouldStayOut(t *testing.T) {
	const name = sudoers.Dir + "/50-x"
	const both = "alice ALL=(ALL) ALL\nbob ALL=(ALL) ALL\nalice ALL=(ALL:ALL) !ALL\n"
	for _, test := range []struct {
		content string
		full    []string
		stays   bool
	}{
		{"bob ALL=ALL\nalice ALL=(ALL:ALL) !ALL\n", []string{name}, false},
		{both, []string{name}, false},
		{both, []string{name, grantsPath}, true},
	} {
		g := groveOf("alice", map[string]string{name: test.content})
		wall := kindtest.Open(t, system.Options{Root: t.TempDir()})
		b := book{memory: g.plant()}
		b.full = test.full
		o := &outing{g: g, book: b, clock: wall.Clock, complain: t.Errorf}
		r := o.pass(t)["sudo/allow"]
		if _, there := b.get(name); there != test.stays || r.State.InLine() {
			t.Errorf("%q: there: %v; it is %s: %s", test.content, there, r.State, r.Reason)
		}
		if got := b.administrators(); !test.stays && !slices.Equal(got, []string{"root", "alice"}) {
			t.Errorf("%q: then %v administer", test.content, got)
		}
		b.full = nil
		if r := o.pass(t)["sudo/allow"]; !r.State.InLine() {
			t.Errorf("%q: with room again it is %s: %s", test.content, r.State, r.Reason)
		}
		if got := b.administrators(); !slices.Equal(got, []string{"root", "alice"}) {
			t.Errorf("%q: with room again %v administer", test.content, got)
		}
	}
}

// Nothing of what was set aside is in force: there is no denial to be lifted before it comes back.
func TestWhatWasSetAsideComesBackWithoutTheLinesByWhichSudoWouldRefuseTheAllowed(t *testing.T) {
	g := groveOf("alice", map[string]string{sudoers.Dir + "/zzz.soe-aside": "alice ALL=(ALL:ALL) !ALL\n%admins ALL=(ALL:ALL) !ALL\n"})
	wall := kindtest.Open(t, system.Options{Root: t.TempDir()})
	b := book{memory: g.plant()}
	o := &outing{g: g, book: b, clock: wall.Clock, complain: t.Errorf}
	if r := o.pass(t)["sudo/allow"]; r.State != converge.Corrected {
		t.Errorf("it is %s: %s", r.State, r.Reason)
	}
	if back, is := b.get(sudoers.Dir + "/zzz"); !is || back.content != refuses+"alice ALL=(ALL:ALL) !ALL\n"+refuses+"%admins ALL=(ALL:ALL) !ALL\n" {
		t.Errorf("it is there: %v, and holds\n%s", is, back.content)
	}
}

// Once a step has failed, a later one takes what it takes only where somebody can administer without it.
func TestWhereTheAgentsGrantsCannotBeWrittenOthersLoseTheirsUnlessNobodyWouldBeLeft(t *testing.T) {
	const main, bobs = "root ALL=(ALL) ALL\n#includedir /etc/sudoers.d\n", "bob ALL=(ALL) ALL\n"
	for what, test := range map[string]struct {
		files  map[string]string
		allow  []string
		silent bool
		want   []string
	}{
		"one of the allowed has a line elsewhere": {map[string]string{sudoers.Main: "alice ALL=(ALL) ALL\n" + main}, []string{"alice", "dave"}, false, []string{"root", "alice"}},
		"he has one, and sudo does not answer":    {map[string]string{sudoers.Main: "alice ALL=(ALL) ALL\n" + main}, []string{"alice", "dave"}, true, []string{"root", "alice"}},
		"nobody of them has":                      {map[string]string{sudoers.Main: main}, []string{"alice", "dave"}, false, []string{"root", "bob"}},
		"nobody has, and sudo does not answer":    {map[string]string{sudoers.Main: main}, []string{"alice", "dave"}, true, []string{"root", "bob"}},
		"a line that denies in between, and sudo does not answer": {map[string]string{
			sudoers.Main: "alice ALL=(ALL) ALL\n" + main, sudoers.Dir + "/40-x": "%admins ALL=(ALL:ALL) !ALL\n",
		}, []string{"alice", "dave"}, true, []string{"root", "bob"}},
		"an older agent's grant lets one in": {map[string]string{
			sudoers.Main: main, grantsPath: string(grants([]string{"alice"})), denialPath: string(denial([]string{"root", "alice"}, nil, nil)),
		}, []string{"alice", "dave"}, true, []string{"root", "alice"}},
	} {
		g := groveOf("alice", map[string]string{sudoers.Dir + "/zzz": bobs, "/etc/nsswitch.conf": "sudoers: files sss\n"})
		maps.Copy(g.files, test.files)
		g.toml, g.allow = "[sudo]\nallow = [\"alice\", \"dave\"]\n", test.allow
		wall := kindtest.Open(t, system.Options{Root: t.TempDir()})
		b := book{memory: g.plant(), silent: test.silent}
		b.full = []string{grantsPath}
		o := &outing{g: g, book: b, clock: wall.Clock, complain: func(format string, args ...any) { t.Errorf(what+": "+format, args...) }}
		r := o.pass(t)["sudo/allow"]
		if got := b.administrators(); !slices.Equal(got, test.want) || r.State.InLine() {
			t.Errorf("%s: then %v administer; it is %s: %s", what, got, r.State, r.Reason)
		}
		b.full, o.book.silent = nil, false
		if r := o.pass(t)["sudo/allow"]; !r.State.InLine() {
			t.Errorf("%s: with room again it is %s: %s", what, r.State, r.Reason)
		}
		if got := b.administrators(); !slices.Equal(got, []string{"root", "alice", "dave"}) {
			t.Errorf("%s: with room again %v administer", what, got)
		}
	}
}

// Of ops nobody is a member by /etc/group. Dave is by his account, and a service is, which nobody can log in as.
func TestWhereTheAgentsGrantsCannotBeWrittenOthersAreNotTheLastIfAnAccountsPrimaryGroupIsAllowed(t *testing.T) {
	g := groveOf("%ops", map[string]string{sudoers.Dir + "/zzz": "bob ALL=(ALL) ALL\n"})
	g.files[sudoers.Main] = "root ALL=(ALL) ALL\n#includedir /etc/sudoers.d\n"
	g.files["/etc/group"] = "root:x:0:\nadmins:x:500:alice\nops:x:700:\n"
	g.files["/etc/passwd"] += "games:x:12:700::/:/usr/sbin/nologin\n"
	wall := kindtest.Open(t, system.Options{Root: t.TempDir()})
	b := book{memory: g.plant()}
	b.full = []string{grantsPath}
	o := &outing{g: g, book: b, clock: wall.Clock, complain: t.Errorf}
	r := o.pass(t)["sudo/allow"]
	if got := b.administrators(); !slices.Equal(got, []string{"root", "bob"}) || r.State.InLine() {
		t.Errorf("without room %v administer; it is %s: %s", got, r.State, r.Reason)
	}
	b.full = nil
	r = o.pass(t)["sudo/allow"]
	if got := b.administrators(); !slices.Equal(got, []string{"root", "dave"}) || !r.State.InLine() {
		t.Errorf("with room %v administer; it is %s: %s", got, r.State, r.Reason)
	}
}

func TestAServiceThatIsLetInIsNoAdministratorWhoIsLeft(t *testing.T) {
	const denies = "dave ALL=(ALL:ALL) !ALL\n"
	g := groveOf("%ops", map[string]string{sudoers.Dir + "/zzz": "bob ALL=(ALL) ALL\n"})
	g.files[sudoers.Main] = "root ALL=(ALL) ALL\n#includedir /etc/sudoers.d\n" + denies
	g.files["/etc/group"] = "root:x:0:\nadmins:x:500:alice\nops:x:700:games\n"
	g.files["/etc/passwd"] += "games:x:12:12::/:/usr/sbin/nologin\n"
	wall := kindtest.Open(t, system.Options{Root: t.TempDir()})
	b := book{memory: g.plant()}
	b.full = []string{sudoers.Main} // dave stays denied
	o := &outing{g: g, book: b, clock: wall.Clock, complain: t.Errorf}
	if r := o.pass(t)["sudo/allow"]; r.State.InLine() {
		t.Errorf("it is %s: %s", r.State, r.Reason)
	}
}

func TestAMembershipByWhichTheLastAdministratorUsesSudoStaysUntilOneOfTheAllowedCan(t *testing.T) {
	for _, full := range [][]string{{grantsPath}, nil} {
		g := groveOf("alice", nil)
		g.toml += "root_groups = [\"wheel\", \"ops\"]\n"
		g.files["/etc/group"] = "root:x:0:\nwheel:x:10:bob,carol\nops:x:701:bob\n"
		wall := kindtest.Open(t, system.Options{Root: t.TempDir()})
		b := book{memory: g.plant()}
		b.full = full
		o := &outing{g: g, book: b, clock: wall.Clock, complain: t.Errorf}
		r := o.pass(t)["sudo/root_groups"]
		groups, _ := b.get(groupFile)
		want, administrators := "root:x:0:\nwheel:x:10:\nops:x:701:\n", []string{"root", "alice"}
		if full != nil {
			want, administrators = "root:x:0:\nwheel:x:10:carol\nops:x:701:\n", []string{"root", "carol"}
		}
		if got := b.administrators(); groups.content != want || !slices.Equal(got, administrators) || r.State.InLine() != (full == nil) {
			t.Errorf("without room for %v it is %s: %s; %v administer, by\n%s", full, r.State, r.Reason, got, groups.content)
		}
		b.full = nil
		if r := o.pass(t)["sudo/root_groups"]; !r.State.InLine() {
			t.Errorf("with room again it is %s: %s", r.State, r.Reason)
		}
	}
}

func TestAFileThatWasSetAsideIsNotLostWhereAllIsPutBack(t *testing.T) {
	const name, line = sudoers.Dir + "/zzz", "alice ALL = (ALL) /usr/bin/id"
	for before := 1; ; before++ {
		m := sickScene("", sickWanted, map[string]string{system.Aside(name): line + "\nbob ALL = (ALL) ALL\n"}).Build(t, nil)
		k := m.Kind.(*Kind)
		drifted, err := k.Check(t.Context())
		if err != nil || drifted[0].State != converge.Drifted {
			t.Fatalf("%v: %+v", err, drifted)
		}
		during := &meanwhile{Runner: k.system.Runner, breaks: true, do: func() {}}
		during.before.Store(int64(before))
		k.system.Runner = during
		k.Repair(t.Context(), drifted[:1])
		if during.before.Load() > 0 {
			break // it takes no more commands
		}
		there := 0
		for _, n := range []string{name, system.Aside(name)} {
			if content, err := os.ReadFile(filepath.Join(m.Root, n)); err == nil && strings.Contains(string(content), line) {
				there++
			}
		}
		if there != 1 {
			t.Errorf("where sudo breaks before command %d, %d files have what somebody has written", before, there)
		}
	}
}

func TestThatNoRoomIsKeptForAFullDiskIsMendedAndWhereItCannotBeItIsCritical(t *testing.T) {
	root := machine(t, nil)
	pass(t, root, []string{"%admins"}, nil)
	spare := filepath.Join(root, system.Spare("/etc/sudoers.d"))
	for name, harm := range map[string]func() error{
		"it is gone":     func() error { return os.Remove(spare) },
		"it is no file":  func() error { return errors.Join(os.Remove(spare), os.Mkdir(spare, 0o700)) },
		"it is replaced": func() error { return errors.Join(os.Remove(spare), os.Symlink("/etc/passwd", spare)) },
	} {
		if err := harm(); err != nil {
			t.Fatal(err)
		}
		r, _ := pass(t, root, []string{"%admins"}, full)
		if r.State != converge.Failed || r.Severity != policy.Critical {
			t.Errorf("%s: on a full disk it is %s, %s: %s", name, r.State, r.Severity, r.Reason)
		}
		if name == "it is no file" { // somebody has to see to that
			if err := os.Remove(spare); err != nil {
				t.Fatal(err)
			}
		}
		for _, want := range []converge.State{converge.Corrected, converge.Compliant} {
			if r, _ := pass(t, root, []string{"%admins"}, nil); r.State != want {
				t.Errorf("%s: with room again it is %s: %s", name, r.State, r.Reason)
			}
		}
		if info, err := os.Lstat(spare); err != nil || info.Size() != system.SpareSize {
			t.Errorf("%s: no room is kept again: %v", name, err)
		}
	}
}

// administers follows the tree as sudo does, for somebody who is all these subjects, and everything.
func administers(t *testing.T, s *system.System, subjects ...string) bool {
	t.Helper()
	tree, err := sudoers.Read(s.FS, nil)
	if err != nil {
		t.Fatal(err)
	}
	may := false
	for _, line := range tree.Lines {
		if line.Sort != sudotext.Grant {
			continue
		}
		for _, s := range slices.Backward(line.Users) {
			positive := s
			positive.Negated = false
			if s.Form == sudotext.All || slices.ContainsFunc(subjects, func(subject string) bool { return names(positive, subject) }) {
				if !s.Negated {
					may = !strings.Contains(line.Rest, "!")
				}
				break
			}
		}
	}
	return may
}

func TestNoFaultLeavesTheMachineWithoutAnAdministrator(t *testing.T) {
	before, after := []string{"%admins"}, []string{"alice"}
	for _, fault := range []func(int) system.Gate{system.FailNth, system.FailFrom} {
		for n, hit := 1, true; hit; n++ {
			root := machine(t, map[string]string{"/etc/sudoers.d/01-ws-admin-user": "#1000 ALL=(ALL) ALL\n"})
			pass(t, root, before, nil)
			s := kindtest.Open(t, system.Options{Root: root})
			hit = false
			gate := fault(n)
			pass(t, root, after, func(c system.Change) error {
				// At every step, and not only where it ends.
				if !administers(t, s, "root") || (!administers(t, s, "%admins") && !administers(t, s, "alice", "%admins")) {
					t.Errorf("fault %d: before %s nobody can administer", n, c)
				}
				err := gate(c)
				hit = hit || err != nil
				return err
			})
			if !administers(t, s, "root") || (!administers(t, s, "%admins") && !administers(t, s, "alice", "%admins")) {
				t.Fatalf("fault %d: nobody can administer", n)
			}
			if r, polkit := pass(t, root, after, nil); !r.State.InLine() || !polkit.State.InLine() {
				t.Fatalf("fault %d: the pass after it leaves %s: %s, and %s: %s", n, r.State, r.Reason, polkit.State, polkit.Reason)
			}
			if !administers(t, s, "alice") || administers(t, s, "%admins") || administers(t, s, "%wheel") {
				t.Fatalf("fault %d: the pass after it does not do what the policy says", n)
			}
		}
	}
}

func TestAGrantOfTheMainFileIsNotRepeated(t *testing.T) {
	root := machine(t, map[string]string{"/etc/sudoers": "root ALL=(ALL) ALL\n%admins ALL=(ALL) NOPASSWD: ALL\n@includedir /etc/sudoers.d\n"})
	pass(t, root, []string{"%admins", "alice"}, nil)
	if got, want := kindtest.Read(t, root, grantsPath), header+"alice ALL = (ALL:ALL) ALL\n"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestPolkitNamesAreQuoted(t *testing.T) {
	if got := string(rules([]string{"root", `%EXAMPLE\Linux "Admins"`}, nil, nil)); !strings.Contains(got, `["unix-user:root", "unix-group:EXAMPLE\\Linux \"Admins\""]`) {
		t.Error(got)
	}
	if got := string(authorities([]string{"root", `%EXAMPLE\a;b`})); !strings.Contains(got, `AdminIdentities=unix-user:root;unix-group:EXAMPLE\\a\;b`) {
		t.Error(got)
	}
}
