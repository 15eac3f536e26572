package faultwalk

import (
	"context"
	"errors"
	"fmt"

	"github.com/soe-agent/soe-agent/internal/system"
)

// Runner returns a runner that calls look before each read-only command, as system does for real
// ones.
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

// Units returns units that call look before each query.
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

// Sessions returns sessions that call look before each query.
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

// Authority returns an authority that calls look before each query.
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
