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

// Config says where in AWS a policy is published, and which credentials to use.
type Config struct {
	Region      string             `toml:"region"`      // default: the region of the managed node's registration
	Path        string             `toml:"path"`        // empty: nothing is published
	Endpoint    string             `toml:"endpoint"`    // of an emulator of all services; empty: the region's own
	Endpoints   Endpoints          `toml:"endpoints"`   // by service; these take precedence over Endpoint
	Credentials credentials.Config `toml:"credentials"` // default: those of amazon-ssm-agent
}

// Endpoints are the URLs of single services. A VPC endpoint serves one service.
type Endpoints struct {
	SSM            string `toml:"ssm"`
	SecretsManager string `toml:"secretsmanager"`
}

// The services, as they are written in AWS host names.
const (
	serviceSSM     = "ssm"
	serviceSecrets = "secretsmanager"
)

// ValidateEndpoints returns an error for each endpoint that is not a URL.
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

// endpoint returns the URL of a service, or nil for the region's own. An endpoint whose host name names
// one service, as that of a VPC endpoint does, is not used for another one.
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

// A Provider provides credentials. After Forget it reads them again.
type Provider interface {
	Retrieve(ctx context.Context) (aws.Credentials, error) // as an aws.CredentialsProvider
	Forget()
}

// AWS is a connection to SSM and Secrets Manager. Keep it for as long as its configuration holds: it
// learns how wrong this machine's clock is, and what it may not read. Its methods must not be called
// concurrently, except SSM, PutCompliance and PutInventory.
type AWS struct {
	path        string
	http        *http.Client
	credentials Provider
	retry       Retry
	ssm         *ssm.Client
	secrets     *secretsmanager.Client

	// refused are parameters that made a call for several fail. They are requested alone, and not
	// before the time in their entry.
	refused map[string]refusal
	// batchRefused is until when secrets are read one by one, because the role does not allow reading
	// several at once.
	batchRefused time.Time

	tags      map[string]string
	tagsErr   error
	tagsUntil time.Time
}

// A refusal is why something cannot be read, and when to try again.
type refusal struct {
	err   error
	until time.Time
}

// refusalLasts is how long a refused parameter is not requested again: each of them costs a call of its
// own, of forty a second for the whole account.
const refusalLasts = time.Hour

// lasts returns how long an error of a value is remembered. A service that fails may recover soon.
func lasts(err error) time.Duration {
	if errors.Is(err, errKeepsFailing) {
		return refusalLasts / 12
	}
	return refusalLasts
}

// Connect prepares a connection and sends nothing. region is used if the configuration names none.
func Connect(c Config, region string, provider Provider, client *http.Client, retry Retry) (*AWS, error) {
	if c.Region != "" {
		region = c.Region
	}
	if region == "" {
		return nil, errNoRegion
	}
	config := aws.Config{
		Region: region, Credentials: provider, HTTPClient: client,
		Retryer: func() aws.Retryer { return aws.NopRetryer{} }, // package source retries in one place: Retry
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

// errNoRegion goes away when the machine is activated: its registration names a region.
var errNoRegion = fmt.Errorf("cannot get credentials: %w: the region is not known before that; or set region in [aws] of agent.toml", credentials.ErrNotActivated)

// SSM returns the client, for other calls to the same service. It may be used by any goroutine.
func (a *AWS) SSM() *ssm.Client { return a.ssm }

// Reset forgets what the connection has learnt: connections that died while the machine slept,
// credentials, and what may not be read.
func (a *AWS) Reset() {
	a.forget()
	a.refused = map[string]refusal{}
	a.batchRefused, a.tagsUntil = time.Time{}, time.Time{}
}

func (a *AWS) forget() {
	a.credentials.Forget()
	a.http.CloseIdleConnections()
}

// Call makes a call to AWS and repeats it until ctx is done, as long as it fails for a reason that goes
// away by itself. It returns the error of the last attempt.
func (a *AWS) Call(ctx context.Context, call func(context.Context) error) error {
	return a.retry.Do(ctx, a.forget, call)
}

// callFor is Call for values of the policy. If the service keeps answering with a failure, one of these
// values may be the reason, and it must hold up neither the other values nor the rest of the policy. So
// after a few attempts callFor gives up, with an error that wraps errKeepsFailing.
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
		return fmt.Errorf("%w: %w", errKeepsFailing, err)
	})
}

// answered says whether an error is the service's answer to the request, and not a failure on the way to it.
func answered(err error) bool {
	var api smithy.APIError
	var status *awshttp.ResponseError
	return errors.As(err, &api) || errors.As(err, &status) || errors.Is(err, errEmptyAnswer)
}

// Errors about what is published, besides the services' own.
var (
	// ErrNothingPublished is wrapped if there is no manifest at the path.
	ErrNothingPublished = errors.New("nothing is published")
	// ErrOlder is wrapped if the manifest is older than the policy in force: somebody, or a
	// backup, has restored it.
	ErrOlder = errors.New("an older policy is published")
	// ErrNoValue is wrapped if a reference names something that does not exist, or that is of
	// another type than the reference says.
	ErrNoValue = errors.New("there is no such value")

	// errEmptyAnswer is wrapped if an answer is well-formed and has nothing in it.
	errEmptyAnswer = errors.New("the answer is empty")
	// errKeepsFailing is wrapped by the error of values for which the service fails each time.
	errKeepsFailing = errors.New("the service fails each time that it is asked for this")
)

// tagsLast is how long tags are cached. They rarely change, and the permission to read them is not part of
// a node's standard role.
const tagsLast = time.Hour

// tagsTimeout is how long reading the tags may hold up the policy.
const tagsTimeout = 20 * time.Second

// Tags returns the tags of a managed node. It caches them, and a refusal to read them.
func (a *AWS) Tags(ctx context.Context, node string) (map[string]string, error) {
	if node == "" {
		return nil, errors.New("cannot read the tags: this machine is not a managed node yet")
	}
	if time.Now().Before(a.tagsUntil) {
		return a.tags, a.tagsErr
	}
	ctx, cancel := context.WithTimeout(ctx, tagsTimeout)
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
