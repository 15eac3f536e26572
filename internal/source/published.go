package source

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"github.com/soe-agent/soe-agent/internal/manifest"
	"github.com/soe-agent/soe-agent/internal/policy"
)

// mostParameters is how many parameters one call reads (Systems Manager API
// Reference, GetParameters).
const mostParameters = 10

// Manifest returns the published manifest. In the same call it reads those of the references to plain
// parameters that fit into it, and returns their values: if nothing has changed, a poll costs this one
// call. An error that only the policy's author can correct is of type policy.Problems.
func (a *AWS) Manifest(ctx context.Context, along []policy.Reference) (manifest.Manifest, map[policy.Reference]string, error) {
	name := manifest.Name(a.path)
	along = slices.DeleteFunc(slices.Clone(along), func(r policy.Reference) bool {
		return r.Service != "ssm" || a.refusalOf(selector(r)) != nil
	})
	along = along[:min(len(along), mostParameters-1)]
	names := []string{name}
	for _, r := range along {
		names = append(names, selector(r))
	}
	call := a.callFor
	if len(along) == 0 {
		call = a.Call // repeated until there is a manifest
	}
	found, err := a.getParameters(ctx, call, names, false)
	if err != nil && len(along) > 0 && !Classify(err).passes() {
		along = nil // one of them may be the reason; Fetch finds out which
		found, err = a.getParameters(ctx, a.Call, names[:1], false)
	}
	if err != nil {
		return manifest.Manifest{}, nil, fmt.Errorf("cannot read the manifest %s: %w", name, err)
	}
	p, there := found[name]
	if !there {
		return manifest.Manifest{}, nil, fmt.Errorf("cannot read the manifest: %w: there is no parameter %s", ErrNothingPublished, name)
	}
	values, _ := plainValues(along, found) // Fetch reports what is wrong with the others
	m, err := manifest.Parse(name, aws.ToString(p.Value))
	return m, values, err
}

// Fragments returns the fragments that entries list, in their order. Fragments in known with the same
// digest are not fetched again.
func (a *AWS) Fragments(ctx context.Context, entries []manifest.Entry, known []policy.Source) ([]policy.Source, error) {
	type key struct{ name, digest string }
	have := map[key]policy.Source{}
	whose := map[string]string{}
	for _, s := range known {
		if s.Layer == policy.Remote {
			digest := manifest.Digest(s.Text)
			have[key{s.Name, digest}] = s
			whose[digest] = "an earlier text of " + s.Name
		}
	}
	var names []string
	var missing []manifest.Entry
	for _, e := range entries {
		whose[e.SHA256] = "the text of " + e.Name
		if _, ok := have[key{e.Name, e.SHA256}]; !ok {
			missing = append(missing, e)
			names = append(names, e.Parameters()...)
		}
	}
	values := map[string]string{}
	for batch := range slices.Chunk(names, mostParameters) {
		found, err := a.getParameters(ctx, a.Call, batch, false)
		if err != nil {
			return nil, fmt.Errorf("cannot read the fragments %s: %w", strings.Join(batch, ", "), err)
		}
		for name, p := range found {
			values[name] = aws.ToString(p.Value)
		}
	}
	var errs []error
	for _, e := range missing {
		text, err := e.Assemble(values, func(digest string) string { return whose[digest] })
		have[key{e.Name, e.SHA256}] = policy.Source{Name: e.Name, Layer: policy.Remote, Text: text}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	sources := make([]policy.Source, len(entries))
	for i, e := range entries {
		sources[i] = have[key{e.Name, e.SHA256}]
	}
	return sources, agree(entries, sources)
}

// agree reports fragments whose personas or conditions differ from those in the manifest. A machine chooses fragments by
// the manifest, so it might not even fetch one that is for it.
func agree(entries []manifest.Entry, sources []policy.Source) error {
	var problems policy.Problems
	for i, entry := range entries {
		fragment, err := policy.Parse(sources[i])
		if err != nil {
			continue // whoever parses it next reports the error
		}
		listed, said := slices.Sorted(slices.Values(entry.Personas)), slices.Sorted(slices.Values(fragment.Personas))
		if listed, said := entry.When.String(), fragment.When.String(); listed != said {
			problems = append(problems, policy.Problem{File: entry.Name, Message: fmt.Sprintf(
				"cannot use the fragment: its conditions are %s, and in the manifest %s; publish it again", said, listed)})
		}
		if !slices.Equal(listed, said) {
			problems = append(problems, policy.Problem{File: entry.Name, Message: fmt.Sprintf(
				"cannot use the fragment: its personas are %q, and in the manifest %q; publish it again", said, listed)})
		}
	}
	if len(problems) > 0 {
		return problems
	}
	return nil
}

// A caller is Call or callFor.
type caller func(context.Context, func(context.Context) error) error

// getParameters reads parameters by name or ARN with one call. Parameters that do not exist are left out.
func (a *AWS) getParameters(ctx context.Context, call caller, names []string, decrypt bool) (map[string]types.Parameter, error) {
	found := map[string]types.Parameter{}
	err := call(ctx, func(ctx context.Context) error {
		out, err := a.ssm.GetParameters(ctx, parametersInput(names, decrypt))
		if err != nil {
			return err
		}
		if len(out.Parameters)+len(out.InvalidParameters) == 0 {
			return errEmptyAnswer
		}
		for _, p := range out.Parameters {
			found[aws.ToString(p.Name)+aws.ToString(p.Selector)] = p
			found[aws.ToString(p.ARN)+aws.ToString(p.Selector)] = p // asked by ARN, the service answers with the bare name
		}
		return nil
	})
	return found, err
}
