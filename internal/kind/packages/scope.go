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

// A transaction runs in a systemd scope, so that it survives whatever happens to the agent
// (docs/design.md, "Packages run in a scope"). Processes that an earlier transaction, or a
// package's script, left in its scope keep that scope's name taken.

// earlierTimeout is how long to wait for a transaction that a previous process of the agent
// started.
const earlierTimeout = 30 * time.Minute

// awaitEarlier waits until no transaction of the agent is running. That may be one of a previous
// process, or the scope of the last one, because systemd notices its end a moment later.
func (m manager) awaitEarlier(ctx context.Context) error {
	_, err := m.freeScope(ctx)
	return err
}

// freeScope waits as awaitEarlier does, and returns the name of a free scope. The usual name may
// still be taken by processes that a package's script left running.
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
			return "", fmt.Errorf("an earlier transaction is still running in %s.scope: %w", scope, err)
		}
	}
}

// scopes reports whether one of the scopes must be waited for, and which is free. Empty scopes are
// stopped if givenUp, and waited for otherwise: systemd may be about to notice the end.
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

// emptyFor is how long systemd has to notice that a transaction has ended.
const emptyFor = 3 * time.Second

// maxScopes is the number of scope names. A transaction that leaves processes behind keeps its name
// taken.
const maxScopes = 4

// scopeName returns the name of the scope to use when i others are taken.
func scopeName(i int) string {
	if i == 0 {
		return scope
	}
	return scope + "-" + strconv.Itoa(i+1)
}

type scopeState int

const (
	scopeFree      scopeState = iota
	scopeBusy                 // a package manager is running in it
	scopeLingering            // only processes started by a package's script are running in it
	scopeEmpty                // systemd calls it active, but no process is in it
)

func (m manager) scopeState(ctx context.Context, name string) (scopeState, error) {
	unit, err := m.system.Units.Unit(ctx, name+".scope")
	switch {
	case errors.Is(err, system.ErrNotRunning):
		return scopeFree, nil
	case err != nil:
		return scopeBusy, err
	case unit.ActiveState == "failed": // a failed scope keeps its name until it is reset
		_, err := m.system.Runner.Run(ctx, system.Command{Argv: []string{"systemctl", "reset-failed", name + ".scope"}})
		return scopeFree, err
	case unit.ActiveState == "inactive" || unit.ActiveState == "":
		return scopeFree, nil
	}
	switch pids, err := occupants(m.system, name); {
	case err != nil: // unknown, so assume a package manager
		return scopeBusy, nil
	case len(pids) == 0:
		return scopeEmpty, nil
	case !slices.ContainsFunc(pids, m.managesPackages): // the package manager was killed, or a package's script left a daemon behind
		return scopeLingering, nil
	}
	return scopeBusy, nil
}

// occupants returns the processes in the scope of a transaction.
func occupants(s *system.System, scope string) ([]string, error) {
	return system.Members(s.FS, "system.slice/"+scope+".scope")
}

// giveUp asks systemd to stop an empty scope. If that fails, the scope keeps its name, and is no
// longer waited for.
func (m manager) giveUp(ctx context.Context, name string) {
	m.system.Log.Info("a package transaction has ended; systemd still calls its scope active", "kind", "package", "scope", name+".scope")
	if err := m.system.Units.Stop(ctx, name+".scope"); err != nil {
		m.system.Log.Debug("cannot stop an empty scope", "kind", "package", "err", err)
	}
}
