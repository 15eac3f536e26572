// Package resolve puts the values into a policy to which it refers: parameters,
// secrets, facts of the machine.
package resolve

import (
	"context"
	"errors"
	"fmt"

	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/policy"
)

// Values is where the values of references are found, other than facts.
type Values interface {
	// Fetch returns the values of all references, or an error that names those that
	// have none.
	Fetch(ctx context.Context, references []policy.Reference) (map[policy.Reference]string, error)
}

// Resolve returns the policy with its values in place, and the values that may be
// kept: those that are no secrets, by reference. One value that cannot be had
// means that there is no policy.
func Resolve(ctx context.Context, p *policy.Policy, f facts.Facts, values Values) (*policy.Policy, map[string]string, error) {
	var elsewhere []policy.Reference
	found := map[policy.Reference]string{}
	errs := []error{unknownFacts(p, f)}
	for _, r := range p.References() {
		if r.Service != "fact" {
			elsewhere = append(elsewhere, r)
			continue
		}
		found[r], _ = f.Lookup(r.Name)
	}
	if len(elsewhere) > 0 {
		fetched, err := values.Fetch(ctx, elsewhere)
		errs = append(errs, err)
		for r, value := range fetched {
			found[r] = value
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, nil, err
	}
	expanded, err := p.Expand(func(r policy.Reference) (string, bool) { value, ok := found[r]; return value, ok })
	keep := map[string]string{}
	for r, value := range found {
		if !r.Secret() && r.Service != "fact" {
			keep[r.String()] = value
		}
	}
	return expanded, keep, err
}

// unknownFacts are the facts that no machine has. Its error is policy.Problems:
// the author has to act.
func unknownFacts(p *policy.Policy, f facts.Facts) error {
	var problems policy.Problems
	for _, resource := range p.Resources {
		references, _ := policy.References(resource.Spec) // Parse has refused what cannot be read
		for _, r := range references {
			if _, known := f.Lookup(r.Name); r.Service == "fact" && !known {
				problems = append(problems, policy.Problem{
					File: resource.Origin.Fragment, Line: resource.Origin.Line,
					Message: fmt.Sprintf("cannot use %s: cannot resolve %s: there is no such fact", resource.ID, r),
				})
			}
		}
	}
	if len(problems) > 0 {
		return problems
	}
	return nil
}

// Offline returns the policy with what is known without asking anybody: facts,
// and values that were kept. What is missing is noted on each resource.
func Offline(p *policy.Policy, f facts.Facts, kept func(policy.Reference) (string, bool)) (*policy.Policy, error) {
	return p.Expand(func(r policy.Reference) (string, bool) {
		if r.Service == "fact" {
			return f.Lookup(r.Name)
		}
		return kept(r)
	})
}
