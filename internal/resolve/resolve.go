// Package resolve puts the values into a policy to which it refers: parameters,
// secrets, facts of the machine.
package resolve

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/policy"
)

// Values is where the values of references are found, other than facts.
type Values interface {
	// Fetch returns the values of references, and of those that could not be had why
	// not. Each reference is in one of the two.
	Fetch(ctx context.Context, references []policy.Reference) (map[policy.Reference]string, map[policy.Reference]error)
}

// WithoutSecrets are values of which no secret is ever fetched: those for an image, which
// is given to many.
func WithoutSecrets(values Values) Values { return withoutSecrets{values} }

type withoutSecrets struct{ rest Values }

// ErrInImage is why WithoutSecrets has no secret.
var ErrInImage = errors.New("no secret is written into an image")

func (w withoutSecrets) Fetch(ctx context.Context, references []policy.Reference) (map[policy.Reference]string, map[policy.Reference]error) {
	found, missing := map[policy.Reference]string{}, map[policy.Reference]error{}
	plain := slices.DeleteFunc(slices.Clone(references), policy.Reference.Secret)
	if len(plain) > 0 {
		values, reasons := w.rest.Fetch(ctx, plain)
		maps.Copy(found, values)
		maps.Copy(missing, reasons)
	}
	for _, r := range references {
		if r.Secret() {
			missing[r] = ErrInImage
		}
	}
	return found, missing
}

// A Resolution is a policy with its values in place.
type Resolution struct {
	Policy  *policy.Policy
	Keep    map[string]string          // the values that may be kept, being no secrets, by reference
	Missing map[policy.Reference]error // the values that could not be had; what needs them says so
}

// Resolve puts the values in place. Those that cannot be had, or do not fit their
// places, are noted on the resources that need them. Its error is policy.Problems: facts
// that no machine has.
func Resolve(ctx context.Context, p *policy.Policy, f facts.Facts, values Values) (Resolution, error) {
	if err := UnknownFacts(p); err != nil {
		return Resolution{}, err
	}
	var elsewhere []policy.Reference
	for _, r := range p.References() {
		if r.Service != "fact" {
			elsewhere = append(elsewhere, r)
		}
	}
	found, missing := map[policy.Reference]string{}, map[policy.Reference]error{}
	if len(elsewhere) > 0 {
		found, missing = values.Fetch(ctx, elsewhere)
	}
	expanded := Offline(p, f, func(r policy.Reference) (string, bool) { value, ok := found[r]; return value, ok })
	keep := map[string]string{}
	for r, value := range found {
		if !r.Secret() {
			keep[r.String()] = value
		}
	}
	return Resolution{Policy: expanded, Keep: keep, Missing: missing}, nil
}

// UnknownFacts are the references to facts that no machine has. Its error is
// policy.Problems: the author has to act.
func UnknownFacts(p *policy.Policy) error {
	known := facts.Names()
	var problems policy.Problems
	for _, resource := range p.Resources {
		references, _ := policy.References(resource.Spec) // Parse has refused what cannot be read
		for _, r := range references {
			if r.Service != "fact" || slices.Contains(known, r.Name) {
				continue
			}
			hint := "facts are " + strings.Join(known, ", ")
			if near := policy.Nearest(r.Name, known); near != "" {
				hint = fmt.Sprintf("did you mean %q?", near)
			}
			problems = append(problems, policy.Problem{
				File: resource.Origin.Fragment, Line: resource.Origin.Line, Hint: hint,
				Message: fmt.Sprintf("cannot use %s: cannot resolve %s: there is no such fact", resource.ID, r),
			})
		}
	}
	if len(problems) > 0 {
		return problems
	}
	return nil
}

// Offline returns the policy with what is known without asking anybody: facts,
// and values that were kept. What is missing is noted on each resource, as is a
// fact that this machine does not know yet: its managed node, before the activation.
func Offline(p *policy.Policy, f facts.Facts, kept func(policy.Reference) (string, bool)) *policy.Policy {
	return p.Expand(func(r policy.Reference) (string, bool) {
		if r.Service != "fact" {
			return kept(r)
		}
		value, _ := f.Lookup(r.Name)
		return value, value != ""
	})
}
