// Package sessionguard is the guard in front of live sessions: it starts, stops and restarts
// units so that none ends.
//
// systemd stops more than it is asked to: what requires a unit stops with it, and
// what conflicts with one stops when it starts (systemd.unit(5)). So it is asked,
// right before, what would stop. If that carries sessions, logind is asked next who
// is logged in, and the step is taken at once or not at all: a Held error says what it
// waits for. The package keeps no state: the caller finds at its next check that the step
// is still to be taken, and tries again.
//
// What carries desktops alone (protected.Desktops) is held up by whoever may be at
// one, connected or not; who has come by ssh keeps the session and holds up nothing.
// What everybody hangs on (protected.Everybody) is not restarted at all, which is
// left to the reboot, and what nobody could log in without is never stopped.
//
// A policy may consent to the end of desktops in the maintenance window (Consent).
// That changes who is waited for and nothing else.
package sessionguard

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/protected"
	"github.com/soe-agent/soe-agent/internal/system"
)

// Held is the error of a step that was not taken for the sake of a session.
type Held struct {
	Until  converge.Effect
	Reason string
}

func (h *Held) Error() string { return h.Reason }

// Outcome is what became of the repair of a resource: of what is held, a
// postponement, and so of what would cancel a job of somebody else's.
func Outcome(id policy.ID, err error) converge.Outcome {
	if errors.Is(err, system.ErrBusy) {
		return converge.Outcome{ID: id, Postponed: converge.RunningJob, Reason: err.Error() + "; when that has ended it is tried again"}
	}
	if held := (*Held)(nil); errors.As(err, &held) {
		return converge.Outcome{ID: id, Postponed: held.Until, Reason: held.Reason}
	}
	return converge.Outcome{ID: id, Err: err}
}

// Start starts a unit.
func Start(ctx context.Context, s *system.System, unit string, consent Consent) error {
	if err := MayStart(ctx, s, unit, consent); err != nil {
		return err
	}
	return s.Units.Start(ctx, unit)
}

// Stop stops a unit.
func Stop(ctx context.Context, s *system.System, unit string, consent Consent) error {
	if err := MayStop(ctx, s, unit, consent); err != nil {
		return err
	}
	return s.Units.Stop(ctx, unit)
}

// Restart restarts a unit.
func Restart(ctx context.Context, s *system.System, unit string, consent Consent) error {
	if err := MayRestart(ctx, s, unit, consent); err != nil {
		return err
	}
	return s.Units.Restart(ctx, unit)
}

// MayStart returns an error, Held or another, when the unit must not be started now.
func MayStart(ctx context.Context, s *system.System, unit string, consent Consent) error {
	w := unitGraph{units: s.Units, seen: map[string]system.Unit{}}
	stopped, err := w.stoppedByStart(ctx, unit)
	if slices.ContainsFunc(w.names(unit), protected.EndsAll) {
		return fmt.Errorf("cannot start %s: that is to end everything that runs", unit)
	}
	if err != nil {
		return fmt.Errorf("cannot start %s: %w", unit, err)
	}
	return mayEnd(ctx, s, "start", unit, w.names(stopped...), consent)
}

// MayStop returns an error, Held or another, when the unit must not be stopped now.
func MayStop(ctx context.Context, s *system.System, unit string, consent Consent) error {
	w := unitGraph{units: s.Units, seen: map[string]system.Unit{}}
	stopped, err := w.stoppedWith(ctx, unit)
	if err != nil {
		return fmt.Errorf("cannot stop %s: %w", unit, err)
	}
	return mayEnd(ctx, s, "stop", unit, w.names(append(stopped, unit)...), consent)
}

// MayRestart returns an error, Held or another, when the unit must not be restarted
// now. That no policy may stop a unit does not matter: it comes back.
func MayRestart(ctx context.Context, s *system.System, unit string, consent Consent) error {
	w := unitGraph{units: s.Units, seen: map[string]system.Unit{}}
	stopped, err := w.stoppedWith(ctx, unit)
	if err != nil {
		return fmt.Errorf("cannot restart %s: %w", unit, err)
	}
	stopped = w.names(append(stopped, unit)...)
	for _, other := range stopped {
		if protected.Carries(other) == protected.Everybody {
			return &Held{converge.Reboot, along(unit, other) + " is not restarted while the machine runs: every session hangs on it"}
		}
	}
	if w.seen[unit].Unstoppable {
		return &Held{converge.Reboot, unit + " refuses to be restarted by hand, so it waits for the reboot"}
	}
	return sessionsAllow(ctx, s, "restart", unit, stopped, consent)
}

// along names a unit, and by way of which other one it is concerned.
func along(unit, other string) string {
	if unit == other {
		return unit
	}
	return other + ", which goes with " + unit + ","
}

// mayEnd returns an error when one of the units that a step would stop must stay.
func mayEnd(ctx context.Context, s *system.System, verb, unit string, stopped []string, consent Consent) error {
	for _, other := range stopped {
		if why := Stays(s, other); why != "" {
			if other != unit {
				why = other + " would stop: " + why
			}
			return fmt.Errorf("cannot %s %s: %s", verb, unit, why)
		}
	}
	return sessionsAllow(ctx, s, verb, unit, stopped, consent)
}

// Stays says why nobody may stop, disable or mask a unit on this machine, or "" (protected.ServiceHere).
func Stays(s *system.System, unit string) string {
	return protected.ServiceHere(unit, func(file string) bool {
		_, err := s.FS.Stat(file)
		return !errors.Is(err, fs.ErrNotExist) // what cannot be looked at may be there
	})
}

// sessionsAllow returns an error while somebody is logged in whose session a step
// would end or disturb. Nothing must come between it and the step.
func sessionsAllow(ctx context.Context, s *system.System, verb, unit string, stopped []string, consent Consent) error {
	for _, other := range stopped {
		carries := protected.Carries(other)
		if carries == protected.Nobody {
			continue
		}
		ask, agreed := facts.AtDesktop, consent
		if carries == protected.Everybody {
			ask, agreed = facts.LoggedIn, Consent{} // no policy may consent to that
		}
		person, err := ask(ctx, s)
		if err != nil {
			return fmt.Errorf("cannot %s %s: %w", verb, unit, err)
		}
		if err := agreed.Hold(s, person, "whose session would end with "+along(unit, other)); err != nil {
			return err
		}
		if person != "" {
			s.Log.Warn("ending a session: the policy consents to this step in the maintenance window (disrupt)", "resource", agreed.to, "step", verb+" "+unit, "person", person)
		}
	}
	return nil
}

// unitGraph follows what units do to each other.
type unitGraph struct {
	units system.Units
	seen  map[string]system.Unit
}

func (w *unitGraph) unit(ctx context.Context, name string) (system.Unit, error) {
	if u, known := w.seen[name]; known {
		return u, nil
	}
	u, err := w.units.Unit(ctx, name)
	if err != nil {
		return u, fmt.Errorf("it cannot be told what would stop: %w", err)
	}
	w.seen[name] = u
	return u, nil
}

// names are all that units are called: what is known of one of them may be known by another
// name than that by which it was asked after.
func (w *unitGraph) names(units ...string) []string {
	all := slices.Clone(units)
	for _, unit := range units {
		all = append(all, w.seen[unit].Names...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func runs(u system.Unit) bool {
	return !slices.Contains([]string{"inactive", "failed", ""}, u.ActiveState)
}

// stoppedWith are the units that run and stop when those given do.
func (w *unitGraph) stoppedWith(ctx context.Context, names ...string) (stopped []string, err error) {
	visited := map[string]bool{}
	for _, name := range names {
		visited[name] = true
	}
	for next := slices.Clone(names); len(next) > 0; next = next[1:] {
		u, err := w.unit(ctx, next[0])
		if err != nil {
			return nil, err
		}
		for _, other := range u.Dependents {
			if visited[other] {
				continue
			}
			visited[other] = true
			o, err := w.unit(ctx, other)
			if err != nil {
				return nil, err
			}
			if runs(o) {
				stopped, next = append(stopped, other), append(next, other)
			}
		}
	}
	return stopped, nil
}

// stoppedByStart are the units that run and stop when one is started, which starts
// what it needs.
func (w *unitGraph) stoppedByStart(ctx context.Context, name string) (stopped []string, err error) {
	visited := map[string]bool{name: true}
	for next := []string{name}; len(next) > 0; next = next[1:] {
		u, err := w.unit(ctx, next[0])
		if err != nil {
			return nil, err
		}
		if runs(u) {
			continue
		}
		for _, other := range u.Excluded {
			o, err := w.unit(ctx, other)
			if err != nil {
				return nil, err
			}
			if runs(o) && !slices.Contains(stopped, other) {
				stopped = append(stopped, other)
			}
		}
		for _, other := range u.Needs {
			if !visited[other] {
				visited[other] = true
				next = append(next, other)
			}
		}
	}
	along, err := w.stoppedWith(ctx, stopped...)
	return append(stopped, along...), err
}
