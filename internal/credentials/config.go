package credentials

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

// The sources.
const (
	ssmAgent    = "ssm-agent"
	environment = "environment"
	profile     = "profile"
	process     = "process"
	metadata    = "instance-metadata"
)

func sources() []string { return []string{ssmAgent, environment, profile, process, metadata} }

// Config is [aws.credentials] of agent.toml.
type Config struct {
	// Source is "ssm-agent" (what a hybrid-activated amazon-ssm-agent leaves),
	// "environment", "profile", "process" or "instance-metadata". Absent: the
	// environment if it holds AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, else the
	// profile that AWS_PROFILE names, else ssm-agent.
	Source string `toml:"source"`
	// Profile is the name of the profile. Absent: what AWS_PROFILE says, or "default".
	Profile string `toml:"profile"`
	// File holds the profile. Absent: those of AWS's tools, credentials and config
	// in /root/.aws, or in the user's own for whom is not root, or where
	// AWS_SHARED_CREDENTIALS_FILE and AWS_CONFIG_FILE say.
	File string `toml:"file"`
	// Process is a program with its arguments, which prints credentials as AWS's
	// tools expect it of a credential_process. No shell is involved.
	Process []string `toml:"process"`
}

// Validate says all that is wrong, and what to write instead.
func (c Config) Validate() error {
	var errs []error
	refuse := func(key, format string, args ...any) {
		errs = append(errs, fmt.Errorf("cannot use aws.credentials.%s: "+format, append([]any{key}, args...)...))
	}
	if c.Source != "" && !slices.Contains(sources(), c.Source) {
		refuse("source", "%q is none; write one of %s", c.Source, strings.Join(sources(), ", "))
	}
	if c.Source != profile {
		for _, setting := range [][2]string{{"profile", c.Profile}, {"file", c.File}} {
			if setting[1] != "" {
				refuse(setting[0], `it is for another source; write source = "profile", or leave it out`)
			}
		}
	}
	if strings.ContainsAny(c.Profile, "[]\n\r") {
		refuse("profile", "%q cannot be the name of a section; write it as in [NAME] of the file", c.Profile)
	}
	if c.File != "" && !full(c.File) {
		refuse("file", "%q is not a full path; write one such as /root/.aws/credentials", c.File)
	}
	switch {
	case c.Source == process && len(c.Process) == 0:
		refuse("process", `it is missing; write process = ["/usr/bin/aws_signing_helper", "credential-process", …]`)
	case c.Source != process && len(c.Process) > 0:
		refuse("process", `it is for another source; write source = "process", or leave it out`)
	case len(c.Process) > 0 && !full(c.Process[0]):
		refuse("process", "%q is not the full path of a program; write one such as /usr/bin/aws_signing_helper, and each argument as a string of its own", c.Process[0])
	}
	return errors.Join(errs...)
}

// full says whether a path can mean one file only. A NUL would end it early.
func full(name string) bool {
	return path.IsAbs(name) && path.Clean(name) == name && !strings.Contains(name, "\x00")
}

// settled is c with what it leaves open settled by the environment.
func (c Config) settled(getenv func(string) string) Config {
	if c.Source == "" {
		switch {
		case getenv("AWS_ACCESS_KEY_ID") != "" && getenv("AWS_SECRET_ACCESS_KEY") != "":
			c.Source = environment
		case getenv("AWS_PROFILE") != "":
			c.Source = profile
		default:
			c.Source = ssmAgent
		}
	}
	c.Profile = cmp.Or(c.Profile, getenv("AWS_PROFILE"), "default")
	return c
}

// profileFiles are the files in which a profile may be, those that win first.
func (c Config) profileFiles(getenv func(string) string, uid int) []string {
	if c.File != "" {
		return []string{c.File}
	}
	// sudo may leave the HOME of whoever called it, and root reads nobody's files.
	home := "/root"
	if uid != 0 {
		home = cmp.Or(getenv("HOME"), home)
	}
	return []string{
		path.Clean(cmp.Or(getenv("AWS_SHARED_CREDENTIALS_FILE"), home+"/.aws/credentials")),
		path.Clean(cmp.Or(getenv("AWS_CONFIG_FILE"), home+"/.aws/config")),
	}
}
