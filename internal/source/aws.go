package source

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/aws/smithy-go"

	"github.com/soe-agent/soe-agent/internal/credentials"
)

// Config says where in AWS a policy is published, and whose word opens it.
type Config struct {
	Region      string             `toml:"region"`      // absent: that of the managed node's registration
	Path        string             `toml:"path"`        // absent: nothing is published
	Endpoint    string             `toml:"endpoint"`    // of an emulator of all services; absent: the region's own
	Endpoints   Endpoints          `toml:"endpoints"`   // by service, before Endpoint
	Credentials credentials.Config `toml:"credentials"` // absent: those of amazon-ssm-agent
}

// Endpoints are the URLs of the services: a VPC endpoint is that of one.
type Endpoints struct {
	SSM            string `toml:"ssm"`
	SecretsManager string `toml:"secretsmanager"`
}

// The services, as AWS has them in the names of hosts.
const (
	serviceSSM     = "ssm"
	serviceSecrets = "secretsmanager"
)

// ValidateEndpoints says which endpoints are no URLs.
func (c Config) ValidateEndpoints() error {
	var errs []error
	for _, e := range []struct{ name, url string }{
		{"endpoint", c.Endpoint}, {"endpoints." + serviceSSM, c.Endpoints.SSM}, {"endpoints." + serviceSecrets, c.Endpoints.SecretsManager},
	} {
		u, err := url.Parse(e.url)
		if e.url != "" && (err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "") {
			errs = append(errs, fmt.Errorf("cannot use aws.%s: %q is not a URL, such as https://vpce-0123-abcd.ssm.eu-west-1.vpce.amazonaws.com", e.name, e.url))
		}
	}
	return errors.Join(errs...)
}

// endpoint is where a service is asked, or nil for the region's own. One whose host says of
// which service it is, as a VPC endpoint's does, is nothing for another.
func (c Config) endpoint(service string) *string {
	own := map[string]string{serviceSSM: c.Endpoints.SSM, serviceSecrets: c.Endpoints.SecretsManager}[service]
	if own != "" {
		return &own
	}
	u, err := url.Parse(c.Endpoint)
	if err != nil || c.Endpoint == "" {
		return nil
	}
	labels := strings.Split(u.Hostname(), ".")
	for _, one := range []string{serviceSSM, serviceSecrets} {
		if one != service && slices.Contains(labels, one) && !slices.Contains(labels, service) {
			return nil
		}
	}
	return &c.Endpoint
}

// A Provider gives credentials, and reads them again after Forget.
type Provider interface {
	Retrieve(ctx context.Context) (aws.Credentials, error) // as an aws.CredentialsProvider
	Forget()
}

// AWS is a connection to SSM and Secrets Manager. It is meant to be kept: it
// learns how wrong this machine's clock is, and what it may not read. Its methods
// are for one goroutine at a time; that of SSM is for all.
type AWS struct {
	path        string
	http        *http.Client
	credentials Provider
	retry       Retry
	ssm         *ssm.Client
	secrets     *secretsmanager.Client

	// refused are parameters that made a call for several fail: they are asked for
	// alone, and only when the time has come.
	refused map[string]refusal
	// batchRefused is until when secrets are read one by one, because the role does
	// not allow to read several at once.
	batchRefused time.Time

	tags      map[string]string
	tagsErr   error
	tagsUntil time.Time
}

// A refusal is why something cannot be read, and when to ask again.
type refusal struct {
	err   error
	until time.Time
}

// refusalLasts is how long what was refused is not asked for again: it is one call
// for each such parameter then, of forty a second for the whole account.
const refusalLasts = time.Hour

// lasts is how long an error of a value is believed. A service that fails may be well soon.
func lasts(err error) time.Duration {
	if errors.Is(err, errStubborn) {
		return refusalLasts / 12
	}
	return refusalLasts
}

// Connect prepares a connection; it sends nothing. region is used where the
// configuration names none.
func Connect(c Config, region string, provider Provider, client *http.Client, retry Retry) (*AWS, error) {
	if c.Region != "" {
		region = c.Region
	}
	if region == "" {
		return nil, errNoRegion
	}
	config := aws.Config{
		Region: region, Credentials: provider, HTTPClient: client,
		Retryer: func() aws.Retryer { return aws.NopRetryer{} }, // Retry does, in one place
	}
	a := &AWS{
		path: c.Path, http: client, credentials: provider, retry: retry,
		ssm: ssm.NewFromConfig(config, func(o *ssm.Options) {
			o.HTTPSignerV4, o.BaseEndpoint = credentials.Signer{}, c.endpoint(serviceSSM)
		}),
		secrets: secretsmanager.NewFromConfig(config, func(o *secretsmanager.Options) {
			o.HTTPSignerV4, o.BaseEndpoint = credentials.Signer{}, c.endpoint(serviceSecrets)
		}),
	}
	a.Reset()
	return a, nil
}

// errNoRegion passes when the machine is activated: its registration names a region.
var errNoRegion = fmt.Errorf("cannot get credentials: %w: the region is not known before that; or set region in [aws] of agent.toml", credentials.ErrNotActivated)

// SSM is the client for other calls to the same place.
func (a *AWS) SSM() *ssm.Client { return a.ssm }

// Reset forgets what was learnt of the machine's surroundings: connections that
// died in its sleep, credentials, what may not be read.
func (a *AWS) Reset() {
	a.forget()
	a.refused = map[string]refusal{}
	a.batchRefused, a.tagsUntil = time.Time{}, time.Time{}
}

func (a *AWS) forget() {
	a.credentials.Forget()
	a.http.CloseIdleConnections()
}

// Call carries out a call to AWS, and again while it fails for a reason that passes
// by itself, until ctx is done. The error is that of the last attempt.
func (a *AWS) Call(ctx context.Context, call func(context.Context) error) error {
	return a.retry.Do(ctx, a.forget, call)
}

// callFor is Call for values of the policy. A service that answers each time that it has
// failed may do so for one value of those, which must hold up neither the others nor the
// rest of the policy: after a few attempts the error wraps errStubborn.
func (a *AWS) callFor(ctx context.Context, call func(context.Context) error) error {
	const enough = 3
	attempts := 0
	return a.Call(ctx, func(ctx context.Context) error {
		err := call(ctx)
		if err == nil || Classify(err) != Passing || !answered(err) {
			return err
		}
		if attempts++; attempts < enough {
			return err
		}
		return fmt.Errorf("%w: %w", errStubborn, err)
	})
}

// answered says whether an error is what the service made of the request, and not the way to it.
func answered(err error) bool {
	var api smithy.APIError
	var status *awshttp.ResponseError
	return errors.As(err, &api) || errors.As(err, &status) || errors.Is(err, errNonsense)
}

// Errors of what is there, or not, other than the services' own.
var (
	// ErrNothingPublished is wrapped by the error of a path without a manifest.
	ErrNothingPublished = errors.New("nothing is published")
	// ErrOlder is wrapped by the error of a manifest that is older than the policy in
	// force: somebody, or a backup, has put it there again.
	ErrOlder = errors.New("an older policy is published")
	// ErrNoValue is wrapped by the error about a reference to something that is not
	// there, or that is not what the reference says.
	ErrNoValue = errors.New("there is no such value")

	// errNonsense is wrapped by the error of an answer that is whole and says nothing.
	errNonsense = errors.New("the answer is empty")
	// errStubborn is wrapped by the error of values for which the service fails each time.
	errStubborn = errors.New("the service fails each time that it is asked for this")
)

// tagsLast is how long tags are believed. They rarely change, and their permission
// is not part of a node's standard role.
const tagsLast = time.Hour

// tagsPatience is how long tags may hold up the policy.
const tagsPatience = 20 * time.Second

// Tags returns the tags of a managed node.
func (a *AWS) Tags(ctx context.Context, node string) (map[string]string, error) {
	if node == "" {
		return nil, errors.New("cannot read the tags: this machine is no managed node yet")
	}
	if time.Now().Before(a.tagsUntil) {
		return a.tags, a.tagsErr
	}
	ctx, cancel := context.WithTimeout(ctx, tagsPatience)
	defer cancel()
	var tags map[string]string
	err := a.Call(ctx, func(ctx context.Context) error {
		out, err := a.ssm.ListTagsForResource(ctx, &ssm.ListTagsForResourceInput{
			ResourceType: types.ResourceTypeForTaggingManagedInstance, ResourceId: &node,
		})
		if err != nil {
			return err
		}
		tags = map[string]string{}
		for _, tag := range out.TagList {
			tags[aws.ToString(tag.Key)] = aws.ToString(tag.Value)
		}
		return nil
	})
	if err != nil {
		err = fmt.Errorf("cannot read the tags of %s: %w", node, err)
	}
	if !Classify(err).passes() || err == nil {
		a.tags, a.tagsErr, a.tagsUntil = tags, err, time.Now().Add(tagsLast)
	}
	return tags, err
}
