package agent

import (
	"context"
	"sync"
	"time"

	notify "github.com/coreos/go-systemd/v22/daemon"

	"github.com/soe-agent/soe-agent/internal/system"
)

// defaultWatchdog is the interval that the agent goes by where systemd has none for
// it. The unit file has the same.
const defaultWatchdog = 5 * time.Minute

// A rhythm is how long things may take before they hang. All of it follows from the
// interval of systemd's watchdog.
type rhythm struct {
	watchdog time.Duration // 0: nobody is to be told
	patience time.Duration // with one kind's Check, before the others go on
	stuck    time.Duration // without a sign of life, before a worker counts as hanging
	lost     time.Duration // for a Check that was given up, before a restart may help
}

func rhythmOf(watchdog time.Duration) rhythm {
	base := watchdog
	if base == 0 {
		base = defaultWatchdog
	}
	return rhythm{watchdog: watchdog, patience: base * 3 / 10, stuck: base / 2, lost: 2 * base}
}

// A pulse tells a worker that works from one that hangs. Whatever it does on the
// machine is a beat. It may wait for what ends by itself, or is somebody else's to
// end: a command, a job of systemd's, another package manager.
type pulse struct {
	mu    sync.Mutex
	walks int // under way
	waits int // under way
	last  time.Time

	// writing is held by whoever changes a file, and by who wants no more of that.
	writing sync.RWMutex
}

func (p *pulse) beat() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = time.Now()
}

// walk begins a walk, and returns what ends it.
func (p *pulse) walk() (done func()) {
	p.beat()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.walks++
	return func() {
		p.beat()
		p.mu.Lock()
		defer p.mu.Unlock()
		p.walks--
	}
}

// await begins a wait that is no hanging, and returns what ends it.
func (p *pulse) await() (done func()) {
	p.mu.Lock()
	p.waits++
	p.mu.Unlock()
	return func() {
		p.beat()
		p.mu.Lock()
		defer p.mu.Unlock()
		p.waits--
	}
}

// change begins a change of one file, and returns what ends it. After a halt none
// begins any more.
func (p *pulse) change() (done func()) {
	p.beat()
	p.writing.RLock()
	return p.writing.RUnlock
}

// halt returns when no file is being changed; none is after that.
func (p *pulse) halt() { p.writing.Lock() }

// isWalking says whether a walk is under way, and for how long it has given no sign
// of life.
func (p *pulse) isWalking() (still time.Duration, yes bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waits == 0 {
		still = time.Since(p.last)
	}
	return still, p.walks > 0
}

// felt is the machine through a door at which the pulse is felt.
func (m *Machine) felt(p *pulse) *Machine {
	s := *m.System
	s.FS, s.Runner, s.Clock, s.Units = feltFS{s.FS, p}, feltRunner{s.Runner, p}, feltClock{s.Clock, p}, feltUnits{s.Units, p}
	felt := *m
	felt.System = &s
	return &felt
}

type feltFS struct {
	system.FS
	pulse *pulse
}

func (f feltFS) Inspect(name string) ([]byte, system.Info, error) {
	f.pulse.beat()
	return f.FS.Inspect(name)
}

func (f feltFS) ReadFile(name string) ([]byte, error) {
	f.pulse.beat()
	return f.FS.ReadFile(name)
}

func (f feltFS) WriteFile(name string, content []byte, attr system.Attr) error {
	defer f.pulse.change()()
	return f.FS.WriteFile(name, content, attr)
}

func (f feltFS) SetAttr(name string, attr system.Attr) error {
	defer f.pulse.change()()
	return f.FS.SetAttr(name, attr)
}

func (f feltFS) Symlink(target, name string) error {
	defer f.pulse.change()()
	return f.FS.Symlink(target, name)
}

func (f feltFS) MoveDir(from, to string) error {
	defer f.pulse.change()()
	return f.FS.MoveDir(from, to)
}

func (f feltFS) Remove(name string) error {
	defer f.pulse.change()()
	return f.FS.Remove(name)
}

// Reown takes as long as there are files.
func (f feltFS) Reown(ctx context.Context, r system.Reown) (system.Reowned, error) {
	defer f.pulse.await()()
	return f.FS.Reown(ctx, r)
}

type feltRunner struct {
	system.Runner
	pulse *pulse
}

func (r feltRunner) Run(ctx context.Context, c system.Command) (system.Output, error) {
	defer r.pulse.await()()
	return r.Runner.Run(ctx, c)
}

type feltClock struct {
	system.Clock
	pulse *pulse
}

func (c feltClock) Unwrap() system.Clock { return c.Clock }

func (c feltClock) Sleep(ctx context.Context, d time.Duration) error {
	defer c.pulse.await()()
	return c.Clock.Sleep(ctx, d)
}

type feltUnits struct {
	system.Units
	pulse *pulse
}

func (u feltUnits) Start(ctx context.Context, name string) error {
	defer u.pulse.await()()
	return u.Units.Start(ctx, name)
}

func (u feltUnits) Stop(ctx context.Context, name string) error {
	defer u.pulse.await()()
	return u.Units.Stop(ctx, name)
}

func (u feltUnits) Restart(ctx context.Context, name string) error {
	defer u.pulse.await()()
	return u.Units.Restart(ctx, name)
}

// feedWatchdog tells systemd twice in each interval that the agent lives, as long as
// those that do the work answer. When they do not, systemd starts another agent
// (systemd.service(5), WatchdogSec=).
func (d *daemon) feedWatchdog(ctx context.Context) {
	if d.rhythm.watchdog == 0 {
		return
	}
	for d.System.Clock.Sleep(ctx, d.rhythm.watchdog/2) == nil {
		if d.alive() {
			d.systemd.Tell(notify.SdNotifyWatchdog)
		}
	}
}

// alive asks whoever does the work for a sign of life.
func (d *daemon) alive() bool {
	d.mu.Lock() // whoever hangs with it is not alive either
	busy := d.status.Busy
	d.mu.Unlock()
	for _, w := range d.workers() {
		if !w.answers(d.rhythm.stuck) {
			d.Log.Error("a worker hangs: the watchdog is left to start another agent", "kinds", w.walking(), "busy", busy)
			return false
		}
		for kind, since := range w.hanging() {
			if time.Since(since) > d.rhythm.lost && d.life.mayBite(kind) {
				d.Log.Error("a check has not ended: the watchdog is left to start another agent, which may have more luck", "kind", kind, "since", since)
				return false
			}
		}
	}
	return true
}
