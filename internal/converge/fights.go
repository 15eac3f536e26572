package converge

import (
	"time"

	"github.com/soe-agent/soe-agent/internal/policy"
)

// When something else changes a resource back again and again, repairing it at
// once helps nobody. After contestedAfter corrections within contestedWithin it
// is left alone, first for firstPause and then for twice as long each time.
const (
	contestedAfter  = 8
	contestedWithin = 5 * time.Minute
	firstPause      = time.Minute
	longestPause    = time.Hour
)

// fights remembers how often each resource had to be corrected of late.
type fights map[policy.ID]*fight

type fight struct {
	corrections []time.Time
	pause       time.Duration
	until       time.Time
}

// corrected counts a correction, and begins a pause when it is one too many.
func (f fights) corrected(id policy.ID, now time.Time) {
	fought := f[id]
	if fought == nil {
		fought = &fight{}
		f[id] = fought
	}
	if now.Sub(fought.until) > longestPause {
		fought.pause = 0 // it has been quiet: the other side has stopped
	}
	recent := fought.corrections[:0]
	for _, at := range fought.corrections {
		if now.Sub(at) < contestedWithin {
			recent = append(recent, at)
		}
	}
	fought.corrections = append(recent, now)
	if len(fought.corrections) < contestedAfter {
		return
	}
	fought.pause = min(max(2*fought.pause, firstPause), longestPause)
	fought.until = now.Add(fought.pause)
	fought.corrections = nil
}

// paused says whether the resource is to be left alone, and until when.
func (f fights) paused(id policy.ID, now time.Time) (until time.Time, yes bool) {
	fought := f[id]
	if fought == nil || !now.Before(fought.until) {
		return time.Time{}, false
	}
	return fought.until, true
}
