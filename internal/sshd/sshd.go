// Package sshd asks sshd about its configuration, and proves that another configuration locks
// nobody out.
//
// It runs sshd itself: with -t to check a configuration, and with -T for the effective settings,
// also for a given login. sshd is shown files that are not written yet, in a mount namespace of its
// own.
package sshd

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/keyed"
	"github.com/soe-agent/soe-agent/internal/system"
)

// Main is the file that sshd reads.
const Main = "/etc/ssh/sshd_config"

// ErrNeverStarted is wrapped by errors about an sshd that is installed but has neither host keys
// nor its directory in /run yet, and cannot be given any for a question, as in an image without
// /proc.
var ErrNeverStarted = errors.New("sshd does not show its configuration until it has been started once on this machine")

// Settings are the effective settings: the lines of sshd -T, by key in lower case.
type Settings map[string][]string

// first returns the value of a key that has only one.
func (s Settings) first(key string) string {
	if len(s[key]) == 0 {
		return ""
	}
	return s[key][0]
}

// A Login is a user and where the connection comes from. sshd may have other settings for it
// (Match).
type Login struct{ User, Host, Addr string }

func (l Login) spec() (string, error) {
	if strings.Contains(l.User, ",") {
		return "", fmt.Errorf("sshd cannot be asked about an account that is called %q", l.User)
	}
	return fmt.Sprintf("user=%s,host=%s,addr=%s,laddr=127.0.0.1,lport=22", l.User, l.Host, l.Addr), nil
}

// Ask returns the effective settings for a login, or the general ones if of is nil. The error may
// wrap system.ErrNotInstalled, if openssh-server is not installed at all, or ErrNeverStarted.
func Ask(ctx context.Context, s *system.System, staged system.Staged, of *Login) (Settings, error) {
	return ask(ctx, s, system.Command{Argv: []string{"-T"}, Staged: staged}, of)
}

func ask(ctx context.Context, s *system.System, c system.Command, of *Login) (Settings, error) {
	options, err := commandLine(s)
	if err != nil {
		return nil, err
	}
	c.Argv = append(c.Argv, options...)
	if of != nil {
		spec, err := of.spec()
		if err != nil {
			return nil, err
		}
		c.Argv = append(c.Argv, "-C", spec)
	}
	return settings(ctx, s, c)
}

// Test returns an error if sshd would not accept the configuration. A running sshd would exit when
// told to reload it.
func Test(ctx context.Context, s *system.System, staged system.Staged) error {
	_, err := run(ctx, s, system.Command{Argv: []string{"-t"}, Staged: staged})
	return err
}

func settings(ctx context.Context, s *system.System, c system.Command) (Settings, error) {
	out, err := run(ctx, s, c)
	if err != nil {
		return nil, err
	}
	all := Settings{}
	for line := range bytes.Lines(out.Stdout) {
		key, value, _ := strings.Cut(strings.TrimSpace(string(line)), " ")
		all[key] = append(all[key], value)
	}
	for _, key := range []string{"passwordauthentication", "permitrootlogin", "pubkeyauthentication", "usepam"} { // every sshd of these machines has them
		if all[key] == nil {
			return nil, fmt.Errorf("cannot tell the effective settings of sshd: sshd -T does not show %s", key)
		}
	}
	return all, nil
}

func run(ctx context.Context, s *system.System, c system.Command) (system.Output, error) {
	c.Argv, c.ReadOnly = append([]string{"sshd"}, c.Argv...), true
	out, err := s.Runner.Run(ctx, c)
	for range 2 { // it says one at a time
		if err != nil || !neverStarted(out) {
			break
		}
		if c, err = withStandIns(c, out); err == nil {
			out, err = s.Runner.Run(ctx, c)
		}
	}
	switch {
	case errors.Is(err, system.ErrNotInstalled):
		return out, ifInstalled(ctx, s, err)
	case errors.Is(err, system.ErrNotExecutable):
		return out, fmt.Errorf("%w: let root run it again (chmod 755), or install openssh-server anew", err)
	case err != nil:
		return out, err
	case out.ExitCode == 0:
		return out, nil
	case neverStarted(out):
		return out, fmt.Errorf("%w: start its unit, and see that it starts with the machine", ErrNeverStarted)
	}
	first, _, _ := strings.Cut(strings.TrimSpace(string(out.Stderr)), "\n")
	if first == "" {
		first = out.LastLine()
	}
	return out, fmt.Errorf("sshd refuses its configuration: %s", first)
}

// ifInstalled returns why sshd cannot be asked if its program was not found.
func ifInstalled(ctx context.Context, s *system.System, notFound error) error {
	by, err := facts.Installed(ctx, s, "sshd", "ssh.service", "sshd.service", "ssh.socket", "sshd.socket", "ssh@.service", "sshd@.service")
	switch {
	case err != nil:
		return fmt.Errorf("cannot tell whether openssh-server is installed: %w", err)
	case by != "":
		return fmt.Errorf("there is no program sshd to ask, and yet %s: put it back, or install openssh-server anew", by)
	}
	return notFound
}

var missingDirectory = regexp.MustCompile(`Missing privilege separation directory: (/\S+)`)

// neverStarted reports whether sshd lacks what its first start creates.
func neverStarted(out system.Output) bool {
	said := string(out.Stderr)
	return out.ExitCode != 0 && (strings.Contains(said, "no hostkeys available") || missingDirectory.MatchString(said))
}

// withStandIns gives an sshd that was never started what it lacks, for one question: a host key that
// is not stored anywhere, and its directory in /run.
func withStandIns(c system.Command, out system.Output) (system.Command, error) {
	if dir := missingDirectory.FindSubmatch(out.Stderr); dir != nil {
		staged := system.Staged{path.Join(string(dir[1]), ".soe"): {}}
		maps.Copy(staged, c.Staged)
		c.Staged = staged
		return c, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return c, err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return c, err
	}
	c.Argv = append(slices.Clone(c.Argv), "-o", "HostKey=/dev/stdin")
	c.Stdin = pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
	return c, nil
}

// commandLine returns the settings that the unit of a distribution passes to sshd. They take
// precedence over its files.
func commandLine(s *system.System) (options []string, err error) {
	for _, from := range []struct{ file, variable string }{
		{"/etc/sysconfig/sshd", "OPTIONS"},
		{"/etc/default/ssh", "SSHD_OPTS"},
		{"/etc/crypto-policies/back-ends/opensshserver.config", "CRYPTO_POLICY"},
	} {
		content, err := s.FS.ReadFile(from.file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		f := keyed.Parse(keyed.Shell, string(content))
		for _, value := range f.Values(from.variable) {
			options = append(options, settingsIn(strings.Fields(value))...)
		}
	}
	return options, nil
}

// settingsIn returns the settings (-o) among the words of a command line.
func settingsIn(words []string) (options []string) {
	for i, word := range words {
		switch {
		case word == "-o" && i+1 < len(words):
			options = append(options, word, words[i+1])
		case strings.HasPrefix(word, "-o"):
			options = append(options, "-o", word[2:])
		}
	}
	return options
}

// Reload makes sshd read its files again, if it is running and accepts them. Sessions and the
// socket stay; a setting applies to later logins.
func Reload(ctx context.Context, s *system.System) error {
	for _, unit := range []string{"sshd.service", "ssh.service"} {
		state, err := s.Units.Unit(ctx, unit)
		if errors.Is(err, system.ErrNotRunning) {
			return nil
		}
		if err != nil {
			return err
		}
		if state.ActiveState != "active" {
			continue
		}
		if err := Test(ctx, s, nil); err != nil {
			return err
		}
		return s.Units.ReloadUnit(ctx, unit)
	}
	return nil
}
