package agent

import (
	"slices"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/kind/check"
)

// workers returns all workers, indexed by workerOf. None waits for another.
func (d *daemon) workers() []*worker {
	return []*worker{quick: d.quick, slow: d.slow, checks: d.checks}
}

// inPass returns the kinds of all passes under way.
func (d *daemon) inPass() (kinds []string) {
	for _, w := range d.workers() {
		kinds = append(kinds, w.inPass()...)
	}
	slices.Sort(kinds)
	return kinds
}

// idle says whether nothing is under way or waiting.
func (d *daemon) idle() bool {
	return !slices.ContainsFunc(d.workers(), func(w *worker) bool { return !w.idle() })
}

// markAll marks every kind of every worker dirty and drops its cache.
func (d *daemon) markAll() {
	for _, w := range d.workers() {
		w.markAll()
	}
}

// detachAfter is how long a pass of the quick kinds waits for one of them before it goes on without it.
const detachAfter = time.Second

// repairing returns the resources that are under repair.
func (d *daemon) repairing() (drifted []converge.Resource) {
	for _, w := range d.workers() {
		w.mu.Lock()
		for _, resources := range w.repairing {
			drifted = append(drifted, resources...)
		}
		w.mu.Unlock()
	}
	return drifted
}

// record takes over the result of a pass: see findings.record.
func (d *daemon) record(result converge.Result) (known bool) {
	if known = d.findings.record(result); known {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.status.LastPass = result.Started.Add(result.Took)
	}
	return known
}

// passEnded is called by the workers after each pass.
func (d *daemon) passEnded(w *worker, result converge.Result) {
	known := d.record(result)
	if result.Rounds > 0 {
		d.markAffected(w)
	}
	if w != d.checks && slices.ContainsFunc(result.Resources, isNew) {
		d.lookAgain()
	}
	if known {
		d.schedulePasses(w, result)
	}
	d.explore(w.given())
	d.writers.follow(w.given())
	d.settle()
	d.publish()
	if known {
		d.api.passEnded(result, d.settled)
	}
	if d.idle() {
		d.freeMemory.Reset(freeMemoryAfter)
	}
}

// lookAgain makes the policy's checks run again, because something new has been set up that they may
// not have seen.
func (d *daemon) lookAgain() {
	for _, kind := range d.checks.given() {
		if c, is := kind.(*check.Kind); is {
			c.LookAgain()
		}
	}
	d.checks.markAll()
}

// isNew says whether the pass has set up something that the policy has only now come to want. A
// resource that was put back does not count: the checks have seen it as it was.
func isNew(r converge.Resource) bool {
	return r.State == converge.Corrected && r.Cause == converge.Intentional
}

// markAffected marks all kinds of the other workers that may have drifted because of a repair by one.
func (d *daemon) markAffected(by *worker) {
	workers := d.workers()
	for i, other := range workers {
		if other != by && workerOf(slices.Index(workers, by)).affects(workerOf(i)) {
			other.markAll()
		}
	}
}

// explore watches what the kinds have found to be worth watching.
func (d *daemon) explore(kinds []converge.Kind) {
	if d.watcher == nil {
		return
	}
	for _, kind := range kinds {
		if explorer, is := kind.(converge.Explorer); is {
			d.watcher.FollowAlso(explorer)
		}
	}
}

// schedulePasses schedules the checks that are due later because of what a pass has left.
func (d *daemon) schedulePasses(w *worker, result converge.Result) {
	for _, r := range result.Resources {
		if r.State == converge.Pending && r.Effect == converge.Now {
			w.mark(r.ID.Kind()) // there is more to do, and nothing to wait for
		}
		switch {
		case r.Unfinished():
			w.mark(r.ID.Kind())
		case r.State == converge.Contested:
			w.markAt(r.ID.Kind(), d.Ledger.ContestedUntil(r.ID, result.Started))
		}
	}
	for _, kind := range w.given() {
		if timed, is := kind.(converge.Timed); is && slices.Contains(result.Kinds, kind.Name()) {
			if next := timed.NextLook(); !next.IsZero() {
				w.markAt(kind.Name(), next)
			}
		}
	}
	d.mu.Lock()
	verify, p := d.config.Schedule.Verify.Duration, d.findings.inForce()
	d.mu.Unlock()
	w.retry(result, verify)
	w.awaitWaivers(p, result, verify)
}
