package source

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"github.com/soe-agent/soe-agent/internal/policy"
)

// Missing are the values that could not be had, and why not.
type Missing map[policy.Reference]error

// Error names all of them.
func (m Missing) Error() string {
	lines := make([]string, 0, len(m))
	for _, why := range m {
		lines = append(lines, why.Error())
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// first is the one that Error names first.
func (m Missing) first() (r policy.Reference, why error) {
	for reference, err := range m {
		if why == nil || err.Error() < why.Error() {
			r, why = reference, err
		}
	}
	return r, why
}

// Fetch returns the values of references as the services have them at the moment,
// and why those that could not be had could not. One that cannot be had is no
// reason not to have the others.
func (a *AWS) Fetch(ctx context.Context, references []policy.Reference) (map[policy.Reference]string, map[policy.Reference]error) {
	values, missing := map[policy.Reference]string{}, Missing{}
	for _, service := range []struct {
		name  string
		fetch func(context.Context, []policy.Reference) (map[policy.Reference]string, Missing)
	}{
		{"ssm", a.plain}, {"ssm-secure", a.secure}, {"secretsmanager", a.secretValues},
	} {
		of := slices.DeleteFunc(slices.Clone(references), func(r policy.Reference) bool { return r.Service != service.name })
		if len(of) == 0 {
			continue
		}
		found, not := service.fetch(ctx, of)
		maps.Copy(values, found)
		maps.Copy(missing, not)
	}
	return values, missing
}

func parametersInput(names []string, decrypt bool) *ssm.GetParametersInput {
	return &ssm.GetParametersInput{Names: names, WithDecryption: &decrypt}
}

// selector is how Parameter Store names a version of a parameter.
func selector(r policy.Reference) string {
	if r.Version == "" {
		return r.Name
	}
	return r.Name + ":" + r.Version
}

func (a *AWS) plain(ctx context.Context, references []policy.Reference) (map[policy.Reference]string, Missing) {
	return a.parameterValues(ctx, references, false, plainValues)
}

func (a *AWS) secure(ctx context.Context, references []policy.Reference) (map[policy.Reference]string, Missing) {
	return a.parameterValues(ctx, references, true, secureValues)
}

// A sorter takes the values of references from the parameters that were found.
type sorter func(references []policy.Reference, found map[string]types.Parameter) (map[policy.Reference]string, Missing)

// parameterValues reads parameters, ten a call. When a call is refused, each of its
// parameters is asked for alone, once: IAM and KMS refuse the whole for one of them. So it
// is when a call fails again and again.
func (a *AWS) parameterValues(ctx context.Context, references []policy.Reference, decrypt bool, sorted sorter) (map[policy.Reference]string, Missing) {
	values, missing := map[policy.Reference]string{}, Missing{}
	take := func(batch []policy.Reference) error {
		names := make([]string, len(batch))
		for i, r := range batch {
			names[i] = selector(r)
		}
		found, err := a.getParameters(ctx, a.callFor, names, decrypt)
		if err != nil {
			return err
		}
		had, not := sorted(batch, found)
		maps.Copy(values, had)
		maps.Copy(missing, not)
		return nil
	}
	alone := func(r policy.Reference) {
		why := a.refusalOf(selector(r))
		if why == nil {
			if why = take([]policy.Reference{r}); why != nil && !Classify(why).passes() {
				a.refused[selector(r)] = refusal{why, time.Now().Add(lasts(why))}
			}
		}
		if why != nil {
			missing[r] = fmt.Errorf("cannot resolve %s: %w", r, why)
		}
	}
	var together []policy.Reference
	for _, r := range references {
		if a.wasRefused(selector(r)) {
			alone(r)
		} else {
			together = append(together, r)
		}
	}
	for batch := range slices.Chunk(together, mostParameters) {
		err := take(batch)
		for _, r := range batch {
			switch {
			case err == nil:
			case len(batch) > 1 && !Classify(err).passes():
				alone(r)
			default:
				missing[r] = fmt.Errorf("cannot resolve %s: %w", r, err)
			}
		}
	}
	return values, missing
}

// wasRefused says whether a parameter once made a call fail.
func (a *AWS) wasRefused(name string) bool {
	_, was := a.refused[name]
	return was
}

// refusalOf is why a parameter is not asked for now, or nil.
func (a *AWS) refusalOf(name string) error {
	if r, was := a.refused[name]; was && time.Now().Before(r.until) {
		return r.err
	}
	return nil
}

func plainValues(references []policy.Reference, found map[string]types.Parameter) (map[policy.Reference]string, Missing) {
	values, missing := secureValues(references, found)
	for r := range values {
		if found[selector(r)].Type == types.ParameterTypeSecureString {
			delete(values, r)
			missing[r] = fmt.Errorf("cannot resolve %s: it is a SecureString; write resolve:ssm-secure: %w", r, ErrNoValue)
		}
	}
	return values, missing
}

func secureValues(references []policy.Reference, found map[string]types.Parameter) (map[policy.Reference]string, Missing) {
	values, missing := map[policy.Reference]string{}, Missing{}
	for _, r := range references {
		if p, there := found[selector(r)]; there {
			values[r] = aws.ToString(p.Value)
		} else {
			missing[r] = fmt.Errorf("cannot resolve %s: %w", r, ErrNoValue)
		}
	}
	return values, missing
}
