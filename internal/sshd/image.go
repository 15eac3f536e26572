package sshd

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/sshdtext"
	"github.com/soe-agent/soe-agent/internal/system"
)

// A placed is a line that sshd reads.
type placed struct {
	file      string
	key, rest string // as sshdtext.Line returns them
	all       bool   // it is below a Match that applies to all logins
	some      bool   // it is below a Match that may apply to some
}

// OverruledByText returns which of some values in Main is not in effect for everybody, or "", as far as the
// files tell: another file says otherwise before, or a "Match all" does. It is for an image, in which sshd
// is not asked. What a Match of certain logins says is not judged.
func OverruledByText(s *system.System, keys map[string]string) (string, error) {
	lines, err := inOrder(s, Main, placed{}, 0)
	if err != nil {
		return "", err
	}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		want := strings.Fields(strings.ToLower(keys[key]))
		first := true
		for _, line := range lines {
			if !slices.Contains(names(key), line.key) || line.some {
				continue
			}
			counts := line.all || first || isList(line.key)
			first = first && line.all
			if got := strings.Fields(strings.ToLower(strings.Join(sshdtext.Words(line.rest), " "))); counts && !slices.Equal(got, want) {
				where := "before"
				if line.all {
					where = "below a Match of all"
				}
				return fmt.Sprintf("%s says %q %s, and not %q", line.file, key+" "+line.rest, where, key+" "+keys[key]), nil
			}
		}
	}
	return "", nil
}

// isList reports whether all lines with a key count, and not only the first (sshd_config(5)).
func isList(key string) bool {
	return slices.Contains(strings.Fields("acceptenv allowgroups allowusers denygroups denyusers hostcertificate hostkey listenaddress port setenv subsystem"), key)
}

// inOrder returns the lines of a file in the order in which sshd reads them, those of included files in
// their places. A Match in an included file ends with that file.
func inOrder(s *system.System, name string, below placed, depth int) (all []placed, err error) {
	content, err := s.FS.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	outer := below
	for raw := range strings.Lines(string(content)) {
		line := below
		line.file = name
		line.key, line.rest = sshdtext.Line(raw)
		switch {
		case line.key == "":
			continue
		case line.key == sshdtext.Match:
			words := sshdtext.Words(line.rest)
			everybody := len(words) == 1 && strings.EqualFold(words[0], "all")
			below.all, below.some = everybody && !outer.some, !everybody || outer.some
			continue
		case line.key != sshdtext.Include || depth == mostIncludes:
			all = append(all, line)
			continue
		}
		for _, pattern := range sshdtext.Words(line.rest) {
			included, err := matching(s, pattern)
			if err != nil {
				return nil, err
			}
			for _, file := range included {
				lines, err := inOrder(s, file, below, depth+1)
				if err != nil {
					return nil, err
				}
				all = append(all, lines...)
			}
		}
	}
	return all, nil
}

// matching returns the files that an Include names, in the order in which sshd reads them.
func matching(s *system.System, pattern string) (files []string, err error) {
	if !path.IsAbs(pattern) {
		pattern = path.Join(path.Dir(Main), pattern)
	}
	bases, err := s.FS.ReadDir(path.Dir(pattern))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, base := range bases {
		if matches, _ := path.Match(path.Base(pattern), base); matches {
			files = append(files, path.Join(path.Dir(pattern), base))
		}
	}
	return files, nil
}
