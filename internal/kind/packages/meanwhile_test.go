package packages

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/schedule"
	"github.com/soe-agent/soe-agent/internal/system"
)

// arrival is a desk where somebody logs in while a lock is waited for.
type arrival struct {
	*desk
	at time.Time
}

func (a arrival) List(context.Context) ([]system.Session, error) {
	if a.clock.now.Before(a.at) {
		a.locked = 3 // from now on
		return nil, nil
	}
	return []system.Session{{User: "alice", State: "active"}}, nil
}

func TestWhoLogsInWhileALockIsWaitedForKeepsTheSession(t *testing.T) {
	d := newDesk(t, world{
		installed:  map[string]string{"pcoip-agent-standard": "21.0-1"},
		repository: map[string][]string{"pcoip-agent-standard": {"21.0-1", "22.0-1"}, "git": {"1.0-1"}},
	})
	d.system.Sessions = arrival{d, d.clock.now.Add(time.Second)}
	k := d.kind(map[string]policy.Package{"pcoip-agent-standard": {Ensure: "22.0"}, "git": {Ensure: "present"}})
	drifted, _ := check(t, k)
	same(t, "the outcomes", k.Repair(t.Context(), drifted), []converge.Outcome{{
		ID: "package/pcoip-agent-standard", Postponed: converge.NextSession,
		Reason: "alice is logged in, whose session may end when pcoip-agent-standard is replaced",
	}})
	same(t, "what is installed", d.installed, map[string]string{"pcoip-agent-standard": "21.0-1", "git": "1.0-1"})
}

func TestWhoLogsInWhileUpdatesWaitForALockKeepsTheSession(t *testing.T) {
	d := newDesk(t, patchable())
	d.system.Sessions = arrival{d, d.clock.now.Add(time.Second)}
	if r := d.patched(t, "all", schedule.Window{}); r.State != converge.Pending || !strings.Contains(r.Reason, "alice is logged in") {
		t.Errorf("it is %s: %s", r.State, r.Reason)
	}
	same(t, "what is installed", d.installed, map[string]string{"hole": "2.0-1", "tool": "2.0-1", "pcoip-agent-standard": "1.0-1"})
}

func TestAPackageEndsASessionOnlyInTheWindowAndWhereThePolicyConsents(t *testing.T) {
	for name, test := range map[string]struct {
		window schedule.Window
		at     time.Time
		left   map[string]converge.Effect
	}{
		"in the window":         {sundays(t), time.Date(2026, 1, 11, 3, 0, 0, 0, time.UTC), map[string]converge.Effect{"systemd": converge.NextSession}},
		"outside of the window": {sundays(t), time.Date(2026, 1, 11, 9, 0, 0, 0, time.UTC), map[string]converge.Effect{"systemd": converge.NextSession, "pcoip-agent-standard": converge.Maintenance}},
		"without a window":      {schedule.Window{}, time.Date(2026, 1, 11, 3, 0, 0, 0, time.UTC), map[string]converge.Effect{"systemd": converge.NextSession, "pcoip-agent-standard": converge.NextSession}},
	} {
		d := newDesk(t, world{
			installed:  map[string]string{"pcoip-agent-standard": "21.0-1", "systemd": "1.0-1"},
			repository: map[string][]string{"pcoip-agent-standard": {"21.0-1", "22.0-1"}, "systemd": {"1.0-1", "2.0-1"}},
		})
		d.window, d.clock.now = test.window, test.at
		d.system.Sessions = kindtest.Sessions{{User: "alice", State: "active"}}
		d.rules = []policy.Rule{{Match: []string{"package/*"}, Disrupt: policy.DisruptInWindow}}
		k := d.kind(map[string]policy.Package{"pcoip-agent-standard": {Ensure: "22.0"}, "systemd": {Ensure: "2.0"}})
		drifted, _ := check(t, k)
		left := map[string]converge.Effect{}
		for _, outcome := range k.Repair(t.Context(), drifted) {
			left[outcome.ID.Name()] = outcome.Postponed
		}
		same(t, "what waits "+name, left, test.left)
	}
}

func TestUpdatesEndASessionInTheWindowWhereThePolicyConsents(t *testing.T) {
	d := newDesk(t, patchable())
	d.installed["systemd"], d.repository["systemd"] = "1.0-1", []string{"1.0-1", "2.0-1"}
	d.system.Sessions = kindtest.Sessions{{User: "alice", State: "active"}}
	d.clock.now = time.Date(2026, 1, 11, 3, 0, 0, 0, time.UTC)
	d.rules = []policy.Rule{{Match: []string{"patch/*"}, Disrupt: policy.DisruptInWindow}}
	d.patched(t, "all", sundays(t))
	same(t, "what is installed", d.installed, map[string]string{"hole": "2.0-1", "tool": "2.0-1", "pcoip-agent-standard": "2.0-1", "systemd": "1.0-1"})
}
