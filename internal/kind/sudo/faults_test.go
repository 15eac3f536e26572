package sudo

import (
	"context"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/kind/faultwalk"
	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/sudoers"
	"github.com/soe-agent/soe-agent/internal/sudotext"
	"github.com/soe-agent/soe-agent/internal/system"
)

// asked answers for sudo itself by the files of a machine, as far as they are as the
// tests make them: who has a line that grants lives by the denial.
type asked struct {
	directory
	root string
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
		groups, err := os.ReadFile(name)
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
		return system.Output{}, os.WriteFile(name, []byte(strings.Join(lines, "\n")), 0o440)
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

func sickScene(name, toml string, files map[string]string) faultwalk.Scene {
	known := newParsed()
	build := func(t *testing.T, look system.Looker) faultwalk.Machine {
		all := map[string]string{
			"/usr/bin/sudo": "", "/etc/sudoers": mainFile, "/etc/sudoers.d/": "", rulesDir + "/": "", "/home/alice/": "",
			"/proc/1/stat": stat(1), "/proc/77/stat": stat(77),
			"/etc/passwd": "root:x:0:0::/root:/bin/sh\nalice:x:1001:1001::/home/alice:/bin/sh\nbob:x:1000:1000::/home/bob:/bin/sh\n",
			"/etc/group":  "root:x:0:\nwheel:x:10:bob\nadmins:x:500:alice\ndocker:x:600:bob\n",
		}
		for name, content := range files {
			all[name] = content
			if content == "none" {
				delete(all, name)
			}
		}
		root := kindtest.Root(t, all)
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
		well := kindtest.Open(t, system.Options{Root: root})
		names := people()
		names.files = well.FS
		s.Runner = faultwalk.Runner(asked{names, root}, look)
		s.Sessions = faultwalk.Sessions(sickSessions{}, look)
		s.Authority = faultwalk.Authority(standIn{root: root, known: known}, look)
		s.Clock = hasty{s.Clock}
		p := kindtest.Policy(t, toml)
		k := New(p, s)
		return faultwalk.Machine{
			Kind: k, Root: root, Engine: kindtest.Engine(p, k, kindtest.Ledger(t, root), s.Clock),
			Ignore: []string{sudoers.Dir + "/.soe-agent.spare"}, // the room that is kept for a full disk
		}
	}
	return faultwalk.Scene{Name: name, Build: build, Believes: func(command string, out system.Output) bool {
		// visudo says yes by its exit code.
		return strings.HasPrefix(command, "visudo") && out.ExitCode == 0
	}}
}

// sickSessions has one of bob's, opened by a process of root's.
type sickSessions struct{}

func (sickSessions) List(context.Context) ([]system.Session, error) {
	return []system.Session{{ID: "1", UID: 1000, User: "bob", Leader: 77, State: "active"}}, nil
}

func TestNobodysRightsAreJudgedByALookThatFailed(t *testing.T) {
	const wanted = "[sudo]\nallow = [\"%admins\"]\nroot_groups = [\"docker\"]\n"
	own := map[string]string{
		grantsPath: string(grants([]string{"root", "%admins"})), denialPath: string(denial([]string{"root", "%admins"}, nil, nil)),
		rulesPath:    string(rules([]string{"root", "%admins"}, nil, nil)),
		"/etc/group": "root:x:0:\nwheel:x:10:bob\nadmins:x:500:alice\ndocker:x:600:\n",
	}
	own[grantsPath] = string(grants([]string{"%admins"})) // root has a line in mainFile
	own[system.Spare(sudoers.Dir)] = strings.Repeat("\x00", system.SpareSize)
	with := func(more ...string) map[string]string {
		files := map[string]string{}
		for name, content := range own {
			files[name] = content
		}
		for i := 0; i < len(more); i += 2 {
			files[more[i]] = more[i+1]
		}
		return files
	}
	faultwalk.Walk(t, "sudo",
		sickScene("in line", wanted, own),
		sickScene("never locked down", wanted, nil),
		sickScene("a stray grant", wanted, with(sudoers.Dir+"/50-theirs", "bob ALL = (ALL) ALL\n")),
		sickScene("a stray grant by a link", wanted, with(sudoers.Dir+"/50-theirs", "-> /srv/theirs", "/srv/theirs", "bob ALL = (ALL) ALL\n")),
		sickScene("a grant behind the denial", wanted, with(sudoers.Dir+"/zzz-theirs", "bob ALL = (ALL) ALL\n")),
		sickScene("a file that sudo cannot read", wanted, with(sudoers.Dir+"/50-theirs", "Defaults broken\n")),
		sickScene("a member too many", wanted, with("/etc/group", "root:x:0:\nwheel:x:10:bob\nadmins:x:500:alice\ndocker:x:600:bob\n")),
		sickScene("a rule of polkit's", wanted, with(rulesDir+"/50-theirs.rules", "polkit.addRule(function() { return polkit.Result.YES; });\n")),
		sickScene("without sudo", wanted, with("/usr/bin/sudo", "none")),
	)
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
