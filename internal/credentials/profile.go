package credentials

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// A found is what a profile says: keys, or the program that has them.
type found struct {
	keys    aws.Credentials
	command []string
}

// fromProfile reads a profile as AWS's tools do: keys go before a
// credential_process, the file of credentials before that of the configuration.
func (p *Provider) fromProfile(ctx context.Context) (reading, error) {
	is, files, err := steady(ctx, p, readProfile)
	r := reading{is.keys, files}
	if err == nil && len(is.command) > 0 {
		r.Credentials, err = p.fromProcess(ctx, is.command)
	}
	return r, err
}

func readProfile(s *snapshot) (found, error) {
	p := s.provider
	names := p.config.profileFiles(p.getenv, p.uid)
	var is found
	settings := map[string]string{}
	exists, there := false, false
	for _, name := range names {
		if !path.IsAbs(name) {
			return is, fmt.Errorf("%w: %q is not a full path", ErrNoCredentials, name)
		}
		content, err := s.read(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return is, unreadable(err)
		}
		exists = true
		here, ok := section(content, p.config.Profile)
		there = there || ok
		for key, value := range here {
			settings[key] = cmp.Or(settings[key], value)
		}
		if !is.keys.HasKeys() { // all of them from one file: half a set goes with no other half
			is.keys = staticKeys(here, "profile "+p.config.Profile)
		}
	}
	line := settings["credential_process"]
	switch {
	case !exists:
		return is, fmt.Errorf("%w: there is no %s", ErrNoCredentials, strings.Join(names, " and no "))
	case !there:
		return is, s.incomplete("there is no profile %q in %s", p.config.Profile, strings.Join(names, " or "))
	case is.keys.HasKeys():
		return is, nil
	case line == "":
		return is, s.lacking(settings)
	}
	var err error
	if is.command, err = words(line); err != nil || len(is.command) == 0 {
		return is, s.incomplete("the credential_process of profile %q is not a command line", p.config.Profile)
	}
	return is, nil
}

// lacking says why a profile is of no use.
func (s *snapshot) lacking(settings map[string]string) error {
	name := s.provider.config.Profile
	for _, key := range []string{"role_arn", "source_profile", "credential_source", "sso_session", "sso_start_url", "web_identity_token_file", "login_session"} {
		if settings[key] != "" {
			return fmt.Errorf("%w: profile %q has %s, which is for AWS's own tools; use another profile with "+
				"credential_process = /usr/local/bin/aws configure export-credentials --profile %s", ErrNoCredentials, name, key, name)
		}
	}
	return s.incomplete("profile %q has neither aws_access_key_id with aws_secret_access_key nor credential_process", name)
}

// staticKeys are the keys that a section holds. None of them has a blank in it, so
// what follows one is a comment.
func staticKeys(settings map[string]string, source string) aws.Credentials {
	key := func(name string) string {
		value, _, _ := strings.Cut(strings.ReplaceAll(settings[name], "\t", " "), " ")
		if strings.HasPrefix(value, "#") || strings.HasPrefix(value, ";") {
			return ""
		}
		return strings.Trim(value, `"'`)
	}
	return aws.Credentials{
		AccessKeyID: key("aws_access_key_id"), SecretAccessKey: key("aws_secret_access_key"), SessionToken: key("aws_session_token"), Source: source,
	}
}
