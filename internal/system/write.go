package system

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"

	"golang.org/x/sys/unix"

	"github.com/soe-agent/soe-agent/internal/mounts"
	"github.com/soe-agent/soe-agent/internal/own"
	"github.com/soe-agent/soe-agent/internal/public"
)

func (d *disk) WriteFile(name string, content []byte, attr Attr) error {
	if name == mounts.FstabFile && !d.fstab {
		return d.writeFstab(content, attr)
	}
	replaceable := Info.IsRegular
	if d.rights || d.guarded {
		replaceable = fileOrLink
	}
	if err := d.admit("write", name, replaceable); err != nil {
		return err
	}
	if err := d.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	at, err := d.find(name)
	if err != nil {
		return cannot("write", name, err)
	}
	defer at.close()
	if err := d.setAside(at, name); err != nil {
		return cannot("write", name, err)
	}
	if err := d.writeTemporary(at, name, content, attr); err != nil {
		return errors.Join(cannot("write", name, err), d.discard(at, name))
	}
	return d.replace(at, name)
}

// setAside moves a directory out of the place of one of the agent's own files.
func (d *disk) setAside(at spot, name string) error {
	var st unix.Stat_t
	err := unix.Fstatat(at.dir, at.base, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) || err == nil && (st.Mode&unix.S_IFMT != unix.S_IFDIR || !own.Keeps(name)) {
		return nil
	}
	if err == nil {
		err = d.gate(Change{"rename", name})
	}
	if err == nil {
		err = unix.Renameat2(at.dir, at.base, at.dir, at.base+".damaged", unix.RENAME_NOREPLACE)
	}
	if err != nil {
		return fmt.Errorf("a directory is in its place, and is not set aside: %w; move it away", err)
	}
	return nil
}

// writeFstab writes the only protected file that may be changed in part: a mistake in it keeps the
// machine from starting.
func (d *disk) writeFstab(content []byte, attr Attr) error {
	before, err := d.ReadFile(mounts.FstabFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // none says as much as an empty one
		return err
	}
	if err := mounts.OnlyOptions(string(before), string(content)); err != nil {
		return public.Error(fmt.Errorf("cannot write %s: it is protected, and %w", mounts.FstabFile, err))
	}
	permitted := *d
	permitted.fstab = true
	return permitted.WriteFile(mounts.FstabFile, content, attr)
}

// removeFstab removes it if it mounts nothing that its absence would not mount.
func (d *disk) removeFstab() error {
	content, err := d.ReadFile(mounts.FstabFile)
	if err != nil {
		return err
	}
	if err := mounts.OnlyOptions(string(content), ""); err != nil {
		return public.Error(fmt.Errorf("cannot remove %s: it is protected, and %w", mounts.FstabFile, err))
	}
	permitted := *d
	permitted.fstab = true
	return permitted.Remove(mounts.FstabFile)
}

func fileOrLink(i Info) bool { return i.IsRegular() || i.Type == fs.ModeSymlink }

func (d *disk) writeTemporary(at spot, name string, content []byte, attr Attr) error {
	err := d.writeNew(at, name, content, attr)
	if d.rights && noRoom(err) {
		return d.writeSpare(at, name, content, attr)
	}
	return err
}

func (d *disk) writeNew(at spot, name string, content []byte, attr Attr) error {
	if err := d.discard(at, name); err != nil { // left by a crash
		return err
	}
	temporary := own.Temporary(name)
	if err := d.gate(Change{"create", temporary}); err != nil {
		return err
	}
	// Until owner and mode are right, only root can read the content.
	f, err := at.openFile(own.Temporary(at.base), unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	return d.fill(f, at, name, content, attr)
}

// fill writes the temporary file that will replace name, and closes it.
func (d *disk) fill(f *os.File, at spot, name string, content []byte, attr Attr) error {
	defer f.Close()
	temporary := own.Temporary(name)
	steps := []struct {
		op string
		do func() error
	}{
		{"write", func() error { _, err := f.Write(content); return err }},
		{"cut", func() error { return f.Truncate(int64(len(content))) }},
		{"chown", func() error { return f.Chown(attr.UID, attr.GID) }},
		{"chmod", func() error { return setMode(f, attr.Mode) }},
		{"label", func() error { return d.copyLabel(f, at, name) }},
		{"sync", f.Sync},
	}
	for _, step := range steps {
		if step.op == "cut" && !d.rights {
			continue // the file is new, and cannot be longer
		}
		if err := d.gate(Change{step.op, temporary}); err != nil {
			return err
		}
		if err := step.do(); err != nil {
			return err
		}
	}
	return f.Close()
}

// openFile opens a name in the directory of a spot, and fails if it is a link.
func (s spot) openFile(base string, flags int, perm uint32) (*os.File, error) {
	fd, err := unix.Openat(s.dir, base, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, perm)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), base), nil
}

// setMode sets the mode, and removes an ACL, even one inherited from the directory, so that the
// mode alone decides.
func setMode(f *os.File, mode fs.FileMode) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Mode().IsRegular() {
		err = unix.Fremovexattr(int(f.Fd()), accessACL)
		if err != nil && !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.ENOTSUP) {
			return fmt.Errorf("cannot take its access control list away: %w", err)
		}
	}
	return unix.Fchmod(int(f.Fd()), uint32(mode))
}

// accessACL is the extended attribute of an access control list. It does not exist if the mode
// expresses the same.
const accessACL = "system.posix_acl_access"

const selinuxLabel = "security.selinux"

// copyLabel gives f the SELinux label of the file that it replaces. A new file gets the label that
// the loaded SELinux policy has for its directory.
func (d *disk) copyLabel(f *os.File, at spot, name string) error {
	err := d.look.at("open", name)
	if err != nil {
		return err
	}
	old, err := at.openFile(at.base, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // nothing to copy from
	}
	if err != nil {
		if info, looked := d.lstat(name); looked == nil && !info.IsRegular() {
			return nil // only regular files have a label that is copied
		}
		return err
	}
	defer old.Close()
	label := make([]byte, 256)
	n, err := d.attribute(int(old.Fd()), name, selinuxLabel, label)
	if err != nil || n == 0 { // no SELinux, or a file without a label
		return err
	}
	return unix.Fsetxattr(int(f.Fd()), selinuxLabel, label[:n], 0)
}

// replace renames the temporary file to name, and makes that durable.
func (d *disk) replace(at spot, name string) error {
	err := d.gate(Change{"rename", name})
	if err == nil {
		err = d.still(at, name)
	}
	if err == nil {
		err = unix.Renameat(at.dir, own.Temporary(at.base), at.dir, at.base)
	}
	if err != nil {
		return errors.Join(cannot("write", name, err), d.discard(at, name))
	}
	return d.syncDir(at, path.Dir(name))
}

// still reports an error if the path to a name does not lead where it led before. If somebody had
// moved the directory, the file would go somewhere else without an error.
func (d *disk) still(at spot, name string) error {
	now, err := d.find(name)
	if err != nil {
		return err
	}
	defer now.close()
	var before, after unix.Stat_t
	if err := errors.Join(unix.Fstat(at.dir, &before), unix.Fstat(now.dir, &after)); err != nil {
		return err
	}
	if before.Dev != after.Dev || before.Ino != after.Ino {
		return errors.New("its directory was replaced meanwhile")
	}
	return nil
}

// discard removes the temporary file of a name, if there is one.
func (d *disk) discard(at spot, name string) error {
	temporary := own.Temporary(name)
	var st unix.Stat_t
	err := d.look.at("stat", temporary)
	if err == nil {
		err = unix.Fstatat(at.dir, own.Temporary(at.base), &st, unix.AT_SYMLINK_NOFOLLOW)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return cannot("remove", temporary, err)
	}
	if err := d.gate(Change{"discard", temporary}); err != nil {
		return cannot("remove", temporary, err)
	}
	if err := at.remove(own.Temporary(at.base)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return cannot("remove", temporary, err)
	}
	return nil
}

// syncDir makes changes in the directory of a spot durable.
func (d *disk) syncDir(at spot, dir string) error {
	if err := d.gate(Change{"sync", dir}); err != nil {
		return cannot("sync", dir, err)
	}
	f, err := at.openFile(".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return cannot("open", dir, err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return cannot("sync", dir, err)
	}
	return nil
}
