package converge

import (
	"context"
	"maps"
	"slices"

	"github.com/soe-agent/soe-agent/internal/policy"
)

// detachContext returns a context that ends when the pass must go on without a slow kind. It never
// ends if there is nobody to run the rest (Engine.Detach is nil), or if this pass is detached itself.
func (p *pass) detachContext() (context.Context, context.CancelFunc) {
	if p.Detach == nil || p.detached {
		return context.Background(), func() {}
	}
	return context.WithTimeout(context.Background(), p.DetachAfter)
}

// detachCheck lets the pass go on without a kind whose check takes long. When the check has returned,
// the rest of the pass for this kind, repair included, runs in its own pass.
func (p *pass) detachCheck(ctx context.Context, kind Kind, answer <-chan checked) {
	rest := p.split(kind)
	p.Detach(ctx, []string{kind.Name()}, func() Result {
		rest.setFound(kind, <-answer)
		if rest.first != nil { // this was the check after a repair
			rest.addFound(rest.first)
			rest.noteCorrected(rest.kinds, rest.earlier)
		}
		return rest.goOn(ctx)
	})
}

// detachRepair lets the pass go on without a kind whose repair takes long, and without the kinds
// that are repaired after it, because they may need it. Urgent kinds stay in the pass.
func (p *pass) detachRepair(ctx context.Context, m repairJob, after []repairJob, done <-chan repaired) {
	kinds := []Kind{m.kind}
	after = slices.DeleteFunc(slices.Clone(after), func(m repairJob) bool { return isUrgent(m.kind) })
	for _, next := range after {
		kinds = append(kinds, next.kind)
	}
	rest := p.split(kinds...)
	p.Detach(ctx, namesOf(kinds), func() Result {
		rest.take(m.kind, <-done)
		touched := []Kind{m.kind}
		for _, next := range after {
			if ctx.Err() == nil && rest.repairOne(ctx, next, nil) {
				touched = append(touched, next.kind)
			}
		}
		rest.checkAgain(ctx, rest.affected(touched))
		return rest.goOn(ctx)
	})
}

// split moves kinds, with everything found of them, from the pass to a new one, which it returns.
func (p *pass) split(kinds ...Kind) *pass {
	names := namesOf(kinds)
	of := func(id policy.ID) bool { return slices.Contains(names, id.Kind()) }
	rest := &pass{
		Engine: p.Engine, kinds: kinds, started: p.started, rounds: p.rounds, detached: true, corrected: p.corrected, ours: maps.Clone(p.ours),
		found: part(p.found, names), earlier: part(p.earlier, names), timing: part(p.timing, names), incomplete: part(p.incomplete, names),
		outcomes: partOf(p.outcomes, of), tried: partOf(p.tried, of), first: partOf(p.first, of),
	}
	p.kinds = slices.DeleteFunc(slices.Clone(p.kinds), func(k Kind) bool { return slices.Contains(names, k.Name()) })
	return rest
}

// part removes the entries of the kinds named from a map and returns them.
func part[V any](all map[string]V, names []string) map[string]V {
	taken := map[string]V{}
	for _, name := range names {
		if value, there := all[name]; there {
			taken[name] = value
			delete(all, name)
		}
	}
	return taken
}

// partOf removes the entries of some resources from a map and returns them; for a nil map it returns nil.
func partOf[V any](all map[policy.ID]V, of func(policy.ID) bool) map[policy.ID]V {
	if all == nil {
		return nil
	}
	taken := map[policy.ID]V{}
	for id, value := range all {
		if of(id) {
			taken[id] = value
		}
	}
	maps.DeleteFunc(all, func(id policy.ID, _ V) bool { return of(id) })
	return taken
}
