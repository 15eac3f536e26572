package converge

import (
	"time"

	"github.com/soe-agent/soe-agent/internal/policy"
)

// rule applies the policy's rules to a resource and decides the cause of its drift.
func (p *pass) rule(r *Resource) {
	now := p.clock.Now()
	r.seen = now
	if r.State != Compliant {
		r.noticed = now
	}
	ruling := p.policy.Ruling(r.ID, now)
	r.Severity, r.Controls, r.Disrupt, r.audit = ruling.Severity, ruling.Controls, ruling.Disrupt, ruling.Audit
	if r.critical {
		r.Severity = policy.Critical
	}
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
		r.State = Waived
		r.noteOfWaiver("waived until", ruling)
	case r.State == Failed: // keeps its own reason
	case ruling.Audit:
		r.Note("audited only: the policy says to report it and not to touch it")
	default:
		if !ruling.Until.IsZero() {
			r.noteOfWaiver("its waiver ended after", ruling)
		}
		if until, contested := p.ledger.contests.paused(r.ID, now); contested && !r.rights {
			r.State = Contested
			p.opponent(r)
			r.add("; it is left alone until " + until.Format(time.TimeOnly))
		}
	}
}

// noteOfWaiver puts the waiver into the reason. The author's reason for the waiver is private: it is in
// a fragment that not everybody may read.
func (r *Resource) noteOfWaiver(what string, ruling policy.Ruling) {
	r.Note(what + " " + ruling.Until.AddDate(0, 0, -1).Format(time.DateOnly))
	r.Reason += ": " + ruling.Reason
}

// guarded reports a resource that is in line and guards rights as contested, for as long as it would be
// left alone if it did not guard rights.
func (p *pass) guarded(r *Resource) {
	until, contested := p.ledger.contests.paused(r.ID, p.clock.Now())
	if !r.rights || !contested || (r.State != Compliant && r.State != Corrected) {
		return
	}
	r.State = Contested
	p.opponent(r)
	r.add("; it is taken back each time, and called contested until it has been quiet, at " + until.Format(time.TimeOnly) + " at the earliest")
}

// isContested says whether a resource would be left alone now if it did not guard rights.
func (p *pass) isContested(id policy.ID) bool {
	_, contested := p.ledger.contests.paused(id, p.clock.Now())
	return contested
}

// opponent gives the reason why a resource does not stay as it is set. The name of the other writer is
// for root to read: on some machines users may not see each other's processes.
func (p *pass) opponent(r *Resource) {
	if p.Writer != nil {
		if who := p.Writer(r.ID); who != "" {
			r.Note("something else keeps changing it back")
			r.Reason += ": " + who
			return
		}
	}
	r.Note("it does not stay as it is set: something else keeps changing it, or repairing it has no effect")
}
