package system

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/soe-agent/soe-agent/internal/public"
)

// How much a directory in memory must have free, and the size of its own tmpfs.
const (
	leastBytes = 256 << 10
	leastFiles = 16
	roomOption = "mode=0755,size=64m"
)

// ErrNotOwn is wrapped by the error of MakeRoom if something other than a directory is in its
// place.
var ErrNotOwn = errors.New("it is a file or a link, and no directory")

// MakeRoom makes sure that one of the agent's own directories on a file system in memory has space.
// If that file system is full, it mounts a tmpfs on the directory, with the existing files, until
// the next boot. alone reports whether the directory is such a mount, from this call or an earlier
// one. It is only for the running machine, and does nothing below another root.
func (s *System) MakeRoom(dir string) (alone bool, err error) {
	if !s.Running() {
		return false, nil
	}
	if info, err := s.FS.Stat(dir); err == nil && !info.IsDir() {
		return false, public.Error(fmt.Errorf("cannot use %s: %w", dir, ErrNotOwn))
	}
	if err := s.FS.MkdirAll(dir, 0o755); err != nil {
		return false, err
	}
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, cannot("make room in", dir, err)
	}
	old := os.NewFile(uintptr(fd), dir)
	defer old.Close()
	var volume unix.Statfs_t
	if err := unix.Fstatfs(int(old.Fd()), &volume); err != nil {
		return false, cannot("make room in", dir, err)
	}
	var here, above unix.Stat_t
	if err := errors.Join(unix.Fstat(int(old.Fd()), &here), unix.Lstat(filepath.Dir(dir), &above)); err != nil {
		return false, cannot("make room in", dir, err)
	}
	alone = here.Dev != above.Dev
	if volume.Bfree*uint64(volume.Bsize) >= leastBytes && (volume.Files == 0 || volume.Ffree >= leastFiles) {
		return alone, nil
	}
	if alone {
		return true, fmt.Errorf("cannot make room in %s: it is a file system of its own, and full", dir)
	}
	if err := s.gate(Change{"mount", dir}); err != nil {
		return false, cannot("make room in", dir, err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, roomOption); err != nil {
		return false, cannot("make room in", dir, err)
	}
	return true, s.move(old, dir)
}

// move copies the files of a directory that has just been covered by a mount, and removes the
// originals to free their space.
func (s *System) move(old *os.File, dir string) error {
	names, err := old.Readdirnames(-1)
	errs := []error{err}
	for _, name := range names {
		fd, err := unix.Openat(int(old.Fd()), name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			continue // not a file of the agent
		}
		info, err := fstat(fd)
		if err == nil && info.IsRegular() {
			var content []byte
			if content, err = (&disk{}).readAll(fd, name, info.Size); err == nil {
				err = s.FS.WriteFile(filepath.Join(dir, name), content, info.Attr)
			}
			if err == nil {
				err = unix.Unlinkat(int(old.Fd()), name, 0)
			}
		}
		_ = unix.Close(fd)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
