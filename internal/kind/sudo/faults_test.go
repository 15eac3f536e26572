package sudo

import (
	"context"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/kind/faultwalk"
	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/sudoers"
	"github.com/soe-agent/soe-agent/internal/sudotext"
	"github.com/soe-agent/soe-agent/internal/system"
)

// asked answers for sudo itself by the files of a machine, as far as they are as the
// tests make them: who has a line that grants lives by the denial.
type asked struct {
	directory
	root   string
	memory *memory // in place of it
}

func (a asked) Run(ctx context.Context, c system.Command) (system.Output, error) {
	switch c.Argv[0] {
	case "sudo":
		user := c.Argv[4]
		if out, err := a.directory.Run(ctx, c); err != nil || out.ExitCode != 0 || c.Argv[2] != "-ll" {
			return out, err
		}
		if a.mayUse(user, c.Staged) {
			return system.Output{Stdout: []byte("User " + user + " may run the following commands on here:\n\nSudoers entry:\n    RunAsUsers: ALL\n    Commands:\n\tALL\n")}, nil
		}
		return system.Output{ExitCode: 1, Stdout: []byte("User " + user + " is not allowed to run sudo on here.\n")}, nil
	case "gpasswd":
		name := filepath.Join(a.root, "etc/group")
		groups, err := a.files.ReadFile("/etc/group")
		if err != nil {
			return system.Output{}, err
		}
		person, group := c.Argv[2], c.Argv[3]
		lines := strings.Split(string(groups), "\n")
		for i, line := range lines {
			if strings.HasPrefix(line, group+":") {
				lines[i] = strings.Replace(line, ":"+person, ":", 1)
			}
		}
		content := strings.Join(lines, "\n")
		if a.memory != nil {
			a.memory.replace("/etc/group", content)
			return system.Output{}, nil
		}
		return system.Output{}, os.WriteFile(name, []byte(content), 0o440)
	}
	return a.directory.Run(ctx, c)
}

func (a asked) mayUse(user string, staged map[string][]byte) bool {
	tree, err := sudoers.Read(a.files, staged)
	if err != nil {
		return false
	}
	may := false
	for _, line := range tree.Lines {
		if line.Sort != sudotext.Grant {
			continue
		}
		matches := false
		for _, s := range line.Users {
			switch {
			case s.Form == sudotext.All,
				s.Form == sudotext.User && s.Name == user,
				s.Form == sudotext.Group && strings.Contains(","+a.member[user]+",", ","+s.Name+","):
				matches = !s.Negated
			}
		}
		if matches {
			may = !strings.Contains(line.Rest, "!ALL")
		}
	}
	return may
}

// TestMain has the collector run less often: the walks make a hundred thousand small machines, one
// after the other, and the collector would take a fifth of their time.
func TestMain(m *testing.M) {
	debug.SetGCPercent(400)
	os.Exit(m.Run())
}

// sickFiles are the files of a machine with some others. "none" stands for a file that is not there.
func sickFiles(files map[string]string) map[string]string {
	all := map[string]string{
		"/usr/bin/sudo": "", "/etc/sudoers": mainFile, "/etc/sudoers.d/": "", rulesDir + "/": "", "/home/alice/": "",
		"/proc/1/stat": stat(1), "/proc/77/stat": stat(77),
		"/etc/passwd": "root:x:0:0::/root:/bin/sh\nalice:x:1001:1001::/home/alice:/bin/sh\nbob:x:1000:1000::/home/bob:/bin/sh\n",
		"/etc/group":  "root:x:0:\nwheel:x:10:bob\nadmins:x:500:alice\ndocker:x:600:bob\n",
	}
	maps.Copy(all, files)
	maps.DeleteFunc(all, func(_, content string) bool { return content == "none" })
	return all
}

// spare is the room that is kept for a full disk.
const spare = sudoers.Dir + "/.soe-agent.spare"

// sickScene is a machine on the disk.
func sickScene(name, toml string, files map[string]string) faultwalk.Scene {
	build := func(t *testing.T, look system.Looker) faultwalk.Machine {
		root := kindtest.Root(t, sickFiles(files))
		for _, pattern := range []string{"/etc/sudoers", "/etc/sudoers.d/*"} {
			found, _ := filepath.Glob(root + pattern)
			for _, file := range found {
				if info, err := os.Lstat(file); err != nil || !info.Mode().IsRegular() {
					continue
				}
				if err := os.Chmod(file, 0o440); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := os.Chmod(filepath.Join(root, sudoers.Dir), 0o750); err != nil {
			t.Fatal(err)
		}
		s := kindtest.Open(t, system.Options{Root: root, Look: look})
		s.Root = "/"
		names := people()
		names.files = kindtest.Open(t, system.Options{Root: root}).FS
		s.Runner = faultwalk.Runner(asked{directory: names, root: root}, look)
		s.Sessions = faultwalk.Sessions(sickSessions{}, look)
		s.Authority = faultwalk.Authority(standIn{root: root}, look)
		s.Clock = hasty{s.Clock}
		p := kindtest.Policy(t, toml)
		k := New(p, s)
		return faultwalk.Machine{Kind: k, Root: root, Engine: kindtest.Engine(p, k, kindtest.Ledger(t, root), s.Clock), Ignore: []string{spare}}
	}
	return faultwalk.Scene{Name: name, Build: build, Believes: visudoSaysYes}
}

// inMemory is the same machine in memory, of which thousands are walked.
func inMemory(t *testing.T, name, toml string, files map[string]string) faultwalk.Scene {
	t.Helper()
	p, known := kindtest.Policy(t, toml), newParsed()
	clock := hasty{kindtest.Open(t, system.Options{Root: t.TempDir()}).Clock}
	all, modes := sickFiles(files), map[string]fs.FileMode{}
	for name := range all {
		if name == sudoers.Main || path.Dir(name) == sudoers.Dir {
			modes[name] = 0o440
		}
	}
	build := func(t *testing.T, look system.Looker) faultwalk.Machine {
		m := newMemory(all, modes)
		m.look, m.known = look, known
		names := people()
		names.files = m.well().all()
		s := &system.System{
			Root: "/", FS: m.all(), Rights: m.takeRights(), Clock: clock,
			Runner:    faultwalk.Runner(asked{directory: names, memory: m}, look),
			Sessions:  faultwalk.Sessions(sickSessions{}, look),
			Authority: faultwalk.Authority(standIn{memory: m, known: known}, look),
		}
		k := New(p, s)
		ledger := kindtest.LedgerIn(t, newMemory(nil, nil).all())
		return faultwalk.Machine{Kind: k, Files: m.seen, Engine: kindtest.Engine(p, k, ledger, s.Clock), Ignore: []string{spare}}
	}
	return faultwalk.Scene{Name: name, Build: build, Believes: visudoSaysYes}
}

// sickSessions has one of bob's, opened by a process of root's.
type sickSessions struct{}

func (sickSessions) List(context.Context) ([]system.Session, error) {
	return []system.Session{{ID: "1", UID: 1000, User: "bob", Leader: 77, State: "active"}}, nil
}

// sickMachines are the files of machines under the policy sickWanted, by what is the matter with them.
func sickMachines() map[string]map[string]string {
	own := map[string]string{
		grantsPath:   string(grants([]string{"%admins"})), // root has a line in mainFile
		denialPath:   string(denial([]string{"root", "%admins"}, nil, nil)),
		rulesPath:    string(rules([]string{"root", "%admins"}, nil, nil)),
		"/etc/group": "root:x:0:\nwheel:x:10:bob\nadmins:x:500:alice\ndocker:x:600:\n",
		spare:        strings.Repeat("\x00", system.SpareSize),
	}
	with := func(more ...string) map[string]string {
		files := maps.Clone(own)
		for i := 0; i < len(more); i += 2 {
			files[more[i]] = more[i+1]
		}
		return files
	}
	return map[string]map[string]string{
		"in line":                      own,
		"never locked down":            nil,
		"a stray grant":                with(sudoers.Dir+"/50-theirs", "bob ALL = (ALL) ALL\n"),
		"a stray grant by a link":      with(sudoers.Dir+"/50-theirs", "-> /srv/theirs", "/srv/theirs", "bob ALL = (ALL) ALL\n"),
		"a grant behind the denial":    with(sudoers.Dir+"/zzz-theirs", "bob ALL = (ALL) ALL\n"),
		"a file that sudo cannot read": with(sudoers.Dir+"/50-theirs", "Defaults broken\n"),
		"a member too many":            with("/etc/group", "root:x:0:\nwheel:x:10:bob\nadmins:x:500:alice\ndocker:x:600:bob\n"),
		"a rule of polkit's":           with(rulesDir+"/50-theirs.rules", "polkit.addRule(function() { return polkit.Result.YES; });\n"),
		"without sudo":                 with("/usr/bin/sudo", "none"),
	}
}

const sickWanted = "[sudo]\nallow = [\"%admins\"]\nroot_groups = [\"docker\"]\n"

func TestNobodysRightsAreJudgedByALookThatFailed(t *testing.T) {
	machines := sickMachines()
	var scenes []faultwalk.Scene
	for _, name := range sortedKeys(machines) {
		scenes = append(scenes, inMemory(t, name, sickWanted, machines[name]))
	}
	faultwalk.Walk(t, "sudo", scenes...)
}

// The walks are over machines in memory, so these must be as those on a disk are.
func TestAMachineInMemoryIsRepairedAsOneOnTheDiskIs(t *testing.T) {
	for name, files := range sickMachines() {
		var states [2]map[policy.ID]converge.State
		var ended [2]map[string]string
		for i, scene := range []faultwalk.Scene{sickScene(name, sickWanted, files), inMemory(t, name, sickWanted, files)} {
			m := scene.Build(t, nil)
			states[i] = map[policy.ID]converge.State{}
			for _, r := range m.Engine.Pass(t.Context()).Resources {
				states[i][r.ID] = r.State
			}
			ended[i] = faultwalk.Snapshot(t, m)
		}
		if diff := cmp.Diff(states[0], states[1]); diff != "" {
			t.Errorf("%s: on the disk (-) and in memory (+) is said: %s", name, diff)
		}
		if diff := cmp.Diff(ended[0], ended[1]); diff != "" {
			t.Errorf("%s: on the disk (-) and in memory (+) there is: %s", name, diff)
		}
	}
}

// stuckSessions is a logind behind a bus that stands still.
type stuckSessions struct{}

func (stuckSessions) List(ctx context.Context) ([]system.Session, error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(20 * time.Second): // who asks a service waits no longer
		return nil, context.DeadlineExceeded
	}
}

func TestALogindThatDoesNotAnswerHoldsUpTheEndOfAGrantForSecondsAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := sickScene("", "[sudo]\nallow = [\"%admins\"]\n", map[string]string{sudoers.Dir + "/50-theirs": "bob ALL = (ALL) ALL\n"}).Build(t, nil)
		m.Kind.(*Kind).system.Sessions = stuckSessions{}
		began := time.Now()
		drifted, err := m.Kind.Check(t.Context())
		if err != nil || drifted[0].State != converge.Drifted {
			t.Fatalf("%v: %+v", err, drifted)
		}
		for _, outcome := range m.Kind.Repair(t.Context(), drifted[:1]) {
			t.Errorf("%s: %v", outcome.ID, outcome.Err)
		}
		if took := time.Since(began); took > 4*patienceBeforeRepair {
			t.Errorf("it took %s", took)
		}
		if got := kindtest.Read(t, m.Root, "/etc/sudoers.d/50-theirs"); got != mark+"bob ALL = (ALL) ALL\n" {
			t.Errorf("the grant is\n%s", got)
		}
		found, err := m.Kind.Check(t.Context())
		if err != nil || found[0].State != converge.Unknown {
			t.Errorf("who has not been asked about may do anything: %v, %+v", err, found)
		}
	})
}
