package system

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/soe-agent/soe-agent/internal/protected"
)

// disk is the FS below a directory. os.Root holds every path inside it, whatever
// links a hostile user makes while it is walked.
type disk struct {
	root   *os.Root
	top    *os.File // the same directory; nil where names below it cannot be opened in one step
	keeper Keeper
	gate   Gate
	look   Looker

	unregister bool // see Options
}

func openDisk(root string, keeper Keeper, gate Gate, look Looker) (*disk, error) {
	r, err := os.OpenRoot(root)
	if err != nil {
		return nil, fmt.Errorf("cannot open the root directory %s: %w", root, err)
	}
	return &disk{root: r, top: oneStep(r), keeper: keeper, gate: gate, look: look}, nil
}

// rel makes of an absolute name one that os.Root takes.
func rel(name string) string {
	if r := strings.TrimLeft(path.Clean(name), "/"); r != "" {
		return r
	}
	return "."
}

// cannot makes an error that says what could not be done to what, without
// naming the path twice.
func cannot(verb, name string, err error) error {
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		err = pathError.Err
	}
	var linkError *os.LinkError
	if errors.As(err, &linkError) {
		err = linkError.Err
	}
	return fmt.Errorf("cannot %s %s: %w", verb, name, err)
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
	registered := d.unregister && strings.HasPrefix(name, "/var/lib/amazon/ssm/")
	if why := protected.Path(name); why != "" && !registered {
		return fmt.Errorf("cannot %s %s: %s", verb, name, why)
	}
	old, err := d.current(name)
	if err != nil {
		return err
	}
	if old != nil && !replaceable(old.Info) {
		return fmt.Errorf("cannot %s %s: it is there, and not a regular file but a %s; remove it by hand if that is right",
			verb, name, typeName(old.Info.Type))
	}
	if d.keeper == nil {
		return nil
	}
	return d.keeper.Keep(name, old)
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
	temporary := Temporary(name)
	if err := d.writeTemporary(temporary, name, content, attr); err != nil {
		return errors.Join(cannot("write", name, err), d.discard(temporary))
	}
	return d.replace(temporary, name)
}

func (d *disk) writeTemporary(temporary, name string, content []byte, attr Attr) error {
	if err := d.discard(temporary); err != nil { // one that a crash has left
		return err
	}
	if err := d.gate(Change{"create", temporary}); err != nil {
		return err
	}
	// Nobody but root sees the content until owner and mode are right.
	f, err := d.root.OpenFile(rel(temporary), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	steps := []struct {
		op string
		do func() error
	}{
		{"write", func() error { _, err := f.Write(content); return err }},
		{"chown", func() error { return f.Chown(attr.UID, attr.GID) }},
		{"chmod", func() error { return setMode(f, attr.Mode) }},
		{"label", func() error { return d.copyLabel(f, name) }},
		{"sync", f.Sync},
	}
	for _, step := range steps {
		if err := d.gate(Change{step.op, temporary}); err != nil {
			return err
		}
		if err := step.do(); err != nil {
			return err
		}
	}
	return f.Close()
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
func (d *disk) copyLabel(f *os.File, name string) error {
	if _, err := d.lstat(name); errors.Is(err, fs.ErrNotExist) {
		return nil // there is none to copy from
	}
	err := d.look.at("open", name)
	if err != nil {
		return err
	}
	old, err := d.root.OpenFile(rel(name), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
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
func (d *disk) replace(temporary, name string) error {
	err := d.gate(Change{"rename", name})
	if err == nil {
		err = d.root.Rename(rel(temporary), rel(name))
	}
	if err != nil {
		return errors.Join(cannot("write", name, err), d.discard(temporary))
	}
	return d.syncDir(path.Dir(name))
}

// discard removes a temporary file, if there is one.
func (d *disk) discard(temporary string) error {
	err := d.look.at("stat", temporary)
	if err == nil {
		_, err = d.root.Lstat(rel(temporary))
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
	if err := d.root.Remove(rel(temporary)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return cannot("remove", temporary, err)
	}
	return nil
}

func (d *disk) syncDir(dir string) error {
	if err := d.gate(Change{"sync", dir}); err != nil {
		return cannot("make lasting", dir, err)
	}
	f, err := d.root.Open(rel(dir))
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
	f, err := d.root.OpenFile(rel(name), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
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
	f, err := d.root.Open(rel(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // nothing was appended
	}
	if err != nil {
		return cannot("make lasting", name, err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
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
	// Through a descriptor, so that what is changed is what was looked at. os.Root
	// follows links within it whatever the flags, so ask what has been opened.
	f, err := d.root.OpenFile(rel(name), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return cannot("change mode or owner of", name, err)
	}
	defer f.Close()
	there, err := d.root.Lstat(rel(name))
	if err != nil {
		return cannot("change mode or owner of", name, err)
	}
	opened, err := f.Stat()
	if err != nil {
		return cannot("change mode or owner of", name, err)
	}
	if !os.SameFile(there, opened) {
		return fmt.Errorf("cannot change mode or owner of %s: it was replaced meanwhile", name)
	}
	if err := errors.Join(f.Chown(attr.UID, attr.GID), setMode(f, attr.Mode), f.Sync()); err != nil {
		return cannot("change mode or owner of", name, err)
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
	temporary := Temporary(name)
	if err := d.discard(temporary); err != nil {
		return err
	}
	if err := d.gate(Change{"create", temporary}); err != nil {
		return cannot("link", name, err)
	}
	if err := d.root.Symlink(target, rel(temporary)); err != nil {
		return cannot("link", name, err)
	}
	return d.replace(temporary, name)
}

func (d *disk) MkdirAll(name string, perm fs.FileMode) error {
	if err := clean("make the directory", name); err != nil {
		return err
	}
	there, err := d.isDir(name)
	if err != nil || there {
		return err
	}
	if why := protected.Path(name); why != "" && !own(name+"/") {
		return fmt.Errorf("cannot make the directory %s: %s", name, why)
	}
	parent := path.Dir(name)
	if err := d.MkdirAll(parent, 0o755); err != nil {
		return err
	}
	if err := d.gate(Change{"mkdir", name}); err != nil {
		return cannot("make the directory", name, err)
	}
	if err := d.root.Mkdir(rel(name), perm); err != nil {
		if there, looked := d.isDir(name); looked == nil && there {
			return nil // somebody else was faster
		}
		return cannot("make the directory", name, err)
	}
	if err := d.root.Chmod(rel(name), perm); err != nil { // whatever the umask
		return cannot("make the directory", name, err)
	}
	return d.syncDir(parent)
}

// isDir says whether there is a directory, or a link to one, at name. That
// something else is there is an error.
func (d *disk) isDir(name string) (bool, error) {
	err := d.look.at("stat", name)
	if err != nil {
		return false, cannot("make the directory", name, err)
	}
	info, err := d.root.Stat(rel(name))
	switch {
	case err == nil && info.IsDir():
		return true, nil
	case err == nil:
		return false, fmt.Errorf("cannot make the directory %s: something else is there", name)
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	}
	return false, cannot("make the directory", name, err)
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
	if err := d.root.Remove(rel(name)); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return cannot("remove", name, err)
	}
	return d.syncDir(path.Dir(name))
}
