package agent

import (
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/soe-agent/soe-agent/internal/converge"
)

// firstRetry is how long after a failed repair it is tried again, on average, if nothing else starts a
// pass. Each further wait is twice as long, up to the interval of verify.
const firstRetry = time.Minute

// firstRetryOfGuard is the same for a resource that guards rights: somebody may have the right meanwhile.
const firstRetryOfGuard = 2 * time.Second

// A retry is a pass over a kind that is due because something of it failed.
type retry struct {
	pauses *backoff.ExponentialBackOff
	at     time.Time
	timer  *time.Timer
}

// retry schedules another check of kinds that have a failed or unknown resource, and cancels the
// retries of kinds that have none any more. Passes that other events cause meanwhile do not change when
// the retry is due: frequent drift of one resource must make the retry of another neither more nor less
// frequent.
func (w *worker) retry(result converge.Result, longest time.Duration) {
	failed := map[string]time.Duration{} // by kind: the first wait
	for _, r := range result.Resources {
		if r.State != converge.Failed && r.State != converge.Unknown { // an unknown resource may be known soon, without any event
			continue
		}
		first, known := failed[r.ID.Kind()]
		if !known {
			first = firstRetry
		}
		if r.IsGuard() {
			first = firstRetryOfGuard
		}
		failed[r.ID.Kind()] = min(first, longest)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, kind := range result.Kinds {
		first, hasFailed := failed[kind]
		if !hasFailed {
			w.forget(kind)
			continue
		}
		next, again := w.failed[kind]
		if again && time.Now().Before(next.at) {
			continue
		}
		if !again {
			next = &retry{pauses: backoff.NewExponentialBackOff(backoff.WithInitialInterval(first),
				backoff.WithMultiplier(2), backoff.WithMaxInterval(longest), backoff.WithMaxElapsedTime(0))}
			w.failed[kind] = next
		}
		pause := next.pauses.NextBackOff()
		next.at = time.Now().Add(pause)
		next.timer = time.AfterFunc(pause, func() { w.mark(kind) })
	}
}

// forget cancels the retry of a kind. mu is held.
func (w *worker) forget(kind string) {
	if next, ok := w.failed[kind]; ok {
		next.timer.Stop()
		delete(w.failed, kind)
	}
}

// retries returns when kinds are checked again because something of them failed.
func (d *daemon) retries() map[string]time.Time {
	retries := map[string]time.Time{}
	for _, w := range d.workers() {
		w.mu.Lock()
		for kind, next := range w.failed {
			retries[kind] = next.at
		}
		w.mu.Unlock()
	}
	return retries
}
