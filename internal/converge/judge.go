package converge

import (
	"fmt"

	"github.com/soe-agent/soe-agent/internal/policy"
)

// notInLine returns what was found and is not compliant.
func (p *pass) notInLine() map[policy.ID]Resource {
	first := map[policy.ID]Resource{}
	for _, resources := range p.found {
		for _, r := range resources {
			if r.State != Compliant {
				first[r.ID] = r
			}
		}
	}
	return first
}

// addFound adds to first the resources that were unknown until something else was repaired, and what
// somebody else has made drift since: unwanted resources, and drift of kinds that the repairs of this
// pass cannot have caused (ours). Drift that they may have caused is not reported.
func (p *pass) addFound(first map[policy.ID]Resource) {
	for kind, resources := range p.found {
		for _, r := range resources {
			if was, seen := first[r.ID]; was.State == Unknown || !seen && (r.unwanted || r.State == Drifted && !p.ours[kind]) {
				first[r.ID] = r
			}
		}
	}
}

// settle decides the final state of each resource. One that had drifted at first and is compliant now
// is corrected; one that has still drifted is failed, contested or pending.
func (p *pass) settle(first map[policy.ID]Resource) {
	for _, resources := range p.found {
		for i := range resources {
			r := &resources[i]
			was := first[r.ID]
			delete(first, r.ID)
			outcome := p.outcomes[r.ID]
			if was.State != "" && was.State != Unknown {
				r.noticed, r.Happened = was.noticed, was.Happened
			}
			switch {
			case r.State == Compliant && was.State == Drifted:
				now := *r
				r.State, r.Diff, r.Cause, r.Reason, r.mended = Corrected, was.Diff, was.Cause, was.Reason, !was.awaited
				r.open = was.open
				r.also(outcome.Reason)
				r.remains(now)
				p.log.Info("corrected", "resource", r.ID, "kind", r.ID.Kind(), "state", r.State, "cause", r.Cause)
			case r.State == Pending && was.State == Drifted:
				r.Diff, r.Cause, r.mended = was.Diff, was.Cause, !was.awaited
				r.open.diff, r.open.aspects = was.open.diff, was.open.aspects
			case !r.repairable():
			case outcome.Postponed != "":
				r.SetPending(outcome.Postponed, outcome.Reason).ReasonIsPublic()
				r.held = true
			case outcome.Err != nil:
				r.SetFailedErr(outcome.Err)
			case r.rights && (p.rounds >= maxRounds || p.isContested(r.ID)):
				r.State, r.unsettled = Contested, true
				p.opponent(r)
				r.add("; it has been taken back each time")
			case p.rounds >= maxRounds:
				r.SetFailed(fmt.Sprintf("it was repaired %d times and is still, or again, not in line", p.rounds)).ReasonIsPublic()
				r.unsettled = true
			}
			p.guarded(r)
		}
	}
	for _, gone := range first {
		p.reclaimed(gone)
	}
}

// reclaimed reports, for the last time, an unwanted resource that the pass has removed.
func (p *pass) reclaimed(r Resource) {
	kind := r.ID.Kind()
	outcome := p.outcomes[r.ID]
	if !r.repairable() || p.incomplete[kind] || outcome.Err != nil || outcome.Postponed != "" {
		return
	}
	r.State, r.seen = Corrected, p.clock.Now()
	p.log.Info("corrected", "resource", r.ID, "kind", kind, "state", r.State, "cause", r.Cause)
	p.found[kind] = append(p.found[kind], r)
}
