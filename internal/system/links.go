package system

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"

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
	if f, err := enter(top, ".", unix.O_PATH); err != nil || f.Close() != nil {
		_ = top.Close() // nothing was written
		return nil
	}
	return top
}

// errSteps is the error of enter when the way has to be gone step by step.
var errSteps = errors.New("cannot be opened in one step")

func (d *disk) enter(name string, flags int) (*os.File, error) {
	if d.top == nil {
		return nil, errSteps
	}
	f, err := enter(d.top, rel(name), flags)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) { // something was renamed while it looked
		return nil, errSteps
	}
	return f, err
}

func enter(top *os.File, relative string, flags int) (*os.File, error) {
	fd, err := unix.Openat2(int(top.Fd()), relative, &unix.OpenHow{
		Flags: uint64(flags | unix.O_CLOEXEC), Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), relative), nil
}

// open opens what is at name, or where a link there leads, to read it.
func (d *disk) open(name string, flags int) (f *os.File, err error) {
	if f, err = d.enter(name, flags); !errors.Is(err, errSteps) {
		return f, err
	}
	err = d.reach(name, true, func(relative string) (err error) {
		f, err = d.root.OpenFile(relative, flags, 0)
		return err
	})
	return f, err
}

// lstat describes what is at name itself.
func (d *disk) lstat(name string) (info fs.FileInfo, err error) {
	f, err := d.enter(name, unix.O_PATH|unix.O_NOFOLLOW)
	if err == nil {
		defer f.Close()
		return f.Stat()
	}
	if !errors.Is(err, errSteps) {
		return nil, err
	}
	err = d.reach(name, false, func(relative string) (err error) {
		info, err = d.root.Lstat(relative)
		return err
	})
	return info, err
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
