package agent

import (
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
)

// awaitWaivers schedules a check of the kinds of a pass for when their next waiver ends, because that
// causes no event. Waivers that end later than two intervals of verify from now are left to later
// passes.
func (w *worker) awaitWaivers(p *policy.Policy, result converge.Result, verify time.Duration) {
	for _, kind := range result.Kinds {
		if end := p.NextWaiverEnd(kind, result.Started); !end.IsZero() && end.Sub(result.Started) <= 2*verify {
			w.markAt(kind, end)
		}
	}
}
