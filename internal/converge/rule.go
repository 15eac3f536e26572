package converge

import (
	"fmt"
	"time"

	"github.com/soe-agent/soe-agent/internal/policy"
)

// rule applies what the policy's rules say, and settles why there is drift.
func (p *pass) rule(r *Resource) {
	now := p.clock.Now()
	r.seen = now
	if r.State != Compliant {
		r.noticed = now
	}
	ruling := p.policy.Ruling(r.ID, now)
	r.Severity, r.Controls, r.Disrupt, r.audit = ruling.Severity, ruling.Controls, ruling.Disrupt, ruling.Audit
	if r.State != Drifted && r.State != Failed {
		return
	}
	if r.Cause, r.awaited = p.ledger.awaited(*r); !r.awaited {
		r.Cause = Intentional
		if p.ledger.WasInLine(r.ID, r.digest) {
			r.Cause = Corrective
		}
	}
	switch {
	case ruling.Waived:
		r.State, r.Reason = Waived, fmt.Sprintf("waived until %s: %s", ruling.Until.AddDate(0, 0, -1).Format(time.DateOnly), ruling.Reason)
	case r.State == Failed: // for its own reason
	case ruling.Audit:
		r.Reason = "audited only: the policy says to report it and not to touch it"
	default:
		if !ruling.Until.IsZero() {
			r.Reason = fmt.Sprintf("its waiver ended after %s: %s", ruling.Until.AddDate(0, 0, -1).Format(time.DateOnly), ruling.Reason)
		}
		if until, contested := p.ledger.fights.paused(r.ID, now); contested {
			r.State = Contested
			r.Reason = p.opponent(r.ID) + "; it is left alone until " + until.Format(time.TimeOnly)
		}
	}
}

// opponent says why a resource does not stay as it is set.
func (p *pass) opponent(id policy.ID) string {
	if p.Writer != nil {
		if who := p.Writer(id); who != "" {
			return "something else keeps changing it back: " + who
		}
	}
	return "it does not stay as it is set: something else keeps changing it, or repairing it has no effect"
}
