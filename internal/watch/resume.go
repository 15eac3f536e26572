package watch

import (
	"context"
	"time"

	"github.com/soe-agent/soe-agent/internal/system"
)

// Resumed is what dirty is called with when the machine has slept or hibernated and
// is awake again: its timers have stood still, and what it knows of the rest of the
// world is old. It is the name of no kind.
const Resumed = "resumed"

const (
	// shortestSleep is how far wall time must have run ahead to have done so in a
	// sleep. Smaller steps are those of a clock that is set right.
	shortestSleep = time.Minute
	// sameResume is how long, awake, the second word of a resume may come after the first.
	sameResume = 10 * time.Second
)

// Who says that the machine has resumed.
const (
	byClock  = "clock"
	byLogind = "logind"
)

// FollowClock makes Run tell also of the resumes that are seen by the clock alone, if
// it is one that can tell. It must be called before Run. A machine that its
// hypervisor, or anything but logind, has sent to sleep is not signalled by logind.
func (w *Watcher) FollowClock(clock system.Clock) { w.jumper, _ = clock.(system.Jumper) }

// followClock returns the jumps, and what ends the following.
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

// resumed tells that the machine has resumed.
func (w *Watcher) resumed(by string, ahead time.Duration) {
	if w.resumes.isNews(by, time.Now()) {
		w.log.Info("the machine has resumed", "by", by, "ahead", ahead)
		w.dirty(Resumed)
	}
}

// resumes tells of each resume once, though both the clock and logind may report it. Two reports by
// the same one are two resumes.
type resumes struct {
	by string
	at time.Time
}

// isNews says whether this resume has not been reported before. at is a monotonic time.
func (r *resumes) isNews(by string, at time.Time) bool {
	if r.by != "" && r.by != by && at.Sub(r.at) < sameResume {
		*r = resumes{}
		return false
	}
	*r = resumes{by, at}
	return true
}
