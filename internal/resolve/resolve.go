// Package resolve replaces the references of a policy by their values: parameters, secrets, facts of the
// machine.
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

// Values finds the values of references, other than facts.
type Values interface {
	// Fetch returns the values of references, and for those that it could not get, why. Each reference is
	// in one of the two maps.
	Fetch(ctx context.Context, references []policy.Reference) (map[policy.Reference]string, map[policy.Reference]error)
}

// WithoutSecrets returns values that never fetch a secret. It is for images, which many people get.
func WithoutSecrets(values Values) Values { return withoutSecrets{values} }

type withoutSecrets struct{ rest Values }

// ErrInImage is the reason that WithoutSecrets gives for each secret.
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

// A Resolution is a policy with its values filled in.
type Resolution struct {
	Policy  *policy.Policy
	Keep    map[string]string          // the values that may be stored because they are not secret, by reference
	Missing map[policy.Reference]error // the values that could not be had; the resources that need them say so
}

// Resolve fills in the values. Values that cannot be had, or do not fit their places, are noted on the
// resources that need them. An error is of type policy.Problems: the policy names facts that do not exist.
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

// UnknownFacts reports the references to facts that do not exist. An error is of type policy.Problems: the
// author has to correct the policy.
func UnknownFacts(p *policy.Policy) error {
	known := facts.Names()
	var problems policy.Problems
	for _, resource := range p.Resources {
		references, _ := policy.References(resource.Spec) // Parse has refused specs that cannot be read
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

// Offline fills in what is known without asking anybody: facts, and the values that kept returns. Missing
// values are noted on the resources that need them. So are facts that this machine does not have yet, such
// as its managed node before the activation.
func Offline(p *policy.Policy, f facts.Facts, kept func(policy.Reference) (string, bool)) *policy.Policy {
	return p.Expand(func(r policy.Reference) (string, bool) {
		if r.Service != "fact" {
			return kept(r)
		}
		value, _ := f.Lookup(r.Name)
		return value, value != ""
	})
}
