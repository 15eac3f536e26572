package watch

import (
	"context"
	"time"

	"github.com/soe-agent/soe-agent/internal/system"
)

// Resumed is what dirty is called with when the machine has woken up from sleep or hibernation. Its timers
// have stood still, and what it knows of the rest of the world is old. No kind has this name.
const Resumed = "resumed"

const (
	// shortestSleep is how far wall time must have jumped ahead to count as a sleep. Smaller jumps come
	// from setting the clock.
	shortestSleep = time.Minute
	// sameResume is how long after the first report of a resume, in time awake, a second one may follow.
	sameResume = 10 * time.Second
)

// The sources that report a resume.
const (
	byClock  = "clock"
	byLogind = "logind"
)

// FollowClock makes Run notice a resume by a jump of the clock, if clock is a system.Jumper. Call it
// before Run. logind sends no signal for a sleep that it did not start, such as one by the hypervisor.
func (w *Watcher) FollowClock(clock system.Clock) { w.jumper, _ = clock.(system.Jumper) }

// followClock returns the jumps of the clock, and a function that stops them.
func (w *Watcher) followClock(ctx context.Context) (jumps <-chan time.Duration, stop func()) {
	if w.jumper == nil {
		return nil, func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	found, ended := make(chan time.Duration), make(chan struct{})
	go func() {
		defer close(ended)
		err := w.jumper.Jumps(ctx, func(ahead time.Duration) {
			select {
			case found <- ahead:
			case <-ctx.Done():
			}
		})
		if ctx.Err() == nil {
			w.log.Warn("cannot watch the clock; a resume is noticed only when logind signals it", "err", err)
		}
	}()
	return found, func() {
		cancel()
		<-ended
	}
}

// resumed reports that the machine has resumed.
func (w *Watcher) resumed(by string, ahead time.Duration) {
	if w.resumes.isNews(by, time.Now()) {
		w.log.Info("the machine has resumed", "by", by, "ahead", ahead)
		w.dirty(Resumed)
	}
}

// resumes makes sure that each resume is reported once, though both the clock and logind may notice it.
// Two reports by the same source are two resumes.
type resumes struct {
	by string
	at time.Time
}

// isNews says whether this resume has not been reported yet. at is a monotonic time.
func (r *resumes) isNews(by string, at time.Time) bool {
	if r.by != "" && r.by != by && at.Sub(r.at) < sameResume {
		*r = resumes{}
		return false
	}
	*r = resumes{by, at}
	return true
}
