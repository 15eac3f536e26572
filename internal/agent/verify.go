package agent

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/soe-agent/soe-agent/internal/system"
)

// verify marks everything for a check from time to time, for what cannot be watched. The intervals are
// random, so that desktops that woke together do not check together for ever.
func (d *daemon) verify(ctx context.Context) {
	for d.sleepUntilVerify(ctx) == nil {
		d.findings.settleCorrections()
		d.markAll()
	}
}

func (d *daemon) sleepUntilVerify(ctx context.Context) error {
	wait, zone := d.untilVerify(), system.Here(d.System.Clock).Location()
	for wait > 0 {
		step := wait
		if d.windowIsSet() {
			step = min(wait, zoneCheckInterval)
		}
		if err := d.System.Clock.Sleep(ctx, step); err != nil {
			return err
		}
		wait -= step
		if now := system.Here(d.System.Clock).Location(); now.String() != zone.String() {
			wait, zone = min(wait, d.untilVerify()), now
		}
	}
	return ctx.Err()
}

func (d *daemon) windowIsSet() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.config.Schedule.Window.IsSet()
}

// untilVerify returns how long to wait for the next verify. One falls into the first quarter of each
// maintenance window, for the steps that wait for it.
func (d *daemon) untilVerify() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	wait, window, now := spread(d.config.Schedule.Verify.Duration), d.config.Schedule.Window, system.Here(d.System.Clock)
	if opens := window.Next(now); !opens.IsZero() {
		wait = min(wait, opens.Sub(now)+rand.N(window.Length()/4)) //nolint:gosec // no secret depends on it
	}
	return wait
}

// spread returns a duration of d on average, between half of it and one and a half times as much.
func spread(d time.Duration) time.Duration {
	return d/2 + rand.N(d) //nolint:gosec // no secret depends on it
}
