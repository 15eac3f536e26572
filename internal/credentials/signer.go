package credentials

import (
	"context"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// A Signer signs requests as the clients of the SDK do by themselves, but with the
// secret at hand. They remember the key that they have derived from a secret, by
// the day and the ID of the access key: a secret that was mended under its old ID,
// or read with the ID of another, would spoil all signatures until midnight (UTC).
// It is meant for HTTPSignerV4 in the options of a client.
type Signer struct{}

// SignHTTP implements the HTTPSignerV4 of every client.
func (Signer) SignHTTP(ctx context.Context, c aws.Credentials, r *http.Request, payloadHash, service, region string, at time.Time, options ...func(*v4.SignerOptions)) error {
	return v4.NewSigner().SignHTTP(ctx, c, r, payloadHash, service, region, at, options...)
}
