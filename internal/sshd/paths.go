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

// Misuses returns why a change must not be made, or "": a line that is not there yet has sshd show a
// file that not everybody may read, or go by a file that others than root may write, whatever that
// file is called.
func Misuses(s *system.System, after system.Staged) (string, error) {
	for _, name := range slices.Sorted(maps.Keys(after)) {
		before, err := s.FS.ReadFile(name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		there := strings.Split(string(before), "\n")
		for line := range strings.SplitSeq(string(after[name]), "\n") {
			if slices.Contains(there, line) {
				continue
			}
			key, rest := sshdtext.Line(line)
			if why, err := Misused(s, key, sshdtext.Words(rest)...); why != "" || err != nil {
				return why, err
			}
		}
	}
	return "", nil
}

// Misused returns why a key must not name the file that it does, or "".
func Misused(s *system.System, key string, words ...string) (string, error) {
	files, use := sshdtext.Paths(key, words)
	if use == sshdtext.Replaced {
		return "", nil
	}
	for _, file := range files {
		why, err := unfit(s, file, use == sshdtext.Published, mostLinks)
		if err != nil {
			return "", err
		}
		if why != "" {
			return fmt.Sprintf("%s cannot be %s: %s", key, file, why), nil
		}
	}
	return "", nil
}

// mostLinks is how many links on the way to a file are followed.
const mostLinks = 16

// unfit returns why a file is not root's alone to write, or, if it is to be shown, not everybody's to
// read; or "". A file that does not exist is fit if root alone may make it. Of a pattern only the
// directories in front of it are judged.
func unfit(s *system.System, file string, shown bool, links int) (string, error) {
	file = path.Clean(file)
	name := ""
	for segment := range strings.SplitSeq(strings.TrimPrefix(file, "/"), "/") {
		if strings.ContainsAny(segment, "*?[") {
			return "", nil
		}
		name += "/" + segment
		info, err := s.FS.Describe(name)
		if errors.Is(err, fs.ErrNotExist) {
			return "", nil
		}
		if err != nil {
			return "", err
		}
		readable := fs.FileMode(0o004)
		if info.IsDir() {
			readable = 0o001
		}
		switch {
		case info.Type == fs.ModeSymlink && links == 0:
			return name + " is one link too many", nil
		case info.Type == fs.ModeSymlink:
			target, err := s.FS.Readlink(name)
			if err != nil {
				return "", err
			}
			if !path.IsAbs(target) {
				target = path.Join(path.Dir(name), target)
			}
			return unfit(s, target+strings.TrimPrefix(file, name), shown, links-1)
		case info.UID != 0 || info.Mode&0o002 != 0 || info.Mode&0o020 != 0 && info.GID != 0:
			return "others than root may write " + name, nil
		case info.IsDir() == (name == file):
			return name + " is no file", nil
		case shown && !info.IsDir() && !info.IsRegular():
			return name + " is no file", nil
		case shown && (info.Mode&readable == 0 || info.ACL):
			return "not everybody may read " + name, nil
		}
	}
	return "", nil
}
