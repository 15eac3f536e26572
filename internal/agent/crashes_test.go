package agent

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/history"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
	"github.com/soe-agent/soe-agent/internal/watch"
)

func TestOnlyWhoDiesYoungAgainAndAgainInOneBootComesIntoSafeMode(t *testing.T) {
	start := time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)
	old := func(r crashes) crashes { r.Started = time.Time{}; return r } // it has lasted for a minute, or was asked to stop
	for name, test := range map[string]struct {
		between time.Duration
		boot    func(i int) string
		version func(i int) string
		ends    func(crashes) crashes
		safe    bool
	}{
		"dies at once":            {between: 2 * time.Second, safe: true},
		"dies after half an age":  {between: 30 * time.Second, safe: true},
		"dies rarely":             {between: 4 * time.Minute},
		"is asked to end":         {between: 2 * time.Second, ends: old},
		"ends with the machine":   {between: 20 * time.Second, boot: func(i int) string { return string(rune('a' + i)) }},
		"is upgraded":             {between: 2 * time.Second, version: func(i int) string { return string(rune('1' + i)) }},
		"the clock is set ahead":  {between: 24 * time.Hour},
		"the clock is set behind": {between: -24 * time.Hour},
	} {
		var r crashes
		for i := range 6 {
			boot, version := "boot", "1.0"
			if test.boot != nil {
				boot = test.boot(i)
			}
			if test.version != nil {
				version = test.version(i)
			}
			r = r.started(start.Add(time.Duration(i)*test.between), boot, version)
			if i == 3 && r.Safe != nil {
				t.Errorf("%s: three deaths were enough", name)
			}
			if test.ends != nil {
				r = test.ends(r)
			}
		}
		if (r.Safe != nil) != test.safe {
			t.Errorf("%s: safe mode is %v", name, r.Safe)
		}
	}
}

func TestSafeModeEndsAfterAnHourOrWithAnotherAgentAndNotWithABoot(t *testing.T) {
	now := time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)
	r := crashes{Boot: "a", Version: "1.0", Safe: &safeMode{Since: now, Why: "it died"}}
	if got := r.started(now.Add(59*time.Minute), "b", "1.0"); got.Safe == nil {
		t.Error("it ends within an hour")
	}
	if got := r.started(now.Add(61*time.Minute), "a", "1.0"); got.Safe != nil || len(got.Crashes) > 0 {
		t.Errorf("after an hour: %+v", got)
	}
	if got := r.started(now.Add(time.Minute), "a", "1.1"); got.Safe != nil {
		t.Error("another agent is not tried")
	}
}

// newTestDaemon returns a daemon for an image that does not run.
func newTestDaemon(t *testing.T, root, version string) *daemon {
	t.Helper()
	s, err := system.Open(system.Options{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	ledger, err := converge.OpenLedger(s.FS, StateDir, (&Machine{}).Facts.Identity())
	if err != nil {
		t.Fatal(err)
	}
	d := newDaemon(&Machine{System: s, Ledger: ledger, History: history.Open(s.FS, HistoryDir), Log: slog.New(slog.DiscardHandler)}, ConfigFile, version, timeoutsOf(0))
	d.findings.policy, d.startup.lockedDown, d.startup.announced = &policy.Policy{}, true, true
	return d
}

func TestInSafeModeSudoIsKeptAndEverythingElseIsUnknownUntilItEnds(t *testing.T) {
	root := t.TempDir()
	var d *daemon
	for range maxCrashes + 1 {
		d = newTestDaemon(t, root, "1.0") // none of them ends well
	}
	p := &policy.Policy{Serial: 7, Resources: []policy.Resource{{ID: "package/firefox", Spec: policy.Package{Ensure: "present"}}}}
	d.findings.policy = p
	d.enterSafeMode(7)
	if !strings.Contains(d.status.SafeMode, "the agent crashed 4 times within 10 minutes") || d.phase() != SafeMode {
		t.Fatalf("%s: %s", d.phase(), d.status.SafeMode)
	}
	kinds := d.enabled(p, []converge.Kind{users{}, named("sudo"), named("package")})
	resting := []bool{isResting(kinds[0]), isResting(kinds[1]), isResting(kinds[2])}
	if !slices.Equal(resting, []bool{true, false, true}) {
		t.Errorf("left alone: %v", resting)
	}
	found, err := kinds[2].Check(t.Context())
	if err != nil || len(found) != 1 || found[0].State != converge.Unknown || found[0].Reason != d.status.SafeMode {
		t.Errorf("%v: %v", found, err)
	}
	if own := d.own(); len(own) != 1 || own[0].State != converge.Failed || own[0].Severity != policy.Critical {
		t.Errorf("the report says of it %v", own)
	}
	again := newTestDaemon(t, root, "1.0")
	if again.enterSafeMode(8); again.status.SafeMode != "" || again.crashes.safe() != nil {
		t.Error("a newer policy is not tried")
	}
}

type named string

func (n named) Name() string                                                 { return string(n) }
func (named) Check(context.Context) ([]converge.Resource, error)             { return nil, nil }
func (named) Repair(context.Context, []converge.Resource) []converge.Outcome { return nil }

func isResting(k converge.Kind) bool { _, yes := k.(suspended); return yes }

func TestALifeOfAMinuteForgetsTheDeathsBeforeIt(t *testing.T) {
	root := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		for range 3 {
			newTestDaemon(t, root, "1.0")
		}
		d := newTestDaemon(t, root, "1.0")
		go d.watchSafeMode(t.Context())
		time.Sleep(healthyAfter - time.Second)
		if n := deaths(d); n != 3 {
			t.Errorf("%d deaths are known", n)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		d = newTestDaemon(t, root, "1.0")
		if n := deaths(d); n != 0 {
			t.Errorf("%d deaths are known", n)
		}
	})
}

func deaths(d *daemon) int {
	d.crashes.mu.Lock()
	defer d.crashes.mu.Unlock()
	return len(d.crashes.saved.Crashes)
}

// doing is a kind whose check does something.
type doing func(ctx context.Context)

func (doing) Name() string { return "user" }

func (k doing) Check(ctx context.Context) ([]converge.Resource, error) { k(ctx); return nil, nil }

func (doing) Repair(context.Context, []converge.Resource) []converge.Outcome { return nil }

func TestTheWatchdogIsFedForAsLongAsTheWorkersDoNotHang(t *testing.T) {
	const hour = time.Hour
	for name, test := range map[string]struct {
		does  func(ctx context.Context, m *Machine) // in a check
		alive bool
	}{
		"nothing to do":      {func(context.Context, *Machine) {}, true},
		"hangs":              {func(context.Context, *Machine) { time.Sleep(hour) }, false},
		"waits for somebody": {func(ctx context.Context, m *Machine) { _ = m.System.Clock.Sleep(ctx, hour) }, true},
		"runs a long command": {func(ctx context.Context, m *Machine) {
			_, _ = m.System.Runner.Run(ctx, system.Command{Argv: []string{"yum"}})
		}, true},
		"waits for a unit": {func(ctx context.Context, m *Machine) { _ = m.System.Units.Start(ctx, "slow.service") }, true},
		"has much to write": {func(_ context.Context, m *Machine) {
			for range 60 {
				time.Sleep(time.Minute)
				_ = m.System.FS.WriteFile("/etc/x", nil, system.Attr{Mode: 0o644, UID: -1, GID: -1})
			}
		}, true},
	} {
		root := t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			d := newTestDaemon(t, root, "1.0")
			d.System.Runner, d.System.Units.UnitJobs = slowRunner{}, slowJobs{d.System.Units.UnitJobs}
			kind := doing(func(ctx context.Context) { test.does(ctx, d.withHeartbeat(&d.slow.heartbeat)) })
			ctx, cancel := context.WithCancel(t.Context())
			d.slow.assign(converge.New(d.findings.policy, []converge.Kind{kind}, d.Ledger, d.System.Clock, d.Log), []converge.Kind{kind})
			go d.quick.run(ctx)
			go d.slow.run(ctx)
			go d.checks.run(ctx)
			time.Sleep(hour - time.Second)
			if alive := d.alive(); alive != test.alive {
				t.Errorf("%s: alive: %v", name, alive)
			}
			cancel()
			time.Sleep(2 * time.Second)
			synctest.Wait()
		})
	}
}

type slowRunner struct{}

func (slowRunner) Run(context.Context, system.Command) (system.Output, error) {
	time.Sleep(time.Hour)
	return system.Output{}, nil
}

type slowJobs struct{ system.UnitJobs }

func (slowJobs) Start(context.Context, string) error { time.Sleep(time.Hour); return nil }

func TestTheWatchdogBitesOnceForACheckThatHasHungForLong(t *testing.T) {
	root := t.TempDir()
	for life, alive := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			d := newTestDaemon(t, root, "1.0")
			release := make(chan struct{})
			kind := doing(func(context.Context) { <-release })
			engine := converge.New(d.findings.policy, []converge.Kind{kind}, d.Ledger, d.System.Clock, d.Log)
			engine.CheckTimeout = d.timeouts.check
			d.quick.assign(engine, []converge.Kind{kind})
			ctx, cancel := context.WithCancel(t.Context())
			go d.quick.run(ctx)
			go d.slow.run(ctx)
			go d.checks.run(ctx)
			for range 4 { // 7½ and 10 minutes
				time.Sleep(d.timeouts.stuck)
				if time.Sleep(time.Second); time.Since(d.status.Started) < d.timeouts.lost && !d.alive() {
					t.Error("it is not fed while there is hope")
				}
			}
			for range 3 { // one missed answer alone would not make the watchdog fire
				time.Sleep(d.timeouts.stuck)
				if got := d.alive(); got != alive {
					t.Errorf("life %d: alive: %v", life+1, got)
				}
			}
			close(release)
			cancel()
			synctest.Wait()
		})
	}
}

func TestTheDesktopWaitsForTheLockDownTenSecondsAndNoLonger(t *testing.T) {
	root := t.TempDir()
	for name, content := range map[string]string{
		SeedDir + "/00-seed.toml": "schema = 1\n[groups.soe-admins]\ngid = 480\n",
		"/etc/passwd":             "root:x:0:0::/root:/bin/sh\n",
		"/etc/group":              "root:x:0:\n",
		"/etc/shadow":             "root:*:::::::\n",
		"/etc/gshadow":            "root:*::\n",
	} {
		file := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(content), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		d := newTestDaemon(t, root, "1.0")
		d.startup.lockedDown, d.startup.announced = false, false
		d.System.Runner = slowRunner{} // groupadd takes an hour
		start := time.Now()
		goesOn, err := d.lockDown(t.Context())
		if err != nil || goesOn == nil || time.Since(start) != lockDownTimeout {
			t.Fatalf("after %s it goes on: %v, %v", time.Since(start), goesOn != nil, err)
		}
		if own := d.own(); d.phase() != LockingDown || len(own) != 1 || own[0].State != converge.Unknown {
			t.Errorf("while it goes on the phase is %s, and the report says %v", d.phase(), own)
		}
		d.endLockDown(t.Context(), goesOn)
		if took := time.Since(start); took < time.Hour || d.phase() == LockingDown || len(d.own()) > 0 {
			t.Errorf("after %s: %s", took, d.phase())
		}
	})
}

// The watcher calls changed with its lock held.
func TestALocalFragmentThatEndsSafeModeDoesNotHoldUpTheWatcher(t *testing.T) {
	root := t.TempDir()
	var d *daemon
	for range maxCrashes + 1 {
		d = newTestDaemon(t, root, "1.0")
	}
	d.enterSafeMode(7)
	if d.status.SafeMode == "" {
		t.Fatal("it is not in safe mode")
	}
	d.reports = d.newReporting()
	host, err := system.Open(system.Options{})
	if err != nil {
		t.Fatal(err)
	}
	d.watcher = watch.New(host.FS, d.Log, d.changed)
	dir := t.TempDir()
	d.watcher.Follow(nil, dir, filepath.Join(dir, "agent.toml"))
	go d.watcher.Run(t.Context())
	if err := os.WriteFile(filepath.Join(dir, "50-here.toml"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		<-d.reload
		d.watcher.CatchUp(t.Context(), nil)
	}()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Fatal("whoever follows changes hangs")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.status.SafeMode != "" {
		t.Errorf("it is in safe mode still: %s", d.status.SafeMode)
	}
}
