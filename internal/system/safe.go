package system

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"regexp"
	"strings"
	"syscall"
)

// ErrUnsafe is wrapped by the error of Trusted if somebody else could have written the file.
var ErrUnsafe = errors.New("others may change it")

// Trusted resolves name, link by link, and refuses it if somebody other than root or uid could
// change the file or a directory on the way to it. So nobody else can change what name means
// between this call and its use.
func Trusted(files FileReader, name string, uid int) (leads string, info Info, err error) {
	dir, rest := "/", strings.Split(name, "/")
	if info, err = files.Stat(dir); err == nil {
		err = trust(dir, info, uid)
	}
	for links := 0; err == nil && len(rest) > 0; {
		part := rest[0]
		rest = rest[1:]
		next := path.Join(dir, part) // also for "", "." and "..": dir contains no links
		if next == dir {
			continue
		}
		if info, err = files.Stat(next); err != nil {
			break
		}
		if info.Type == fs.ModeSymlink {
			info.Mode = 0 // a link's own mode means nothing
			if err = trust(next, info, uid); err != nil {
				break
			}
			var target string
			if target, err = files.Readlink(next); err != nil {
				break
			}
			if links++; links > maxLinks {
				return "", Info{}, fmt.Errorf("cannot follow %s: %w", name, syscall.ELOOP)
			}
			if path.IsAbs(target) {
				dir = "/"
			}
			rest = append(strings.Split(target, "/"), rest...)
			continue
		}
		err = trust(next, info, uid)
		dir = next
		if err == nil && !info.IsDir() && strings.Trim(strings.Join(rest, ""), ".") != "" {
			err = fmt.Errorf("cannot follow %s: %w", name, syscall.ENOTDIR)
		}
	}
	if err != nil {
		return "", Info{}, err
	}
	return dir, info, nil
}

// trust refuses what others may write. An access control list that allows it shows in the group
// bits of the mode (acl(5)). For a user other than root, files of the group are accepted too,
// because that is usually the user's own group.
func trust(name string, info Info, uid int) error {
	others := fs.FileMode(0o022)
	if uid != 0 {
		others = 0o002
	}
	switch {
	case info.UID != 0 && info.UID != uid:
		return fmt.Errorf("cannot trust %s: %w: it belongs to user %d; make it root's, or use another", name, ErrUnsafe, info.UID)
	case info.Mode&others != 0 && info.Mode&0o1000 != 0:
		return fmt.Errorf("cannot trust %s: %w: its mode is %04o; use another directory", name, ErrUnsafe, info.Mode)
	case info.Mode&others != 0:
		return fmt.Errorf("cannot trust %s: %w: its mode is %04o; do chmod %04o", name, ErrUnsafe, info.Mode, info.Mode&^others)
	}
	return nil
}

var interpreters = regexp.MustCompile(`^(sh|ash|bash|dash|ksh|zsh|perl|ruby|python[0-9.]*|platform-python)$`)

// TrustedCommand refuses a command if somebody other than root could have written its program, or
// the script that an interpreter is to run. It ignores files that do not exist.
func (s *System) TrustedCommand(argv []string) error {
	programs := []string{argv[0]}
	if !strings.Contains(argv[0], "/") {
		programs = nil
		for dir := range strings.SplitSeq(commandPath, ":") {
			program := path.Join(dir, argv[0])
			if _, err := s.FS.Stat(program); err == nil {
				programs = []string{program}
				break
			}
		}
	}
	if interpreters.MatchString(path.Base(argv[0])) {
		for _, word := range argv[1:] {
			if path.IsAbs(word) {
				programs = append(programs, word)
			}
			if !strings.HasPrefix(word, "-") {
				break
			}
		}
	}
	for _, program := range programs {
		if _, _, err := Trusted(s.FS, path.Clean(program), os.Geteuid()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("cannot run %s as root: %w", program, err)
		}
	}
	return nil
}
