package faultwalk

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/own"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

// Runner has the looks of a stand-in for commands pass a Looker, as those of the door
// do.
func Runner(r system.Runner, look system.Looker) system.Runner {
	if look == nil {
		return r
	}
	return runner{r, look}
}

type runner struct {
	system.Runner
	look system.Looker
}

func (r runner) Run(ctx context.Context, c system.Command) (system.Output, error) {
	err := r.look(system.Look{Op: "find", Target: c.Argv[0]})
	if err == nil && c.ReadOnly {
		err = r.look(system.Look{Op: "run", Target: c.String()})
	}
	var instead answer
	if errors.As(err, &instead) {
		return instead.Output, nil
	}
	if err != nil {
		return system.Output{}, fmt.Errorf("cannot run %s: %w", c.Argv[0], err)
	}
	return r.Runner.Run(ctx, c)
}

// Units has the questions to a stand-in for systemd pass a Looker.
func Units(u system.Units, look system.Looker) system.Units {
	if look == nil {
		return u
	}
	asked := units{u.UnitStates, u.UnitManager, look}
	u.UnitStates, u.UnitManager = asked, asked
	return u
}

type units struct {
	system.UnitStates
	system.UnitManager
	look system.Looker
}

func (u units) Unit(ctx context.Context, name string) (system.Unit, error) {
	if err := u.look(system.Look{Op: "ask", Target: name}); err != nil {
		return system.Unit{}, err
	}
	return u.UnitStates.Unit(ctx, name)
}

func (u units) States(ctx context.Context, names []string) ([]system.Unit, error) {
	if err := u.look(system.Look{Op: "ask", Target: fmt.Sprint(names)}); err != nil {
		return nil, err
	}
	return u.UnitStates.States(ctx, names)
}

func (u units) FileState(ctx context.Context, name string) (string, error) {
	if err := u.look(system.Look{Op: "ask", Target: name}); err != nil {
		return "", err
	}
	return u.UnitStates.FileState(ctx, name)
}

func (u units) Version(ctx context.Context) (int, error) {
	if err := u.look(system.Look{Op: "ask", Target: "systemd"}); err != nil {
		return 0, err
	}
	return u.UnitManager.Version(ctx)
}

func (u units) Active(ctx context.Context) ([]string, error) {
	if err := u.look(system.Look{Op: "ask", Target: "units"}); err != nil {
		return nil, err
	}
	return u.UnitStates.Active(ctx)
}

func (u units) Service(ctx context.Context, name string) (system.Service, error) {
	if err := u.look(system.Look{Op: "ask", Target: name}); err != nil {
		return system.Service{}, err
	}
	return u.UnitStates.Service(ctx, name)
}

// Sessions has the questions to a stand-in for logind pass a Looker.
func Sessions(s system.Sessions, look system.Looker) system.Sessions {
	if look == nil {
		return s
	}
	return sessions{s, look}
}

type sessions struct {
	system.Sessions
	look system.Looker
}

func (s sessions) List(ctx context.Context) ([]system.Session, error) {
	if err := s.look(system.Look{Op: "ask", Target: "logind"}); err != nil {
		return nil, err
	}
	return s.Sessions.List(ctx)
}

// Authority has the questions to a stand-in for polkit pass a Looker.
func Authority(a system.Authority, look system.Looker) system.Authority {
	if look == nil {
		return a
	}
	return authority{a, look}
}

type authority struct {
	system.Authority
	look system.Looker
}

func (a authority) Instance(ctx context.Context) (string, error) {
	if err := a.look(system.Look{Op: "ask", Target: "polkit"}); err != nil {
		return "", err
	}
	return a.Authority.Instance(ctx)
}

func (a authority) Actions(ctx context.Context) ([]system.Action, error) {
	if err := a.look(system.Look{Op: "ask", Target: "polkit"}); err != nil {
		return nil, err
	}
	return a.Authority.Actions(ctx)
}

func (a authority) Authorized(ctx context.Context, questions []system.Question) ([]bool, error) {
	if err := a.look(system.Look{Op: "ask", Target: "polkit"}); err != nil {
		return nil, err
	}
	return a.Authority.Authorized(ctx, questions)
}

// Ledger opens the ledger of the machine below a root, through a door that is well.
func Ledger(t *testing.T, root string) *converge.Ledger {
	t.Helper()
	s, err := system.Open(system.Options{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	ledger, err := converge.OpenLedger(s.FS, own.StateDir, facts.Identity{MachineID: "machine"})
	if err != nil {
		t.Fatal(err)
	}
	return ledger
}

// Engine returns an engine for one kind.
func Engine(p *policy.Policy, kind converge.Kind, ledger *converge.Ledger, clock system.Clock) *converge.Engine {
	return converge.New(p, []converge.Kind{kind}, ledger, clock, slog.New(slog.DiscardHandler))
}

// Policy is what a fragment says.
func Policy(t *testing.T, toml string) *policy.Policy {
	t.Helper()
	fragment, err := policy.Parse(policy.Source{Name: "test.toml", Text: "schema = 1\n" + toml})
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.Merge([]policy.Fragment{fragment}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Dir makes a directory for a machine, in memory where there is such a place: there are
// thousands of machines in a walk, and each makes its files last.
func Dir(t *testing.T) string {
	t.Helper()
	const memory = "/dev/shm"
	if info, err := os.Stat(memory); err != nil || !info.IsDir() {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp(memory, "soe-faultwalk-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// Root makes a directory of files by name below it. One that begins with "-> " is a
// symbolic link, one that ends in a slash a directory.
func Root(t *testing.T, files map[string]string) string {
	t.Helper()
	root := Dir(t)
	for name, content := range files {
		file := filepath.Join(root, name)
		err := os.MkdirAll(filepath.Dir(file), 0o755)
		if target, isLink := strings.CutPrefix(content, "-> "); isLink {
			err = errors.Join(err, os.Symlink(target, file))
		} else if strings.HasSuffix(name, "/") {
			err = errors.Join(err, os.MkdirAll(file, 0o755))
		} else {
			err = errors.Join(err, os.WriteFile(file, []byte(content), 0o644))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}
