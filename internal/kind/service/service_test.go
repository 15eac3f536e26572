package service_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/kind/service"
	"github.com/soe-agent/soe-agent/internal/schedule"
	"github.com/soe-agent/soe-agent/internal/system"
)

// A manager stands in for systemd where the real one cannot be brought into the
// state. Units that it does not have are not found.
type manager struct {
	units map[string]system.Unit
	fate  string // the state of what was started; "active" when empty
	err   error  // of every question
	hangs string // a unit that is never up
	loops string // a unit whose file is a loop of links
	busy  string // a unit of which somebody else has asked something

	mu    sync.Mutex
	asked int
	did   []string
}

// all is systemd, all of which it plays.
func (m *manager) all() system.Units {
	return system.Units{UnitStates: m, UnitJobs: m, UnitFiles: m}
}

func (m *manager) do(verb, name string, change func(*system.Unit)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.did = append(m.did, strings.TrimSpace(verb+" "+name))
	if unit, there := m.units[name]; there {
		change(&unit)
		m.units[name] = unit
	}
	return nil
}

func (m *manager) Unit(_ context.Context, name string) (system.Unit, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked++
	if unit, there := m.units[name]; there || m.err != nil {
		return unit, m.err
	}
	return system.Unit{Name: name, LoadState: "not-found", ActiveState: "inactive"}, nil
}

func (m *manager) States(ctx context.Context, names []string) ([]system.Unit, error) {
	if m.err != nil {
		return nil, m.err
	}
	var units []system.Unit
	for _, name := range names {
		unit, err := m.Unit(ctx, name)
		if err != nil {
			return nil, err
		}
		unit.UnitFileState = ""
		units = append(units, unit)
	}
	return units, nil
}

func (m *manager) FileState(_ context.Context, name string) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if name == m.loops {
		return "", fmt.Errorf("cannot ask systemd about the file of %s: too many levels of symbolic links", name)
	}
	return m.units[name].UnitFileState, m.err
}

func (m *manager) Active(context.Context) ([]string, error) { return nil, errors.New("nobody asks") }

func (m *manager) ReloadUnit(context.Context, string) error { return errors.New("nothing is reloaded") }

func (m *manager) Service(context.Context, string) (system.Service, error) {
	return system.Service{Type: "notify"}, m.err
}

func (m *manager) ResetFailed(_ context.Context, name string) error {
	return m.do("reset-failed", name, func(*system.Unit) {})
}

func (m *manager) Start(ctx context.Context, name string) error {
	if name == m.busy {
		return fmt.Errorf("cannot start %s: %w", name, system.ErrBusy)
	}
	if name == m.hangs {
		<-ctx.Done()
		return fmt.Errorf("cannot start %s: %w", name, ctx.Err())
	}
	return m.do("start", name, func(u *system.Unit) {
		u.ActiveState = "active"
		if m.fate != "" {
			u.ActiveState = m.fate
		}
	})
}

func (m *manager) Stop(_ context.Context, name string) error {
	return m.do("stop", name, func(u *system.Unit) { u.ActiveState = "inactive" })
}

func (m *manager) Restart(context.Context, string) error { return errors.New("nothing is restarted") }

func (m *manager) Enable(_ context.Context, name string) error {
	return m.do("enable", name, func(u *system.Unit) { u.UnitFileState = "enabled" })
}

func (m *manager) Disable(_ context.Context, name string) error {
	return m.do("disable", name, func(u *system.Unit) { u.UnitFileState = "disabled" })
}

func (m *manager) Mask(_ context.Context, name string) error {
	return m.do("mask", name, func(u *system.Unit) { u.LoadState, u.UnitFileState = "masked", "masked" })
}

func (m *manager) Unmask(_ context.Context, name string) error {
	return m.do("unmask", name, func(u *system.Unit) { u.LoadState, u.UnitFileState = "loaded", "disabled" })
}

func (m *manager) Reload(context.Context) error {
	return m.do("reload", "", nil)
}

type sessions struct {
	live []system.Session
	err  error
}

func (s sessions) List(context.Context) ([]system.Session, error) { return s.live, s.err }

func newKind(t *testing.T, toml string, m *manager, s sessions, link ...string) *service.Kind {
	t.Helper()
	p := kindtest.Policy(t, toml)
	root := kindtest.Dir(t)
	if len(link) == 2 && link[0] != "" {
		kindtest.Put(t, root, link[0], "-> "+link[1])
	}
	machine := kindtest.Open(t, system.Options{Root: root})
	machine.Root, machine.Units, machine.Sessions = "/", m.all(), s
	return service.New(p, machine, schedule.Window{})
}

// unit makes a unit of its LoadState, UnitFileState and ActiveState.
func unit(states string) system.Unit {
	s := strings.Split(states, " ")
	return system.Unit{Name: "x.service", LoadState: s[0], UnitFileState: strings.Trim(s[1], "-"), ActiveState: s[2]}
}

func TestAUnitIsBroughtIntoLineWithAsFewStepsAsPossible(t *testing.T) {
	const on = "enabled = true, running = true"
	const off = "enabled = false, running = false"
	for _, test := range []struct {
		want, states string
		did          []string // nil: it is in line
	}{
		{on, "loaded enabled active", nil},
		{on, "loaded enabled reloading", nil},
		{on, "loaded disabled inactive", []string{"enable x.service", "start x.service"}},
		{on, "loaded enabled failed", []string{"start x.service"}},
		{on, "loaded enabled activating", []string{"start x.service"}},
		{on, "loaded enabled-runtime active", []string{"enable x.service"}},
		{on, "masked masked inactive", []string{"unmask x.service", "enable x.service", "start x.service"}},
		{off, "loaded disabled inactive", nil},
		{off, "loaded static failed", nil},
		{off, "not-found - inactive", nil},
		{off, "masked masked inactive", nil},
		{off, "loaded enabled active", []string{"disable x.service", "stop x.service"}},
		{off, "loaded static active", []string{"stop x.service"}},
		{off, "loaded disabled activating", []string{"stop x.service"}},
		{"masked = true", "masked masked inactive", nil},
		{"masked = true", "masked masked-runtime inactive", []string{"mask x.service"}},
		{"masked = true", "not-found - inactive", []string{"reload", "mask x.service"}},
		{"masked = true, running = false", "loaded enabled active", []string{"mask x.service", "stop x.service"}},
		{"masked = false", "loaded disabled inactive", nil},
		{"masked = false", "masked masked inactive", []string{"unmask x.service"}},
		{"running = true", "loaded static inactive", []string{"start x.service"}},
	} {
		t.Run(test.want+", "+test.states, func(t *testing.T) {
			m := &manager{units: map[string]system.Unit{"x.service": unit(test.states)}}
			k := newKind(t, fmt.Sprintf("services.\"x.service\" = { %s }", test.want), m, sessions{})
			r := kindtest.CheckOne(t, k)
			if inLine := test.did == nil; inLine != (r.State == converge.Compliant) {
				t.Fatal(r.State, r.Reason, r.Diff)
			}
			if test.did == nil {
				return
			}
			if outcomes := k.Repair(t.Context(), []converge.Resource{r}); len(outcomes) > 0 {
				t.Error(outcomes)
			}
			if diff := cmp.Diff(test.did, m.did); diff != "" {
				t.Error(diff)
			}
			if r := kindtest.CheckOne(t, k); r.State != converge.Compliant {
				t.Error(r.State, r.Diff)
			}
		})
	}
}

func TestWhatCannotBeSaysWhy(t *testing.T) {
	for _, test := range []struct{ want, states, fate, reason string }{
		{"enabled = true", "loaded static active", "", "it is static"},
		{"enabled = true", "loaded indirect inactive", "", "Also="},
		{"enabled = true", "loaded generated active", "", "it is generated"},
		{"enabled = true", "loaded transient active", "", "it is transient"},
		{"enabled = true", "loaded linked active", "", "it is linked"},
		{"enabled = true", "loaded bad inactive", "", "cannot read its unit file"},
		{"enabled = true", "loaded invalid inactive", "", "cannot read its unit file"},
		{"enabled = true, running = true", "loaded static inactive", "", "cannot enable x.service: it is static"},
		{"running = true", "loaded enabled inactive", "inactive", "it starts, does its work and ends"},
		{"running = true", "loaded enabled inactive", "failed", "it failed as soon as it was started"},
		{"running = true", "not-found - inactive", "", "cannot find x.service: there is no such unit; does a package bring it?"},
	} {
		m := &manager{units: map[string]system.Unit{"x.service": unit(test.states)}, fate: test.fate}
		k := newKind(t, fmt.Sprintf("services.\"x.service\" = { %s }", test.want), m, sessions{})
		r := kindtest.CheckOne(t, k)
		reason := r.Reason
		if r.State == converge.Drifted {
			for _, outcome := range k.Repair(t.Context(), []converge.Resource{r}) {
				reason = outcome.Err.Error()
			}
		} else if r.State != converge.Failed {
			t.Errorf("%v: %s", test, r.State)
		}
		if !strings.Contains(reason, test.reason) {
			t.Errorf("%v: %q", test, reason)
		}
	}
}

// What it takes to keep snapd is seen on the machine alone, and so is what an alias stands for.
func TestSnapdIsNotTakenAwayWhereTheAgentOfAWSIsASnap(t *testing.T) {
	for _, want := range []string{"running = false", "masked = true", "enabled = false"} {
		for link, refused := range map[string]bool{"/snap/amazon-ssm-agent/current": true, "/snap/firefox/current": false} {
			m := &manager{units: map[string]system.Unit{"snapd.service": unit("loaded enabled active")}}
			k := newKind(t, "services.\"snapd.service\" = { "+want+" }", m, sessions{}, link, "1")
			outcomes := k.Repair(t.Context(), []converge.Resource{kindtest.CheckOne(t, k)})
			said := len(outcomes) == 1 && outcomes[0].Err != nil && strings.Contains(outcomes[0].Err.Error(), "AWS's agent is a snap here")
			if said != refused || refused == slices.ContainsFunc(m.did, func(did string) bool { return strings.Contains(did, "snapd") }) {
				t.Errorf("%s beside %s: %v, %q", want, link, outcomes, m.did)
			}
		}
	}
}

func TestStoppingWhatDisruptsWaitsForTheEndOfTheSession(t *testing.T) {
	alice := []system.Session{{User: "alice", State: "online"}}
	for _, test := range []struct {
		unit     string
		sessions sessions
		stopped  bool
	}{
		{"accounts-daemon.service", sessions{live: alice}, false},
		{"accounts-daemon.service", sessions{err: errors.New("logind does not answer")}, false},
		{"accounts-daemon.service", sessions{}, true},
		{"accounts-daemon.service", sessions{live: []system.Session{{User: "alice", State: "closing"}}}, true},
		{"cups.service", sessions{live: alice}, true},
	} {
		m := &manager{units: map[string]system.Unit{test.unit: unit("loaded enabled active")}}
		k := newKind(t, fmt.Sprintf("services.%q = { enabled = false, running = false }", test.unit), m, test.sessions)
		outcomes := k.Repair(t.Context(), []converge.Resource{kindtest.CheckOne(t, k)})
		if stopped := slices.Contains(m.did, "stop "+test.unit); stopped != test.stopped || stopped != (len(outcomes) == 0) {
			t.Errorf("%v: %q %v", test, m.did, outcomes)
		}
		if !slices.Contains(m.did, "disable "+test.unit) {
			t.Errorf("%v: it was not disabled, which disturbs nobody", test)
		}
		if test.sessions.live != nil && !test.stopped {
			if got := outcomes[0]; got.Postponed != converge.NextSession || !strings.Contains(got.Reason, "alice is logged in") {
				t.Errorf("%v: %v", test, got)
			}
		}
	}
}

// A hanging unit is started for ever, in a time that passes only here.
func TestAJobThatHangsEndsAtTheDeadline(t *testing.T) {
	m := &manager{units: map[string]system.Unit{"x.service": unit("loaded enabled inactive"), "y.service": unit("loaded enabled inactive")}, hangs: "x.service"}
	k := newKind(t, "services.\"x.service\" = { running = true }\nservices.\"y.service\" = { running = true }", m, sessions{})
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		drifted := kindtest.Check(t, k)
		outcomes := k.Repair(t.Context(), drifted)
		if len(outcomes) != 1 || outcomes[0].ID != "service/x.service" || !strings.Contains(outcomes[0].Err.Error(), "it was not up after 2m0s; systemd goes on starting it") {
			t.Error(outcomes)
		}
		if took := time.Since(start); took != 2*time.Minute {
			t.Errorf("it took %s", took)
		}
	})
	if !slices.Contains(m.did, "start y.service") {
		t.Errorf("another was held up by it: %q", m.did)
	}
}

// Here the real file system is asked, and systemd only for what it leaves open.
func TestSystemdIsNotAskedForWhatTheLinksTell(t *testing.T) {
	for _, test := range []struct {
		name, want, state, link, target string
		asked                           bool
	}{
		{"enabled", "enabled = true", "enabled", "/etc/systemd/system/multi-user.target.wants/x.service", "/usr/lib/systemd/system/x.service", false},
		{"not enabled", "enabled = true", "disabled", "", "", true},
		{"for this boot only", "enabled = true", "enabled-runtime", "/run/systemd/system/multi-user.target.wants/x.service", "/usr/lib/systemd/system/x.service", true},
		{"by another's link", "enabled = true", "disabled", "/etc/systemd/system/multi-user.target.wants/x.service", "/usr/lib/systemd/system/y.service", true},
		{"disabled", "enabled = false", "disabled", "", "", false},
		{"by an alias", "enabled = false", "enabled", "/etc/systemd/system/dbus-x.service", "/usr/lib/systemd/system/x.service", true},
		{"not disabled", "enabled = false", "enabled", "/etc/systemd/system/a.target.requires/x.service", "../x.service", true},
	} {
		m := &manager{units: map[string]system.Unit{"x.service": unit("loaded " + test.state + " active")}}
		k := newKind(t, "services.\"x.service\" = { "+test.want+" }", m, sessions{}, test.link, test.target)
		r := kindtest.CheckOne(t, k)
		inLine := (test.want == "enabled = true") == (test.state == "enabled")
		if asked := m.asked > 1; asked != test.asked || inLine != (r.State == converge.Compliant) {
			t.Errorf("%s: asked %d times, %s %v", test.name, m.asked, r.State, r.Diff)
		}
	}
}

func TestAUnitThatCannotBeAskedAboutIsUnknownAndNoOther(t *testing.T) {
	m := &manager{units: map[string]system.Unit{"a.service": unit("loaded disabled active"), "b.service": unit("loaded disabled active")}, loops: "a.service"}
	resources, err := newKind(t, "services.\"a.service\" = { enabled = true }\nservices.\"b.service\" = { running = true }\n", m, sessions{}).Check(t.Context())
	if err != nil || len(resources) != 2 || resources[0].State != converge.Unknown || !strings.Contains(resources[0].Reason, "symbolic links") || resources[1].State != converge.Compliant {
		t.Errorf("%v: %+v", err, resources)
	}
}

// The units of an image are shown in test/e2e; here there is no systemctl.
func TestAnImageWithoutSystemdIsInDoubt(t *testing.T) {
	m := &manager{err: system.ErrNotRunning}
	if r := kindtest.CheckOne(t, newKind(t, `services."x.service" = { enabled = true }`, m, sessions{})); r.State != converge.Unknown || !strings.Contains(r.Reason, "not installed") {
		t.Error(r.State, r.Reason)
	}
}

func TestWhatSomebodyElseHasAskedOfAUnitEndsFirst(t *testing.T) {
	m := &manager{units: map[string]system.Unit{"x.service": unit("loaded disabled deactivating")}, busy: "x.service"}
	k := newKind(t, "services.\"x.service\" = { enabled = true, running = true }", m, sessions{})
	outcomes := k.Repair(t.Context(), []converge.Resource{kindtest.CheckOne(t, k)})
	if len(outcomes) != 1 || outcomes[0].Postponed != converge.RunningJob || outcomes[0].Err != nil || !strings.Contains(outcomes[0].Reason, "busy") {
		t.Error(outcomes)
	}
	if diff := cmp.Diff([]string{"enable x.service"}, m.did); diff != "" {
		t.Error(diff)
	}
	m.busy = ""
	m.units["x.service"] = unit("loaded enabled inactive")
	if outcomes := k.Repair(t.Context(), []converge.Resource{kindtest.CheckOne(t, k)}); len(outcomes) > 0 {
		t.Error(outcomes)
	}
}
