package packages

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/soe-agent/soe-agent/internal/system"
)

// A transaction is in a scope of systemd's, so that nothing that becomes of the agent ends
// it (docs/design.md, "Packages run in a scope"). What an earlier one, or a package's script,
// has left in its scope is in the way of the next.

// earlierTimeout is how long a transaction that an earlier life of the agent has
// begun may go on.
const earlierTimeout = 30 * time.Minute

// awaitEarlier waits until no transaction of the agent's own goes on: one of an
// earlier life, or the last one's scope, of whose end systemd learns a moment
// later.
func (m manager) awaitEarlier(ctx context.Context) error {
	_, err := m.freeScope(ctx)
	return err
}

// freeScope does as awaitEarlier, and returns the name of a scope that is free: the
// usual one may still be taken by what a package's script has left running.
func (m manager) freeScope(ctx context.Context) (free string, err error) {
	began := m.system.Clock.Now()
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		waited := m.system.Clock.Now().Sub(began)
		busy, free, err := m.scopes(ctx, waited > emptyFor)
		if err != nil {
			return "", err
		}
		if !busy && free != "" {
			return free, nil
		}
		if waited >= earlierTimeout {
			return "", fmt.Errorf("an earlier transaction does not end; see: systemctl status '%s*.scope'", scope)
		}
		if err := m.system.Clock.Sleep(ctx, pause); err != nil {
			return "", fmt.Errorf("an earlier transaction goes on as %s.scope: %w", scope, err)
		}
	}
}

// scopes says whether one of them is to be waited for, and which is free. Those in which
// nothing runs are given up, or waited for: systemd may be about to learn of the end.
func (m manager) scopes(ctx context.Context, givenUp bool) (busy bool, free string, err error) {
	for i := range maxScopes {
		name := scopeName(i)
		state, err := m.scopeState(ctx, name)
		if err != nil {
			return false, "", err
		}
		if state == scopeEmpty && givenUp {
			m.giveUp(ctx, name)
			if state, err = m.scopeState(ctx, name); err != nil {
				return false, "", err
			}
			if state == scopeEmpty {
				state = scopeLingering
			}
		}
		switch {
		case state == scopeBusy || state == scopeEmpty:
			return true, "", nil
		case state == scopeFree && free == "":
			free = name
		}
	}
	return false, free, nil
}

// emptyFor is how long systemd is given to learn that a transaction has ended.
const emptyFor = 3 * time.Second

// maxScopes is how many transactions may leave processes behind.
const maxScopes = 4

// scopeName is the name of the scope of a transaction before which so many others
// have left processes behind.
func scopeName(i int) string {
	if i == 0 {
		return scope
	}
	return scope + "-" + strconv.Itoa(i+1)
}

type scopeState int

const (
	scopeFree      scopeState = iota
	scopeBusy                 // a package manager is at work in it
	scopeLingering            // only what a package's script has started is
	scopeEmpty                // systemd calls it active, and nothing runs in it
)

func (m manager) scopeState(ctx context.Context, name string) (scopeState, error) {
	unit, err := m.system.Units.Unit(ctx, name+".scope")
	switch {
	case errors.Is(err, system.ErrNotRunning):
		return scopeFree, nil
	case err != nil:
		return scopeBusy, err
	case unit.ActiveState == "failed": // its name is taken until that is forgotten
		_, err := m.system.Runner.Run(ctx, system.Command{Argv: []string{"systemctl", "reset-failed", name + ".scope"}})
		return scopeFree, err
	case unit.ActiveState == "inactive" || unit.ActiveState == "":
		return scopeFree, nil
	}
	switch pids, err := occupants(m.system, name); {
	case err != nil: // it may be anything
		return scopeBusy, nil
	case len(pids) == 0:
		return scopeEmpty, nil
	case !slices.ContainsFunc(pids, m.managesPackages): // it was killed, or a package's script has left a daemon behind
		return scopeLingering, nil
	}
	return scopeBusy, nil
}

// occupants are the processes in the scope of a transaction.
func occupants(s *system.System, scope string) ([]string, error) {
	return system.Members(s.FS, "system.slice/"+scope+".scope")
}

// giveUp has systemd forget a scope in which nothing runs. Should it not, the scope keeps
// its name, and is not waited for.
func (m manager) giveUp(ctx context.Context, name string) {
	m.system.Log.Info("a package transaction has ended; systemd still calls its scope active", "kind", "package", "scope", name+".scope")
	if err := m.system.Units.Stop(ctx, name+".scope"); err != nil {
		m.system.Log.Debug("cannot stop an empty scope", "kind", "package", "err", err)
	}
}
