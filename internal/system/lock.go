package system

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrLocked is wrapped by the error of Lock when another process has the lock.
var ErrLocked = errors.New("another process has the lock")

// Lock takes the lock of a name in a directory of the machine's own and writes note
// into it, for whoever comes second. It is gone when release is called, and with
// the process however that ends. With ErrLocked comes the note of the one that has
// it.
func (s *System) Lock(name, note string) (release func(), holder string, err error) {
	file := filepath.Join(s.Root, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return nil, "", err
	}
	for {
		f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o644)
		if err != nil {
			return nil, "", err
		}
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) {
			defer f.Close()
			said, _ := io.ReadAll(io.LimitReader(f, 256))
			return nil, strings.TrimSpace(string(said)), fmt.Errorf("cannot lock %s: %w", file, ErrLocked)
		}
		if err != nil {
			f.Close()
			return nil, "", fmt.Errorf("cannot lock %s: %w", file, err)
		}
		if !isAt(f, file) { // whoever had it has removed it meanwhile
			f.Close()
			continue
		}
		err = f.Truncate(0)
		if err == nil {
			_, err = f.WriteString(note + "\n")
		}
		if err != nil {
			f.Close()
			return nil, "", fmt.Errorf("cannot write %s: %w", file, err)
		}
		return func() {
			_ = os.Remove(file) // first, so that nobody locks what is about to go
			f.Close()
		}, "", nil
	}
}

// LockImage takes the lock of a system that is not running. Nothing is written: the
// lock is on its root directory.
func (s *System) LockImage() (release func(), err error) {
	dir, err := os.Open(s.Root)
	if err != nil {
		return nil, fmt.Errorf("cannot lock %s: %w", s.Root, err)
	}
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		dir.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = ErrLocked
		}
		return nil, fmt.Errorf("cannot lock %s: %w", s.Root, err)
	}
	return func() { dir.Close() }, nil
}

// isAt says whether an open file is still the one at its name.
func isAt(f *os.File, name string) bool {
	opened, err := f.Stat()
	if err != nil {
		return false
	}
	there, err := os.Lstat(name)
	return err == nil && os.SameFile(opened, there)
}
