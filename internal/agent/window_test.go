package agent

import (
	"context"
	"testing"
	"time"

	"github.com/BurntSushi/toml"

	"github.com/soe-agent/soe-agent/internal/system"
)

type stoppedClock struct{ now time.Time }

func (c stoppedClock) Now() time.Time                             { return c.now }
func (c stoppedClock) Sleep(context.Context, time.Duration) error { return nil }

func TestEachMaintenanceWindowIsNoticedSoonAfterItOpensHoweverShortItIs(t *testing.T) {
	d := &daemon{Machine: &Machine{System: &system.System{}}, config: Default()}
	if _, err := toml.Decode("[schedule]\nverify = \"10h\"\nwindow = { from = \"02:00\", to = \"02:20\", timezone = \"UTC\" }", &d.config); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		now := time.Date(2026, 11, 21, 1, 59, 30, 0, time.UTC)
		d.System.Clock = stoppedClock{now}
		if at := now.Add(d.untilVerify()); !d.config.Schedule.Window.Open(at) || at.Minute() > 5 {
			t.Fatalf("the next look is at %s", at)
		}
		now = now.Add(time.Minute)
		d.System.Clock = stoppedClock{now}
		if wait := d.untilVerify(); wait < 5*time.Hour || wait > 15*time.Hour {
			t.Fatalf("in the window the next look is after %s", wait)
		}
	}
}
