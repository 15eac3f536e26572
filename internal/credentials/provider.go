package credentials

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"

	"github.com/soe-agent/soe-agent/internal/system"
)

// What the errors of Retrieve wrap.
var (
	// ErrNotActivated: the hybrid activation has not happened yet.
	ErrNotActivated = errors.New("waiting for activation")
	// ErrNoCredentials: the source has none.
	ErrNoCredentials = errors.New("there are no credentials")
	// ErrExpired: whoever keeps the credentials fresh has not.
	ErrExpired = errors.New("the credentials have expired")
	// ErrHalfWritten: a file is being written; this passes soon.
	ErrHalfWritten = errors.New("the credentials are being written")
	// ErrUnsafe: a file or program could be somebody else's making.
	ErrUnsafe = system.ErrUnsafe
)

const (
	// margin is how long before they expire credentials are asked for anew, and
	// patience how long it then is between two attempts while the old ones hold.
	margin   = 5 * time.Minute
	patience = time.Minute
	// longestTrust is how long credentials are good of which nobody says until when
	// they are, and for how long a cache around a Provider may keep any.
	longestTrust = 15 * time.Minute
)

// A Provider gives the credentials of one source. It may be used by several
// goroutines at once.
type Provider struct {
	config    Config
	system    *system.System
	getenv    func(string) string
	uid       int // whose process this is
	instance  *ec2rolecreds.Provider
	forgotten atomic.Bool

	turn  chan struct{} // held by whoever uses what follows; a mutex would not heed a context
	last  reading       // empty: none were read, or they were forgotten
	again time.Time     // nothing is read before that only because the last expire soon
}

// A reading is credentials with the files that they are from.
type reading struct {
	aws.Credentials
	files map[string]file
}

var _ aws.CredentialsProvider = (*Provider)(nil)

// New returns a Provider; it reads nothing yet. c is valid.
func New(c Config, s *system.System) *Provider {
	return newProvider(c, s, os.Getenv, os.Geteuid())
}

func newProvider(c Config, s *system.System, getenv func(string) string, uid int) *Provider {
	p := &Provider{config: c.settled(getenv), system: s, getenv: getenv, uid: uid, turn: make(chan struct{}, 1)}
	if p.config.Source == metadata {
		p.instance = newInstance(getenv)
	}
	return p
}

// Retrieve returns the credentials that the source has now. Those that it returned
// before it returns again, until a file that they are from changes, they expire in
// a few minutes, or Forget is called. If there are no better ones then, they stay
// good until they expire. It implements aws.CredentialsProvider.
func (p *Provider) Retrieve(ctx context.Context) (aws.Credentials, error) {
	select {
	case p.turn <- struct{}{}:
		defer func() { <-p.turn }()
	case <-ctx.Done():
		return aws.Credentials{}, fmt.Errorf("cannot get credentials: %w", ctx.Err())
	}
	if p.forgotten.Swap(false) {
		p.last = reading{}
	}
	if !p.last.HasKeys() || p.due() || !p.unchanged(p.last.files) {
		now, err := p.read(ctx)
		switch {
		case err == nil:
			p.last = now
		case !p.bridges(err):
			return aws.Credentials{}, fmt.Errorf("cannot get credentials: %w", err)
		}
		p.again = p.system.Clock.Now().Add(patience)
	}
	c := p.last.Credentials
	if latest := p.system.Clock.Now().Add(longestTrust); c.CanExpire && c.Expires.After(latest) {
		c.Expires = latest
	}
	return c, nil
}

// Forget makes the next Retrieve read the credentials again, whatever it has.
func (p *Provider) Forget() { p.forgotten.Store(true) }

// due says whether it is time to look for credentials that hold longer.
func (p *Provider) due() bool {
	now := p.system.Clock.Now()
	if !p.last.CanExpire || now.Before(p.last.Expires.Add(-margin)) {
		return false
	}
	return !now.Before(p.last.Expires) || !now.Before(p.again)
}

// bridges says whether the last credentials may be used in spite of an error. Keys
// without an expiry may have been taken away on purpose, so they are only while
// the file is being written.
func (p *Provider) bridges(err error) bool {
	switch {
	case !p.last.HasKeys(), errors.Is(err, ErrNotActivated), errors.Is(err, ErrExpired), errors.Is(err, ErrUnsafe):
		return false
	case p.last.CanExpire:
		return p.last.Expires.After(p.system.Clock.Now())
	}
	return errors.Is(err, ErrHalfWritten)
}

func (p *Provider) read(ctx context.Context) (reading, error) {
	var r reading
	var err error
	switch p.config.Source {
	case ssmAgent:
		r, err = p.fromAgent(ctx)
	case environment:
		r.Credentials, err = p.fromEnvironment()
	case profile:
		r, err = p.fromProfile(ctx)
	case process:
		r.Credentials, err = p.fromProcess(ctx, p.config.Process)
	case metadata:
		r.Credentials, err = p.fromInstance(ctx)
	default:
		err = fmt.Errorf("%w: %q is no source", ErrNoCredentials, p.config.Source)
	}
	if err == nil && r.CanExpire && !r.Expires.After(p.system.Clock.Now()) {
		err = fmt.Errorf("%w, at %s", ErrExpired, r.Expires.UTC().Format(time.RFC3339))
	}
	return r, err
}

// fromEnvironment reads the variables that AWS's tools read, and the one that they
// write beside them for temporary credentials.
func (p *Provider) fromEnvironment() (aws.Credentials, error) {
	c := aws.Credentials{
		AccessKeyID: p.getenv("AWS_ACCESS_KEY_ID"), SecretAccessKey: p.getenv("AWS_SECRET_ACCESS_KEY"),
		SessionToken: p.getenv("AWS_SESSION_TOKEN"), Source: environment,
	}
	if !c.HasKeys() {
		return c, fmt.Errorf("%w: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not both set", ErrNoCredentials)
	}
	if until := p.getenv("AWS_CREDENTIAL_EXPIRATION"); until != "" {
		var err error
		if c.Expires, err = time.Parse(time.RFC3339, until); err != nil {
			return c, fmt.Errorf("%w: AWS_CREDENTIAL_EXPIRATION is not a time such as 2006-01-02T15:04:05Z", ErrNoCredentials)
		}
		c.CanExpire = true
	}
	return c, nil
}
