package dropin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"sort"
	"strings"

	"github.com/soe-agent/soe-agent/internal/dropindir"
	"github.com/soe-agent/soe-agent/internal/sudoers"
	"github.com/soe-agent/soe-agent/internal/system"
)

func checkSudoers(ctx context.Context, c candidate) error {
	err := c.checkIn(ctx, sudoersTree{c.system, c.name})
	var broken *brokenError
	switch {
	case c.content == nil || len(c.allow) == 0:
		return err
	case errors.As(err, &broken): // and sudo cannot be asked about anybody
		if denies := sudoers.SurelyKeeps(c.content, broken.err); denies != nil {
			return denies
		}
		return err
	case err != nil:
		return err
	}
	users, err := administratorsOf(ctx, c.system, c.allow, c.content)
	if err := sudoers.Keeps(ctx, c.system, c.allow, users, c.name, c.content); err != nil {
		return err
	}
	if err != nil { // not everybody is known
		return sudoers.SurelyKeeps(c.content, err)
	}
	return nil
}

// sudoersTree is the configuration of sudo.
type sudoersTree struct {
	system *system.System
	name   string // the candidate's
}

func (w sudoersTree) with(ctx context.Context, changes map[string][]byte) error {
	if _, err := w.system.FS.Stat(sudoers.Main); errors.Is(err, fs.ErrNotExist) {
		return nil // sudo is not installed
	}
	err := sudoers.Validate(ctx, w.system, changes)
	if errors.Is(err, system.ErrNotInstalled) {
		return nil
	}
	return err
}

// alone has sudo check the file in place of all others.
func (w sudoersTree) alone(ctx context.Context, content []byte) error {
	err := w.with(ctx, map[string][]byte{sudoers.Main: content})
	var invalid *sudoers.InvalidError
	if errors.As(err, &invalid) && invalid.Fault.File == sudoers.Main {
		invalid.Fault.File = w.name
	}
	return err
}

func (w sudoersTree) culprit(_ context.Context, _ map[string][]byte, err error) string {
	var invalid *sudoers.InvalidError
	if errors.As(err, &invalid) && invalid.Fault.File != "" {
		return invalid.Fault.File
	}
	return sudoers.Main
}

var rsyslogInclude = regexp.MustCompile(`(?m)^\s*(\$IncludeConfig\s+/etc/rsyslog\.d/\*\.conf|include\(\s*file="/etc/rsyslog\.d/\*\.conf"[^)]*\)).*$`)

func checkRsyslog(ctx context.Context, c candidate) error {
	return c.checkIn(ctx, configuration{c, "/etc/rsyslog.conf", rsyslogInclude, []string{"rsyslogd", "-N1", "-f"}})
}

// A configuration is a main file that includes the files of the candidate's directory, and the program
// that checks it. The contents are inserted in place of the include.
type configuration struct {
	candidate
	main    string
	include *regexp.Regexp
	argv    []string
}

func (w configuration) with(ctx context.Context, changes map[string][]byte) error {
	names, err := w.parts(changes)
	if err != nil {
		return err
	}
	return w.holding(ctx, changes, names)
}

// alone checks the file together with the main one, on which it may depend, if the main one is valid.
func (w configuration) alone(ctx context.Context, content []byte) error {
	if w.holding(ctx, nil, nil) != nil {
		return w.judge(ctx, content)
	}
	return w.holding(ctx, map[string][]byte{w.name: content}, []string{w.name})
}

// culprit returns the first file, in reading order, with which the configuration is invalid.
func (w configuration) culprit(ctx context.Context, changes map[string][]byte, _ error) string {
	names, err := w.parts(changes)
	if err != nil {
		return path.Dir(w.name)
	}
	first := sort.Search(len(names)+1, func(n int) bool { return w.holding(ctx, changes, names[:n]) != nil })
	if first == 0 || first > len(names) {
		return w.main
	}
	return names[first-1]
}

// parts are the included files of the directory.
func (w configuration) parts(changes map[string][]byte) ([]string, error) {
	dir := path.Dir(w.name)
	listed, err := w.system.FS.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var names []string
	for _, base := range listed {
		if strings.HasSuffix(base, ".conf") && !strings.HasPrefix(base, ".") {
			names = append(names, path.Join(dir, base))
		}
	}
	for name, content := range changes {
		names = slices.DeleteFunc(names, func(other string) bool { return other == name })
		if content != nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// holding checks the main file with some of its parts.
func (w configuration) holding(ctx context.Context, changes map[string][]byte, names []string) error {
	whole, err := w.joined(changes, names)
	if err != nil || whole == nil {
		return err
	}
	return w.judge(ctx, whole)
}

// joined returns the main file with some of its parts inserted where it includes them, or nil if there
// is no main file.
func (w configuration) joined(changes map[string][]byte, names []string) ([]byte, error) {
	whole, err := w.system.FS.ReadFile(w.main)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var joined bytes.Buffer
	for _, name := range names {
		content, changed := changes[name]
		if !changed {
			if content, err = w.system.FS.ReadFile(name); errors.Is(err, fs.ErrNotExist) {
				continue // it was removed meanwhile, or is a dangling link
			} else if err != nil {
				return nil, err
			}
		}
		joined.Write(content)
		joined.WriteByte('\n')
	}
	once := false
	included := w.include.ReplaceAllFunc(whole, func([]byte) []byte {
		if once {
			return nil
		}
		once = true
		return joined.Bytes()
	})
	return included, nil
}

func (w configuration) judge(ctx context.Context, content []byte) error {
	out, found, err := w.staged(ctx, path.Base(w.main), content, w.argv...)
	if err != nil || !found || out.ExitCode == 0 || onlyIdle(out) {
		return err
	}
	return fmt.Errorf("%s refuses its configuration: %s", w.argv[0], w.quoted(out.LastLine()))
}

// onlyIdle reports whether rsyslogd complains only that the configuration has no output. That is
// normal for a part of it.
func onlyIdle(out system.Output) bool {
	said := string(out.Stderr) + string(out.Stdout)
	return strings.Contains(said, "there are no active actions configured") && !strings.Contains(said, "error during parsing")
}

// checkNft has nft read all that nftables.service loads, with the file in it: a broken one
// would leave the machine without any rules.
func checkNft(ctx context.Context, c candidate) error {
	if c.content == nil {
		return nil
	}
	for _, main := range dropindir.Of(nftablesDir).Reader.Mains {
		if _, err := c.system.FS.Stat(main); errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return err
		}
		says := func(content []byte) (string, error) {
			out, err := c.system.Runner.Run(ctx, system.Command{Argv: []string{"nft", "-c", "-f", main}, ReadOnly: true, Staged: system.Staged{c.name: content}})
			if errors.Is(err, system.ErrNotInstalled) || err == nil && out.ExitCode == 0 {
				return "", nil
			}
			said, _, _ := strings.Cut(strings.TrimSpace(string(out.Stderr)), "\n")
			for line := range strings.Lines(string(out.Stderr)) {
				if strings.Contains(line, "Error: ") { // the including file may be named in front of it
					said = strings.TrimSpace(line)
					break
				}
			}
			return said, err
		}
		wrong, err := says(c.content)
		if err != nil || wrong == "" {
			return err
		}
		if before, err := says(nil); err != nil || before != "" {
			return err // another file is to blame, or it cannot be told
		}
		return fmt.Errorf("nft refuses it: %s", c.quoted(wrong))
	}
	return nil
}
