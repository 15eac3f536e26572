package source

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"github.com/soe-agent/soe-agent/internal/credentials"
)

// Config says where in AWS a policy is published, and whose word opens it.
type Config struct {
	Region      string             `toml:"region"`      // absent: that of the managed node's registration
	Path        string             `toml:"path"`        // absent: nothing is published
	Endpoint    string             `toml:"endpoint"`    // of a VPC endpoint or an emulator; absent: the region's own
	Credentials credentials.Config `toml:"credentials"` // absent: those of amazon-ssm-agent
}

// A Provider gives credentials, and reads them again after Forget.
type Provider interface {
	aws.CredentialsProvider
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
	if c.Endpoint != "" {
		config.BaseEndpoint = aws.String(c.Endpoint)
	}
	a := &AWS{
		path: c.Path, http: client, credentials: provider, retry: retry,
		ssm:     ssm.NewFromConfig(config, func(o *ssm.Options) { o.HTTPSignerV4 = credentials.Signer{} }),
		secrets: secretsmanager.NewFromConfig(config, func(o *secretsmanager.Options) { o.HTTPSignerV4 = credentials.Signer{} }),
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
