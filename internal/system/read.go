package system

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/soe-agent/soe-agent/internal/public"
)

const (
	maxFileSize = 64 << 20
	// firstRead is how much is read first of a file whose size is 0. Files of the kernel all have
	// that size, and some give their content only to a single read from the start: /proc/sys has
	// values of several pages.
	firstRead = 64 << 10
)

// Reasons why an existing file is not read, however often it is tried.
var (
	ErrNotRegular = errors.New("it is not a regular file")
	ErrLarge      = errors.New("it is too large")
)

func (d *disk) ReadFile(name string) ([]byte, error) {
	fd, err := d.open(name, unix.O_RDONLY|unix.O_NONBLOCK) // a FIFO must not block us
	if errors.Is(err, unix.ENXIO) {                        // a socket, or a device that is not there
		err = ErrNotRegular
	}
	if err != nil {
		return nil, cannot("read", name, err)
	}
	defer unix.Close(fd)
	info, err := d.fstat(fd, name)
	if err != nil {
		return nil, cannot("read", name, err)
	}
	if !info.IsRegular() {
		return nil, public.Error(fmt.Errorf("cannot read %s: %w", name, ErrNotRegular))
	}
	return d.readAll(fd, name, info.Size)
}

func (d *disk) Inspect(name string) ([]byte, Info, error) {
	fd, info, err := d.describe(name)
	if fd < 0 {
		return nil, info, err
	}
	defer unix.Close(fd)
	content, err := d.readAll(fd, name, info.Size)
	return content, info, err
}

func (d *disk) readAll(fd int, name string, size int64) ([]byte, error) {
	if err := d.look.at("read", name); err != nil {
		return nil, cannot("read", name, err)
	}
	room := min(size, maxFileSize)
	if size == 0 {
		room = firstRead
	}
	content := make([]byte, 0, room+1)
	for len(content) <= maxFileSize {
		n, err := unix.Read(fd, content[len(content):cap(content)])
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return nil, cannot("read", name, err)
		case n == 0:
			return content, nil
		}
		content = content[:len(content)+n]
		if 0 < size && size <= maxFileSize && int64(len(content)) == size {
			return content, nil // the buffer had space for more
		}
		content = slices.Grow(content, 1)
	}
	return nil, public.Error(fmt.Errorf("cannot read %s: %w: larger than %d MiB", name, ErrLarge, maxFileSize>>20))
}

func (d *disk) Stat(name string) (Info, error) {
	info, err := d.lstat(name)
	if err != nil {
		return Info{}, cannot("look at", name, err)
	}
	return info, nil
}

func (d *disk) ReadDir(name string) ([]string, error) {
	fd, err := d.open(name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, cannot("list", name, err)
	}
	names, f, err := d.list(fd, name)
	defer f.Close()
	if err != nil {
		return nil, cannot("list", name, err)
	}
	slices.Sort(names)
	return names, nil
}

// list returns the entries of a directory, and the open directory, which the caller closes.
func (d *disk) list(fd int, name string) ([]string, *os.File, error) {
	f := os.NewFile(uintptr(fd), name)
	if err := d.look.at("list", name); err != nil {
		return nil, f, err
	}
	names, err := f.Readdirnames(-1)
	return names, f, err
}

func (d *disk) Entries(dir string) (map[string]Info, error) {
	fd, err := d.open(dir, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, cannot("list", dir, err)
	}
	names, f, err := d.list(fd, dir)
	defer f.Close()
	if err != nil {
		return nil, cannot("list", dir, err)
	}
	entries := make(map[string]Info, len(names))
	for _, name := range names {
		var st unix.Stat_t
		err := d.look.at("stat", path.Join(dir, name))
		if err == nil {
			err = unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW)
		}
		switch {
		case errors.Is(err, fs.ErrNotExist): // removed while they were listed
		case err != nil:
			return nil, cannot("look at", path.Join(dir, name), err)
		default:
			entries[name] = infoOf(st)
		}
	}
	return entries, nil
}

func (d *disk) Readlink(name string) (string, error) {
	err := d.look.at("readlink", name)
	if err != nil {
		return "", cannot("read the link", name, err)
	}
	at, err := d.find(name)
	if err != nil {
		return "", cannot("read the link", name, err)
	}
	defer at.close()
	buffer := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(at.dir, at.base, buffer)
	if err != nil {
		return "", cannot("read the link", name, err)
	}
	return string(buffer[:n]), nil
}
