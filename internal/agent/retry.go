package agent

import (
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/soe-agent/soe-agent/internal/converge"
)

// firstRetry is how long after a repair failed it is tried again, on average, if
// nothing happens meanwhile. The next waits are twice as long each, until they are as
// long as from one verify to the next.
const firstRetry = time.Minute

// firstRetryOfGuard is that of what guards rights, which somebody may have meanwhile.
const firstRetryOfGuard = 2 * time.Second

// A retry is a pass of a kind to come, because something of it failed.
type retry struct {
	pauses *backoff.ExponentialBackOff
	at     time.Time
	timer  *time.Timer
}

// retry has the kinds checked again of which something has failed or could not be told, and forgets those of
// which nothing does any more. Passes that other events have made meanwhile change
// nothing of when that is: what drifts often is not a reason to try often, nor seldom,
// what fails beside it.
func (w *worker) retry(walk converge.Result, longest time.Duration) {
	failed := map[string]time.Duration{} // by kind, when it is first tried again
	for _, r := range walk.Resources {
		if r.State != converge.Failed && r.State != converge.Unknown { // who did not answer may do so soon, and nobody tells
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
	for _, kind := range walk.Kinds {
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

// forget gives up the retry of a kind, mu being held.
func (w *worker) forget(kind string) {
	if next, ok := w.failed[kind]; ok {
		next.timer.Stop()
		delete(w.failed, kind)
	}
}

// retries are when kinds are checked again of which something has failed.
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
