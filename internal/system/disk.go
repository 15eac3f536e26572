package system

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/soe-agent/soe-agent/internal/mounts"
	"github.com/soe-agent/soe-agent/internal/own"
	"github.com/soe-agent/soe-agent/internal/protected"
	"github.com/soe-agent/soe-agent/internal/public"
)

// disk is the FS below a directory. Changes are made relative to an open directory. So they stay
// below that root, and on paths that root made, whatever links a hostile user makes in the
// meantime.
type disk struct {
	top
	root    string
	backups BackupStore
	gate    Gate
	log     *slog.Logger

	walking    *sync.Mutex // held by a Walk until it has ended
	unregister bool        // see Options
	rights     bool        // see Rights
	guarded    bool        // see System.Guarded
	fstab      bool        // see writeFstab
	attrs      bool        // only owner and mode are changed, by the guarded one
}

func openDisk(name string, keeper BackupStore, gate Gate, look Looker) (*disk, error) {
	root, err := filepath.EvalSymlinks(name)
	if err != nil {
		return nil, cannot("open the root directory", name, err)
	}
	t, err := openTop(root, look)
	if err != nil {
		return nil, cannot("open the root directory", name, err)
	}
	return &disk{top: t, root: root, backups: keeper, gate: gate, walking: &sync.Mutex{}}, nil
}

// rel turns an absolute name into one relative to the root.
func rel(name string) string {
	if r := strings.TrimLeft(path.Clean(name), "/"); r != "" {
		return r
	}
	return "."
}

// cannot returns an error that says what could not be done to which file, with the path once. It is
// public, because names and errors of the kernel may be shown to everybody.
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

func clean(verb, name string) error {
	if path.Clean(name) != name || !path.IsAbs(name) {
		return fmt.Errorf("cannot %s %q: it is not a clean absolute path", verb, name)
	}
	return nil
}

// admit checks a change of a file against the list of protected paths and the type of what exists,
// and makes the backup.
func (d *disk) admit(verb, name string, replaceable func(Info) bool) error {
	if err := clean(verb, name); err != nil {
		return err
	}
	if own.Keeps(name) {
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
		return isNoFile(verb, name, old.Info)
	}
	if old != nil && old.Info.IsRegular() {
		if err := d.uncovered(verb, name); err != nil {
			return err
		}
	}
	if err := d.release(verb, name); err != nil {
		return err
	}
	if d.backups == nil {
		return nil
	}
	if err := d.backups.Backup(name, old); err != nil && !d.rights {
		return err
	}
	return nil // taking a right away must not wait for a backup: what it removes stays in the file, as a comment
}

// protects refuses a protected path, under the given name and under every other name of the file:
// where links on the way lead, and where else its file system is mounted.
func (d *disk) protects(verb, name string) error {
	if why := d.protected(name); why != "" {
		return public.Error(fmt.Errorf("cannot %s %s: %s", verb, name, why))
	}
	at, err := d.find(name)
	if err == nil {
		at.close()
	} else if !errors.Is(err, fs.ErrNotExist) {
		return cannot(verb, name, err)
	} else if at.real == "" { // no link on the way, as far as it exists
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
	if d.attrs && slices.Contains([]string{"/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow"}, name) {
		return ""
	}
	if d.rights && name == "/etc/sudoers" || d.guarded && name == "/etc/ssh/sshd_config" || d.fstab && name == mounts.FstabFile {
		return ""
	}
	return protected.Path(name)
}

func isNoFile(verb, name string, info Info) error {
	return public.Error(fmt.Errorf("cannot %s %s: it is there, and not a regular file but a %s; remove it by hand if that is right",
		verb, name, typeName(info.Type)))
}

func (d *disk) current(name string) (*Original, error) {
	info, err := d.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	old := &Original{Info: info}
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

// remove removes a file, a link or an empty directory.
func (s spot) remove(base string) error {
	err := unix.Unlinkat(s.dir, base, 0)
	if errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EPERM) { // the error depends on the file system
		if asDir := unix.Unlinkat(s.dir, base, unix.AT_REMOVEDIR); !errors.Is(asDir, unix.ENOTDIR) {
			return asDir
		}
	}
	return err
}

func (d *disk) AppendFile(name string, content []byte) error {
	if !own.Keeps(name) {
		return fmt.Errorf("cannot append to %s: only the agent's own files may be appended to", name)
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
	f, err := at.openFile(at.base, unix.O_WRONLY|unix.O_CREAT|unix.O_APPEND|unix.O_NONBLOCK, 0o600) // a FIFO must not hold us up
	if err != nil {
		return cannot("write", name, err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return cannot("write", name, cmp.Or(err, ErrNotRegular))
	}
	if _, err := f.Write(content); err != nil {
		return cannot("write", name, err)
	}
	return nil
}

func (d *disk) Sync(name string) error {
	if !own.Keeps(name) {
		return fmt.Errorf("cannot sync %s: only the agent's own files may be appended to", name)
	}
	if err := d.gate(Change{"sync", name}); err != nil {
		return cannot("sync", name, err)
	}
	fd, err := d.openItself(name, unix.O_RDONLY|unix.O_NONBLOCK)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // nothing was appended
	}
	if err != nil {
		return cannot("sync", name, err)
	}
	defer unix.Close(fd)
	if err := unix.Fsync(fd); err != nil {
		return cannot("sync", name, err)
	}
	return nil
}

func (d *disk) Symlink(target, name string) error {
	if err := d.admit("link", name, fileOrLink); err != nil {
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
	if err := d.gate(Change{"create", own.Temporary(name)}); err != nil {
		return cannot("link", name, err)
	}
	if err := unix.Symlinkat(target, at.dir, own.Temporary(at.base)); err != nil {
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
	if !own.Keeps(name + "/") {
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
			return nil // another process made it first
		}
		if info, looked := d.Stat(name); looked == nil && info.Type == fs.ModeSymlink {
			err = errors.New("a link that leads nowhere is there; remove it")
		}
		return cannot("make the directory", name, err)
	}
	f, err := at.openFile(at.base, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return cannot("make the directory", name, err)
	}
	defer f.Close()
	if err := f.Chmod(perm); err != nil { // regardless of the umask
		return cannot("make the directory", name, err)
	}
	return d.syncDir(at, parent)
}

// isDir reports whether name is a directory, or a link to one. If it is anything else, it returns
// an error.
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
		return false, fmt.Errorf("cannot make the directory %s: something else is there; move it away", name)
	}
	return true, nil
}

func (d *disk) Remove(name string) error {
	if _, err := d.Stat(name); errors.Is(err, fs.ErrNotExist) {
		return nil // it does not exist, so there is nothing to back up
	}
	if name == mounts.FstabFile && !d.fstab {
		return d.removeFstab()
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
