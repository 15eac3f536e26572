package sessionguard_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/soe-agent/soe-agent/internal/sessionguard"
	"github.com/soe-agent/soe-agent/internal/system"
)

// steady is a service that systemd has started anew once, and that runs since then.
type steady struct {
	system.UnitStates
	since time.Time
	asked func()
}

func (s steady) States(_ context.Context, names []string) ([]system.Unit, error) {
	s.asked()
	return []system.Unit{{Name: names[0], ActiveState: "active", ActiveSince: s.since}}, nil
}

func (steady) Service(context.Context, string) (system.Service, error) {
	return system.Service{Type: "simple", Restarts: 1}, nil
}

// setClock is a clock that is set while somebody waits.
type setClock struct {
	system.Clock
	ahead time.Duration
}

func (c *setClock) Now() time.Time { return time.Now().Add(c.ahead) }

// The start of a service may seem to lie days ahead, for the clock was set back since: whoever waited for it to have
// been up for three seconds would wait for days, and everything else with it.
func TestNobodyWaitsForTheFirstSecondsOfAServiceLongerThanTheyTakeWhateverTheClockIsSetTo(t *testing.T) {
	const day, name = 24 * time.Hour, "a.service"
	for what, test := range map[string]struct{ since, set time.Duration }{
		"a service that has just been started":                   {},
		"one that was started long ago":                          {since: -day},
		"one that was started before the clock was set back":     {since: 2 * day},
		"one whose clock is set back by days in its first time":  {set: -2 * day},
		"one whose clock is set ahead by days in its first time": {set: 2 * day},
		"one that was started moments ahead":                     {since: time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			for how, wait := range map[string]func(ctx context.Context, s *system.System, unit system.Unit) error{
				"whether it stays up": func(ctx context.Context, s *system.System, _ system.Unit) error {
					return sessionguard.StaysUp(ctx, s, name)
				},
				"whether it is stable": func(ctx context.Context, s *system.System, unit system.Unit) error {
					later, err := sessionguard.Stable(ctx, s, unit)
					if later.ActiveState != "active" {
						t.Errorf("%s is called %s", what, later.ActiveState)
					}
					return err
				},
			} {
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				begun, clock := time.Now(), &setClock{}
				units := steady{since: begun.Add(test.since), asked: func() { clock.ahead = test.set }}
				err := wait(ctx, &system.System{Clock: clock, Units: system.Units{UnitStates: units}}, system.Unit{Name: name, ActiveState: "active", ActiveSince: units.since})
				cancel()
				if took := time.Since(begun); err != nil || took > sessionguard.AtFirst+time.Second {
					t.Errorf("%s: %s is told after %s, %v", what, how, took, err)
				}
			}
		})
	}
}
