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

// ErrLink is wrapped by the error of whatever would follow a link that others than
// root may turn: one that is not root's, or that is in a directory, or on a way to it,
// where somebody else may write.
var ErrLink = errors.New("others than root may turn it")

// errSteps is the error of enter when the way has to be gone step by step.
var errSteps = errors.New("cannot be opened in one step")

// maxLinks is how many links are followed on the way to a file.
const maxLinks = 40

// A top is the directory below which names are found, links and all, as in a chroot.
type top struct {
	dir     *os.File
	owner   uint32 // whose links are followed, besides root's: they may turn all of it
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

// enter opens what is at a name in one step, if no link is on the way, nor at its end
// unless that itself is opened (O_PATH and O_NOFOLLOW). What it returns is a bare
// descriptor, for thousands of files are looked at in a walk, and an os.File costs
// three system calls. The error is errSteps when it has to be gone step by step.
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
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) { // a link, or something was renamed while it looked
		return -1, errSteps
	}
	return fd, err
}

// A spot is where a name leads: an open directory, and a name in it.
type spot struct {
	dir  int
	base string // "." of the root itself
	real string // the whole name, without links on the way
	safe bool   // nobody but root can put something else there, or on the way; not told by find
}

func (s spot) close() { _ = unix.Close(s.dir) }

// find is where a name is. It follows the links on the way, but none at its end.
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

// walk is find, step by step. last says whether a link at the very end is followed too.
// When something on the way is not there, the spot's real name is what it would be; it
// is not open then.
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

// A walker is on its way down from the top, with all that is above it at hand.
type walker struct {
	owner uint32
	look  Looker
	way   []place
}

// A place is what the way has come to.
type place struct {
	fd   int
	name string
	dir  bool
	safe bool // nobody but root can turn what is in it, or on the way to it
}

func (t *top) walker() (*walker, error) {
	w := &walker{owner: t.owner, look: t.look}
	fd, err := unix.FcntlInt(t.dir.Fd(), unix.F_DUPFD_CLOEXEC, 0)
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

// roots says whether a file is root's, or of whoever has all of the system.
func (w *walker) roots(st unix.Stat_t) bool {
	return st.Uid == 0 || st.Uid == w.owner || int(st.Uid) == os.Geteuid()
}

// closed says whether nobody else may write. An access control list that allows it to
// others shows in the group's part of the mode (acl(5)).
func (w *walker) closed(st unix.Stat_t) bool { return w.roots(st) && st.Mode&0o022 == 0 }

// step goes to what has a name here, or returns where a link of that name leads.
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
	case strings.HasPrefix(here.name, "/proc/"): // the kernel does not go where such a link seems to lead
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

// up goes to the directory above, as in a chroot.
func (w *walker) up() {
	if len(w.way) > 1 {
		_ = unix.Close(w.at().fd)
		w.way = w.way[:len(w.way)-1]
	}
}

// back goes to the top.
func (w *walker) back() {
	for len(w.way) > 1 {
		w.up()
	}
}

// spot is a name here. The directory is no longer the walker's.
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

// open opens what is at name, or where a link there leads, to read it.
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

// openItself opens what is at name, and nothing when a link is there.
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

// lstat describes what is at name itself.
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
