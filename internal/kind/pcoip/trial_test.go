package pcoip

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/system"
)

// picky is an agent that does not start with a certain line in its file.
type picky struct {
	*streamer
	root, bad string
	fate      string // the unit's state after such a start
}

func (p picky) all() system.Units { return system.Units{UnitStates: p, UnitJobs: p} }

func (p picky) Restart(ctx context.Context, name string) error {
	content, err := os.ReadFile(filepath.Join(p.root, confPath))
	if err == nil && strings.Contains(string(content), p.bad) {
		p.did = append(p.did, name)
		p.units[name] = system.Unit{LoadState: "loaded", ActiveState: p.fate}
		if p.fate == "activating" { // systemd calls it active until its program has read the file
			return nil
		}
		return errors.New("systemd says \"failed\"")
	}
	return p.streamer.Restart(ctx, name)
}

func TestADirectiveWithWhichTheAgentDoesNotStartIsPutBack(t *testing.T) {
	for _, fate := range []string{"failed", "activating"} {
		t.Run(fate, func(t *testing.T) { isPutBack(t, fate) })
	}
}

func isPutBack(t *testing.T, fate string) {
	const bad = "[pcoip]\nserver_clipboard_state = 0\nenable_build_to_lossless = 1\n"
	root := newImage(t, before)
	agent := picky{&streamer{units: map[string]system.Unit{"pcoip.service": running()}}, root, "pcoip.server_clipboard_state = 0", fate}
	found := livePass(t, root, bad, agent)
	if r := found[clipboard]; r.State != converge.Failed || !strings.Contains(r.Reason, "failed with it, so it was put back to what it was before (pcoip.server_clipboard_state = 1)") {
		t.Errorf("%s: %s %v", r.State, r.Reason, r.Diff)
	}
	if r := found["pcoip/enable_build_to_lossless"]; r.State != converge.Corrected {
		t.Errorf("what the agent heeds without a start: %s: %s", r.State, r.Reason)
	}
	want := before + "pcoip.enable_build_to_lossless = 1\n"
	if got := read(t, root); got != want || agent.units["pcoip.service"].ActiveState != "active" || len(agent.did) != 2 {
		t.Errorf("the agent is %s, after %v, with\n%s", agent.units["pcoip.service"].ActiveState, agent.did, got)
	}
	if r := livePass(t, root, bad, agent)[clipboard]; r.State != converge.Failed || read(t, root) != want || len(agent.did) != 2 {
		t.Errorf("it is tried again: %s: %s, %v", r.State, r.Reason, agent.did)
	}
	kindtest.Put(t, root, "usr/sbin/pcoip-agent", "")
	if r := livePass(t, root, bad, agent)[clipboard]; r.State != converge.Failed || len(agent.did) != 4 {
		t.Errorf("a new agent: %s: %s, %v", r.State, r.Reason, agent.did)
	}
	const good = "[pcoip]\nserver_clipboard_state = 3\nenable_build_to_lossless = 1\n"
	if r := livePass(t, root, good, agent)[clipboard]; r.State != converge.Corrected {
		t.Errorf("another value: %s: %s %v", r.State, r.Reason, r.Diff)
	}
}

func TestAFileIsPutBackUnderASessionAndTheAgentStartedAfterIt(t *testing.T) {
	const off = "pcoip.server_clipboard_state = 0\n"
	root := newImage(t, before)
	agent := picky{&streamer{units: map[string]system.Unit{"pcoip.service": running()}}, root, "none", ""}
	agent.sessions = []system.Session{{User: "alice", State: "active"}}
	if r := livePass(t, root, off, agent)[clipboard]; r.State != converge.Pending {
		t.Fatalf("%s: %s", r.State, r.Reason)
	}
	k := liveKind(t, root, off, agent)
	if _, err := k.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	agent.units["pcoip.service"] = system.Unit{LoadState: "loaded", ActiveState: "failed"} // it has crashed and was started anew by systemd: it has read the file
	found, err := k.Check(t.Context())
	if err != nil || !failedTrial(found[0]) {
		t.Fatalf("%+v, %v", found, err)
	}
	outcomes := k.Repair(t.Context(), found)
	if len(outcomes) != 1 || outcomes[0].Postponed != converge.NextSession || read(t, root) != before || len(agent.did) > 0 {
		t.Errorf("%v, started %v, with\n%s", outcomes, agent.did, read(t, root))
	}
	if r := livePass(t, root, off, agent)[clipboard]; r.State != converge.Failed || !strings.Contains(r.Reason, "alice is logged in, whose programs may be open") || len(agent.did) > 0 {
		t.Errorf("under the session it is %s: %s, after %v", r.State, r.Reason, agent.did)
	}
	agent.sessions = nil
	for range 2 {
		if r := livePass(t, root, off, agent)[clipboard]; r.State != converge.Failed || strings.Contains(r.Reason, "alice") || len(agent.did) != 1 {
			t.Errorf("after the logout it is %s: %s, after %v", r.State, r.Reason, agent.did)
		}
		agent.units["pcoip.service"] = system.Unit{LoadState: "loaded", ActiveState: "failed", ActiveSince: time.Now()} // for another reason
	}
}

// A settable clock can be set while time passes.
type settable struct {
	uptime time.Duration
	set    time.Duration // how far the wall clock was set
}

func (s *settable) Now() time.Time { return time.Unix(1_700_000_000, 0).Add(s.uptime + s.set) }

func (s *settable) Uptime() time.Duration { return s.uptime }

func (s *settable) Sleep(_ context.Context, d time.Duration) error {
	s.uptime += d
	return nil
}

func TestAClockThatIsSetNeitherBlamesADirectiveNorAcquitsIt(t *testing.T) {
	const off = "pcoip.server_clipboard_state = 0\n"
	for name, test := range map[string]struct {
		runs, set time.Duration
		blamed    bool
	}{
		"soon, set forward":    {time.Minute, 24 * time.Hour, true},
		"soon, set back":       {time.Minute, -24 * time.Hour, true},
		"soon":                 {time.Minute, 0, true},
		"much later, set back": {time.Hour, -time.Hour, false},
		"much later":           {time.Hour, 0, false},
	} {
		root := newImage(t, before)
		agent := &streamer{units: map[string]system.Unit{"pcoip.service": running()}}
		k := liveKind(t, root, off, agent)
		clock := &settable{uptime: time.Hour}
		k.system.Clock = clock
		mendAll(t, k)
		clock.uptime += test.runs
		clock.set = test.set
		agent.units["pcoip.service"] = system.Unit{LoadState: "loaded", ActiveState: "failed"}
		found, err := k.Check(t.Context())
		if err != nil || failedTrial(found[0]) != test.blamed {
			t.Errorf("%s: %s %v %s, %v", name, found[0].State, found[0].Diff, found[0].Reason, err)
		}
	}
}

// mendAll runs a check and a repair without the engine, which would use the clock.
func mendAll(t *testing.T, k *Kind) {
	t.Helper()
	found := kindtest.Check(t, k)
	if outcomes := k.Repair(t.Context(), found); len(outcomes) > 0 {
		t.Fatal(outcomes)
	}
	if found = kindtest.Check(t, k); found[0].State != converge.Compliant {
		t.Fatal(found)
	}
}

func TestWhetherTheAgentHasReadItsFileDoesNotDependOnTheClock(t *testing.T) {
	const off = "pcoip.server_clipboard_state = 0\n"
	for _, started := range []time.Duration{-time.Hour, time.Hour} { // started according to a clock that was wrong then, or is wrong now
		root := newImage(t, before)
		old := system.Unit{LoadState: "loaded", ActiveState: "active", ActiveSince: time.Now().Add(started)}
		agent := &streamer{units: map[string]system.Unit{"pcoip.service": old}}
		agent.sessions = []system.Session{{User: "alice", State: "active"}}
		for range 2 {
			if r := livePass(t, root, off, agent)[clipboard]; r.State != converge.Pending || len(agent.did) > 0 {
				t.Errorf("an agent of %s: %s: %s", started, r.State, r.Reason)
			}
		}
		old.ActiveSince = time.Now().Add(-started)
		agent.units["pcoip.service"] = old
		agent.sessions = nil
		if r := livePass(t, root, off, agent)[clipboard]; r.State != converge.Compliant || len(agent.did) > 0 {
			t.Errorf("an agent that was started again, at %s by its clock: %s: %s, after %v", -started, r.State, r.Reason, agent.did)
		}
	}
}

// A directive that the agent has long been running with is not why it fails, nor is one changed
// after it had failed.
func TestAnAgentThatFailsForAnotherReasonKeepsItsDirectives(t *testing.T) {
	const off = "pcoip.server_clipboard_state = 0\n"
	root := newImage(t, before)
	agent := picky{&streamer{units: map[string]system.Unit{"pcoip.service": running()}}, root, "none", ""}
	livePass(t, root, off, agent)
	k := liveKind(t, root, off, agent)
	if found, err := k.Check(t.Context()); err != nil || found[0].State != converge.Compliant {
		t.Fatalf("%+v, %v", found, err)
	}
	k.system.Clock = &later{3 * time.Minute}
	agent.units["pcoip.service"] = system.Unit{LoadState: "loaded", ActiveState: "failed"}
	found, err := k.Check(t.Context())
	if err != nil || found[0].State != converge.Failed || !strings.Contains(found[0].Reason, "has failed, so that nobody can connect") {
		t.Errorf("%+v, %v", found, err)
	}
}

// later is a clock that is ahead by the time slept. Sleeping takes no time.
type later struct{ by time.Duration }

func (l *later) Now() time.Time { return time.Now().Add(l.by) }

func (l *later) Sleep(_ context.Context, d time.Duration) error {
	l.by += d
	return nil
}
