package sessionguard_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/BurntSushi/toml"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/schedule"
	"github.com/soe-agent/soe-agent/internal/sessionguard"
	"github.com/soe-agent/soe-agent/internal/system"
)

// A graph stands in for systemd and logind: units and what they do to each other.
type graph struct {
	system.UnitStates
	system.UnitJobs
	units    map[string]system.Unit
	unasked  string // a unit of which systemd does not tell
	sessions []system.Session
	err      error // of logind
	did      []string
}

func (g *graph) Unit(_ context.Context, name string) (system.Unit, error) {
	if name == g.unasked {
		return system.Unit{}, errors.New("no answer")
	}
	u, there := g.units[name]
	if u.Name = name; !there {
		u.ActiveState = "inactive"
	}
	return u, nil
}

func (g *graph) do(verb, name string) error {
	g.did = append(g.did, verb+" "+name)
	return nil
}

func (g *graph) Start(_ context.Context, name string) error   { return g.do("start", name) }
func (g *graph) Stop(_ context.Context, name string) error    { return g.do("stop", name) }
func (g *graph) Restart(_ context.Context, name string) error { return g.do("restart", name) }

func (g *graph) List(context.Context) ([]system.Session, error) { return g.sessions, g.err }

func on(u system.Unit) system.Unit {
	u.ActiveState = "active"
	return u
}

// world has a helper on which the streaming agent hangs by way of another unit, a
// rival that conflicts with accounts-daemon, and one that starts it.
func world(sessions ...system.Session) *graph {
	return &graph{sessions: sessions, units: map[string]system.Unit{
		"helper.service":          on(system.Unit{Dependents: []string{"middle.service", "asleep.service"}}),
		"middle.service":          on(system.Unit{Dependents: []string{"pcoip.service", "helper.service"}}), // a circle, too
		"pcoip.service":           on(system.Unit{}),
		"asleep.service":          {ActiveState: "inactive", Dependents: []string{"dbus.service"}},
		"accounts-daemon.service": on(system.Unit{Dependents: []string{"settings.service"}}),
		"settings.service":        on(system.Unit{}),
		"rival.service":           {ActiveState: "inactive", Excluded: []string{"accounts-daemon.service", "shutdown.target"}},
		"starter.service":         {ActiveState: "failed", Needs: []string{"rival.service", "basic.target"}},
		"running.service":         on(system.Unit{Needs: []string{"rival.service"}}),
		"greedy.service":          {ActiveState: "inactive", Excluded: []string{"lightdm.service"}},
		"lightdm.service":         on(system.Unit{}),
		"cups.service":            on(system.Unit{}),
		"broker.service":          on(system.Unit{Dependents: []string{"dbus.service"}}),
		"dbus.service":            on(system.Unit{}),
		"auditd.service":          on(system.Unit{Unstoppable: true}),
		"logins.service":          on(system.Unit{Names: []string{"dbus.service", "logins.service"}}),
		"screen.service":          on(system.Unit{Names: []string{"screen.service", "lightdm.service"}}),
		"switch.target":           {ActiveState: "inactive", Names: []string{"reboot.target", "switch.target"}},
		"behind.service":          on(system.Unit{Dependents: []string{"logins.service"}}),
		"cloudy.service":          on(system.Unit{Dependents: []string{"foggy.service"}}),
	}, unasked: "foggy.service"}
}

func TestAStepIsTakenOnlyWhenNoSessionEndsWithIt(t *testing.T) {
	desktop := system.Session{User: "alice", Service: "pcoip-session", State: "online", Type: "x11"}
	locked, closing, ssh := desktop, desktop, desktop
	locked.Idle, locked.Locked = true, true
	closing.State = "closing"
	ssh.Service, ssh.Type = "sshd", "tty"
	people := map[string][]system.Session{"nobody": nil, "desktop": {desktop}, "locked": {locked}, "left": {closing}, "ssh": {ssh}, "both": {ssh, desktop}}
	const taken, later, reboot, refused = "", "next-session", "reboot", "refused"
	for _, test := range []struct {
		verb, unit string
		by         string // people who are logged in, or "*": all the same
		want       string
	}{
		{"restart", "pcoip.service", "nobody left ssh", taken},
		{"restart", "pcoip.service", "desktop locked both", later},
		{"restart", "helper.service", "desktop locked both", later},
		{"restart", "helper.service", "nobody left ssh", taken},
		{"stop", "helper.service", "*", refused}, // the streaming agent would not come back
		{"stop", "accounts-daemon.service", "nobody left ssh", taken},
		{"stop", "accounts-daemon.service", "desktop", later},
		{"stop", "dbus.service", "*", refused},
		{"restart", "dbus.service", "*", reboot},
		{"restart", "broker.service", "*", reboot},
		{"restart", "user@1000.service", "*", reboot},
		{"stop", "session-3.scope", "ssh desktop", later},
		{"stop", "session-3.scope", "nobody left", taken},
		{"restart", "auditd.service", "*", reboot},
		{"start", "rival.service", "desktop", later},
		{"start", "rival.service", "nobody ssh", taken},
		{"start", "starter.service", "desktop", later}, // it starts the rival
		{"start", "running.service", "*", taken},
		{"start", "greedy.service", "*", refused},
		{"start", "rescue.target", "*", refused},
		{"stop", "cups.service", "*", taken},
		{"restart", "cups.service", "*", taken},
		{"stop", "asleep.service", "*", taken}, // what hangs on it hangs on nothing
		{"restart", "cloudy.service", "*", refused},
		// By another name.
		{"stop", "logins.service", "*", refused},
		{"stop", "behind.service", "*", refused},
		{"restart", "logins.service", "*", reboot},
		{"stop", "screen.service", "*", refused},
		{"restart", "screen.service", "desktop", later},
		{"restart", "screen.service", "nobody ssh", taken},
		{"start", "switch.target", "*", refused},
	} {
		for name, sessions := range people {
			if test.by != "*" && !slices.Contains(strings.Fields(test.by), name) {
				continue
			}
			g := world(sessions...)
			if test.unit == "asleep.service" {
				delete(g.units, "dbus.service")
			}
			s := &system.System{Root: "/", Log: slog.New(slog.DiscardHandler), Units: system.Units{UnitStates: g, UnitJobs: g}, Sessions: g}
			step := map[string]func(context.Context, *system.System, string, sessionguard.Consent) error{"start": sessionguard.Start, "stop": sessionguard.Stop, "restart": sessionguard.Restart}[test.verb]
			err := step(t.Context(), s, test.unit, sessionguard.Consent{})
			o := sessionguard.Outcome("service/x", err)
			got := string(o.Postponed)
			if o.Err != nil {
				got = refused
			}
			if got != test.want || (len(g.did) == 1) != (test.want == taken) || test.want == later && !strings.Contains(o.Reason, "alice is logged in") {
				t.Errorf("%s %s with %s logged in: %q, not %q: %v", test.verb, test.unit, name, got, test.want, err)
			}
			if byHand := sessionguard.MayRun(t.Context(), s, []string{"/usr/bin/systemctl", "--no-block", test.verb, test.unit}, sessionguard.Consent{}); (byHand == nil) != (err == nil) {
				t.Errorf("%s %s with %s logged in: by systemctl %v, and otherwise %v", test.verb, test.unit, name, byHand, err)
			}
		}
	}
}

func TestWhileLogindDoesNotAnswerNothingIsRestarted(t *testing.T) {
	g := world()
	g.err = errors.New("no answer")
	s := &system.System{Root: "/", Log: slog.New(slog.DiscardHandler), Units: system.Units{UnitStates: g, UnitJobs: g}, Sessions: g}
	for _, unit := range []string{"pcoip.service", "helper.service"} {
		if o := sessionguard.Outcome("pcoip/x", sessionguard.Restart(t.Context(), s, unit, sessionguard.Consent{})); o.Err == nil || o.Postponed != converge.Effect("") || len(g.did) > 0 {
			t.Errorf("%s: %v, %q", unit, o, g.did)
		}
	}
	if err := sessionguard.Restart(t.Context(), s, "cups.service", sessionguard.Consent{}); err != nil {
		t.Error(err)
	}
}

func TestCommandsThatStopUnitsAreKnown(t *testing.T) {
	alice := system.Session{User: "alice", Service: "pcoip-session", State: "active"}
	for command, held := range map[string]bool{
		"/usr/bin/systemctl restart helper":                     true,
		"/usr/bin/systemctl -q try-restart cups.service helper": true,
		"/bin/systemctl kill --signal=HUP pcoip.service":        true,
		"/usr/bin/systemctl reload-or-restart helper.service":   true,
		"/usr/sbin/service helper restart":                      true,
		"/usr/bin/systemctl reload helper":                      false,
		"/usr/bin/systemctl restart cups":                       false,
		"/usr/bin/systemctl daemon-reload":                      false,
		"/usr/bin/chronyc reload sources":                       false,
		"/usr/bin/true":                                         false,
	} {
		g := world(alice)
		s := &system.System{Root: "/", Log: slog.New(slog.DiscardHandler), Units: system.Units{UnitStates: g, UnitJobs: g}, Sessions: g}
		if err := sessionguard.MayRun(t.Context(), s, strings.Fields(command), sessionguard.Consent{}); (err != nil) != held {
			t.Errorf("%s: %v", command, err)
		}
	}
}

// windows are one that is open at noon of every day and one that is not, and none.
func windows(t *testing.T) (open, shut schedule.Window) {
	t.Helper()
	var document struct{ Open, Shut schedule.Window }
	const text = "open = { from = \"11:00\", to = \"13:00\", timezone = \"UTC\" }\nshut = { from = \"02:00\", to = \"05:00\", timezone = \"UTC\" }\n"
	if _, err := toml.Decode(text, &document); err != nil {
		t.Fatal(err)
	}
	return document.Open, document.Shut
}

type noon struct{ system.Clock }

func (noon) Now() time.Time { return time.Date(2026, 1, 7, 12, 0, 0, 0, time.UTC) }

func TestASessionEndsForAStepOnlyInTheWindowAndWhereThePolicyConsents(t *testing.T) {
	p := &policy.Policy{Rules: []policy.Rule{{Match: []string{"pcoip/*"}, Disrupt: policy.DisruptInWindow}, {Match: []string{"*"}, Severity: policy.High}}}
	open, shut := windows(t)
	desktop := system.Session{User: "alice", Service: "pcoip-session", State: "online", Type: "x11"}
	const taken, refused = "", "refused"
	for _, test := range []struct {
		verb, unit string
		ids        []policy.ID
		window     schedule.Window
		want       string
		reason     string
	}{
		{"restart", "pcoip.service", []policy.ID{"pcoip/a"}, open, taken, ""},
		{"restart", "helper.service", []policy.ID{"dropin/b", "pcoip/a"}, open, taken, ""},
		{"restart", "pcoip.service", []policy.ID{"dropin/b"}, open, "next-session", "with pcoip.service"},
		{"restart", "pcoip.service", nil, open, "next-session", "with pcoip.service"},
		{"restart", "pcoip.service", []policy.ID{"pcoip/a"}, shut, "maintenance-window", "in the maintenance window 02:00–05:00 UTC"},
		{"restart", "pcoip.service", []policy.ID{"pcoip/a"}, schedule.Window{}, "next-session", "none is set: say window in [schedule]"},
		{"stop", "accounts-daemon.service", []policy.ID{"pcoip/a"}, open, taken, ""},
		{"start", "rival.service", []policy.ID{"pcoip/a"}, open, taken, ""},
		// What everybody hangs on, and what nobody could log in without.
		{"restart", "dbus.service", []policy.ID{"pcoip/a"}, open, "reboot", ""},
		{"restart", "broker.service", []policy.ID{"pcoip/a"}, open, "reboot", ""},
		{"stop", "session-3.scope", []policy.ID{"pcoip/a"}, open, "next-session", "alice"},
		{"stop", "pcoip.service", []policy.ID{"pcoip/a"}, open, refused, ""},
		{"stop", "helper.service", []policy.ID{"pcoip/a"}, open, refused, ""},
		{"stop", "dbus.service", []policy.ID{"pcoip/a"}, open, refused, ""},
		{"start", "greedy.service", []policy.ID{"pcoip/a"}, open, refused, ""},
		{"start", "rescue.target", []policy.ID{"pcoip/a"}, open, refused, ""},
	} {
		g := world(desktop)
		s := &system.System{Root: "/", Log: slog.New(slog.DiscardHandler), Units: system.Units{UnitStates: g, UnitJobs: g}, Sessions: g, Clock: noon{}}
		step := map[string]func(context.Context, *system.System, string, sessionguard.Consent) error{"start": sessionguard.Start, "stop": sessionguard.Stop, "restart": sessionguard.Restart}[test.verb]
		o := sessionguard.Outcome("pcoip/a", step(t.Context(), s, test.unit, sessionguard.ConsentTo(p, test.window, test.ids...)))
		got := string(o.Postponed)
		if o.Err != nil {
			got = refused
		}
		if got != test.want || !strings.Contains(o.Reason, test.reason) || (len(g.did) == 1) != (test.want == taken) {
			t.Errorf("%s %s for %v, window %s: %q, not %q: %s %v", test.verb, test.unit, test.ids, test.window, got, test.want, o.Reason, o.Err)
		}
	}
}
