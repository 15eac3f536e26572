package system

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// oneStep is the directory of r, if the kernel can open a name below it in one
// step, links and all, as in a chroot (openat2(2), Linux 5.6). os.Root opens each
// directory on the way, which takes twice as long.
func oneStep(r *os.Root) *os.File {
	top, err := r.Open(".")
	if err != nil {
		return nil
	}
	if fd, err := enter(top, ".", unix.O_PATH); err != nil || unix.Close(fd) != nil {
		_ = top.Close() // nothing was written
		return nil
	}
	return top
}

// errSteps is the error of enter when the way has to be gone step by step.
var errSteps = errors.New("cannot be opened in one step")

// enter opens what is at name in one step. What it returns is a bare descriptor, for
// thousands of files are looked at in a walk, and an os.File costs three system calls.
func (d *disk) enter(name string, flags int) (fd int, err error) {
	if err := d.look.at("open", name); err != nil {
		return -1, err
	}
	if d.top == nil {
		return -1, errSteps
	}
	fd, err = enter(d.top, rel(name), flags)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) { // something was renamed while it looked
		return -1, errSteps
	}
	return fd, err
}

func enter(top *os.File, relative string, flags int) (fd int, err error) {
	fd, err = unix.Openat2(int(top.Fd()), relative, &unix.OpenHow{
		Flags: uint64(flags | unix.O_CLOEXEC), Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	runtime.KeepAlive(top)
	return fd, err
}

// open opens what is at name, or where a link there leads, to read it.
func (d *disk) open(name string, flags int) (fd int, err error) {
	if fd, err = d.enter(name, flags); !errors.Is(err, errSteps) {
		return fd, err
	}
	err = d.reach(name, true, func(relative string) error {
		f, err := d.root.OpenFile(relative, flags, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		fd, err = unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		return err
	})
	return fd, err
}

// lstat describes what is at name itself.
func (d *disk) lstat(name string) (Info, error) {
	fd, err := d.enter(name, unix.O_PATH|unix.O_NOFOLLOW)
	if err == nil {
		defer unix.Close(fd)
		return d.fstat(fd, name)
	}
	if !errors.Is(err, errSteps) {
		return Info{}, err
	}
	var info fs.FileInfo
	err = d.reach(name, false, func(relative string) (err error) {
		info, err = d.root.Lstat(relative)
		return err
	})
	if err != nil {
		return Info{}, err
	}
	return toInfo(info), nil
}

// fstat describes an open file.
func (d *disk) fstat(fd int, name string) (Info, error) {
	if err := d.look.at("stat", name); err != nil {
		return Info{}, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return Info{}, err
	}
	return infoOf(st), nil
}

func infoOf(st unix.Stat_t) Info {
	return Info{
		Attr: Attr{Mode: fs.FileMode(st.Mode & 0o7777), UID: int(st.Uid), GID: int(st.Gid)},
		Type: typeOf(st.Mode), Size: st.Size, ModTime: time.Unix(st.Mtim.Unix()), Changed: time.Unix(st.Ctim.Unix()), Inode: st.Ino,
	}
}

func typeOf(mode uint32) fs.FileMode {
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return fs.ModeDir
	case unix.S_IFLNK:
		return fs.ModeSymlink
	case unix.S_IFIFO:
		return fs.ModeNamedPipe
	case unix.S_IFSOCK:
		return fs.ModeSocket
	case unix.S_IFCHR:
		return fs.ModeDevice | fs.ModeCharDevice
	case unix.S_IFBLK:
		return fs.ModeDevice
	}
	return 0
}

// maxLinks is how many absolute links are followed on the way to a file.
const maxLinks = 40

// reach calls look with the name, and again with another name for it when an
// absolute link is on the way: os.Root refuses those, and real machines have
// them. As in a chroot, they lead from the root. last says whether a link at the
// very end is followed too.
func (d *disk) reach(name string, last bool, look func(relative string) error) error {
	name = path.Clean(name)
	for range maxLinks {
		err := look(rel(name))
		var errno syscall.Errno
		if err == nil || errors.As(err, &errno) {
			return err
		}
		next, ok := d.followAbsolute(name, last)
		if !ok {
			return err
		}
		name = next
	}
	return syscall.ELOOP
}

// followAbsolute replaces the first absolute link in name by where it leads.
func (d *disk) followAbsolute(name string, last bool) (string, bool) {
	prefix := ""
	parts := strings.Split(strings.TrimPrefix(name, "/"), "/")
	for i, part := range parts {
		prefix += "/" + part
		if i == len(parts)-1 && !last {
			break
		}
		target, err := d.root.Readlink(rel(prefix))
		switch {
		case err != nil: // no link
		case path.IsAbs(target):
			return path.Join(target, path.Join(parts[i+1:]...)), true
		default: // it may lead to one that is absolute
			return path.Join(path.Dir(prefix), target, path.Join(parts[i+1:]...)), true
		}
	}
	return "", false
}
