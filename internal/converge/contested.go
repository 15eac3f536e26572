package converge

import (
	"slices"
	"sync"
	"time"

	"github.com/soe-agent/soe-agent/internal/policy"
)

// When something else changes a resource back again and again, repairing it at once helps nobody.
// After contestedAfter corrections within contestedWithin it is left alone for firstPause, then tried
// again. If it is changed back once more, the next pause is twice as long, up to longestPause, so that
// it is repaired soon after the other side has stopped. AWS grants some rights again a few times within
// minutes while it sets up a machine; the numbers are chosen so that this does not count as contested.
const (
	contestedAfter  = 8
	contestedWithin = 5 * time.Minute
	firstPause      = 10 * time.Second
	longestPause    = 5 * time.Minute
	// A resource whose repair takes long is tried less often: its pauses may grow to this many times
	// the duration of an attempt, and to an hour at most.
	pauseForAttempt    = 200
	longestPauseOfSlow = time.Hour
)

// contests counts the recent corrections of each resource. A change of policy does not reset them.
type contests struct {
	mu sync.Mutex
	by map[policy.ID]*contest
}

type contest struct {
	corrections []time.Time   // recent ones, since the last pause
	pause       time.Duration // the last one; 0 if there was none recently
	until       time.Time     // when the pause ends
	within      time.Duration // how long a correction counts
}

// corrected counts a correction, which took the given time, and begins a pause if there were too many.
func (f *contests) corrected(id policy.ID, now time.Time, took time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.by == nil {
		f.by = map[policy.ID]*contest{}
	}
	f.dropEnded(now)
	fought := f.by[id]
	if fought == nil {
		fought = &contest{}
		f.by[id] = fought
	}
	fought.within = max(contestedWithin, contestedAfter*took)
	fought.corrections = append(slices.DeleteFunc(fought.corrections, func(at time.Time) bool {
		return now.Sub(at) >= fought.within
	}), now)
	enough := contestedAfter
	if fought.pause > 0 {
		enough = 2 // the attempt after the pause, and this one
	}
	if len(fought.corrections) < enough {
		return
	}
	longest := min(max(longestPause, pauseForAttempt*took), longestPauseOfSlow)
	fought.pause = min(max(2*fought.pause, firstPause), longest)
	fought.until = now.Add(fought.pause)
	fought.corrections = nil
}

// dropEnded forgets the resources that nothing has changed back for a while.
func (f *contests) dropEnded(now time.Time) {
	for id, fought := range f.by {
		last := fought.until
		if n := len(fought.corrections); n > 0 && fought.corrections[n-1].After(last) {
			last = fought.corrections[n-1]
		}
		if now.Sub(last) >= fought.within {
			delete(f.by, id)
		}
	}
}

// paused says whether a resource is to be left alone, and until when.
func (f *contests) paused(id policy.ID, now time.Time) (until time.Time, yes bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fought := f.by[id]
	if fought == nil || !now.Before(fought.until) {
		return time.Time{}, false
	}
	return fought.until, true
}

// Contested returns the resources that are contested, or are halfway there, sorted.
func (l *Ledger) Contested(now time.Time) []policy.ID {
	l.contests.mu.Lock()
	defer l.contests.mu.Unlock()
	l.contests.dropEnded(now)
	var ids []policy.ID
	for id, fought := range l.contests.by {
		if fought.pause > 0 || len(fought.corrections) >= contestedAfter/2 {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// ContestedUntil returns when a contested resource is tried again; the zero time if it is not contested.
func (l *Ledger) ContestedUntil(id policy.ID, now time.Time) time.Time {
	until, _ := l.contests.paused(id, now)
	return until
}
