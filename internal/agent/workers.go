package agent

import (
	"slices"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/kind/check"
)

// workers returns all workers, by workerOf. None waits for another.
func (d *daemon) workers() []*worker {
	return []*worker{quick: d.quick, slow: d.slow, checks: d.checks}
}

// inPass are the kinds of all passes under way.
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

// detachAfter is how long a pass of the quick kinds waits for one of them, before it goes on
// without it.
const detachAfter = time.Second

// repairing is what is being brought into line.
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

// record takes over what a pass found, as findings does.
func (d *daemon) record(result converge.Result) (known bool) {
	if known = d.findings.record(result); known {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.status.LastPass = result.Started.Add(result.Took)
	}
	return known
}

// passEnded is told by the workers of each pass.
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

// lookAgain has the checks look at what was not there when they did.
func (d *daemon) lookAgain() {
	for _, kind := range d.checks.given() {
		if c, is := kind.(*check.Kind); is {
			c.LookAgain()
		}
	}
	d.checks.markAll()
}

// isNew says of a resource whether its pass has made it what the policy has come to want. What is
// put back is none: checks have seen it as it was.
func isNew(r converge.Resource) bool {
	return r.State == converge.Corrected && r.Cause == converge.Intentional
}

// markAffected marks all of those other workers whose kinds may be out of line, now that one has
// repaired something.
func (d *daemon) markAffected(by *worker) {
	workers := d.workers()
	for i, other := range workers {
		if other != by && workerOf(slices.Index(workers, by)).affects(workerOf(i)) {
			other.markAll()
		}
	}
}

// explore has what kinds have found out to be worth watching watched.
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

// schedulePasses sees to it that what a pass left is checked again when its time has come.
func (d *daemon) schedulePasses(w *worker, result converge.Result) {
	for _, r := range result.Resources {
		if r.State == converge.Pending && r.Effect == converge.Now {
			w.mark(r.ID.Kind()) // it is a long way, and nothing stands in it
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
