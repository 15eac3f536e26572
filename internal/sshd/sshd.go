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

// ErrNeverStarted is wrapped by errors about an sshd that is installed but has neither host keys
// nor its directory in /run yet. It cannot be asked then.
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
// wrap system.ErrNotInstalled or ErrNeverStarted.
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

// names returns the names of a key in the different versions of sshd.
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

// Overruled returns which of some values in Main is not in effect, or "". It may be overruled by a
// file that is included earlier, an option on the command line, or a Match, for everybody or for
// one of logins.
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

// differ returns a message about the first key that does not have its intended value, or "".
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

// Files returns the contents of all files that sshd reads, to detect changes. some reports whether
// they contain settings for some logins only.
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

// mostIncludes is the depth to which included files are read; sshd's own limit is 16.
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

// firstWord returns the key of a line in lower case, and the rest.
func firstWord(line string) (key, rest string) {
	line = strings.TrimSpace(line)
	at := strings.IndexAny(line, " \t=")
	if at < 0 {
		return strings.ToLower(line), ""
	}
	return strings.ToLower(line[:at]), line[at:]
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
