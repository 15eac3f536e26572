package agent

import (
	"slices"
	"sync"

	"github.com/soe-agent/soe-agent/internal/public"
)

// refusals are what people have to correct, of what the machine is to be held to.
type refusals struct {
	mu     sync.Mutex
	config []public.Line // of agent.toml
	own    []public.Line // of the machine's own layers
	policy []public.Line // of the policy that is to be in force
}

// all are all of them, each once.
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

// ofPolicy are those of the policy that is to be in force.
func (r *refusals) ofPolicy() []public.Line {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.policy
}

// setPolicy notes those of the policy that is to be in force, and says whether they are others.
func (r *refusals) setPolicy(problems []public.Line) (news bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	news, r.policy = !slices.Equal(problems, r.policy), problems
	return news
}

// setConfig does so with those of agent.toml.
func (r *refusals) setConfig(problems []public.Line) (news bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	news, r.config = !slices.Equal(problems, r.config), problems
	return news
}

// clearOwn notes that the machine's own layers can be used, whatever the policy says.
func (r *refusals) clearOwn() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.own = nil
}

// setOwn does so with those of the machine's own layers. What has been corrected of them is no
// problem of the policy any more.
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
