package credentials

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/soe-agent/soe-agent/internal/system"
)

// passed are the variables that a program gets of ours: what leads to AWS, and what
// leads a user's program to the user's configuration and keyring. The door gives it
// nothing else, so none that the loader of libraries heeds.
func passed() []string {
	return []string{
		"HOME", "USER", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS", "SSH_AUTH_SOCK",
		"AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_CA_BUNDLE",
		"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy",
	}
}

// fromProcess runs a program that prints credentials (AWS SDKs and Tools Reference
// Guide, "Process credential provider").
//
// What it prints is nowhere repeated, not even the first line of its errors, which
// would often tell why it failed: it may be a request with its token, and errors
// end up in a status that everybody may read. Nor are its arguments: a PIN may be
// among them.
func (p *Provider) fromProcess(ctx context.Context, argv []string) (aws.Credentials, error) {
	program := argv[0]
	if !full(program) {
		return aws.Credentials{}, fmt.Errorf("%w: credential_process has to begin with the full path of a program", ErrNoCredentials)
	}
	if _, err := p.look(program); err != nil {
		return aws.Credentials{}, unreadable(err)
	}
	c := system.Command{Argv: argv, Timeout: time.Minute, ReadOnly: true}
	for _, name := range passed() {
		if value := p.getenv(name); value != "" && (name != "HOME" || p.uid != 0) {
			c.Env = append(c.Env, name+"="+value)
		}
	}
	out, err := p.system.Runner.Run(ctx, c)
	switch {
	case err != nil:
		return aws.Credentials{}, fmt.Errorf("%w: %w", ErrNoCredentials, err)
	case out.ExitCode != 0:
		return aws.Credentials{}, fmt.Errorf("%w: %s ended with exit code %d; run it by hand to see why", ErrNoCredentials, program, out.ExitCode)
	}
	answer, wrong := parseAnswer(out.Stdout)
	if wrong != "" {
		return aws.Credentials{}, fmt.Errorf("%w: what %s prints %s", ErrNoCredentials, program, wrong)
	}
	return answer, nil
}

// parseAnswer reads what a program has printed. The errors of the decoder are not
// repeated: they quote.
func parseAnswer(text []byte) (c aws.Credentials, wrong string) {
	var answer struct {
		Version                                    int
		AccessKeyID, SecretAccessKey, SessionToken string
		Expiration                                 string
	}
	if json.Unmarshal(text, &answer) != nil {
		return c, "is not the JSON of a credential_process"
	}
	if answer.Version != 1 {
		return c, fmt.Sprintf("has Version %d, and not 1", answer.Version)
	}
	c = aws.Credentials{AccessKeyID: answer.AccessKeyID, SecretAccessKey: answer.SecretAccessKey, SessionToken: answer.SessionToken, Source: process}
	if !c.HasKeys() {
		return c, "has no AccessKeyId or no SecretAccessKey"
	}
	if answer.Expiration != "" {
		var err error
		if c.Expires, err = time.Parse(time.RFC3339, answer.Expiration); err != nil {
			return c, "has an Expiration that is not a time such as 2006-01-02T15:04:05Z"
		}
		c.CanExpire = true
	}
	return c, ""
}
