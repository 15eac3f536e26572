package agent

import (
	"slices"
	"sync"

	"github.com/soe-agent/soe-agent/internal/public"
)

// refusals are the problems that people have to correct before the machine can be kept as wanted.
type refusals struct {
	mu     sync.Mutex
	config []public.Line // of agent.toml
	own    []public.Line // of the machine's own layers
	policy []public.Line // of the policy that should be in force
}

// all returns all of them, without duplicates.
func (r *refusals) all() []public.Line {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []public.Line
	for _, problem := range slices.Concat(r.config, r.own, r.policy) {
		if !slices.Contains(all, problem) {
			all = append(all, problem)
		}
	}
	return all
}

// ofPolicy returns those of the policy that should be in force.
func (r *refusals) ofPolicy() []public.Line {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.policy
}

// setPolicy sets those of the policy that should be in force, and returns whether they have changed.
func (r *refusals) setPolicy(problems []public.Line) (news bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	news, r.policy = !slices.Equal(problems, r.policy), problems
	return news
}

// setConfig sets those of agent.toml, and returns whether they have changed.
func (r *refusals) setConfig(problems []public.Line) (news bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	news, r.config = !slices.Equal(problems, r.config), problems
	return news
}

// clearOwn records that the machine's own layers can be used, whatever the policy's problems are.
func (r *refusals) clearOwn() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.own = nil
}

// setOwn sets those of the machine's own layers, and returns whether they have changed. Those that were
// corrected are removed from the policy's problems, too.
func (r *refusals) setOwn(problems []public.Line) (news bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.own
	r.own = problems
	r.policy = slices.DeleteFunc(slices.Clone(r.policy), func(problem public.Line) bool {
		return slices.Contains(before, problem) && !slices.Contains(problems, problem)
	})
	return !slices.Equal(before, problems)
}
