package source

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/soe-agent/soe-agent/internal/system"
)

// What the errors of a provider wrap.
var (
	ErrNoCredentials = errors.New("there are no credentials yet")
	ErrExpired       = errors.New("the credentials have expired")
)

// identityFile is where amazon-ssm-agent says where it keeps its credentials
// (amazon-ssm-agent 3.3, runtimeconfig.IdentityConfig).
const identityFile = "/var/lib/amazon/ssm/runtimeconfig/identity_config.json"

// longestTrust is how long credentials are used without looking again whether
// amazon-ssm-agent has written others. It renews them at half their lifetime.
const longestTrust = 15 * time.Minute

// provider gives the credentials of the environment, or else those that a
// hybrid-activated amazon-ssm-agent keeps fresh. It never asks the instance
// metadata service: on a WorkSpace that answers for AWS's account, not for the
// customer's.
type provider struct {
	files system.FS
	clock system.Clock
}

// newProvider returns a provider that reads the files again when what it gave
// last has expired or was invalidated.
func newProvider(files system.FS, clock system.Clock) *aws.CredentialsCache {
	return aws.NewCredentialsCache(&provider{files: files, clock: clock})
}

// Retrieve implements aws.CredentialsProvider.
func (p *provider) Retrieve(context.Context) (aws.Credentials, error) {
	if id, secret := os.Getenv("AWS_ACCESS_KEY_ID"), os.Getenv("AWS_SECRET_ACCESS_KEY"); id != "" && secret != "" {
		return aws.Credentials{
			AccessKeyID: id, SecretAccessKey: secret, SessionToken: os.Getenv("AWS_SESSION_TOKEN"), Source: "environment",
		}, nil
	}
	return p.hybrid()
}

// identity is what amazon-ssm-agent says of itself.
type identity struct {
	ShareFile            string
	ShareProfile         string
	CredentialsExpiresAt time.Time
}

func (p *provider) hybrid() (aws.Credentials, error) {
	content, err := p.files.ReadFile(identityFile)
	if err != nil {
		return aws.Credentials{}, fmt.Errorf("cannot get credentials: %w: %w", ErrNoCredentials, err)
	}
	var id identity
	if err := json.Unmarshal(content, &id); err != nil || id.ShareFile == "" {
		return aws.Credentials{}, fmt.Errorf("cannot get credentials: %w: %s names no file with them", ErrNoCredentials, identityFile)
	}
	// Without an expiry the agent does not know either, and trust is short.
	now := p.clock.Now()
	expires := now.Add(longestTrust)
	if !id.CredentialsExpiresAt.IsZero() {
		if !id.CredentialsExpiresAt.After(now) {
			return aws.Credentials{}, fmt.Errorf("cannot get credentials: %w, at %s", ErrExpired, id.CredentialsExpiresAt.Format(time.RFC3339))
		}
		if id.CredentialsExpiresAt.Before(expires) {
			expires = id.CredentialsExpiresAt
		}
	}
	shared, err := p.files.ReadFile(id.ShareFile)
	if err != nil {
		return aws.Credentials{}, fmt.Errorf("cannot get credentials: %w: %w", ErrNoCredentials, err)
	}
	profile := id.ShareProfile
	if profile == "" {
		profile = "default"
	}
	keys := section(shared, profile)
	c := aws.Credentials{
		AccessKeyID: keys["aws_access_key_id"], SecretAccessKey: keys["aws_secret_access_key"], SessionToken: keys["aws_session_token"],
		Source: "amazon-ssm-agent", CanExpire: true, Expires: expires,
	}
	if !c.HasKeys() {
		// The file is written in place: it may be half there.
		return aws.Credentials{}, fmt.Errorf("cannot get credentials: %w: %s has none in [%s]", ErrNoCredentials, id.ShareFile, profile)
	}
	return c, nil
}

// section returns the keys of one section of an INI file.
func section(content []byte, name string) map[string]string {
	keys := map[string]string{}
	inside := false
	for line := range bytes.SplitSeq(content, []byte("\n")) {
		text := strings.TrimSpace(string(line))
		switch {
		case text == "" || text[0] == '#' || text[0] == ';':
		case text[0] == '[':
			inside = strings.TrimSpace(strings.Trim(text, "[]")) == name
		case inside:
			key, value, _ := strings.Cut(text, "=")
			keys[strings.TrimSpace(key)] = strings.TrimSpace(value)
		}
	}
	return keys
}
