package system

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ErrLink is wrapped by errors about a symbolic link that is not followed because somebody other
// than root could have made or changed it: it does not belong to root, or somebody else can write
// to a directory on the way to it.
var ErrLink = errors.New("others than root can redirect it")

// errSteps is the error of enter if the path must be resolved step by step.
var errSteps = errors.New("cannot be opened in one step")

// maxLinks is how many links are followed on the way to a file.
const maxLinks = 40

// A top is the directory below which paths are resolved, links included, as in a chroot.
type top struct {
	dir     *os.File
	owner   uint32 // links of this user are followed too, besides root's: the user controls the whole tree
	oneStep bool   // the kernel opens a name below it in one step (openat2(2), Linux 5.6)
	look    Looker
}

func openTop(name string, look Looker) (top, error) {
	dir, err := os.OpenFile(name, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return top{}, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		dir.Close()
		return top{}, err
	}
	t := top{dir: dir, owner: st.Uid, oneStep: true, look: look}
	if fd, err := enter(dir, ".", unix.O_PATH); err != nil || unix.Close(fd) != nil {
		t.oneStep = false
	}
	return t, nil
}

// enter opens name with one system call, if no link is on the way. A link at the end is opened
// itself if flags has O_PATH and O_NOFOLLOW. It returns a bare descriptor, because a Survey opens
// thousands of files and an os.File costs three system calls more. The error is errSteps when the
// path has to be resolved step by step.
func (t *top) enter(relative string, flags int) (fd int, err error) {
	if err := t.look.at("open", "/"+relative); err != nil {
		return -1, err
	}
	if !t.oneStep {
		return -1, errSteps
	}
	return enter(t.dir, relative, flags)
}

func enter(dir *os.File, relative string, flags int) (fd int, err error) {
	fd, err = unix.Openat2(int(dir.Fd()), relative, &unix.OpenHow{
		Flags: uint64(flags | unix.O_CLOEXEC), Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_SYMLINKS,
	})
	runtime.KeepAlive(dir)
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) { // a link, or something was renamed at the same time
		return -1, errSteps
	}
	return fd, err
}

// A spot is the end of a resolved path: an open directory, and a name in it.
type spot struct {
	dir  int
	base string // "." for the root itself
	real string // the whole name, without links on the way
	safe bool   // only root can replace it or anything on the way; find does not set it
}

func (s spot) close() { _ = unix.Close(s.dir) }

// find resolves a path. It follows links on the way, but none at the end.
func (t *top) find(name string) (spot, error) {
	dir, base := path.Split(rel(name))
	fd, err := t.enter(path.Clean(dir), unix.O_PATH|unix.O_DIRECTORY)
	if err == nil {
		return spot{dir: fd, base: base, real: path.Clean(name)}, nil
	}
	if !errors.Is(err, errSteps) {
		return spot{}, err
	}
	return t.walk(name, false)
}

// walk is find step by step. last means that a link at the end is followed too. If something on the
// way does not exist, the spot has the real name that it would have, and no open directory.
func (t *top) walk(name string, last bool) (spot, error) {
	w, err := t.walker()
	if err != nil {
		return spot{}, err
	}
	defer w.close()
	rest := strings.Split(rel(name), "/")
	for links := 0; len(rest) > 0; {
		part := rest[0]
		rest = rest[1:]
		if part == "" || part == "." {
			continue
		}
		if part == ".." {
			w.up()
			continue
		}
		if len(rest) == 0 && !last {
			return w.spot(part), nil
		}
		target, err := w.step(part)
		switch {
		case errors.Is(err, unix.ENOENT):
			return spot{real: path.Join(w.at().name, part, path.Join(rest...))}, err
		case err != nil:
			return spot{}, err
		case target == "" && len(rest) == 0:
			w.up()
			return w.spot(part), nil
		case target == "":
			if !w.at().dir {
				return spot{}, unix.ENOTDIR
			}
			continue
		}
		if links++; links > maxLinks {
			return spot{}, unix.ELOOP
		}
		if path.IsAbs(target) {
			w.back()
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return w.spot("."), nil
}

// A walker resolves a path from the top, and holds all directories above open.
type walker struct {
	owner uint32
	look  Looker
	way   []place
}

// A place is one step of the path.
type place struct {
	fd   int
	name string
	dir  bool
	safe bool // only root can replace its entries or anything on the way to it
}

// descriptor returns a new descriptor of the top. The caller must close it. Commands do not inherit
// it.
func (t *top) descriptor() (fd int, err error) {
	return unix.FcntlInt(t.dir.Fd(), unix.F_DUPFD_CLOEXEC, 0)
}

func (t *top) walker() (*walker, error) {
	w := &walker{owner: t.owner, look: t.look}
	fd, err := t.descriptor()
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	w.way = []place{{fd: fd, name: "/", dir: true, safe: w.closed(st)}}
	return w, nil
}

func (w *walker) at() place { return w.way[len(w.way)-1] }

// roots reports whether a file belongs to root, to the owner of the root directory, or to the
// agent's own user.
func (w *walker) roots(st unix.Stat_t) bool {
	return st.Uid == 0 || st.Uid == w.owner || int(st.Uid) == os.Geteuid()
}

// closed reports whether nobody else may write. An access control list that allows it shows in the
// group bits of the mode (acl(5)).
func (w *walker) closed(st unix.Stat_t) bool { return w.roots(st) && st.Mode&0o022 == 0 }

// step enters an entry of this directory, or returns the target if the entry is a link.
func (w *walker) step(part string) (target string, err error) {
	here := w.at()
	if err := w.look.at("open", path.Join(here.name, part)); err != nil {
		return "", err
	}
	fd, err := unix.Openat(here.fd, part, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		_ = unix.Close(fd)
		return "", err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
		w.way = append(w.way, place{fd: fd, name: path.Join(here.name, part), dir: isDir, safe: here.safe && w.closed(st)})
		return "", nil
	}
	defer unix.Close(fd)
	switch {
	case strings.HasPrefix(here.name, "/proc/"): // the kernel does not go where such a link appears to lead
		return "", unix.ELOOP
	case !here.safe || !w.roots(st):
		return "", fmt.Errorf("cannot follow the link %s: %w; name the directory itself, or see to it that it is root's where only root may write",
			path.Join(here.name, part), ErrLink)
	}
	if err := w.look.at("readlink", path.Join(here.name, part)); err != nil {
		return "", err
	}
	buffer := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", buffer)
	if err == nil && n == 0 {
		err = unix.ENOENT
	}
	return string(buffer[:max(0, n)]), err
}

// up goes to the parent directory; that of the top is the top.
func (w *walker) up() {
	if len(w.way) > 1 {
		_ = unix.Close(w.at().fd)
		w.way = w.way[:len(w.way)-1]
	}
}

// back goes back to the top.
func (w *walker) back() {
	for len(w.way) > 1 {
		w.up()
	}
}

// spot ends at a name in this directory, which the caller closes.
func (w *walker) spot(base string) spot {
	here := w.at()
	w.way = w.way[:len(w.way)-1]
	return spot{dir: here.fd, base: base, real: path.Join(here.name, base), safe: here.safe}
}

func (w *walker) close() {
	for _, p := range w.way {
		_ = unix.Close(p.fd)
	}
}

// open opens name, or the target of a link there.
func (t *top) open(name string, flags int) (fd int, err error) {
	if fd, err = t.enter(rel(name), flags); !errors.Is(err, errSteps) {
		return fd, err
	}
	at, err := t.walk(name, true)
	if err != nil {
		return -1, err
	}
	defer at.close()
	return unix.Openat(at.dir, at.base, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
}

// openItself opens name, and fails if it is a link.
func (t *top) openItself(name string, flags int) (fd int, err error) {
	if fd, err = t.enter(rel(name), flags|unix.O_NOFOLLOW); !errors.Is(err, errSteps) {
		return fd, err
	}
	at, err := t.find(name)
	if err != nil {
		return -1, err
	}
	defer at.close()
	return unix.Openat(at.dir, at.base, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
}

// lstat describes name itself, and not the target of a link.
func (t *top) lstat(name string) (Info, error) {
	fd, err := t.openItself(name, unix.O_PATH)
	if err != nil {
		return Info{}, err
	}
	defer unix.Close(fd)
	return t.fstat(fd, name)
}

// fstat describes an open file.
func (t *top) fstat(fd int, name string) (Info, error) {
	if err := t.look.at("stat", name); err != nil {
		return Info{}, err
	}
	return fstat(fd)
}

func fstat(fd int) (Info, error) {
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
