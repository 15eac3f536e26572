package system

import (
	"errors"
	"fmt"
	"io/fs"
	"path"

	"golang.org/x/sys/unix"
)

// ErrOtherFS is wrapped by the error of MoveDir if the new name is on another file system, or the
// kernel cannot move the directory in one step.
var ErrOtherFS = errors.New("it is not on the same file system")

// MoveDir implements FS.
func (d *disk) MoveDir(from, to string) error {
	for _, name := range []string{from, to} {
		if err := clean("move", name); err != nil {
			return err
		}
		if err := d.protects("move", name); err != nil {
			return err
		}
	}
	old, err := d.find(from)
	if err != nil {
		return cannot("move", from, err)
	}
	defer old.close()
	at, err := d.find(to)
	if err != nil {
		return cannot("move", from, err)
	}
	defer at.close()
	var st unix.Stat_t
	switch err := unix.Fstatat(old.dir, old.base, &st, unix.AT_SYMLINK_NOFOLLOW); {
	case err != nil:
		return cannot("move", from, err)
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return cannot("move", from, fs.ErrInvalid)
	}
	if err := d.gate(Change{"rename", from}); err != nil {
		return cannot("move", from, err)
	}
	err = unix.Renameat2(old.dir, old.base, at.dir, at.base, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EXDEV) {
		err = fmt.Errorf("%w as %s: %w", ErrOtherFS, to, err)
	}
	if err != nil {
		return cannot("move", from, err)
	}
	return errors.Join(d.syncDir(at, path.Dir(to)), d.syncDir(old, path.Dir(from)))
}
