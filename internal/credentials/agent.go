package credentials

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// Where amazon-ssm-agent says that it is activated, and where its credentials are
// (amazon-ssm-agent 3.3: registration, runtimeconfig.IdentityConfig).
const (
	registration = "/var/lib/amazon/ssm/registration"
	identity     = "/var/lib/amazon/ssm/runtimeconfig/identity_config.json"
)

// fromAgent reads what a hybrid-activated amazon-ssm-agent leaves. It writes new
// keys when half of the time of the old has passed: first the shared file, then,
// with the new expiry, the identity.
func (p *Provider) fromAgent(ctx context.Context) (reading, error) {
	c, files, err := steady(ctx, p, readAgent)
	return reading{c, files}, err
}

func readAgent(s *snapshot) (aws.Credentials, error) {
	var says struct {
		ShareFile            string
		ShareProfile         string
		CredentialsExpiresAt time.Time
	}
	content, err := s.read(identity)
	if errors.Is(err, fs.ErrNotExist) {
		return aws.Credentials{}, s.notYet()
	}
	if err != nil {
		return aws.Credentials{}, unreadable(err)
	}
	if json.Unmarshal(content, &says) != nil {
		return aws.Credentials{}, s.incomplete("%s cannot be read", identity)
	}
	if !full(says.ShareFile) {
		return aws.Credentials{}, fmt.Errorf("%w: %s names no file that amazon-ssm-agent shares them in; "+
			"it does so after a hybrid activation, unless Profile.ShareCreds of its configuration is false", ErrNoCredentials, identity)
	}
	shared, err := s.read(says.ShareFile)
	if err != nil {
		return aws.Credentials{}, unreadable(err)
	}
	name := cmp.Or(says.ShareProfile, "default")
	settings, _ := section(shared, name)
	c := staticKeys(settings, "amazon-ssm-agent")
	// A file that is cut short has all three only if it has each of them whole: the
	// token is the last, and a line that is whole ends.
	switch {
	case !c.HasKeys() || c.SessionToken == "":
		return c, s.incomplete("%s lacks some in [%s]", says.ShareFile, name)
	case shared[len(shared)-1] != '\n':
		if err := s.incomplete("%s ends within a line", says.ShareFile); errors.Is(err, ErrHalfWritten) {
			return c, err
		}
	}
	c.CanExpire = true
	c.Expires = says.CredentialsExpiresAt
	if c.Expires.IsZero() {
		c.Expires = s.provider.system.Clock.Now().Add(longestTrust)
	}
	return c, nil
}

// notYet says what is missing when amazon-ssm-agent has left no credentials.
func (s *snapshot) notYet() error {
	switch _, err := s.read(registration); {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: there is neither %s nor %s", ErrNotActivated, registration, identity)
	case err != nil:
		return unreadable(err)
	}
	return fmt.Errorf("%w: the machine is activated, and amazon-ssm-agent has not written %s; does it run?", ErrNoCredentials, identity)
}
