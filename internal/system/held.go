package system

import (
	"errors"
	"fmt"
	"path"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/soe-agent/soe-agent/internal/public"
)

// Attributes of files (chattr(1), linux/fs.h) with which not even root can change or replace them, or what
// is in a directory.
const (
	immutable  = 0x10
	appendOnly = 0x20
)

// release makes sure that no attribute keeps a file from being changed: that of the file, or of its directory.
// With Rights it takes them away, because a right must not live by them. Otherwise the error says how.
func (d *disk) release(verb, name string) error {
	for _, at := range []string{name, path.Dir(name)} {
		if err := d.releaseOne(verb, name, at); err != nil {
			return err
		}
	}
	return nil
}

func (d *disk) releaseOne(verb, name, at string) error {
	if info, err := d.lstat(at); err != nil || !hasAttr(info) {
		return nil //nolint:nilerr // what is not there, or is a link, has none
	}
	fd, err := d.openItself(at, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return nil //nolint:nilerr // the change itself fails as well, and says why
	}
	defer unix.Close(fd)
	flags, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS)
	if err != nil || flags&(immutable|appendOnly) == 0 {
		return nil //nolint:nilerr // not every file system has attributes
	}
	if !d.rights {
		return public.Error(fmt.Errorf("cannot %s %s: %s has an attribute with which not even root can change it; take it away with: chattr -i -a %s", verb, name, at, at))
	}
	err = d.gate(Change{"chattr", at})
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, int(flags&^(immutable|appendOnly)))
	}
	if err != nil {
		return cannot("take the attributes i and a from", at, fmt.Errorf("%w; do: chattr -i -a %s", err, at))
	}
	if d.log != nil {
		d.log.Info("took an attribute from a file, with which not even root could change it", "path", at)
	}
	return nil
}

// uncovered returns an error if something is mounted over a file: it cannot be replaced, and what is seen of
// it is another file.
func (d *disk) uncovered(verb, name string) error {
	covered, err := d.covers(name)
	if err != nil {
		return cannot(verb, name, err)
	}
	if covered {
		return public.Error(fmt.Errorf("cannot %s %s: something is mounted over it (see findmnt); take that away with: umount %s", verb, name, name))
	}
	return nil
}

// Covers takes away what is mounted over files by which rights are decided.
type Covers interface {
	// Uncover unmounts what is mounted on top of /etc/sudoers, its directory, or a file in that. Programs
	// that have it open keep it.
	Uncover(name string) error
}

func (d *disk) Uncover(name string) error {
	if !d.rights || name != "/etc/sudoers" && name != "/etc/sudoers.d" && path.Dir(name) != "/etc/sudoers.d" {
		return cannot("unmount", name, errors.New("it is no file of sudo's"))
	}
	if err := d.gate(Change{"unmount", name}); err != nil {
		return cannot("unmount", name, err)
	}
	if err := unix.Unmount(filepath.Join(d.root, name), unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
		return cannot("unmount", name, err)
	}
	if d.log != nil {
		d.log.Info("unmounted what hid a file of sudo's", "path", name)
	}
	return nil
}
