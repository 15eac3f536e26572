package system

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

const changeAttr = "change mode or owner of"

func (d *disk) SetAttr(name string, attr Attr) error {
	if _, err := d.Stat(name); err != nil {
		return cannot(changeAttr, name, err) // it does not exist, so there is nothing to back up
	}
	if err := d.admit(changeAttr, name, hasAttr); err != nil {
		return err
	}
	return d.setAttr(name, attr, d.onlyName)
}

func hasAttr(i Info) bool { return i.IsRegular() || i.IsDir() }

func (d *disk) ChangeAttr(name string, described Info, attr Attr) error {
	if err := clean(changeAttr, name); err != nil {
		return err
	}
	permitted := *d
	permitted.attrs = d.guarded
	if err := permitted.protects(changeAttr, name); err != nil {
		return err
	}
	if !hasAttr(described) {
		return isNoFile(changeAttr, name, described)
	}
	if err := permitted.releaseOne(changeAttr, name, name); err != nil {
		return err
	}
	return d.setAttr(name, attr, func(fd int, _ string) error {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return err
		}
		now := infoOf(st)
		switch {
		case now.Inode != described.Inode || now.Type != described.Type || now.Attr != described.Attr:
			return errors.New("it was changed or replaced in the meantime; it is checked again in the next pass")
		case now.IsRegular() && st.Nlink > 1:
			return ErrNames
		}
		return nil
	})
}

// setAttr changes the attributes by the descriptor of the file, so that the file that was examined
// is the one that is changed. may refuses that file.
func (d *disk) setAttr(name string, attr Attr, may func(fd int, name string) error) error {
	if err := d.gate(Change{"chmod", name}); err != nil {
		return cannot(changeAttr, name, err)
	}
	fd, err := d.openItself(name, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return cannot(changeAttr, name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	if err := may(fd, name); err != nil {
		return cannot(changeAttr, name, err)
	}
	if err := errors.Join(f.Chown(attr.UID, attr.GID), setMode(f, attr.Mode), f.Sync()); err != nil {
		return cannot(changeAttr, name, err)
	}
	return nil
}

// ErrNames is wrapped by the error of SetAttr for a file with several names (hard links) where
// somebody other than root may have made this one: it may be anybody's file. ChangeAttr refuses
// every file with several names.
var ErrNames = errors.New("the file has another name too (a hard link), and others than root may have made this one; it is not changed, because it may be any file")

// onlyName refuses a file that has several names and may belong to somebody else.
func (d *disk) onlyName(fd int, name string) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	switch {
	case st.Mode&unix.S_IFMT == unix.S_IFDIR || st.Mode&unix.S_IFMT == unix.S_IFREG && st.Nlink <= 1:
		return nil
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return errors.New("it was replaced meanwhile")
	}
	at, err := d.walk(name, false)
	if err != nil {
		return err
	}
	at.close()
	if !at.safe {
		return ErrNames
	}
	return nil
}

func (d *disk) Describe(name string) (Info, error) {
	fd, info, err := d.describe(name)
	if fd >= 0 {
		_ = unix.Close(fd)
	}
	return info, err
}

// describe opens name and describes it. fd is -1 for anything but a regular file, and with an error.
func (d *disk) describe(name string) (fd int, info Info, err error) {
	fd, err = d.openItself(name, unix.O_RDONLY|unix.O_NONBLOCK)
	if errors.Is(err, fs.ErrNotExist) {
		return -1, Info{}, cannot("look at", name, err)
	}
	if err != nil { // it is a link or a socket
		info, statErr := d.Stat(name)
		if statErr != nil || !info.IsRegular() {
			return -1, info, statErr
		}
		return -1, info, cannot("read", name, err)
	}
	info, err = d.fstat(fd, name)
	if err != nil || !info.IsRegular() {
		_ = unix.Close(fd)
		if err != nil {
			return -1, Info{}, cannot("look at", name, err)
		}
		return -1, info, nil
	}
	size, err := d.attribute(fd, name, accessACL, nil)
	if err != nil {
		_ = unix.Close(fd)
		return -1, Info{}, cannot("read the access control list of", name, err)
	}
	info.ACL = size > 0
	return fd, info, nil
}
