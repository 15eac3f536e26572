// Package sshd asks sshd what it makes of its configuration, and proves of another one that nobody
// is locked out by it.
//
// sshd itself is asked: -t whether it takes a configuration, and -T what that comes to, for
// somebody too. It is shown files that are not written yet, in a mount namespace of its own.
package sshd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/keyed"
	"github.com/soe-agent/soe-agent/internal/system"
)

// Main is the file that sshd reads.
const Main = "/etc/ssh/sshd_config"

// ErrNeverStarted is wrapped by the error of a question to an sshd that is there, and has neither keys
// of its own nor its directory in /run yet. It says nothing then.
var ErrNeverStarted = errors.New("sshd says nothing of its configuration until it has been started once on this machine")

// Settings are what a configuration comes to: by key, in small letters, what sshd -T says of it, a
// line each.
type Settings map[string][]string

// first is what it says of a key of which it says one thing.
func (s Settings) first(key string) string {
	if len(s[key]) == 0 {
		return ""
	}
	return s[key][0]
}

// A Login is somebody who comes from somewhere, of whom sshd may go by other settings (Match).
type Login struct{ User, Host, Addr string }

func (l Login) spec() (string, error) {
	if strings.Contains(l.User, ",") {
		return "", fmt.Errorf("sshd cannot be asked about an account that is called %q", l.User)
	}
	return fmt.Sprintf("user=%s,host=%s,addr=%s,laddr=127.0.0.1,lport=22", l.User, l.Host, l.Addr), nil
}

// Ask says what the configuration comes to, for a login or, if that is nil, for nobody in particular.
// The error wraps system.ErrNotInstalled, or ErrNeverStarted.
func Ask(ctx context.Context, s *system.System, staged system.Staged, of *Login) (Settings, error) {
	options, err := commandLine(s)
	if err != nil {
		return nil, err
	}
	argv := append([]string{"-T"}, options...)
	if of != nil {
		spec, err := of.spec()
		if err != nil {
			return nil, err
		}
		argv = append(argv, "-C", spec)
	}
	return settings(ctx, s, system.Command{Argv: argv, Staged: staged})
}

// Test says why sshd would not take a configuration: it ends when it is told to read such a one.
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
	for _, key := range []string{"passwordauthentication", "permitrootlogin", "pubkeyauthentication", "usepam"} { // that every sshd of these machines has
		if all[key] == nil {
			return nil, fmt.Errorf("cannot tell what its configuration comes to: sshd -T says nothing of %s", key)
		}
	}
	return all, nil
}

func run(ctx context.Context, s *system.System, c system.Command) (system.Output, error) {
	c.Argv, c.ReadOnly = append([]string{"sshd"}, c.Argv...), true
	out, err := s.Runner.Run(ctx, c)
	switch said := string(out.Stderr); {
	case err != nil:
		return out, err
	case out.ExitCode == 0:
		return out, nil
	case strings.Contains(said, "no hostkeys available"), strings.Contains(said, "Missing privilege separation directory"):
		return out, fmt.Errorf("%w: start its unit, and see that it starts with the machine", ErrNeverStarted)
	default:
		first, _, _ := strings.Cut(strings.TrimSpace(said), "\n")
		if first == "" {
			first = out.LastLine()
		}
		return out, fmt.Errorf("sshd refuses its configuration: %s", first)
	}
}

// commandLine are the settings that the unit of a distribution hands to sshd. They come before its
// files.
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

// settingsIn are the settings (-o) among the words of a command line.
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

// names are those by which the sshd of one version or the other calls a key.
func names(key string) []string {
	key = strings.ToLower(key)
	same := [][]string{
		{"kbdinteractiveauthentication", "challengeresponseauthentication", "keyboardinteractiveauthentication", "skeyauthentication"},
		{"pubkeyacceptedalgorithms", "pubkeyacceptedkeytypes"},
	}
	for _, all := range same {
		if slices.Contains(all, key) {
			return all
		}
	}
	return []string{key}
}

// Overruled says which of some values is not in effect though Main has them so, or "": a file that is
// included before says otherwise, an option on the command line, or a Match, for everybody or one of
// some people.
func Overruled(ctx context.Context, s *system.System, keys map[string]string, logins []Login) (string, error) {
	var alone strings.Builder
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		alone.WriteString(key + " " + keys[key] + "\n")
	}
	meant, err := settings(ctx, s, system.Command{Argv: []string{"-T", "-f", "/dev/stdin"}, Stdin: []byte(alone.String())})
	if err != nil {
		return "", err
	}
	all, err := Ask(ctx, s, nil, nil)
	if err != nil {
		return "", err
	}
	if why := differ(keys, meant, all, "sshd -T", "another file that it reads before, an option of its command line or a Match says otherwise"); why != "" {
		return why, nil
	}
	for _, login := range logins {
		theirs, err := Ask(ctx, s, nil, &login)
		if err != nil {
			return "", err
		}
		if why := differ(keys, meant, theirs, "sshd -T -C user="+login.User, "a Match says otherwise"); why != "" {
			return why, nil
		}
	}
	return "", nil
}

// differ says which key has another value than it is meant to have.
func differ(keys map[string]string, meant, got Settings, who, why string) string {
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		shown := false
		for _, name := range names(key) {
			want, is := meant[name]
			if !is {
				continue
			}
			shown = true
			if !slices.Equal(slices.Sorted(slices.Values(want)), slices.Sorted(slices.Values(got[name]))) {
				return fmt.Sprintf("%s says %q and not %q: %s", who, said(name, got), said(name, meant), why)
			}
		}
		if !shown {
			return fmt.Sprintf("%s does not show %s: this sshd does not know it any more, or not yet", who, key)
		}
	}
	return ""
}

func said(name string, s Settings) string {
	if len(s[name]) == 0 {
		return name + " (not set)"
	}
	return name + " " + strings.Join(s[name], " ")
}

// Files are all that sshd reads, one behind the other, to tell whether any of it has changed, and
// whether something in it holds for some only.
func Files(s *system.System) (all []byte, some bool, err error) {
	var read bytes.Buffer
	if err := addFile(s, Main, &read, 0); err != nil {
		return nil, false, err
	}
	options, err := commandLine(s)
	read.WriteString("\x00" + strings.Join(options, "\x00"))
	for line := range bytes.Lines(read.Bytes()) {
		key, _ := firstWord(string(line))
		some = some || key == "match"
	}
	return read.Bytes(), some, err
}

// mostIncludes is how deep files that include others are followed; sshd itself goes to 16.
const mostIncludes = 16

func addFile(s *system.System, name string, to *bytes.Buffer, depth int) error {
	content, err := s.FS.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(to, "\x00%s\n%s\n", name, content)
	for line := range bytes.Lines(content) {
		key, rest := firstWord(string(line))
		if key != "include" || depth == mostIncludes {
			continue
		}
		for _, pattern := range strings.Fields(strings.NewReplacer(`"`, " ", "=", " ").Replace(rest)) {
			if !path.IsAbs(pattern) {
				pattern = path.Join(path.Dir(Main), pattern)
			}
			bases, err := s.FS.ReadDir(path.Dir(pattern))
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			for _, base := range bases {
				if matches, _ := path.Match(path.Base(pattern), base); !matches {
					continue
				}
				if err := addFile(s, path.Join(path.Dir(pattern), base), to, depth+1); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// firstWord is the key of a line, in small letters, and what follows.
func firstWord(line string) (key, rest string) {
	line = strings.TrimSpace(line)
	at := strings.IndexAny(line, " \t=")
	if at < 0 {
		return strings.ToLower(line), ""
	}
	return strings.ToLower(line[:at]), line[at:]
}

// Reload has sshd read its files again, if it runs and takes them. Sessions stay, and so does the
// socket; a setting holds for those who log in from then on.
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
