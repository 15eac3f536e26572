package sessionguard

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/soe-agent/soe-agent/internal/system"
)

const (
	// AtFirst are the seconds in which a service fails that cannot work: without its
	// configuration, its port, its user. A service of which systemd cannot tell when it is
	// ready is not said to run before they are over.
	AtFirst = 3 * time.Second
	// lookEvery is how often the unit is asked about meanwhile.
	lookEvery = 200 * time.Millisecond
)

// neverReady says of a service's Type that systemd takes it for up as soon as its program
// has been started (systemd.service(5)).
func neverReady(serviceType string) bool {
	return slices.Contains([]string{"simple", "exec", "idle"}, serviceType)
}

// StaysUp waits until a unit that was just started has been up for its first seconds, if they
// tell anything. The error says how it ended in them.
func StaysUp(ctx context.Context, s *system.System, name string) error {
	if !strings.HasSuffix(name, ".service") {
		return nil
	}
	service, err := s.Units.Service(ctx, name)
	if err != nil || !neverReady(service.Type) {
		return err
	}
	unit, err := state(ctx, s, name)
	if err != nil || !isUp(unit) {
		return err
	}
	wait := untilSettled(s, unit)
	if unit.ActiveSince.After(s.Clock.Now()) { // the clock was set back meanwhile; it was started a moment ago
		wait = AtFirst
	}
	later, err := outlives(ctx, s, unit, wait)
	if err != nil || isUp(later) && later.ActiveSince.Equal(unit.ActiveSince) {
		return err
	}
	how := strings.TrimSuffix(later.ActiveState+", "+later.Result, ", ")
	if runs(later) {
		how = "systemd starts it again and again"
	}
	return fmt.Errorf("cannot keep %s running: it ended within %s of its start (%s); see: journalctl -u %s", name, AtFirst, how, name)
}

// Stable is a unit once it can be told whether it runs: one that systemd has started anew
// by itself, a moment ago, may be failing again and again.
func Stable(ctx context.Context, s *system.System, unit system.Unit) (system.Unit, error) {
	wait := untilSettled(s, unit)
	if !isUp(unit) || !strings.HasSuffix(unit.Name, ".service") || wait == 0 {
		return unit, nil
	}
	service, err := s.Units.Service(ctx, unit.Name)
	if err != nil || service.Restarts == 0 || !neverReady(service.Type) {
		return unit, err
	}
	later, err := outlives(ctx, s, unit, wait)
	if err != nil || isUp(later) && later.ActiveSince.Equal(unit.ActiveSince) {
		return unit, err
	}
	unit.ActiveState, unit.Result = later.ActiveState, later.Result
	if isUp(later) {
		unit.ActiveState = "dying, and started again and again"
	}
	return unit, nil
}

// outlives returns a unit as it is once a time has passed, or as soon as it is not up as it was.
func outlives(ctx context.Context, s *system.System, unit system.Unit, wait time.Duration) (system.Unit, error) {
	for deadline := time.Now().Add(wait); ; { // the clock may be set meanwhile
		select {
		case <-ctx.Done():
			return unit, ctx.Err()
		case <-time.After(min(time.Until(deadline), lookEvery)):
		}
		later, err := state(ctx, s, unit.Name)
		if err != nil || time.Until(deadline) <= 0 || !isUp(later) || !later.ActiveSince.Equal(unit.ActiveSince) {
			return later, err
		}
	}
}

func state(ctx context.Context, s *system.System, name string) (system.Unit, error) {
	units, err := s.Units.States(ctx, []string{name})
	if err != nil {
		return system.Unit{}, err
	}
	return units[0], units[0].Err
}

// untilSettled is how much is left of a unit's first seconds. Of one whose start has not come yet
// nothing is: the clock was set back since.
func untilSettled(s *system.System, unit system.Unit) time.Duration {
	up := s.Clock.Now().Sub(unit.ActiveSince)
	if up < 0 {
		return 0
	}
	return max(0, AtFirst-up)
}

func isUp(u system.Unit) bool {
	return slices.Contains([]string{"active", "reloading", "refreshing"}, u.ActiveState)
}
