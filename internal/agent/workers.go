package agent

import (
	"slices"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
)

// workers are all that walk. None waits for another.
func (d *daemon) workers() []*worker { return []*worker{d.quick, d.slow, d.checks} }

// walking are the kinds of all walks under way.
func (d *daemon) walking() (kinds []string) {
	for _, w := range d.workers() {
		kinds = append(kinds, w.walking()...)
	}
	slices.Sort(kinds)
	return kinds
}

// idle says whether nothing is under way or waiting.
func (d *daemon) idle() bool {
	return !slices.ContainsFunc(d.workers(), func(w *worker) bool { return !w.idle() })
}

// markAll has everything walked.
func (d *daemon) markAll() {
	for _, w := range d.workers() {
		w.markAll()
	}
}

// brief is how long a walk of the quick kinds waits for one of them, before it goes on
// without it.
const brief = time.Second

// walked is told by the workers of each walk.
func (d *daemon) walked(w *worker, result converge.Result) {
	d.record(result)
	if w == d.slow && result.Rounds > 0 {
		d.quick.markAll() // packages bring units, schemas, sudoers files and users of their own
		d.checks.markAll()
	}
	for _, r := range result.Resources {
		if r.State == converge.Pending && r.Effect == converge.Now {
			w.mark(r.ID.Kind()) // it is a long way, and nothing stands in it
		}
		if r.State == converge.Contested {
			w.markAt(r.ID.Kind(), d.Ledger.ContestedUntil(r.ID, result.Started))
		}
	}
	d.mu.Lock()
	verify, p := d.config.Schedule.Verify.Duration, d.policy
	d.mu.Unlock()
	w.retry(result, verify)
	w.awaitWaivers(p, result, verify)
	d.witness.follow(w.given())
	d.settle()
	d.publish()
	d.api.walked(result, d.settled)
	if d.idle() {
		d.rest.Reset(untilRest)
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
			r.Corrected(was)
		}
		kind := r.ID.Kind()
		d.resources[kind] = append(d.resources[kind], r)
	}
	d.status.LastPass = result.Started.Add(result.Took)
}
