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

	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/own"
	"github.com/soe-agent/soe-agent/internal/sshdtext"
	"github.com/soe-agent/soe-agent/internal/system"
)

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

// logins returns the logins about which sshd is asked: root and all people whom the machine knows, if
// some settings apply to some logins only.
func logins(ctx context.Context, s *system.System, some bool) (all []Login, err error) {
	if !some {
		return nil, nil
	}
	people, err := facts.People(ctx, s)
	if err != nil {
		return nil, err
	}
	for _, a := range append([]facts.Account{{Name: "root"}}, people...) {
		all = append(all, Login{User: a.Name, Host: "localhost", Addr: "127.0.0.1"})
	}
	return all, nil
}

// Overruled returns which of some values in Main is not in effect, or "". It may be overruled by a
// file that is included earlier, an option on the command line, or a Match, for everybody or for one
// of the people whom the machine knows.
func Overruled(ctx context.Context, s *system.System, keys map[string]string) (string, error) {
	var alone strings.Builder
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		alone.WriteString(key + " " + keys[key] + "\n")
	}
	meant, err := settings(ctx, s, system.Command{Argv: []string{"-T"}, Staged: system.Staged{Main: []byte(alone.String())}})
	if err != nil {
		return "", err
	}
	all := slices.Sorted(maps.Keys(keys))
	for _, key := range all {
		if !slices.ContainsFunc(names(key), func(name string) bool { return meant[name] != nil }) {
			return fmt.Sprintf("sshd -T does not show %s: this sshd does not know it any more, or not yet", key), nil
		}
	}
	return holds(ctx, s, all, func(*Login) (Settings, error) { return meant, nil }, func(want, got []string) bool {
		return slices.Equal(slices.Sorted(slices.Values(want)), slices.Sorted(slices.Values(got)))
	})
}

// meantDir is where sshd is shown the files of the policy alone.
const meantDir = own.StateDir + "/sshd"

// OverruledPart returns which setting of a file that Main includes is not in effect, or "". The
// other files of the policy, in ours, may overrule it, and lists may have more entries.
func OverruledPart(ctx context.Context, s *system.System, name string, ours map[string][]byte) (string, error) {
	staged := system.Staged{meantDir + "/main": []byte("Include " + meantDir + "/part-*\n")}
	for part, content := range ours {
		staged[path.Join(meantDir, "part-"+path.Base(part))] = content
	}
	meant := func(login *Login) (Settings, error) {
		argv := []string{"-T", "-f", meantDir + "/main"}
		if login != nil {
			spec, err := login.spec()
			if err != nil {
				return nil, err
			}
			argv = append(argv, "-C", spec)
		}
		return settings(ctx, s, system.Command{Argv: argv, Staged: staged})
	}
	var keys []string
	for line := range strings.Lines(sshdtext.ForEverybody(string(ours[name]))) {
		if key, _ := sshdtext.Line(line); key != "" && key != sshdtext.Include && !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	return holds(ctx, s, keys, meant, func(want, got []string) bool {
		return !slices.ContainsFunc(want, func(line string) bool { return !slices.Contains(got, line) })
	})
}

// holds returns a message about the first key that does not have its intended value, for everybody
// or for a login, or "".
func holds(ctx context.Context, s *system.System, keys []string, meant func(*Login) (Settings, error), fits func(want, got []string) bool) (string, error) {
	_, some, err := files(s)
	if err != nil {
		return "", err
	}
	all, err := logins(ctx, s, some)
	if err != nil {
		return "", err
	}
	questions := []*Login{nil}
	for i := range all {
		questions = append(questions, &all[i])
	}
	for _, login := range questions {
		want, err := meant(login)
		if err != nil {
			return "", err
		}
		got, err := Ask(ctx, s, nil, login)
		if err != nil {
			return "", err
		}
		who, why := "sshd -T", "another file that it reads before, an option of its command line or a Match says otherwise"
		if login != nil {
			who, why = "sshd -T -C user="+login.User, "a Match says otherwise"
		}
		if name := differs(keys, want, got, fits); name != "" {
			return fmt.Sprintf("%s says %q and not %q: %s", who, said(name, got), said(name, want), why), nil
		}
	}
	return "", nil
}

// differs returns the first key that does not have its intended value, of those that sshd shows, or "".
func differs(keys []string, meant, got Settings, fits func(want, got []string) bool) string {
	for _, key := range keys {
		for _, name := range names(key) {
			if want, shown := meant[name]; shown && !fits(want, got[name]) {
				return name
			}
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

// Inputs returns what the results of Overruled and OverruledPart depend on, to detect changes: the
// contents of all files that sshd reads, and the logins about which it is asked.
func Inputs(ctx context.Context, s *system.System) ([]byte, error) {
	read, some, err := files(s)
	if err != nil {
		return nil, err
	}
	all, err := logins(ctx, s, some)
	return fmt.Appendf(read, "%q", all), err
}

// files returns the contents of all files that sshd reads. some reports whether they contain
// settings for some logins only.
func files(s *system.System) (all []byte, some bool, err error) {
	var read bytes.Buffer
	if err := addFile(s, Main, &read, 0); err != nil {
		return nil, false, err
	}
	options, err := commandLine(s)
	read.WriteString("\x00\n" + strings.Join(options, "\x00"))
	for line := range bytes.Lines(read.Bytes()) {
		key, _ := sshdtext.Line(string(line))
		some = some || key == sshdtext.Match
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
		key, rest := sshdtext.Line(string(line))
		if key != sshdtext.Include || depth == mostIncludes {
			continue
		}
		for _, pattern := range sshdtext.Words(rest) {
			included, err := matching(s, pattern)
			if err != nil {
				return err
			}
			for _, file := range included {
				if err := addFile(s, file, to, depth+1); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
