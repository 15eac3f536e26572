package agent

import (
	"context"
	"sync"
	"time"

	notify "github.com/coreos/go-systemd/v22/daemon"

	"github.com/soe-agent/soe-agent/internal/system"
)

// defaultWatchdog is the interval that the timeouts are derived from if systemd has none for the agent. The
// unit file has the same.
const defaultWatchdog = 5 * time.Minute

// timeouts are the times after which something counts as hanging. All are derived from the interval of
// systemd's watchdog.
type timeouts struct {
	watchdog time.Duration // 0: the watchdog is off
	check    time.Duration // how long a Check may take before the pass goes on without it
	stuck    time.Duration // how long a worker may give no sign of life before it counts as hanging
	lost     time.Duration // how long a Check that was given up may hang before a restart is tried
}

func timeoutsOf(watchdog time.Duration) timeouts {
	base := watchdog
	if base == 0 {
		base = defaultWatchdog
	}
	return timeouts{watchdog: watchdog, check: base * 3 / 10, stuck: base / 2, lost: 2 * base}
}

// A heartbeat tells a worker that is busy from one that hangs. Each read or write of the machine is a beat.
// Waiting for a command, a systemd job or another package manager does not count as hanging.
type heartbeat struct {
	mu     sync.Mutex
	passes int // under way
	waits  int // under way
	last   time.Time

	// writing is read-locked during the change of a file, and locked to stop all further changes.
	writing sync.RWMutex
}

func (p *heartbeat) beat() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = time.Now()
}

// pass begins a pass. The caller calls done at its end.
func (p *heartbeat) pass() (done func()) {
	p.beat()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.passes++
	return func() {
		p.beat()
		p.mu.Lock()
		defer p.mu.Unlock()
		p.passes--
	}
}

// wait begins a wait that does not count as hanging. The caller calls done at its end.
func (p *heartbeat) wait() (done func()) {
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

// write begins the change of one file. The caller calls done at its end. After stopWrites it blocks forever.
func (p *heartbeat) write() (done func()) {
	p.beat()
	p.writing.RLock()
	return p.writing.RUnlock
}

// stopWrites waits for the file that is being changed; after it no change begins.
func (p *heartbeat) stopWrites() { p.writing.Lock() }

// inPass says whether a pass is under way, and for how long it has given no sign of life.
func (p *heartbeat) inPass() (still time.Duration, yes bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waits == 0 {
		still = time.Since(p.last)
	}
	return still, p.passes > 0
}

// withHeartbeat returns the machine with every call counted as a beat.
func (m *Machine) withHeartbeat(p *heartbeat) *Machine {
	s := *m.System
	s.FS.FileReader, s.FS.FileWriter, s.FS.Homes = heartbeatReader{s.FS.FileReader, p}, heartbeatWriter{s.FS.FileWriter, p}, heartbeatHomes{s.FS.Homes, p}
	s.FS.Attributes = heartbeatAttributes{s.FS.Attributes, p}
	s.Runner, s.Clock, s.Units.UnitJobs = heartbeatRunner{s.Runner, p}, heartbeatClock{s.Clock, p}, heartbeatJobs{s.Units.UnitJobs, p}
	counted := *m
	counted.System = &s
	return &counted
}

type heartbeatReader struct {
	system.FileReader
	heartbeat *heartbeat
}

func (f heartbeatReader) Inspect(name string) ([]byte, system.Info, error) {
	f.heartbeat.beat()
	return f.FileReader.Inspect(name)
}

func (f heartbeatReader) ReadFile(name string) ([]byte, error) {
	f.heartbeat.beat()
	return f.FileReader.ReadFile(name)
}

type heartbeatWriter struct {
	system.FileWriter
	heartbeat *heartbeat
}

func (f heartbeatWriter) WriteFile(name string, content []byte, attr system.Attr) error {
	defer f.heartbeat.write()()
	return f.FileWriter.WriteFile(name, content, attr)
}

func (f heartbeatWriter) SetAttr(name string, attr system.Attr) error {
	defer f.heartbeat.write()()
	return f.FileWriter.SetAttr(name, attr)
}

func (f heartbeatWriter) Symlink(target, name string) error {
	defer f.heartbeat.write()()
	return f.FileWriter.Symlink(target, name)
}

func (f heartbeatWriter) Remove(name string) error {
	defer f.heartbeat.write()()
	return f.FileWriter.Remove(name)
}

type heartbeatAttributes struct {
	system.Attributes
	heartbeat *heartbeat
}

func (f heartbeatAttributes) Describe(name string) (system.Info, error) {
	f.heartbeat.beat()
	return f.Attributes.Describe(name)
}

func (f heartbeatAttributes) ChangeAttr(name string, described system.Info, attr system.Attr) error {
	defer f.heartbeat.write()()
	return f.Attributes.ChangeAttr(name, described, attr)
}

type heartbeatHomes struct {
	system.Homes
	heartbeat *heartbeat
}

func (f heartbeatHomes) MoveDir(from, to string) error {
	defer f.heartbeat.write()()
	return f.Homes.MoveDir(from, to)
}

// Reown takes time in proportion to the number of files, so it counts as a wait.
func (f heartbeatHomes) Reown(ctx context.Context, r system.Reown) (system.Reowned, error) {
	defer f.heartbeat.wait()()
	return f.Homes.Reown(ctx, r)
}

type heartbeatRunner struct {
	system.Runner
	heartbeat *heartbeat
}

func (r heartbeatRunner) Run(ctx context.Context, c system.Command) (system.Output, error) {
	defer r.heartbeat.wait()()
	return r.Runner.Run(ctx, c)
}

type heartbeatClock struct {
	system.Clock
	heartbeat *heartbeat
}

func (c heartbeatClock) Unwrap() system.Clock { return c.Clock }

func (c heartbeatClock) Sleep(ctx context.Context, d time.Duration) error {
	defer c.heartbeat.wait()()
	return c.Clock.Sleep(ctx, d)
}

type heartbeatJobs struct {
	system.UnitJobs
	heartbeat *heartbeat
}

func (u heartbeatJobs) Start(ctx context.Context, name string) error {
	defer u.heartbeat.wait()()
	return u.UnitJobs.Start(ctx, name)
}

func (u heartbeatJobs) Stop(ctx context.Context, name string) error {
	defer u.heartbeat.wait()()
	return u.UnitJobs.Stop(ctx, name)
}

func (u heartbeatJobs) Restart(ctx context.Context, name string) error {
	defer u.heartbeat.wait()()
	return u.UnitJobs.Restart(ctx, name)
}

// feedWatchdog answers systemd's watchdog twice in each interval, as long as alive returns true. Otherwise
// systemd restarts the agent (systemd.service(5), WatchdogSec=).
func (d *daemon) feedWatchdog(ctx context.Context) {
	if d.timeouts.watchdog == 0 {
		return
	}
	for d.System.Clock.Sleep(ctx, d.timeouts.watchdog/2) == nil {
		if d.alive() {
			d.systemd.Tell(notify.SdNotifyWatchdog)
		}
	}
}

// alive says whether the workers answer, and none has a check that has been hanging for too long.
func (d *daemon) alive() bool {
	d.mu.Lock() // if mu is never released, this hangs too and the watchdog fires
	busy := d.status.Busy
	d.mu.Unlock()
	for _, w := range d.workers() {
		if !w.answers(d.timeouts.stuck) {
			d.Log.Error("a worker hangs; the agent stops answering the watchdog, so that systemd restarts it", "kinds", w.inPass(), "busy", busy)
			return false
		}
		for kind, since := range w.hanging() {
			if time.Since(since) > d.timeouts.lost && d.crashes.mayStopWatchdog(kind) {
				d.Log.Error("a check hangs; the agent stops answering the watchdog, so that systemd restarts it", "kind", kind, "since", since)
				return false
			}
		}
	}
	return true
}
