package source

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/aws/smithy-go"

	"github.com/soe-agent/soe-agent/internal/policy"
)

// ErrNoValue is wrapped by the error about a reference to something that is not
// there, or that is not what the reference says.
var ErrNoValue = errors.New("there is no such value")

// Fetch returns the values of references. A reference to what is not there is an
// error that names it; all of them are reported. Values are as the services have
// them at the moment; nothing is kept.
func (a *AWS) Fetch(ctx context.Context, references []policy.Reference) (map[policy.Reference]string, error) {
	values := map[policy.Reference]string{}
	var errs []error
	for _, service := range []struct {
		name  string
		fetch func(context.Context, []policy.Reference, map[policy.Reference]string) error
	}{
		{"ssm", a.plain}, {"ssm-secure", a.secure}, {"secretsmanager", a.secretValues},
	} {
		of := slices.DeleteFunc(slices.Clone(references), func(r policy.Reference) bool { return r.Service != service.name })
		if len(of) > 0 {
			errs = append(errs, service.fetch(ctx, of, values))
		}
	}
	return values, errors.Join(errs...)
}

func (a *AWS) plain(ctx context.Context, references []policy.Reference, values map[policy.Reference]string) error {
	return a.parameterValues(ctx, references, values, false)
}

func (a *AWS) secure(ctx context.Context, references []policy.Reference, values map[policy.Reference]string) error {
	return a.parameterValues(ctx, references, values, true)
}

// selector is how Parameter Store names a version of a parameter.
func selector(r policy.Reference) string {
	if r.Version == "" {
		return r.Name
	}
	return r.Name + ":" + r.Version
}

func (a *AWS) parameterValues(ctx context.Context, references []policy.Reference, values map[policy.Reference]string, secure bool) error {
	names := make([]string, len(references))
	for i, r := range references {
		names[i] = selector(r)
	}
	found, err := a.parameters(ctx, names, secure)
	if err != nil {
		return err
	}
	var errs []error
	for _, r := range references {
		p, there := found[selector(r)]
		switch {
		case !there:
			errs = append(errs, fmt.Errorf("cannot resolve %s: %w", r, ErrNoValue))
		case !secure && p.Type == types.ParameterTypeSecureString:
			errs = append(errs, fmt.Errorf("cannot resolve %s: it is a SecureString; write resolve:ssm-secure: %w", r, ErrNoValue))
		default:
			values[r] = aws.ToString(p.Value)
		}
	}
	return errors.Join(errs...)
}

// secretValues reads each secret once, whatever number of its keys are wanted.
func (a *AWS) secretValues(ctx context.Context, references []policy.Reference, values map[policy.Reference]string) error {
	type secret struct {
		text string
		err  error
	}
	secrets := map[policy.Reference]secret{}
	var errs []error
	for _, r := range references {
		whole := r
		whole.JSONKey = ""
		s, read := secrets[whole]
		if !read {
			s.text, s.err = a.secret(ctx, whole)
			secrets[whole] = s
			errs = append(errs, s.err)
		}
		if s.err != nil {
			continue
		}
		value, err := pick(r, s.text)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		values[r] = value
	}
	return errors.Join(errs...)
}

func (a *AWS) secret(ctx context.Context, r policy.Reference) (string, error) {
	in := &secretsmanager.GetSecretValueInput{SecretId: &r.Name}
	if r.Stage != "" {
		in.VersionStage = &r.Stage
	}
	if r.Version != "" {
		in.VersionId = &r.Version
	}
	out, err := a.secrets.GetSecretValue(ctx, in)
	if err != nil {
		var api smithy.APIError
		if errors.As(err, &api) && api.ErrorCode() == "ResourceNotFoundException" {
			return "", fmt.Errorf("cannot resolve %s: %w", r, ErrNoValue)
		}
		return "", fmt.Errorf("cannot resolve %s: %w", r, err)
	}
	if out.SecretString == nil {
		return "", fmt.Errorf("cannot resolve %s: the secret is binary, and no text: %w", r, ErrNoValue)
	}
	return *out.SecretString, nil
}

// pick returns the part of a secret that a reference means. Its errors say
// nothing of the text.
func pick(r policy.Reference, text string) (string, error) {
	if r.JSONKey == "" {
		return text, nil
	}
	var object map[string]any
	if json.Unmarshal([]byte(text), &object) != nil {
		return "", fmt.Errorf("cannot resolve %s: the secret is no JSON object: %w", r, ErrNoValue)
	}
	switch value := object[r.JSONKey].(type) {
	case string:
		return value, nil
	case nil:
		return "", fmt.Errorf("cannot resolve %s: the secret has no such key: %w", r, ErrNoValue)
	default:
		raw, _ := json.Marshal(value) // it has just been unmarshalled
		return string(raw), nil
	}
}
