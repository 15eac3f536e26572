package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"sync"
	"syscall"
	"time"

	notify "github.com/coreos/go-systemd/v22/daemon"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/kind/packages"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/report"
	"github.com/soe-agent/soe-agent/internal/system"
	"github.com/soe-agent/soe-agent/internal/watch"
)

// configuredTarget is started when the machine is first in line with its
// published policy, or with all there is when none is to be had.
const configuredTarget = "soe-configured.target"

// daemon is the agent for as long as it runs.
type daemon struct {
	*Machine
	configFile string
	version    string

	quick, slow *worker
	watcher     *watch.Watcher
	reports     *sender
	reload      chan struct{} // holds one: the configuration or a local fragment may have changed
	resumed     chan struct{} // holds one: the machine has slept

	mu             sync.Mutex // guards what follows
	config         Config
	aws            connection
	afresh         bool           // the connection is to forget what it has learnt
	policy         *policy.Policy // in force
	fetched        *policy.Policy // the last one that was published; nil in this life of the daemon
	enforced       Schedule       // that the kinds go by
	configProblems []string
	status         Status
	resources      map[string][]converge.Resource // by kind
	timing         map[string]time.Duration
	announced      bool // that the machine is configured
}

// Run is the daemon: it returns when ctx is done, or when it cannot begin. A
// configuration that cannot be read does not keep it from locking the machine
// down: it goes by the default, and says so.
func Run(ctx context.Context, m *Machine, configFile, version string) error {
	d := &daemon{
		Machine: m, configFile: configFile, version: version, reload: make(chan struct{}, 1), resumed: make(chan struct{}, 1),
		resources: map[string][]converge.Resource{}, timing: map[string]time.Duration{}, config: Default(),
		status: Status{Version: version, PID: os.Getpid(), Started: m.System.Clock.Now(), Phase: LockingDown},
	}
	d.quick, d.slow = newWorker(d.walked), newWorker(d.walked)
	if err := d.lockDown(ctx); err != nil {
		return err
	}
	d.tell(notify.SdNotifyReady)
	defer d.tell(notify.SdNotifyStopping)
	m.Log.Info("ready")

	watcher, err := watch.New(m.System.FS, m.Log, d.changed)
	if err != nil {
		m.Log.Error("drift is found by the next verify only", "err", err)
	} else {
		watcher.FollowClock(m.System.Clock)
	}
	d.watcher = watcher
	d.reports = newSender(d.deliver, d.reportSent)
	known := d.policy
	d.enforce(known, d.status.Refused)

	var wg sync.WaitGroup
	defer wg.Wait()
	for _, part := range []func(context.Context){d.quick.run, d.slow.run, d.bootstrap, d.verify, d.reports.run, d.hangups} {
		wg.Go(func() { part(ctx) })
	}
	if watcher != nil {
		wg.Go(func() { watcher.Run(ctx) })
	}
	wg.Go(func() { packages.FollowEarlier(ctx, known, d.System) })
	<-ctx.Done()
	return nil
}

// lockDown enforces the last good policy, or the seed, with the kinds that are
// quick and need no network. Whatever of it fails, the desktop comes up: the
// report says what is not in line.
func (d *daemon) lockDown(ctx context.Context) error {
	known, err := d.layers().Known(d.subjectAtBoot(d.configuration()))
	if err != nil {
		return err
	}
	p := known.Policy
	d.policy = p
	d.status.Serial, d.status.Digest, d.status.Refused, d.status.LastContact = p.Serial, p.Digest(), known.Refused, known.Saved
	kinds := d.Machine.quick(p)
	result := converge.New(p, kinds, d.Ledger, d.System.Clock, d.Log).Pass(ctx)
	d.record(result)
	d.Log.Info("locked down", "policy", p.Digest(), "took", result.Took)
	return ctx.Err()
}

// enforce makes a policy the one that the machine is held to from now on.
func (d *daemon) enforce(p *policy.Policy, refused []string) {
	d.mu.Lock()
	d.policy, d.enforced = p, d.Schedule
	d.status.Serial, d.status.Digest, d.status.Refused, d.status.Personas = p.Serial, p.Digest(), refused, p.Personas
	wanted := map[string]bool{}
	for _, r := range p.Resources {
		wanted[r.ID.Kind()] = true
	}
	maps.DeleteFunc(d.resources, func(kind string, _ []converge.Resource) bool { return !wanted[kind] })
	d.mu.Unlock()
	debug.SetGCPercent(growth(len(p.Resources)))

	quick := append(d.Machine.quick(p), d.last(p)...)
	slow := d.Machine.slow(p)
	if d.watcher != nil {
		d.watcher.Follow(append(slices.Clone(quick), slow...), LocalDir)
	}
	d.quick.assign(converge.New(p, quick, d.Ledger, d.System.Clock, d.Log), quick)
	d.slow.assign(converge.New(p, slow, d.Ledger, d.System.Clock, d.Log), slow)
	d.publish()
}

// growth is by how many percent the heap may grow before it is swept: by some 4 MiB,
// however many resources there are, of which each holds about 1.4 KiB.
func growth(resources int) int { return max(20, 400*1024/(5*1024+resources*14/10)) }

// refuse records why a newer policy is not in force. The one that is stays.
func (d *daemon) refuse(problems []string) {
	d.mu.Lock()
	d.status.Refused = problems
	d.mu.Unlock()
	d.publish()
}

// changed is told by the watcher which kind should look again.
func (d *daemon) changed(kind string) {
	switch kind {
	case watch.LocalPolicy:
		d.askReload()
	case watch.Resumed:
		d.Log.Info("the machine has slept: looking at everything again")
		d.quick.markAll()
		d.slow.markAll()
		if d.bootstrapped() {
			d.signal(d.resumed)
		} else {
			d.askReload() // the clock was set for the first time, more likely; nothing is to be spread yet
		}
	default:
		d.quick.mark(kind)
		d.slow.mark(kind)
	}
}

// bootstrapped says whether there was a published policy in this life of the daemon.
func (d *daemon) bootstrapped() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.fetched != nil
}

func (d *daemon) askReload() { d.signal(d.reload) }

// signal has the follower look again, with a connection that trusts nothing it knew.
func (d *daemon) signal(to chan struct{}) {
	d.mu.Lock()
	d.afresh = true
	d.mu.Unlock()
	select {
	case to <- struct{}{}:
	default:
	}
}

// hangups reads everything again on SIGHUP.
func (d *daemon) hangups(ctx context.Context) {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangup:
			d.askReload()
		}
	}
}

// verify looks at everything from time to time, for what cannot be watched. The
// times are spread, so that desktops that woke together do not stay together.
func (d *daemon) verify(ctx context.Context) {
	for d.System.Clock.Sleep(ctx, spread(d.verifyEvery())) == nil {
		d.settleCorrections()
		d.quick.markAll()
		d.slow.markAll()
	}
}

func (d *daemon) verifyEvery() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.config.Schedule.Verify.Duration
}

// settleCorrections makes what was corrected compliant like everything else.
func (d *daemon) settleCorrections() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, resources := range d.resources {
		for i := range resources {
			if resources[i].State == converge.Corrected {
				resources[i].State, resources[i].Diff, resources[i].Cause = converge.Compliant, nil, ""
			}
		}
	}
}

// spread returns a duration of d on average, between half and one and a half.
func spread(d time.Duration) time.Duration {
	return d/2 + rand.N(d) //nolint:gosec // no secret depends on it
}

// walked is told by the workers of each walk.
func (d *daemon) walked(w *worker, result converge.Result) {
	d.record(result)
	if w == d.slow && result.Rounds > 0 {
		d.quick.markAll() // packages bring units, schemas, sudoers files and users of their own
	}
	for _, r := range result.Resources {
		if r.State == converge.Pending && r.Effect == converge.Now {
			w.mark(r.ID.Kind()) // it is a long way, and nothing stands in it
		}
	}
	d.settle()
	d.publish()
	if w.all(result) && d.quick.idle() && d.slow.idle() {
		debug.FreeOSMemory() // nothing is to be done for a while
	}
}

// record takes over what a walk found.
func (d *daemon) record(result converge.Result) {
	d.mu.Lock()
	defer d.mu.Unlock()
	corrected := map[policy.ID]converge.Resource{}
	for _, kind := range result.Kinds {
		for _, r := range d.resources[kind] {
			if r.State == converge.Corrected {
				corrected[r.ID] = r
			}
		}
		d.resources[kind] = nil
		d.timing[kind] = result.Timing[kind]
	}
	for _, r := range result.Resources {
		// A correction is worth being seen until the next verify, not only until the
		// next look a moment later.
		if was, ok := corrected[r.ID]; ok && r.State == converge.Compliant {
			r.State, r.Diff, r.Cause, r.Since = was.State, was.Diff, was.Cause, was.Since
		}
		kind := r.ID.Kind()
		d.resources[kind] = append(d.resources[kind], r)
	}
	d.status.LastPass = result.Started.Add(result.Took)
}

// settle announces that the machine is as far as it gets, the first time that
// everything has been walked: its published policy, unless none is meant
// for it.
func (d *daemon) settle() {
	d.mu.Lock()
	first := d.phase() == Keeping && !d.announced
	d.announced = d.announced || first
	d.mu.Unlock()
	if !first {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := d.System.Units.Start(ctx, configuredTarget); err != nil && !errors.Is(err, system.ErrNotRunning) {
		d.Log.Warn("cannot announce that the machine is configured", "err", err)
	}
}

// phase is where in its life the daemon is, mu being held.
func (d *daemon) phase() Phase {
	switch {
	case d.config.AWS.Path != "" && d.status.Serial == 0:
		return Bootstrapping
	case !d.quick.idle() || !d.slow.idle():
		return Converging
	}
	return Keeping
}

// publish writes the report and the status for all to read, and hands the report
// to the sender.
func (d *daemon) publish() {
	d.mu.Lock()
	defer d.mu.Unlock()
	var byKind [][]converge.Resource
	for _, kind := range slices.Sorted(maps.Keys(d.resources)) {
		byKind = append(byKind, d.resources[kind])
	}
	resources := slices.Concat(byKind...)
	refused := append(slices.Clone(d.configProblems), d.status.Refused...)
	r := report.New(d.version, d.Facts, d.policy, refused, d.System.Clock.Now(), resources, maps.Clone(d.timing))
	d.status.Phase, d.status.Compliant, d.status.Summary = d.phase(), r.Compliant, r.Summary
	d.status.Busy = slices.Sorted(slices.Values(append(d.quick.walking(), d.slow.walking()...)))
	d.write(ReportFile, r)
	d.write(StatusFile, d.status)
	d.tell("STATUS=" + d.status.line())
	if d.reports != nil {
		d.reports.offer(r)
	}
}

func (d *daemon) write(name string, document any) {
	var content bytes.Buffer
	err := json.NewEncoder(&content).Encode(document)
	if err == nil {
		err = d.System.FS.WriteFile(name, content.Bytes(), system.Attr{Mode: 0o644})
	}
	if err != nil {
		d.Log.Error("cannot say where the machine stands", "err", err)
	}
}

// reportSent is told by the sender what became of a report.
func (d *daemon) reportSent(err error) {
	d.mu.Lock()
	d.status.ReportError = ""
	if err != nil {
		d.status.ReportError = err.Error()
	}
	d.mu.Unlock()
	if err != nil {
		d.publish()
	}
}

func (d *daemon) tell(state string) {
	if _, err := notify.SdNotify(false, state); err != nil {
		d.Log.Warn("cannot tell systemd", "state", state, "err", err)
	}
}

// line is the status in one line, for systemctl status.
func (s Status) line() string {
	text := string(s.Phase)
	if s.Waiting != "" {
		text += "; waiting: " + s.Waiting
	}
	if !s.LastPass.IsZero() {
		verdict := "compliant"
		if !s.Compliant {
			verdict = "not compliant"
		}
		text += fmt.Sprintf("; %s (%d resources)", verdict, total(s.Summary))
	}
	return text
}

func total(summary map[converge.State]int) int {
	n := 0
	for _, count := range summary {
		n += count
	}
	return n
}
