package publish

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"github.com/soe-agent/soe-agent/internal/manifest"
)

// A Store is the part of Parameter Store that is used. *ssm.Client implements it.
type Store interface {
	GetParameter(context.Context, *ssm.GetParameterInput, ...func(*ssm.Options)) (*ssm.GetParameterOutput, error)
	GetParameters(context.Context, *ssm.GetParametersInput, ...func(*ssm.Options)) (*ssm.GetParametersOutput, error)
	GetParametersByPath(context.Context, *ssm.GetParametersByPathInput, ...func(*ssm.Options)) (*ssm.GetParametersByPathOutput, error)
	PutParameter(context.Context, *ssm.PutParameterInput, ...func(*ssm.Options)) (*ssm.PutParameterOutput, error)
	DeleteParameters(context.Context, *ssm.DeleteParametersInput, ...func(*ssm.Options)) (*ssm.DeleteParametersOutput, error)
}

// mostNames is how many names one call takes (Systems Manager API Reference, GetParameters,
// GetParametersByPath, DeleteParameters).
const mostNames = 10

var errEmptyAnswer = errors.New("the answer is empty")

// get returns a parameter; there is false if it does not exist.
func (p *Publisher) get(ctx context.Context, name string) (parameter types.Parameter, there bool, err error) {
	err = p.Call(ctx, func(ctx context.Context) (err error) {
		parameter, there, err = p.read(ctx, name)
		return err
	})
	if err != nil {
		return parameter, false, fmt.Errorf("cannot read the parameter %s: %w", name, err)
	}
	return parameter, there, nil
}

func (p *Publisher) read(ctx context.Context, name string) (parameter types.Parameter, there bool, err error) {
	out, err := p.Store.GetParameter(ctx, &ssm.GetParameterInput{Name: &name})
	var none *types.ParameterNotFound
	switch {
	case errors.As(err, &none):
		return parameter, false, nil // not an error that Call should repeat
	case err != nil:
		return parameter, false, err
	case out.Parameter == nil:
		return parameter, false, errEmptyAnswer
	}
	return *out.Parameter, true, nil
}

// getAll returns parameters by name. Parameters that do not exist are left out.
func (p *Publisher) getAll(ctx context.Context, names []string) (map[string]types.Parameter, error) {
	found := map[string]types.Parameter{}
	for batch := range slices.Chunk(names, mostNames) {
		var out *ssm.GetParametersOutput
		err := p.Call(ctx, func(ctx context.Context) (err error) {
			out, err = p.Store.GetParameters(ctx, &ssm.GetParametersInput{Names: batch})
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("cannot read the parameters %s: %w", strings.Join(batch, ", "), err)
		}
		for _, parameter := range out.Parameters {
			found[aws.ToString(parameter.Name)] = parameter
		}
	}
	return found, nil
}

// create writes a parameter unless one of that name exists.
func (p *Publisher) create(ctx context.Context, parameter manifest.Parameter) (written bool, err error) {
	err = p.Call(ctx, func(ctx context.Context) error {
		_, err := p.put(ctx, parameter, false)
		var exists *types.ParameterAlreadyExists
		if errors.As(err, &exists) {
			return nil
		}
		written = err == nil
		return err
	})
	if err != nil {
		return false, fmt.Errorf("cannot write the parameter %s: %w", parameter.Name, err)
	}
	return written, nil
}

// swap replaces the given version of a parameter, where 0 means that it does not exist, and returns its new
// version. The service has no such call: somebody else may write between the check of the version and the
// write. The new version then shows it.
func (p *Publisher) swap(ctx context.Context, name, value string, version int64) (now int64, err error) {
	var other error // set if somebody else was faster
	err = p.Call(ctx, func(ctx context.Context) error {
		found, there, err := p.read(ctx, name)
		switch {
		case err != nil:
			return err
		case there && found.Version != version && aws.ToString(found.Value) == value:
			now = found.Version // our earlier attempt succeeded and its answer was lost
			return nil
		case found.Version != version:
			other = overrun(name, found.Version, version)
			return nil
		}
		now, err = p.put(ctx, manifest.Parameter{Name: name, Value: value}, there)
		var exists *types.ParameterAlreadyExists
		if errors.As(err, &exists) {
			other, err = overrun(name, 1, 0), nil
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("cannot write the parameter %s: %w; whether it is written is not known: publish again", name, err)
	}
	return now, other
}

func (p *Publisher) put(ctx context.Context, parameter manifest.Parameter, overwrite bool) (version int64, err error) {
	out, err := p.Store.PutParameter(ctx, &ssm.PutParameterInput{
		Name: &parameter.Name, Value: &parameter.Value, Overwrite: &overwrite,
		Type:        types.ParameterTypeString,
		Tier:        types.ParameterTierIntelligentTiering, // standard, which is free, for what fits into it
		Description: aws.String("Written by soe-agent policy publish"),
	})
	if err != nil {
		return 0, err
	}
	return out.Version, nil
}

// list returns all parameters below a path.
func (p *Publisher) list(ctx context.Context, path string) ([]types.Parameter, error) {
	in := ssm.GetParametersByPathInput{Path: &path, Recursive: aws.Bool(true), MaxResults: aws.Int32(mostNames)}
	var all []types.Parameter
	for {
		var out *ssm.GetParametersByPathOutput
		err := p.Call(ctx, func(ctx context.Context) (err error) {
			out, err = p.Store.GetParametersByPath(ctx, &in)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("cannot list the parameters below %s: %w", path, err)
		}
		all = append(all, out.Parameters...)
		if aws.ToString(out.NextToken) == "" { // an empty page need not be the last one
			return all, nil
		}
		in.NextToken = out.NextToken
	}
}

// remove deletes parameters and returns the names of those that existed.
func (p *Publisher) remove(ctx context.Context, names []string) (deleted []string, err error) {
	deleted = []string{}
	for batch := range slices.Chunk(names, mostNames) {
		err := p.Call(ctx, func(ctx context.Context) error {
			out, err := p.Store.DeleteParameters(ctx, &ssm.DeleteParametersInput{Names: batch})
			if err == nil {
				deleted = append(deleted, out.DeletedParameters...)
			}
			return err
		})
		if err != nil {
			return deleted, fmt.Errorf("cannot delete the parameters %s: %w", strings.Join(batch, ", "), err)
		}
	}
	return deleted, nil
}
