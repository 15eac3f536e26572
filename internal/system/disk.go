package system

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/soe-agent/soe-agent/internal/protected"
	"github.com/soe-agent/soe-agent/internal/public"
)

// disk is the FS below a directory. Whatever links a hostile user makes while a way is
// gone, it stays below that directory, and on the way that root has made: what is
// changed is changed in a directory that is open.
type disk struct {
	top
	root   string
	keeper Keeper
	gate   Gate

	unregister bool // see Options
	rights     bool // see Rights
}

func openDisk(root string, keeper Keeper, gate Gate, look Looker) (*disk, error) {
	root, err := filepath.EvalSymlinks(root)
	if err != nil {
		return nil, fmt.Errorf("cannot open the root directory %s: %w", root, err)
	}
	t, err := openTop(root, look)
	if err != nil {
		return nil, fmt.Errorf("cannot open the root directory %s: %w", root, err)
	}
	return &disk{top: t, root: root, keeper: keeper, gate: gate}, nil
}

// rel makes of an absolute name one below the root.
func rel(name string) string {
	if r := strings.TrimLeft(path.Clean(name), "/"); r != "" {
		return r
	}
	return "."
}

// cannot makes an error that says what could not be done to what, without
// naming the path twice. Names, and what the kernel says of them, everybody may read.
func cannot(verb, name string, err error) error {
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		err = pathError.Err
	}
	var linkError *os.LinkError
	if errors.As(err, &linkError) {
		err = linkError.Err
	}
	return public.Error(fmt.Errorf("cannot %s %s: %w", verb, name, err))
}

// own says whether a path is the agent's own state, which is neither protected
// from the agent nor kept for later.
func own(name string) bool {
	return strings.HasPrefix(name, "/var/lib/soe-agent/") || strings.HasPrefix(name, "/run/soe-agent/")
}

func clean(verb, name string) error {
	if path.Clean(name) != name || !path.IsAbs(name) {
		return fmt.Errorf("cannot %s %q: it is not a clean absolute path", verb, name)
	}
	return nil
}

// admit is what every change of a file passes: the protected list, the kind of
// thing that is there, the keeper.
func (d *disk) admit(verb, name string, replaceable func(Info) bool) error {
	if err := clean(verb, name); err != nil {
		return err
	}
	if own(name) {
		return nil
	}
	if err := d.protects(verb, name); err != nil {
		return err
	}
	old, err := d.current(name)
	if err != nil {
		return err
	}
	if old != nil && !replaceable(old.Info) {
		return public.Error(fmt.Errorf("cannot %s %s: it is there, and not a regular file but a %s; remove it by hand if that is right",
			verb, name, typeName(old.Info.Type)))
	}
	if d.keeper == nil {
		return nil
	}
	err = d.keeper.Keep(name, old)
	if d.rights && noRoom(err) {
		return nil
	}
	return err
}

// protects refuses what is protected, under the name that is given and under all that
// it comes to: where links on the way lead, and where else that is mounted.
func (d *disk) protects(verb, name string) error {
	if why := d.protected(name); why != "" {
		return public.Error(fmt.Errorf("cannot %s %s: %s", verb, name, why))
	}
	at, err := d.find(name)
	if err == nil {
		at.close()
	} else if !errors.Is(err, fs.ErrNotExist) {
		return cannot(verb, name, err)
	} else if at.real == "" { // no link is on the way, as far as it goes
		at.real = name
	}
	names, err := d.aliases(at.real)
	if err != nil {
		return cannot(verb, name, err)
	}
	for _, real := range names {
		if why := d.protected(real); why != "" {
			return public.Error(fmt.Errorf("cannot %s %s: it is %s, and %s", verb, name, real, why))
		}
	}
	return nil
}

func (d *disk) protected(name string) string {
	if d.unregister && strings.HasPrefix(name, "/var/lib/amazon/ssm/") {
		return ""
	}
	if d.rights && name == "/etc/sudoers" {
		return ""
	}
	return protected.Path(name)
}

func (d *disk) current(name string) (*Kept, error) {
	info, err := d.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	old := &Kept{Info: info}
	switch {
	case info.IsRegular():
		old.Content, err = d.ReadFile(name)
	case info.Type == fs.ModeSymlink:
		old.Link, err = d.Readlink(name)
	}
	return old, err
}

func typeName(mode fs.FileMode) string {
	switch {
	case mode&fs.ModeDir != 0:
		return "directory"
	case mode&fs.ModeSymlink != 0:
		return "symbolic link"
	}
	return "special file"
}

// Temporary is the name under which a file is written before it takes its
// place: one that readers of ".d" directories skip, for it begins with a dot,
// and that logrotate, which does not mind dots, has on its taboo list.
func Temporary(name string) string {
	dir, base := path.Split(name)
	return dir + "." + base + ".soe.swp"
}

func (d *disk) WriteFile(name string, content []byte, attr Attr) error {
	if err := d.admit("write", name, Info.IsRegular); err != nil {
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
	if err := d.writeTemporary(at, name, content, attr); err != nil {
		return errors.Join(cannot("write", name, err), d.discard(at, name))
	}
	return d.replace(at, name)
}

func (d *disk) writeTemporary(at spot, name string, content []byte, attr Attr) error {
	err := d.writeNew(at, name, content, attr)
	if d.rights && noRoom(err) {
		return d.writeSpare(at, name, content, attr)
	}
	return err
}

func (d *disk) writeNew(at spot, name string, content []byte, attr Attr) error {
	if err := d.discard(at, name); err != nil { // one that a crash has left
		return err
	}
	temporary := Temporary(name)
	if err := d.gate(Change{"create", temporary}); err != nil {
		return err
	}
	// Nobody but root sees the content until owner and mode are right.
	f, err := at.openFile(Temporary(at.base), unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	return d.fill(f, at, name, content, attr)
}

// fill writes an open file that is to take the place of name, and closes it.
func (d *disk) fill(f *os.File, at spot, name string, content []byte, attr Attr) error {
	defer f.Close()
	temporary := Temporary(name)
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
			continue // it is new, and no longer than this
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

// openFile opens a name in the directory of a spot, and no link.
func (s spot) openFile(base string, flags int, perm uint32) (*os.File, error) {
	fd, err := unix.Openat(s.dir, base, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, perm)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), base), nil
}

// setMode makes the mode of a file all that says who may do what: it may have an
// ACL of its own, or one that its directory gives to new files.
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

// accessACL is the attribute of an access control list. The kernel keeps none that
// says no more than the mode.
const accessACL = "system.posix_acl_access"

const selinuxLabel = "security.selinux"

// copyLabel gives f the SELinux label of the file that it replaces. A new file
// has the label that the loaded SELinux policy gives in its directory.
func (d *disk) copyLabel(f *os.File, at spot, name string) error {
	err := d.look.at("open", name)
	if err != nil {
		return err
	}
	old, err := at.openFile(at.base, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // there is none to copy from
	}
	if err != nil {
		if info, looked := d.lstat(name); looked == nil && !info.IsRegular() {
			return nil // and none is read from what is no file
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

// replace renames the temporary file over name and makes that last.
func (d *disk) replace(at spot, name string) error {
	err := d.gate(Change{"rename", name})
	if err == nil {
		err = d.still(at, name)
	}
	if err == nil {
		err = unix.Renameat(at.dir, Temporary(at.base), at.dir, at.base)
	}
	if err != nil {
		return errors.Join(cannot("write", name, err), d.discard(at, name))
	}
	return d.syncDir(at, path.Dir(name))
}

// still says whether a name still leads where it led. Whoever may move the directory
// would else get the file somewhere, and nobody would be told.
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
	temporary := Temporary(name)
	var st unix.Stat_t
	err := d.look.at("stat", temporary)
	if err == nil {
		err = unix.Fstatat(at.dir, Temporary(at.base), &st, unix.AT_SYMLINK_NOFOLLOW)
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
	if err := at.remove(Temporary(at.base)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return cannot("remove", temporary, err)
	}
	return nil
}

// remove removes a file, a link or an empty directory.
func (s spot) remove(base string) error {
	err := unix.Unlinkat(s.dir, base, 0)
	if errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EPERM) { // which of the two depends on the file system
		if asDir := unix.Unlinkat(s.dir, base, unix.AT_REMOVEDIR); !errors.Is(asDir, unix.ENOTDIR) {
			return asDir
		}
	}
	return err
}

// syncDir makes what was changed in the directory of a spot last.
func (d *disk) syncDir(at spot, dir string) error {
	if err := d.gate(Change{"sync", dir}); err != nil {
		return cannot("make lasting", dir, err)
	}
	f, err := at.openFile(".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return cannot("open", dir, err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return cannot("make lasting", dir, err)
	}
	return nil
}

func (d *disk) AppendFile(name string, content []byte) error {
	if !own(name) {
		return fmt.Errorf("cannot append to %s: only the agent's own files grow in place", name)
	}
	if err := d.MkdirAll(path.Dir(name), 0o700); err != nil {
		return err
	}
	if err := d.gate(Change{"append", name}); err != nil {
		return cannot("write", name, err)
	}
	at, err := d.find(name)
	if err != nil {
		return cannot("write", name, err)
	}
	defer at.close()
	f, err := at.openFile(at.base, unix.O_WRONLY|unix.O_CREAT|unix.O_APPEND, 0o600)
	if err != nil {
		return cannot("write", name, err)
	}
	defer f.Close()
	if _, err := f.Write(content); err != nil {
		return cannot("write", name, err)
	}
	return nil
}

func (d *disk) Sync(name string) error {
	if !own(name) {
		return fmt.Errorf("cannot make lasting %s: only the agent's own files grow in place", name)
	}
	if err := d.gate(Change{"sync", name}); err != nil {
		return cannot("make lasting", name, err)
	}
	fd, err := d.openItself(name, unix.O_RDONLY|unix.O_NONBLOCK)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // nothing was appended
	}
	if err != nil {
		return cannot("make lasting", name, err)
	}
	defer unix.Close(fd)
	if err := unix.Fsync(fd); err != nil {
		return cannot("make lasting", name, err)
	}
	return nil
}

func (d *disk) SetAttr(name string, attr Attr) error {
	if _, err := d.Stat(name); err != nil {
		return cannot("change mode or owner of", name, err) // there is nothing to keep
	}
	if err := d.admit("change mode or owner of", name, func(i Info) bool { return i.IsRegular() || i.IsDir() }); err != nil {
		return err
	}
	if err := d.gate(Change{"chmod", name}); err != nil {
		return cannot("change mode or owner of", name, err)
	}
	// Through a descriptor, so that what is changed is what was looked at.
	fd, err := d.openItself(name, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return cannot("change mode or owner of", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	if err := d.onlyName(fd, name); err != nil {
		return cannot("change mode or owner of", name, err)
	}
	if err := errors.Join(f.Chown(attr.UID, attr.GID), setMode(f, attr.Mode), f.Sync()); err != nil {
		return cannot("change mode or owner of", name, err)
	}
	return nil
}

// ErrNames is wrapped by the error of SetAttr when the file has another name too, and
// is where others than root may have given it that of somebody else's file.
var ErrNames = errors.New("the file has another name too, and others than root may have made this one; it is not changed, for it may be any file")

// onlyName refuses a file that may be somebody else's under another name.
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

func (d *disk) Symlink(target, name string) error {
	linkOrFile := func(i Info) bool { return i.IsRegular() || i.Type == fs.ModeSymlink }
	if err := d.admit("link", name, linkOrFile); err != nil {
		return err
	}
	if err := d.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	at, err := d.find(name)
	if err != nil {
		return cannot("link", name, err)
	}
	defer at.close()
	if err := d.discard(at, name); err != nil {
		return err
	}
	if err := d.gate(Change{"create", Temporary(name)}); err != nil {
		return cannot("link", name, err)
	}
	if err := unix.Symlinkat(target, at.dir, Temporary(at.base)); err != nil {
		return cannot("link", name, err)
	}
	return d.replace(at, name)
}

func (d *disk) MkdirAll(name string, perm fs.FileMode) error {
	if err := clean("make the directory", name); err != nil {
		return err
	}
	there, err := d.isDir(name)
	if err != nil || there {
		return err
	}
	if !own(name + "/") {
		if err := d.protects("make the directory", name); err != nil {
			return err
		}
	}
	parent := path.Dir(name)
	if err := d.MkdirAll(parent, 0o755); err != nil {
		return err
	}
	if err := d.gate(Change{"mkdir", name}); err != nil {
		return cannot("make the directory", name, err)
	}
	at, err := d.find(name)
	if err != nil {
		return cannot("make the directory", name, err)
	}
	defer at.close()
	if err := unix.Mkdirat(at.dir, at.base, uint32(perm)); err != nil {
		if there, looked := d.isDir(name); looked == nil && there {
			return nil // somebody else was faster
		}
		return cannot("make the directory", name, err)
	}
	f, err := at.openFile(at.base, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return cannot("make the directory", name, err)
	}
	defer f.Close()
	if err := f.Chmod(perm); err != nil { // whatever the umask
		return cannot("make the directory", name, err)
	}
	return d.syncDir(at, parent)
}

// isDir says whether there is a directory, or a link to one, at name. That
// something else is there is an error.
func (d *disk) isDir(name string) (bool, error) {
	fd, err := d.open(name, unix.O_PATH)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, cannot("make the directory", name, err)
	}
	defer unix.Close(fd)
	info, err := d.fstat(fd, name)
	if err != nil {
		return false, cannot("make the directory", name, err)
	}
	if !info.IsDir() {
		return false, fmt.Errorf("cannot make the directory %s: something else is there", name)
	}
	return true, nil
}

func (d *disk) Remove(name string) error {
	if _, err := d.Stat(name); errors.Is(err, fs.ErrNotExist) {
		return nil // and nothing that was made or could be kept
	}
	if err := d.admit("remove", name, func(Info) bool { return true }); err != nil {
		return err
	}
	if err := d.gate(Change{"remove", name}); err != nil {
		return cannot("remove", name, err)
	}
	at, err := d.find(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return cannot("remove", name, err)
	}
	defer at.close()
	if err := at.remove(at.base); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return cannot("remove", name, err)
	}
	return d.syncDir(at, path.Dir(name))
}
