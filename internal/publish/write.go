package publish

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"github.com/soe-agent/soe-agent/internal/manifest"
)

// A Result is what was done. Its JSON is a stable format.
type Result struct {
	Written  []string `json:"written"`                    // parameters, without the manifest
	Version  int64    `json:"manifest_version,omitempty"` // of the manifest's parameter; 0: it was not written
	Deleted  []string `json:"deleted"`                    // parameters that no manifest names any more
	Warnings []string `json:"warnings"`
}

// ErrOverrun is wrapped if the policy is not in force because somebody else published at the same moment.
var ErrOverrun = errors.New("somebody else has published meanwhile")

// Write carries a plan out. If it fails before the manifest is replaced, no machine sees any of it. It is
// always safe to plan and write again.
func (p *Publisher) Write(ctx context.Context, plan *Plan) (Result, error) {
	r := Result{Written: []string{}, Deleted: []string{}, Warnings: []string{}}
	if err := p.fragments(ctx, plan.parameters, &r); err != nil {
		return r, fmt.Errorf("%w; the manifest is as it was, and no machine sees what was written: publish again", err)
	}
	if !plan.replaces() {
		return r, nil
	}
	written, err := p.replace(ctx, plan, &r)
	if err != nil {
		return r, err
	}
	if plan.collects {
		named := parametersOf(plan.now.manifest)
		for name := range parametersOf(plan.then) {
			named[name] = true
		}
		r.Deleted, err = p.collect(ctx, named, aws.ToTime(written.LastModifiedDate).Add(-keep))
		if err != nil {
			r.Warnings = append(r.Warnings, fmt.Sprintf("old fragments stay: %v", err))
		}
	}
	return r, nil
}

// fragments writes parameters and reads them back.
func (p *Publisher) fragments(ctx context.Context, parameters []manifest.Parameter, r *Result) error {
	var names []string
	for _, w := range parameters {
		written, err := p.create(ctx, w)
		if err != nil {
			return err
		}
		if written {
			r.Written = append(r.Written, w.Name)
		}
		names = append(names, w.Name)
	}
	held, err := p.getAll(ctx, names)
	if err != nil {
		return err
	}
	var errs []error
	for _, w := range parameters {
		parameter, there := held[w.Name]
		switch {
		case !there:
			errs = append(errs, fmt.Errorf("cannot read the parameter %s back: it is not there", w.Name))
		case aws.ToString(parameter.Value) != w.Value:
			errs = append(errs, taken(w.Name))
		}
	}
	return errors.Join(errs...)
}

// replace writes the manifest over the version that the plan is based on, and verifies that it is in force.
func (p *Publisher) replace(ctx context.Context, plan *Plan, r *Result) (types.Parameter, error) {
	name, before := plan.Manifest, plan.now.version
	version, err := p.swap(ctx, name, plan.text, before)
	if err != nil {
		return types.Parameter{}, err
	}
	written, _, err := p.get(ctx, name)
	if err != nil {
		return written, fmt.Errorf("%w; it was written, and is not known to be in force: publish again", err)
	}
	if written.Version != version || aws.ToString(written.Value) != plan.text {
		return written, overrun(name, written.Version, version)
	}
	r.Version = version
	if version > before+1 {
		r.Warnings = append(r.Warnings, fmt.Sprintf(
			"version %d of %s, which somebody else wrote at the same moment, is replaced: what they published is not in force", version-1, name))
	}
	return written, nil
}

func overrun(name string, version, own int64) error {
	return fmt.Errorf("cannot put %s in force: %w: its version is %d and not %d; look at what changes now, and publish again",
		name, ErrOverrun, version, own)
}

// largestManifest is what an advanced parameter can hold, in bytes (Systems Manager API Reference,
// PutParameter).
const largestManifest = 8192

// manifestText returns the text of a manifest, and a warning about its size if there is one.
func manifestText(m manifest.Manifest) (text, warning string, err error) {
	text, err = m.Text()
	switch {
	case err != nil:
		return "", "", err
	case len(text) > largestManifest:
		return "", "", fmt.Errorf("cannot publish: the manifest would have %d bytes, and Parameter Store takes %d; put the fragments of each persona into one file, or end the rollout first",
			len(text), largestManifest)
	case len(text) > manifest.LargestValue:
		warning = fmt.Sprintf("the manifest has %d bytes, and above %d it is an advanced parameter, which is not free", len(text), manifest.LargestValue)
	}
	return text, warning, nil
}
