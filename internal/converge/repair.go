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
	var toMend []repairJob
	for _, kind := range p.kinds {
		var drifted []Resource
		for _, r := range p.found[kind.Name()] {
			if r.repairable() && p.worthTrying(r) {
				drifted = append(drifted, r)
			}
		}
		if len(drifted) > 0 {
			toMend = append(toMend, repairJob{kind, drifted})
		}
	}
	for len(toMend) > 0 && ctx.Err() == nil {
		m := toMend[0]
		if p.repairOne(ctx, m, toMend[1:]) {
			touched = append(touched, m.kind)
			toMend = toMend[1:]
		} else {
			toMend = slices.DeleteFunc(toMend[1:], func(m repairJob) bool { return !isUrgent(m.kind) })
		}
	}
	return p.affected(touched)
}

// tellRepairing calls Engine.Repairing for each kind with what is about to be repaired.
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

// repairJob is what of a kind is to be repaired.
type repairJob struct {
	kind    Kind
	drifted []Resource
}

func isUrgent(kind Kind) bool { _, urgent := kind.(Urgent); return urgent }

// repairOne repairs one kind. It returns false when that takes long: then the kind has
// left the pass, and with it those that are to be repaired after it and are not urgent.
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
	patience, cancel := p.detachContext()
	defer cancel()
	select {
	case what := <-done:
		p.take(m.kind, what)
		return true
	case <-patience.Done():
		p.detachRepair(ctx, m, after, done)
		return false
	}
}

// repaired is what came of one repair of one kind.
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

// affected are the kinds that may have changed with those touched.
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

// callRepair calls a kind's Repair, as look does its Check.
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

// An attempt is one to repair a resource.
type attempt struct {
	round int
	diff  []Difference
}

// worthTrying says whether repairing the resource may work: it was not tried yet, or something was
// brought into line since that it may need. A right that has come since
// it was is another one, and waits for no other pass: this one has seen it. Where it comes again and again,
// the next pass takes it back, so that a fight costs one repair a pass.
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
	if p.tried[id].round == p.rounds-1 { // in the last round: what came before its own kind it had
		own := slices.IndexFunc(p.kinds, func(k Kind) bool { return k.Name() == id.Kind() })
		since = p.kinds[own+1:]
	}
	return slices.ContainsFunc(since, func(k Kind) bool { return p.corrected[k.Name()] })
}
