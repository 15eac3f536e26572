package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	notify "github.com/coreos/go-systemd/v22/daemon"

	"github.com/soe-agent/soe-agent/internal/kind/packages"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
	"github.com/soe-agent/soe-agent/internal/watch"
)

// configuredTarget is started when everything has been checked and repaired for the first time under the
// published policy, or, if none is published to the machine, under its own.
const configuredTarget = "soe-configured.target"

// daemon is the running agent. It wires its parts together: each of them owns its state and its lock, and
// takes no other lock while it holds that. Of the daemon's own two locks, enforcing is taken before mu.
type daemon struct {
	*Machine
	configFile string
	version    string
	timeouts   timeouts

	findings *findings // the policy in force, and what was found under it
	refusals refusals  // what people have to correct
	personas personas  // the machine's personas, and why it has them
	link     link      // the connection to AWS
	contact  contact   // what is known of the published policy
	startup  startup   // how far this run has come
	crashes  *crashRecord

	quick, slow *worker
	checks      *worker // for the policy's own checks, whose duration nobody knows
	watcher     *watch.Watcher
	writers     *writerMonitor
	reports     *reporting
	systemd     *system.Notifier
	api         api

	reload     chan struct{} // buffer of one: the configuration or a local fragment may have changed
	resumed    chan struct{} // buffer of one: the machine has slept
	freed      chan struct{} // buffer of one: safe mode is over
	passBegun  chan struct{} // buffer of one: a pass has begun
	freeMemory *time.Timer   // returns memory to the system after a while without work
	enforcing  sync.Mutex    // held while a policy is put into force

	mu          sync.Mutex // guards the fields below, and Schedule and Facts of the Machine
	config      Config
	configured  bool     // a configuration was read since the start
	enforced    Schedule // the schedule that the kinds were opened with
	status      Status
	said        said              // the last status that was published, for everybody and for root
	wholeDigest string            // the digest of the last whole report on disk
	unwritten   bool              // the public report could not be written, so the file is out of date
	complaints  map[string]string // files that cannot be written, and the reason that was logged
}

// Run runs the daemon until ctx is done. It returns an error only if it cannot start. If the configuration
// cannot be read, it uses the last known one or the default, reports the problem, and still locks the machine
// down.
func Run(ctx context.Context, m *Machine, configFile, version string) error {
	configFile, err := filepath.Abs(configFile)
	if err != nil {
		return fmt.Errorf("cannot follow the configuration %s: %w", configFile, err)
	}
	watchdog, err := notify.SdWatchdogEnabled(false)
	if err != nil {
		m.Log.Warn("cannot read the watchdog interval from systemd; the watchdog is not answered", "err", err)
	}
	d := newDaemon(m, configFile, version, timeoutsOf(watchdog))
	defer d.crashes.markHealthy()
	d.status.Room = room(m.System)
	d.rememberFacts()
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGUSR1)
	defer signal.Stop(signals)
	inBackground, err := d.lockDown(ctx)
	if ctx.Err() != nil {
		return nil // it was asked to stop, which is not a failure
	}
	if err != nil {
		return err
	}
	d.systemd.Tell(notify.SdNotifyReady)
	defer func() {
		d.systemd.Tell(notify.SdNotifyStopping)
		d.systemd.Flush(lastWords)
	}()
	m.Log.Info("ready")

	d.watcher = watch.New(m.System.FS, m.Log, d.changed)
	d.watcher.FollowClock(m.System.Clock)
	if m.System.Running() {
		d.watcher.FollowMounts(system.MountChanges)
	}
	if err := d.watcher.MarkWith(markFile); err != nil {
		m.Log.Warn("cannot suppress events of the agent's own writes; what it writes is checked twice", "err", err)
	}
	for _, w := range d.workers() {
		w.catchUp = d.watcher.CatchUp
	}
	d.reports = d.newReporting()
	known := d.findings.inForce()
	_, goes := packages.ReadProgress(ctx, d.System)
	d.startup.transaction(goes)
	d.enforce(known, d.refusals.ofPolicy())

	parts := []func(context.Context){
		func(ctx context.Context) { d.endLockDown(ctx, inBackground); d.quick.run(ctx) },
		d.slow.run, d.checks.run, d.bootstrap, d.verify, d.reports.run, d.narrate, d.watchSafeMode, d.feedWatchdog, d.serve, d.watcher.Run,
		func(ctx context.Context) { d.handleSignals(ctx, signals) },
		func(ctx context.Context) { d.followEarlier(ctx, known) },
	}
	d.live(ctx, parts)
	d.writers.stop()
	return nil
}

// followEarlier waits for a package transaction that an earlier run of the agent began. What was checked
// before its end may have changed since.
func (d *daemon) followEarlier(ctx context.Context, p *policy.Policy) {
	packages.FollowEarlier(ctx, p, d.System)
	if was := d.startup.transaction(false); was && ctx.Err() == nil {
		d.markAll()
		d.publish()
	}
}

// live runs the daemon's goroutines until ctx is done, and then waits for them, but not for long.
func (d *daemon) live(ctx context.Context, parts []func(context.Context)) {
	var wg sync.WaitGroup
	for _, part := range parts {
		wg.Go(func() { part(ctx) })
	}
	<-ctx.Done()
	ended := make(chan struct{})
	go func() { wg.Wait(); close(ended) }()
	d.stop(ended)
}

// How long a stop waits: for everything that is under way, for the write of one file, and for the last
// messages to systemd.
const (
	stopTimeout  = time.Second
	writeTimeout = 3 * time.Second
	lastWords    = 200 * time.Millisecond // to systemd
)

// stop returns when everything has ended, or when it can be abandoned: no file is half-written then, and the
// next run does what is left.
func (d *daemon) stop(ended <-chan struct{}) {
	timer := time.NewTimer(stopTimeout)
	defer timer.Stop()
	select {
	case <-ended:
		return
	case <-timer.C:
	}
	d.Log.Info("stopping although passes are still under way", "kinds", d.inPass())
	halted := make(chan struct{})
	go func() {
		for _, w := range d.workers() {
			w.heartbeat.stopWrites()
		}
		close(halted)
	}()
	timer.Reset(writeTimeout)
	select {
	case <-halted:
	case <-timer.C:
	}
}

func newDaemon(m *Machine, configFile, version string, r timeouts) *daemon {
	now := m.System.Clock.Now()
	d := &daemon{
		Machine: m, configFile: configFile, version: version, timeouts: r,
		reload: make(chan struct{}, 1), resumed: make(chan struct{}, 1), freed: make(chan struct{}, 1), passBegun: make(chan struct{}, 1),
		findings: newFindings(), config: Default(),
		status:  Status{Version: version, PID: os.Getpid(), Started: now, Phase: LockingDown},
		crashes: openCrashRecord(m.System.FS, m.Log, now, version),
		writers: &writerMonitor{machine: m},
		systemd: system.NewNotifier(), complaints: map[string]string{},
	}
	d.quick, d.slow, d.checks = newWorker(d.passEnded), newWorker(d.passEnded), newWorker(d.passEnded)
	d.quick.detachAfter = detachAfter
	for _, w := range d.workers() {
		w.passBegun = d.passBegun
	}
	d.freeMemory = time.AfterFunc(freeMemoryAfter, debug.FreeOSMemory)
	d.api.changed = make(chan struct{}, 1)
	return d
}

// changed is called by the watcher with the kind that may have drifted. It must not block: the watcher would
// lose events, and anything here that places watches again would wait for the watcher.
func (d *daemon) changed(kind string) {
	switch kind {
	case watch.LocalPolicy:
		go d.readAgain("a local fragment has changed")
	case watch.Configuration:
		go d.readAgain("the configuration has changed")
	case watch.WatchesChanged:
		go d.updateUnwatched()
	case watch.Resumed:
		d.Log.Info("checking every kind again: the machine was asleep")
		d.markAll()
		if d.contact.ever() {
			d.signal(d.resumed)
		} else {
			d.askReload() // more likely the clock was set for the first time; there is nothing to spread yet
		}
	default:
		for _, w := range d.workers() {
			w.mark(kind)
		}
	}
}

// updateUnwatched publishes what the watcher cannot watch.
func (d *daemon) updateUnwatched() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if unwatched := d.watcher.Unwatched(); d.status.Unwatched != unwatched {
		d.status.Unwatched = unwatched
		d.say()
	}
}

// readAgain reads configuration and policy again, ends safe mode, and retries refused reports.
func (d *daemon) readAgain(why string) {
	d.leaveSafeMode(why)
	d.reports.again()
	d.askReload()
}

func (d *daemon) askReload() { d.signal(d.reload) }

// signal makes the poller fetch again, over a connection that is reset first (source.AWS.Reset).
func (d *daemon) signal(to chan struct{}) {
	d.link.forget()
	select {
	case to <- struct{}{}:
	default:
	}
}

// handleSignals handles signals: SIGHUP reads configuration and policy again, SIGUSR1 turns debug logging on or off.
func (d *daemon) handleSignals(ctx context.Context, signals <-chan os.Signal) {
	for {
		select {
		case <-ctx.Done():
			return
		case s := <-signals:
			if s == syscall.SIGUSR1 {
				d.setDebug(d.Level == nil || d.Level.Level() > slog.LevelDebug)
				continue
			}
			d.readAgain("a reload was requested")
		}
	}
}

// setDebug sets the log level to debug, or back to info.
func (d *daemon) setDebug(on bool) {
	if d.Level == nil {
		return
	}
	d.Level.Set(slog.LevelInfo)
	if on {
		d.Level.Set(slog.LevelDebug)
	}
	d.Log.Info("the log level was changed", "debug", on)
}

// zoneCheckInterval is how often the time zone is checked: if it changes, the maintenance window is at another
// time.
const zoneCheckInterval = 5 * time.Minute

// settle starts soe-configured.target once: when everything has been checked under the published policy, or
// under the machine's own if nothing is published to it.
func (d *daemon) settle() {
	d.mu.Lock()
	settled := d.phase() == Keeping && !d.findings.unseen()
	d.mu.Unlock()
	if !settled || !d.startup.announce() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := d.System.Units.Start(ctx, configuredTarget); err != nil && !errors.Is(err, system.ErrNotRunning) {
		d.Log.Warn("cannot start soe-configured.target", "err", err)
	}
}

// phase returns the phase that the daemon is in. mu is held.
func (d *daemon) phase() Phase {
	switch {
	case !d.startup.isLockedDown():
		return LockingDown
	case d.status.SafeMode != "":
		return SafeMode
	case d.config.AWS.Path != "" && d.status.Serial == 0:
		return Bootstrapping
	case !d.idle():
		return Converging
	}
	return Keeping
}

// publish writes the report and the status for everybody and the whole report for root, and hands the public
// report to the senders.
func (d *daemon) publish() {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.report()
	d.status.Verdict, d.status.Compliant, d.status.Summary = r.Verdict, r.Compliant, r.Summary
	d.keepWhole(r)
	public := r.ForEverybody()
	d.unwritten = !d.write(ReportFile, public)
	d.say()
	if d.reports != nil {
		d.reports.offer(public)
	}
}

// write replaces a document that everybody may read, and returns whether it could. If it cannot, it removes the
// old one, which is out of date and takes up room, and tries once more.
func (d *daemon) write(name string, document any) (written bool) {
	var content bytes.Buffer
	err := json.NewEncoder(&content).Encode(document)
	write := func() error { return d.System.FS.WriteFile(name, content.Bytes(), system.Attr{Mode: 0o644}) }
	if err == nil {
		err = write()
	}
	if errors.Is(err, syscall.ENOSPC) {
		d.status.Room = room(d.System)
		err = write()
	}
	if err != nil && d.System.FS.Remove(name) == nil {
		err = write()
	}
	if d.isNews(name, err) {
		d.Log.Error("cannot write the status or report file", "err", err)
	}
	return err == nil
}

// isNews says whether a failure to write a file is to be logged: once for as long as the reason stays the same,
// because a file system may be read-only for days. mu is held.
func (d *daemon) isNews(name string, err error) bool {
	if err == nil {
		delete(d.complaints, name)
		return false
	}
	said, reason := d.complaints[name], err.Error()
	d.complaints[name] = reason
	return said != reason
}
