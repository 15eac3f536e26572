package system

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"

	"golang.org/x/sys/unix"
)

// ErrLocked is wrapped by the error of Lock when another process has the lock.
var ErrLocked = errors.New("another process has the lock")

// Lock locks a directory until release is called or the process ends. It writes nothing. The
// directory is made if it does not exist, and is made accessible to root alone, since whoever can
// open it could hold the lock. If another process has the lock the error wraps ErrLocked, and
// holders are the processes that could be found.
func (s *System) Lock(dir string) (release func(), holders []Holder, err error) {
	if err := s.FS.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, err
	}
	t, err := openTop(s.Root, nil)
	if err != nil {
		return nil, nil, cannot("lock", dir, err)
	}
	defer t.dir.Close()
	for {
		fd, err := t.open(dir, unix.O_RDONLY|unix.O_DIRECTORY)
		if err != nil {
			return nil, nil, cannot("lock", dir, err)
		}
		err = closeToOthers(fd, dir, s.Log)
		if err == nil {
			err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
		}
		if errors.Is(err, unix.EWOULDBLOCK) {
			holders, lookErr := holdersOf(fd)
			_ = unix.Close(fd)
			return nil, holders, errors.Join(fmt.Errorf("cannot lock %s: %w", dir, ErrLocked), lookErr)
		}
		if err != nil {
			_ = unix.Close(fd)
			return nil, nil, cannot("lock", dir, err)
		}
		if !t.leadsTo(dir, fd) { // the previous holder has replaced the directory in the meantime
			_ = unix.Close(fd)
			continue
		}
		return func() { _ = unix.Close(fd) }, nil, nil
	}
}

// closeToOthers makes an open directory accessible to root alone, if it is not.
func closeToOthers(fd int, dir string, log *slog.Logger) error {
	info, err := fstat(fd)
	if err != nil || info.UID == os.Geteuid() && info.Mode&0o077 == 0 {
		return err
	}
	log.Warn("a directory that must be root's alone was open to others; its owner and mode are corrected", "path", dir, "uid", info.UID, "mode", fmt.Sprintf("%04o", info.Mode))
	return errors.Join(unix.Fchown(fd, os.Geteuid(), os.Getegid()), unix.Fchmod(fd, 0o700))
}

// leadsTo reports whether a name is still that of an open file.
func (t *top) leadsTo(name string, fd int) bool {
	now, err := t.open(name, unix.O_PATH)
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	defer unix.Close(now)
	var a, b unix.Stat_t
	return errors.Join(unix.Fstat(fd, &a), unix.Fstat(now, &b)) == nil && a.Dev == b.Dev && a.Ino == b.Ino
}
