package packages

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/BurntSushi/toml"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/schedule"
)

// patched runs a pass on a machine that is to have updates, and returns the resulting resource.
func (d *desk) patched(t *testing.T, updates string, window schedule.Window, others ...policy.Resource) converge.Resource {
	t.Helper()
	p := &policy.Policy{Rules: d.rules, Resources: append(others, policy.Resource{ID: "patch/updates", Spec: policy.Patch{Updates: updates}})}
	kind := NewPatches(p, d.system, d.ledger, patience, window)
	result := kindtest.Engine(p, kind, d.ledger, d.clock).Pass(t.Context())
	if len(result.Resources) != 1 {
		t.Fatalf("there are %d resources", len(result.Resources))
	}
	return result.Resources[0]
}

// sundays is a window on Sundays from 2 to 5. The machine's clock starts on a Monday at 9.
func sundays(t *testing.T) schedule.Window {
	t.Helper()
	var w schedule.Window
	if _, err := toml.Decode("days = [\"Sun\"]\nfrom = \"02:00\"\nto = \"05:00\"\ntimezone = \"UTC\"", &w); err != nil {
		t.Fatal(err)
	}
	return w
}

func patchable() world {
	return world{
		installed:  map[string]string{"hole": "1.0-1", "tool": "1.0-1", "pcoip-agent-standard": "1.0-1"},
		repository: map[string][]string{"hole": {"1.0-1", "2.0-1"}, "tool": {"1.0-1", "2.0-1"}, "pcoip-agent-standard": {"1.0-1", "2.0-1"}},
	}
}

func TestANewMachineGetsItsUpdatesAtOnceAndLaterOnesInTheWindow(t *testing.T) {
	d := newDesk(t, patchable())
	d.system.Sessions = kindtest.Sessions{}
	if r := d.patched(t, "all", sundays(t)); r.State != converge.Corrected || d.installed["tool"] != "2.0-1" {
		t.Fatalf("a new machine is %s: %s; it has %v", r.State, r.Reason, d.installed)
	}
	d.repository["tool"] = append(d.repository["tool"], "3.0-1")
	d.clock.now = d.clock.now.Add(time.Hour)
	r := d.patched(t, "all", sundays(t))
	if r.State != converge.Pending || r.Effect != converge.Maintenance || !strings.Contains(r.Reason, "Sun 02:00–05:00 UTC") || d.installed["tool"] != "2.0-1" {
		t.Errorf("on a Monday it is %s: %s; it has %v", r.State, r.Reason, d.installed)
	}
	if r := d.patched(t, "all", schedule.Window{}); r.State != converge.Pending || !strings.Contains(r.Reason, "window in [schedule] of agent.toml") {
		t.Errorf("without a window it is %s: %s", r.State, r.Reason)
	}
	d.clock.now = time.Date(2026, 1, 11, 3, 0, 0, 0, time.UTC)
	if r := d.patched(t, "all", sundays(t)); r.State != converge.Corrected || d.installed["tool"] != "3.0-1" {
		t.Errorf("on Sunday it is %s: %s; it has %v", r.State, r.Reason, d.installed)
	}
	if r := d.patched(t, "all", sundays(t)); r.State != converge.Compliant {
		t.Errorf("afterwards it is %s: %s", r.State, r.Reason)
	}
}

func TestOnlySecurityUpdatesAreInstalledWhereThePolicySaysSo(t *testing.T) {
	d := newDesk(t, patchable())
	d.system.Sessions = kindtest.Sessions{}
	d.security = []string{"hole"}
	if r := d.patched(t, "security", schedule.Window{}); r.State != converge.Corrected || d.installed["hole"] != "2.0-1" || d.installed["tool"] != "1.0-1" {
		t.Errorf("it is %s: %s; it has %v", r.State, r.Reason, d.installed)
	}
}

func TestWhatASessionRunsOnIsUpdatedWhenNobodyIsLoggedIn(t *testing.T) {
	d := newDesk(t, patchable())
	d.system.Sessions = kindtest.Sessions{{User: "alice", State: "active"}}
	r := d.patched(t, "all", schedule.Window{})
	if r.State != converge.Pending || r.Effect != converge.NextSession || !strings.Contains(r.Reason, "alice is logged in") {
		t.Errorf("it is %s: %s", r.State, r.Reason)
	}
	same(t, "what is installed", d.installed, map[string]string{"hole": "2.0-1", "tool": "2.0-1", "pcoip-agent-standard": "1.0-1"})
	d.clock.now = time.Date(2026, 1, 11, 3, 0, 0, 0, time.UTC)
	d.transactions = nil
	if r := d.patched(t, "all", sundays(t)); r.State != converge.Pending || len(d.transactions) > 0 {
		t.Errorf("in the window it is %s: %s, after %q", r.State, r.Reason, d.transactions)
	}
	d.system.Sessions = kindtest.Sessions{}
	if r := d.patched(t, "all", sundays(t)); r.State != converge.Corrected || d.installed["pcoip-agent-standard"] != "2.0-1" {
		t.Errorf("with nobody logged in it is %s: %s; it has %v", r.State, r.Reason, d.installed)
	}
}

func TestAnUpdateThatCannotBeInstalledStopsNoOtherAndIsReported(t *testing.T) {
	d := newDesk(t, patchable())
	d.system.Sessions = kindtest.Sessions{}
	d.broken = map[string]string{"hole": "nodep"}
	r := d.patched(t, "all", schedule.Window{})
	if r.State != converge.Failed || !strings.Contains(r.Reason, "nothing provides does-not-exist needed by hole-2.0-1") || d.installed["tool"] != "2.0-1" {
		t.Errorf("it is %s: %s; it has %v", r.State, r.Reason, d.installed)
	}
}

func TestNoUpdateTakesAProtectedPackageAlong(t *testing.T) {
	d := newDesk(t, patchable())
	d.system.Sessions = kindtest.Sessions{}
	d.patched(t, "all", schedule.Window{})
	if i := slices.IndexFunc(d.ran, func(c string) bool {
		return strings.Contains(c, "protected_packages=basesystem,pcoip-agent-standard,") && strings.HasSuffix(c, " update")
	}); i < 0 {
		t.Errorf("what ran: %q", d.ran)
	}
}

func TestWhereUpdatesCannotBeAskedForItIsNotKnownWhetherThereAreAny(t *testing.T) {
	d := newDesk(t, patchable())
	d.system.Sessions = kindtest.Sessions{}
	d.offline = true
	if r := d.patched(t, "all", schedule.Window{}); r.State != converge.Unknown || !strings.Contains(r.Reason, "baseurl") {
		t.Errorf("it is %s: %s", r.State, r.Reason)
	}
}

func TestAQuestionForUpdatesWaitsAWhileForTheLockOfAnother(t *testing.T) {
	for locked, want := range map[int]converge.State{0: converge.Compliant, 3: converge.Compliant, 1000: converge.Unknown} {
		d := newDesk(t, world{installed: map[string]string{"tool": "1.0-1"}})
		d.system.Sessions = kindtest.Sessions{}
		d.locked = locked
		before := d.clock.Now()
		if r := d.patched(t, "all", schedule.Window{}); r.State != want {
			t.Errorf("locked %d times it is %s: %s", locked, r.State, r.Reason)
		}
		if took := d.clock.Now().Sub(before); took > 2*lockPatience {
			t.Errorf("locked %d times it takes %s", locked, took)
		}
	}
}

func TestUpdatesAreAskedForRarely(t *testing.T) {
	d := newDesk(t, world{installed: map[string]string{"tool": "1.0-1"}})
	d.system.Sessions = kindtest.Sessions{}
	p := &policy.Policy{Rules: d.rules, Resources: []policy.Resource{{ID: "patch/updates", Spec: policy.Patch{Updates: "all"}}}}
	k := NewPatches(p, d.system, d.ledger, patience, schedule.Window{})
	asked := func() int {
		d.ran = nil
		check(t, k)
		return len(slices.DeleteFunc(d.ran, func(c string) bool { return !strings.HasSuffix(c, "check-update") }))
	}
	same(t, "how often it was asked", []int{asked(), asked()}, []int{1, 0})
	d.clock.now = d.clock.now.Add(updatesKept + time.Second)
	same(t, "half an hour later", asked(), 1)
	d.touch()
	d.write("/var/lib/rpm/Packages", "another")
	same(t, "after a change", asked(), 1)
}

func TestWhatThePolicyKeepsInAVersionIsLeftOutOfUpdates(t *testing.T) {
	for name, kept := range map[string]policy.Package{
		"a version":               {Ensure: "1.0-1"},
		"a version to be had yet": {Ensure: "{{resolve:ssm:/soe/tool}}"},
		"a hold":                  {Ensure: policy.Present, Hold: true},
		"absent":                  {Ensure: policy.Absent},
	} {
		for _, updates := range []string{policy.AllUpdates, policy.SecurityUpdates} {
			d := newDesk(t, patchable())
			d.system.Sessions = kindtest.Sessions{}
			d.security = []string{"hole", "tool"}
			r := d.patched(t, updates, schedule.Window{}, policy.Resource{ID: "package/tool", Spec: kept})
			if r.State != converge.Corrected || d.installed["hole"] != "2.0-1" || d.installed["tool"] != "1.0-1" {
				t.Errorf("%s, %s: it is %s: %s; it has %v", name, updates, r.State, r.Reason, d.installed)
			}
			if r := d.patched(t, updates, schedule.Window{}, policy.Resource{ID: "package/tool", Spec: kept}); r.State != converge.Compliant {
				t.Errorf("%s, %s: afterwards it is %s: %s", name, updates, r.State, r.Reason)
			}
		}
	}
	d := newDesk(t, patchable())
	d.system.Sessions = kindtest.Sessions{}
	if d.patched(t, policy.AllUpdates, schedule.Window{}, policy.Resource{ID: "package/tool", Spec: policy.Package{Ensure: policy.Latest}}); d.installed["tool"] != "2.0-1" {
		t.Errorf("what is to be the latest is left out: %v", d.installed)
	}
}

func TestWhileAPartOfThePolicyIsNotKnownNoUpdateIsInstalled(t *testing.T) {
	d := newDesk(t, patchable())
	d.system.Sessions = kindtest.Sessions{}
	p := &policy.Policy{Partial: true, Resources: []policy.Resource{{ID: "patch/updates", Spec: policy.Patch{Updates: policy.AllUpdates}}}}
	drifted, states := check(t, NewPatches(p, d.system, d.ledger, patience, schedule.Window{}))
	if len(drifted) > 0 || !strings.HasPrefix(states["updates"], "unknown: a part of the policy") {
		t.Errorf("it is %q", states)
	}
}
