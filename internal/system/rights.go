package system

import (
	"errors"
	"fmt"
	"io/fs"
	"path"

	"golang.org/x/sys/unix"

	"github.com/soe-agent/soe-agent/internal/own"
)

// Rights is the FS for taking people's rights away. It may write /etc/sudoers too, and it works on
// a full disk.
//
// WriteFile also replaces a symbolic link, in the one step in which it replaces a file; the target
// of the link stays as it is.
//
// If no backup can be made, the file is replaced without one: a kind that takes a right away keeps
// the removed text in the file, as a comment. Attributes with which not even root can change a file, or its
// directory (chattr(1)), are taken away.
type Rights struct {
	FS
	Room
	Covers
}

// Room reserves space for a full disk.
type Room interface {
	// Reserve keeps space in a directory, so that one file of up to SpareSize bytes that Rights
	// later writes there fits on a full disk. The space in /etc/sudoers.d is used for /etc/sudoers
	// too, if that is on the same file system. It does nothing if space is reserved already.
	Reserve(dir string) error
	// SetAside renames a regular file or a link to Aside(name), in the same directory, which needs
	// no space. It replaces an existing file of that name.
	SetAside(name string) error
	// Restore undoes SetAside. It replaces nothing.
	Restore(name string) error
}

// Spare returns the path of the file that reserves space in a directory.
func Spare(dir string) string { return path.Join(dir, ".soe-agent.spare") }

// SpareSize is how much space is reserved, in bytes: ten times the largest sudoers file seen.
const SpareSize = 64 << 10

// Aside returns the name that SetAside gives a file. sudo ignores it because of the dot.
func Aside(name string) string { return name + ".soe-aside" }

// noRoom reports whether an error is that of a full disk.
func noRoom(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

// NoRoom reports whether something failed because the disk, or a quota, is full.
func NoRoom(err error) bool { return noRoom(err) }

// rightsOf returns the same file system with what Rights adds.
func rightsOf(d *disk) Rights {
	r := *d
	r.rights = true
	return Rights{fsOf(&r), &r, &r}
}

func (d *disk) Reserve(dir string) error {
	name := Spare(dir)
	if info, err := d.lstat(name); err == nil && info.IsRegular() && info.Size >= SpareSize {
		return nil
	}
	// Zeros are written, and not only allocated (fallocate(2)): some file systems need space to
	// turn an allocation into blocks.
	return d.WriteFile(name, make([]byte, SpareSize), Attr{Mode: 0o600})
}

// writeSpare turns the reserved file of the directory into the temporary file. It has its blocks
// already, so that overwriting it needs no others.
func (d *disk) writeSpare(at spot, name string, content []byte, attr Attr) error {
	if len(content) > SpareSize {
		return fmt.Errorf("it is larger than the room that is kept: %w", unix.ENOSPC)
	}
	if err := d.discard(at, name); err != nil {
		return err
	}
	spare := Spare(path.Dir(name))
	if name == "/etc/sudoers" {
		spare = Spare("/etc/sudoers.d")
	}
	from, err := d.find(spare)
	if err != nil {
		return fmt.Errorf("no room is kept for it in %s (%s): %w", spare, err.Error(), unix.ENOSPC)
	}
	defer from.close()
	if err := d.gate(Change{"take the room of", spare}); err != nil {
		return err
	}
	if err := unix.Renameat(from.dir, from.base, at.dir, own.Temporary(at.base)); err != nil {
		return fmt.Errorf("no room is kept for it in %s (%s): %w", spare, err.Error(), unix.ENOSPC)
	}
	f, err := at.openFile(own.Temporary(at.base), unix.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return d.fill(f, at, name, content, attr)
}

func (d *disk) SetAside(name string) error {
	if err := d.admit("set aside", name, fileOrLink); err != nil {
		return err
	}
	return d.move(name, Aside(name))
}

func (d *disk) Restore(name string) error {
	if _, err := d.Stat(name); !errors.Is(err, fs.ErrNotExist) {
		if err == nil {
			err = errors.New("there is another one by now")
		}
		return cannot("give its name back to", name, err)
	}
	return d.move(Aside(name), name)
}

// move renames a file in its directory.
func (d *disk) move(from, to string) error {
	at, err := d.find(from)
	if err != nil {
		return cannot("rename", from, err)
	}
	defer at.close()
	if err := d.gate(Change{"rename", from}); err != nil {
		return cannot("rename", from, err)
	}
	if err := unix.Renameat(at.dir, at.base, at.dir, path.Base(to)); err != nil {
		return cannot("rename", from, err)
	}
	return d.syncDir(at, path.Dir(from))
}
