package agent

import (
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
)

// awaitWaivers has the kinds of a pass checked again when the next waiver of theirs ends:
// no event tells of that. What ends later than two verifies from now is left to the checks
// of these.
func (w *worker) awaitWaivers(p *policy.Policy, walk converge.Result, verify time.Duration) {
	for _, kind := range walk.Kinds {
		if end := p.NextWaiverEnd(kind, walk.Started); !end.IsZero() && end.Sub(walk.Started) <= 2*verify {
			w.markAt(kind, end)
		}
	}
}
