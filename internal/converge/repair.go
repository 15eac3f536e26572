package converge

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"time"
)

// repair repairs what has drifted, kind by kind, and returns the kinds to check again.
func (p *pass) repair(ctx context.Context) (touched []Kind) {
	var jobs []repairJob
	for _, kind := range p.kinds {
		var drifted []Resource
		for _, r := range p.found[kind.Name()] {
			if r.repairable() && p.worthTrying(r) {
				drifted = append(drifted, r)
			}
		}
		if len(drifted) > 0 {
			jobs = append(jobs, repairJob{kind, drifted})
		}
	}
	for len(jobs) > 0 && ctx.Err() == nil {
		m := jobs[0]
		if p.repairOne(ctx, m, jobs[1:]) {
			touched = append(touched, m.kind)
			jobs = jobs[1:]
		} else {
			jobs = slices.DeleteFunc(jobs[1:], func(m repairJob) bool { return !isUrgent(m.kind) })
		}
	}
	return p.affected(touched)
}

// tellRepairing calls Engine.Repairing for each kind with the resources that are about to be repaired.
func (p *pass) tellRepairing() {
	if p.Repairing == nil {
		return
	}
	for _, kind := range p.kinds {
		var drifted []Resource
		for _, r := range p.found[kind.Name()] {
			if r.repairable() {
				r.Since = p.ledger.Since(r.ID, r.State, r.seen)
				if r.Reason == "" {
					r.Note("it is being brought into line")
				}
				drifted = append(drifted, r)
			}
		}
		p.Repairing(kind.Name(), drifted)
	}
}

// repairJob is one kind with its resources that are to be repaired.
type repairJob struct {
	kind    Kind
	drifted []Resource
}

func isUrgent(kind Kind) bool { _, urgent := kind.(Urgent); return urgent }

// repairOne repairs one kind. It returns false if that takes too long: then this kind has left the
// pass, together with the kinds after it that are not urgent.
func (p *pass) repairOne(ctx context.Context, m repairJob, after []repairJob) bool {
	for _, r := range m.drifted {
		delete(p.outcomes, r.ID)
		p.tried[r.ID] = attempt{p.rounds, r.Diff}
	}
	done := make(chan repaired, 1)
	go func() {
		start := p.clock.Now()
		outcomes := p.callRepair(ctx, m.kind, m.drifted)
		done <- repaired{outcomes, p.clock.Now().Sub(start)}
	}()
	detach, cancel := p.detachContext()
	defer cancel()
	select {
	case what := <-done:
		p.take(m.kind, what)
		return true
	case <-detach.Done():
		p.detachRepair(ctx, m, after, done)
		return false
	}
}

// repaired is the result of one repair of one kind.
type repaired struct {
	outcomes []Outcome
	took     time.Duration
}

func (p *pass) take(kind Kind, what repaired) {
	for _, outcome := range what.outcomes {
		p.secrets.hideInOutcome(&outcome)
		p.outcomes[outcome.ID] = outcome
		if outcome.Err != nil {
			p.log.Error("cannot repair", "resource", outcome.ID, "kind", kind.Name(), "state", Failed, "err", outcome.Err)
		}
	}
	p.timing[kind.Name()] += what.took
}

// affected returns the kinds touched and those that may have drifted because of them, in the order of the pass.
func (p *pass) affected(touched []Kind) []Kind {
	names := map[string]bool{}
	for _, kind := range touched {
		names[kind.Name()] = true
		for _, other := range p.affects(kind.Name()) {
			names[other] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(p.kinds), func(k Kind) bool { return !names[k.Name()] })
}

func (p *pass) affects(kind string) []string {
	if p.Affects == nil {
		return nil
	}
	return p.Affects(kind)
}

// callRepair calls a kind's Repair and turns a panic into failed outcomes, as callCheck does for Check.
func (p *pass) callRepair(ctx context.Context, kind Kind, drifted []Resource) (outcomes []Outcome) {
	defer func() {
		if cause := recover(); cause != nil {
			p.log.Error("a repair panicked; this is a bug of the agent: please report it", "kind", kind.Name(), "err", cause, "stack", string(debug.Stack()))
			outcomes = nil
			for _, r := range drifted {
				outcomes = append(outcomes, Outcome{ID: r.ID, Err: fmt.Errorf("cannot repair %s: a bug of the agent: %v", r.ID, cause)})
			}
		}
	}()
	return kind.Repair(ctx, drifted)
}

// An attempt is one attempt to repair a resource: the round, and the drift then.
type attempt struct {
	round int
	diff  []Difference
}

// worthTrying says whether repairing a resource may help: it was not tried yet in this pass, or something
// that it may need was corrected since.
//
// A right is tried again also if its drift has changed since the attempt: then it is another right, and
// this pass, which has seen it, takes it away. If rights keep coming back (isContested) they wait for the
// next pass, so that a fight costs one repair a pass.
func (p *pass) worthTrying(r Resource) bool {
	id := r.ID
	outcome, said := p.outcomes[id]
	_, tried := p.tried[id]
	switch {
	case tried && r.rights && p.isContested(id):
		return false
	case !said:
		return true
	case outcome.Postponed != "":
		return false
	case r.rights && !slices.Equal(r.Diff, p.tried[id].diff):
		return true
	}
	since := p.kinds
	if p.tried[id].round == p.rounds-1 { // tried in the last round: kinds before its own had been repaired by then
		own := slices.IndexFunc(p.kinds, func(k Kind) bool { return k.Name() == id.Kind() })
		since = p.kinds[own+1:]
	}
	return slices.ContainsFunc(since, func(k Kind) bool { return p.corrected[k.Name()] })
}
