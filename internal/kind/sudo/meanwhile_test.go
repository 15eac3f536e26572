package sudo

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/sudoers"
	"github.com/soe-agent/soe-agent/internal/system"
)

// meanwhile does something before one of the commands that are run.
type meanwhile struct {
	system.Runner
	before atomic.Int64 // how many commands until then
	do     func()
	breaks bool // and sudo does not work from then on
}

func (m *meanwhile) Run(ctx context.Context, c system.Command) (system.Output, error) {
	if m.before.Add(-1) == 0 {
		m.do()
	}
	if m.breaks && m.before.Load() <= 0 && c.Argv[0] == "sudo" {
		return system.Output{ExitCode: 1, Stderr: []byte("sudo: no valid sudoers sources found, quitting\n")}, nil
	}
	return m.Runner.Run(ctx, c)
}

func TestWhatSomebodyWritesDuringARepairIsNotLost(t *testing.T) {
	const theirs, line = sudoers.Dir + "/50-theirs", "alice ALL = (ALL) /usr/bin/id\n"
	for i, name := range []string{theirs, sudoers.Main, theirs, sudoers.Main} {
		breaks := i > 1 // what was written is put back then
		for before := 1; ; before++ {
			main := map[string]string{}
			if name == theirs {
				main[theirs] = "bob ALL = (ALL) ALL\n"
			} else {
				main[sudoers.Main] = mainFile + "bob ALL = (ALL) ALL\n"
			}
			m := sickScene("", "[sudo]\nallow = [\"%admins\"]\n", main).Build(t, nil)
			k := m.Kind.(*Kind)
			drifted, err := k.Check(t.Context())
			if err != nil || drifted[0].State != converge.Drifted {
				t.Fatalf("%v: %+v", err, drifted)
			}
			file := filepath.Join(m.Root, name)
			during := &meanwhile{Runner: k.system.Runner, breaks: breaks, do: func() {
				old, _ := os.ReadFile(file)
				if err := os.WriteFile(file, append(old, line...), 0o600); err != nil {
					t.Error(err)
				}
			}}
			during.before.Store(int64(before))
			k.system.Runner = during
			k.Repair(t.Context(), drifted[:1])
			if during.before.Load() > 0 {
				break // it takes no more commands
			}
			if got := kindtest.Read(t, m.Root, name); !strings.Contains(got, line) {
				t.Errorf("%s: what was written before command %d is lost:\n%s", name, before, got)
			}
		}
	}
}

func TestWhereverARepairIsKilledALinkOrAFileIsThere(t *testing.T) {
	places := map[string]string{ // link: what it leads to
		sudoers.Main:               "/etc/sudoers.real",
		sudoers.Dir + "/50-theirs": "/opt/theirs",
	}
	for name, target := range places {
		build := func() string {
			content := "bob ALL = (ALL) ALL\n"
			if name == sudoers.Main {
				content = mainFile + content
			}
			root := machine(t, map[string]string{target: content})
			file := filepath.Join(root, name)
			if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
			if err := os.Symlink(target, file); err != nil {
				t.Fatal(err)
			}
			return root
		}
		for alive := 0; ; alive++ {
			root, changes := build(), 0
			pass(t, root, []string{"%admins"}, func(system.Change) error {
				if changes++; changes > alive {
					return errors.New("the agent is dead")
				}
				return nil
			})
			if _, err := os.Lstat(filepath.Join(root, name)); err != nil {
				t.Errorf("killed after %d changes: %v", alive, err)
			}
			if changes <= alive {
				break
			}
		}
	}
}

func TestWhatSudoReadsFromElsewhereIsWatched(t *testing.T) {
	root := machine(t, map[string]string{
		sudoers.Main:  mainFile + "@includedir /opt/more\n@include /opt/one\n@include /opt/missing/two\n",
		"/opt/more/x": "# nothing\n",
		"/opt/one":    "# nothing\n",
		"/srv/theirs": "# nothing\n",
	})
	if err := os.Symlink("/srv/theirs", filepath.Join(root, sudoers.Dir, "50-theirs")); err != nil {
		t.Fatal(err)
	}
	s := kindtest.Open(t, system.Options{Root: root})
	runner := people()
	runner.files = s.FS
	s.Runner = runner
	k := New(&policy.Policy{Resources: []policy.Resource{{ID: "sudo/allow", Spec: policy.Sudo{Allow: []string{"%admins"}}}}}, s)
	if _, err := k.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []converge.Watch{
		{Dir: "/opt/more"}, {Dir: "/opt", Names: []string{"one"}}, {Dir: "/opt/missing", Names: []string{"two"}}, {Dir: "/srv", Names: []string{"theirs"}},
	} {
		if !slices.ContainsFunc(k.Watches(), want.Equal) {
			t.Errorf("%+v is not watched", want)
		}
	}
}
