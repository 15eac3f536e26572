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

// Missing are the values that could not be read, and why.
type Missing map[policy.Reference]error

// Error names all of them, sorted.
func (m Missing) Error() string {
	lines := make([]string, 0, len(m))
	for _, why := range m {
		lines = append(lines, why.Error())
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// first returns the one that Error names first.
func (m Missing) first() (r policy.Reference, why error) {
	for reference, err := range m {
		if why == nil || err.Error() < why.Error() {
			r, why = reference, err
		}
	}
	return r, why
}

// Fetch returns the current values of references, and why the others could not be read. A value that
// cannot be read does not hold up the others.
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

// selector returns the name of a parameter, with the version if the reference has one.
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

// A sorter picks the values of references out of the parameters that were found.
type sorter func(references []policy.Reference, found map[string]types.Parameter) (map[policy.Reference]string, Missing)

// parameterValues reads parameters, ten a call. IAM and KMS refuse a whole call because of one of its
// parameters. So if a call is refused, or keeps failing, each of its parameters is requested alone, once.
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

// wasRefused says whether a parameter has made a call fail before.
func (a *AWS) wasRefused(name string) bool {
	_, was := a.refused[name]
	return was
}

// refusalOf returns why a parameter must not be requested now, or nil.
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
