package credentials

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
)

// newInstance returns the SDK's client of the instance metadata service, which is
// 72 KiB of the binary. It speaks version 2 only: version 1 answers whoever can make
// a program on the machine send a plain request. No proxy is asked: the service
// tells the machine by the machine's asking.
func newInstance(getenv func(string) string) *ec2rolecreds.Provider {
	client := imds.New(imds.Options{
		Endpoint:          getenv("AWS_EC2_METADATA_SERVICE_ENDPOINT"),
		EnableFallback:    aws.FalseTernary,
		ClientEnableState: imds.ClientEnabled,
		HTTPClient:        awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) { t.Proxy = nil }),
	})
	return ec2rolecreds.New(func(o *ec2rolecreds.Options) { o.Client = client })
}

// fromInstance asks for the credentials of the instance's role.
func (p *Provider) fromInstance(ctx context.Context) (aws.Credentials, error) {
	c, err := p.instance.Retrieve(ctx)
	var status *awshttp.ResponseError
	switch {
	case err == nil && c.HasKeys():
		c.Source = metadata
		return c, nil
	case err == nil:
		return c, fmt.Errorf("%w: the instance metadata service has a role without keys", ErrNoCredentials)
	case ctx.Err() != nil:
		return c, ctx.Err()
	case errors.As(err, &status) && status.HTTPStatusCode() == http.StatusNotFound:
		return c, fmt.Errorf("%w: the instance has no role", ErrNoCredentials)
	}
	// Not wrapped: an error of this service is none of those that are asked for the policy.
	return c, fmt.Errorf("%w: the instance metadata service: %v", ErrNoCredentials, err) //nolint:errorlint // see above
}
