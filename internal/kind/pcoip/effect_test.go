package pcoip

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	tomlformat "github.com/BurntSushi/toml"
	"github.com/google/go-cmp/cmp"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/schedule"
	"github.com/soe-agent/soe-agent/internal/system"
)

// streamer is a fake of systemd and logind, for units in states that are slow to reach in a box.
type streamer struct {
	system.Units
	units    map[string]system.Unit
	sessions []system.Session
	logsIn   bool // somebody logs in between the first query and the next
	did      []string
}

// all returns the parts of systemd that it fakes.
func (s *streamer) all() system.Units { return system.Units{UnitStates: s, UnitJobs: s} }

func (s *streamer) States(_ context.Context, names []string) ([]system.Unit, error) {
	var units []system.Unit
	for _, name := range names {
		unit, there := s.units[name]
		if unit.Name = name; !there {
			unit.LoadState, unit.ActiveState = "not-found", "inactive"
		}
		units = append(units, unit)
	}
	return units, nil
}

func (s *streamer) Unit(ctx context.Context, name string) (system.Unit, error) {
	units, err := s.States(ctx, []string{name})
	return units[0], err
}

func (s *streamer) Restart(_ context.Context, name string) error {
	s.did = append(s.did, name)
	s.units[name] = system.Unit{LoadState: "loaded", ActiveState: "active", ActiveSince: time.Now()}
	return nil
}

func (s *streamer) List(context.Context) ([]system.Session, error) {
	sessions := s.sessions
	if s.logsIn {
		s.sessions = []system.Session{{User: "alice", State: "active"}}
	}
	return sessions, nil
}

type machine interface {
	all() system.Units
	system.Sessions
}

func liveKind(t *testing.T, root, toml string, m machine) *Kind {
	t.Helper()
	p := kindtest.Policy(t, toml)
	ledger := kindtest.Ledger(t, root)
	s := kindtest.Open(t, system.Options{Root: root, Backups: ledger})
	s.Root, s.Units, s.Sessions, s.Clock = "/", m.all(), m, &later{}
	return New(p, s, ledger, schedule.Window{})
}

func livePass(t *testing.T, root, toml string, m machine) map[policy.ID]converge.Resource {
	t.Helper()
	k := liveKind(t, root, toml, m)
	engine := kindtest.Engine(k.policy, k, k.ledger, k.system.Clock)
	return kindtest.ByID(engine.Pass(t.Context()).Resources)
}

func running() system.Unit {
	return system.Unit{LoadState: "loaded", ActiveState: "active", ActiveSince: time.Now().Add(-time.Hour)}
}

const clipboard = policy.ID("pcoip/server_clipboard_state")

func TestTheAgentIsRestartedWhenNobodyIsLoggedInAndNeverBefore(t *testing.T) {
	const off = "pcoip.server_clipboard_state = 0\n"
	agentFile := map[string]string{"pcoip-agent.service": "/usr/sbin/pcoip-agent --foreground", "pcoip.service": "/usr/lib/skylight/pcoip-start"}
	alice := []system.Session{{User: "alice", State: "online"}} // disconnected: the programs are still open
	for name, test := range map[string]struct {
		units    map[string]system.Unit
		sessions []system.Session
		logsIn   bool
		state    converge.State
		effect   converge.Effect
		did      []string
	}{
		"nobody":            {map[string]system.Unit{"pcoip.service": running()}, nil, false, converge.Corrected, "", []string{"pcoip.service"}},
		"the other unit":    {map[string]system.Unit{"pcoip-agent.service": running()}, nil, false, converge.Corrected, "", []string{"pcoip-agent.service"}},
		"both":              {map[string]system.Unit{"pcoip.service": running(), "pcoip-agent.service": running()}, nil, false, converge.Corrected, "", []string{"pcoip-agent.service"}},
		"disconnected":      {map[string]system.Unit{"pcoip.service": running()}, alice, false, converge.Pending, converge.NextSession, nil},
		"leaving":           {map[string]system.Unit{"pcoip.service": running()}, []system.Session{{User: "alice", State: "closing"}}, false, converge.Corrected, "", []string{"pcoip.service"}},
		"logs in meanwhile": {map[string]system.Unit{"pcoip.service": running()}, nil, true, converge.Pending, converge.NextSession, nil},
		"not running":       {map[string]system.Unit{"pcoip.service": {LoadState: "loaded", ActiveState: "inactive"}}, nil, false, converge.Corrected, "", nil},
		"failed":            {map[string]system.Unit{"pcoip.service": {LoadState: "loaded", ActiveState: "failed"}}, nil, false, converge.Failed, "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			root := newImage(t, before)
			for unit, program := range agentFile {
				kindtest.Put(t, root, "usr/lib/systemd/system/"+unit, "[Service]\nExecStart=-"+program+"\n")
			}
			s := &streamer{units: test.units, sessions: test.sessions}
			if test.logsIn { // alice logs in again between the query that finds nobody and the restart
				s.sessions = alice
				livePass(t, root, off, s)
				s.sessions, s.logsIn = nil, true
			}
			r := livePass(t, root, off, s)[clipboard]
			if r.State != test.state || r.Effect != test.effect {
				t.Errorf("%s %s: %s %v", r.State, r.Effect, r.Reason, r.Diff)
			}
			if diff := cmp.Diff(test.did, s.did); diff != "" {
				t.Error(diff)
			}
			if test.state != converge.Pending {
				return
			}
			s.sessions, s.logsIn = nil, false
			if r := livePass(t, root, off, s)[clipboard]; r.State != converge.Corrected || len(s.did) != 1 {
				t.Errorf("after the logout: %s %s, %v", r.State, r.Reason, s.did)
			}
			if r := livePass(t, root, off, s)[clipboard]; r.State != converge.Compliant || len(s.did) != 1 {
				t.Errorf("then: %s %s, %v", r.State, r.Reason, s.did)
			}
		})
	}
}

func TestWhichOfTwoUnitsIsTheAgentIsNotGuessed(t *testing.T) {
	s := &streamer{units: map[string]system.Unit{"pcoip.service": running(), "pcoip-agent.service": running()}}
	r := livePass(t, newImage(t, before), toml, s)[clipboard]
	if r.State != converge.Pending || r.Effect != converge.Reboot || len(s.did) > 0 {
		t.Error(r.State, r.Effect, s.did)
	}
}

func TestOnlyWhatIsKnownToTakeEffectAtOnceDoesNotWait(t *testing.T) {
	s := &streamer{units: map[string]system.Unit{"pcoip.service": running()}, sessions: []system.Session{{User: "alice", State: "active"}}}
	found := livePass(t, newImage(t, before), "[pcoip]\nenable_build_to_lossless = 1\nmaximum_frame_rate = 30\n", s)
	if r := found["pcoip/enable_build_to_lossless"]; r.State != converge.Corrected {
		t.Errorf("documented: %s %s", r.State, r.Reason)
	}
	if r := found["pcoip/maximum_frame_rate"]; r.State != converge.Pending {
		t.Errorf("hearsay: %s %s", r.State, r.Reason)
	}
}

func TestADirectiveThatThePolicyNoLongerNamesBecomesWhatItWas(t *testing.T) {
	const both = "[pcoip]\nserver_clipboard_state = 0\nenable_audio = 0\n"
	root := newImage(t, before)
	s := &streamer{units: map[string]system.Unit{"pcoip.service": running()}}
	livePass(t, root, both, s)
	found := livePass(t, root, "pcoip.enable_audio = 0\n", s)
	if r := found[clipboard]; r.State != converge.Corrected || r.Diff[0].Want != "pcoip.server_clipboard_state = 1" || r.Diff[0].Got != "pcoip.server_clipboard_state = 0" {
		t.Error(r.State, r.Reason, r.Diff)
	}
	if got, want := read(t, root), before+"pcoip.enable_audio = 0\n"; got != want {
		t.Error(cmp.Diff(want, got))
	}
	s.sessions = []system.Session{{User: "alice", State: "active"}}
	if r := livePass(t, root, "", s)["pcoip/enable_audio"]; r.State != converge.Pending || read(t, root) != before {
		t.Error(r.State, r.Reason, read(t, root))
	}
	if len(s.did) != 2 {
		t.Errorf("restarted %v", s.did)
	}
	s.sessions = nil
	if r := livePass(t, root, "", s)["pcoip/enable_audio"]; r.State != converge.Corrected || len(s.did) != 3 {
		t.Error(r.State, r.Reason, s.did)
	}
	changed := strings.Replace(before, "state = 1", "state = 3", 1)
	if err := os.WriteFile(filepath.Join(root, confPath), []byte(changed), 0o644); err != nil {
		t.Fatal(err)
	}
	if found := livePass(t, root, "", s); len(found) > 0 || read(t, root) != changed {
		t.Errorf("what is the machine's own again is not left alone: %v", found)
	}
}

func TestABrokenFileIsNotMadeWorse(t *testing.T) {
	for name, content := range map[string]string{"binary": "\x7fELF\x00\x01pcoip.enable_audio = 1", "empty lines of zeros": "\x00\x00\n"} {
		root := newImage(t, content)
		for id, r := range livePass(t, root, toml, &streamer{units: map[string]system.Unit{}}) {
			if r.State != converge.Failed || !strings.Contains(r.Reason, "binary data") {
				t.Errorf("%s: %s is %s: %s", name, id, r.State, r.Reason)
			}
		}
		if read(t, root) != content {
			t.Errorf("%s: it was changed", name)
		}
	}
	root := newImage(t, before)
	file := filepath.Join(root, confPath)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(file, 0o755); err != nil {
		t.Fatal(err)
	}
	for id, r := range livePass(t, root, toml, &streamer{units: map[string]system.Unit{}}) {
		if r.State != converge.Failed || !strings.Contains(r.Reason, "not a regular file") {
			t.Errorf("a directory: %s is %s: %s", id, r.State, r.Reason)
		}
	}
}

func TestTheAgentIsRestartedUnderASessionInTheWindowAlone(t *testing.T) {
	const off = "pcoip.server_clipboard_state = 0\n[[rules]]\nmatch = [\"pcoip/*\"]\ndisrupt = \"window\"\n"
	root := newImage(t, before)
	agent := &streamer{units: map[string]system.Unit{"pcoip.service": running()}, sessions: []system.Session{{User: "alice", State: "active"}}}
	now := time.Now().UTC()
	for _, step := range []struct {
		from, to time.Duration
		state    converge.State
		effect   converge.Effect
		restarts int
	}{
		{0, 0, converge.Pending, converge.NextSession, 0}, // no window
		{time.Hour, 2 * time.Hour, converge.Pending, converge.Maintenance, 0},
		{-time.Hour, time.Hour, converge.Corrected, "", 1},
		{-time.Hour, time.Hour, converge.Compliant, "", 1},
	} {
		k := liveKind(t, root, off, agent)
		if step.to != 0 {
			text := fmt.Sprintf("from = %q\nto = %q\ntimezone = \"UTC\"", now.Add(step.from).Format("15:04"), now.Add(step.to).Format("15:04"))
			if err := tomlformat.Unmarshal([]byte(text), &k.window); err != nil {
				t.Fatal(err)
			}
		}
		engine := kindtest.Engine(k.policy, k, k.ledger, k.system.Clock)
		r := engine.Pass(t.Context()).Resources[0]
		if r.State != step.state || r.Effect != step.effect || r.Disrupt != policy.DisruptInWindow || len(agent.did) != step.restarts {
			t.Errorf("%+v: it is %s until %s (%s): %s; restarted %v", step, r.State, r.Effect, r.Disrupt, r.Reason, agent.did)
		}
	}
}
