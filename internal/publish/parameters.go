package publish

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"github.com/soe-agent/soe-agent/internal/manifest"
	"github.com/soe-agent/soe-agent/internal/policy"
)

// An unpublished fragment is one that the manifest does not name yet.
type unpublished struct {
	entry      *manifest.Entry
	name       string // of its parameter, as derived from its content
	parameters []manifest.Parameter
}

// pack makes the entries of the fragments. A fragment that is published already keeps its entry, whichever
// release wrote it.
func (p *Publisher) pack(sources []policy.Source, fragments []policy.Fragment, now published) ([]manifest.Entry, []unpublished, error) {
	known := slices.Clone(now.manifest.Fragments)
	if now.manifest.Rollout != nil {
		known = append(known, now.manifest.Rollout.Fragments...)
	}
	entries := make([]manifest.Entry, len(sources))
	var fresh []unpublished
	var errs []error
	for i, s := range sources {
		entry, parameters, err := manifest.Pack(p.top(), s.Name, s.Text, fragments[i].Personas)
		entry.When = fragments[i].When
		errs = append(errs, err)
		there := slices.IndexFunc(known, func(k manifest.Entry) bool {
			_, err := k.Assemble(now.values, nil)
			return err == nil && sameFragment(k, entry)
		})
		if there >= 0 {
			entries[i] = known[there]
			continue
		}
		entries[i] = entry
		fresh = append(fresh, unpublished{&entries[i], entry.Parameter, parameters})
	}
	return entries, fresh, errors.Join(errs...)
}

// keep is how long fragments stay that no manifest names, for those who are writing or reading them now.
const keep = 24 * time.Hour

// place returns the parameters that have to be written. If a fragment was published before and its
// parameters are garbage by now, somebody else may be about to delete them, so the fragment gets another
// name. A parameter of that name that holds something else is an error.
func (p *Publisher) place(ctx context.Context, fresh []unpublished) ([]manifest.Parameter, error) {
	var wanted []manifest.Parameter
	var errs []error
	for again := 1; len(fresh) > 0; again++ {
		var names []string
		for _, f := range fresh {
			names = append(names, f.entry.Parameters()...)
		}
		held, err := p.getAll(ctx, names)
		if err != nil {
			return nil, err
		}
		var garbage []unpublished
		for _, f := range fresh {
			if f.garbage(held) {
				f.entry.Parameter = fmt.Sprintf("%s-%d", f.name, again)
				garbage = append(garbage, f)
				continue
			}
			missing, err := f.missing(held)
			wanted, errs = append(wanted, missing...), append(errs, err)
		}
		fresh = garbage
	}
	return wanted, errors.Join(errs...)
}

// garbage says whether any of the parameters is old. Half of keep leaves more than enough time to publish
// the others.
func (f unpublished) garbage(held map[string]types.Parameter) bool {
	return slices.ContainsFunc(f.entry.Parameters(), func(name string) bool {
		there, ok := held[name]
		return ok && time.Since(aws.ToTime(there.LastModifiedDate)) > keep/2
	})
}

func (f unpublished) missing(held map[string]types.Parameter) ([]manifest.Parameter, error) {
	var missing []manifest.Parameter
	var errs []error
	for i, name := range f.entry.Parameters() {
		value := f.parameters[i].Value
		there, ok := held[name]
		switch {
		case !ok:
			missing = append(missing, manifest.Parameter{Name: name, Value: value})
		case aws.ToString(there.Value) != value:
			errs = append(errs, taken(name))
		}
	}
	return missing, errors.Join(errs...)
}

// taken returns the error for a parameter that holds what nobody should have written there.
func taken(name string) error {
	return fmt.Errorf("cannot write the parameter %s: it is there already and holds something else, which is not changed; find out who wrote it, and delete it", name)
}

// fragmentName matches the names of fragments' parameters below the path. Parameters with other names are
// not publish's own.
var fragmentName = regexp.MustCompile(`^/policy/[A-Za-z0-9_.-]+/[0-9a-f]{12}(-[0-9]+)?(/[0-9]+)?$`)

// collect deletes the fragments that named does not list and that were written before a time, by the
// service's clock.
func (p *Publisher) collect(ctx context.Context, named map[string]bool, before time.Time) ([]string, error) {
	all, err := p.list(ctx, p.top()+"/policy")
	if err != nil {
		return []string{}, err
	}
	var garbage []string
	for _, parameter := range all {
		name := aws.ToString(parameter.Name)
		written := aws.ToTime(parameter.LastModifiedDate)
		if !named[name] && fragmentName.MatchString(name[len(p.top()):]) && !written.IsZero() && written.Before(before) {
			garbage = append(garbage, name)
		}
	}
	return p.remove(ctx, garbage)
}

// parametersOf returns the names of all parameters that a manifest names.
func parametersOf(m manifest.Manifest) map[string]bool {
	names := map[string]bool{}
	entries := slices.Clone(m.Fragments)
	if m.Rollout != nil {
		entries = append(entries, m.Rollout.Fragments...)
	}
	for _, e := range entries {
		for _, name := range e.Parameters() {
			names[name] = true
		}
	}
	return names
}

func valuesOf(parameters map[string]types.Parameter) map[string]string {
	values := map[string]string{}
	for name, parameter := range parameters {
		values[name] = aws.ToString(parameter.Value)
	}
	return values
}
