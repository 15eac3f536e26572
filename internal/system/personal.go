package system

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxPersonal is how much of a person's file is read.
const maxPersonal = 64 << 10

// ReadPersonal returns a small regular file of a person's, in whose home nothing can be
// relied on: no link is followed, nothing but a regular file of the person's own is
// opened, nothing is waited for, and nothing is looked at where a look may hang, which is
// on any but a local file system. The error wraps fs.ErrNotExist alone when there is no
// such file. What is in the file is that person's word.
func (d *disk) ReadPersonal(home string, uid int, name string) ([]byte, error) {
	file := path.Join(home, name)
	content, err := d.readPersonal(file, uid)
	if err != nil {
		return nil, cannot("read", file, err)
	}
	return content, nil
}

func (d *disk) readPersonal(file string, uid int) ([]byte, error) {
	if err := errors.Join(clean("read", file), d.look.at("open", file)); err != nil {
		return nil, err
	}
	if err := d.isLocal(file); err != nil {
		return nil, err
	}
	fd, err := unix.Dup(int(d.dir.Fd()))
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(fd) }()
	parts := strings.Split(rel(file), "/")
	for i, part := range parts {
		flags := unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC
		next, err := unix.Openat(fd, part, flags, 0)
		if err != nil {
			return nil, err
		}
		_ = unix.Close(fd)
		fd = next
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return nil, err
		}
		last := i == len(parts)-1
		switch {
		case st.Mode&unix.S_IFMT == unix.S_IFLNK:
			return nil, errors.New("a link is there, and it is not followed")
		case !last && st.Mode&unix.S_IFMT != unix.S_IFDIR:
			return nil, fs.ErrNotExist
		case last && st.Mode&unix.S_IFMT != unix.S_IFREG:
			return nil, errors.New("it is not a regular file")
		case last && int(st.Uid) != uid:
			return nil, errors.New("it belongs to somebody else")
		case last && st.Size > maxPersonal:
			return nil, fmt.Errorf("it is larger than %d KiB", maxPersonal>>10)
		}
	}
	return readOpened(fd)
}

// readOpened reads the file that a descriptor of O_PATH stands for, and waits for nobody:
// not for a lease that its owner has on it either (fcntl(2)).
func readOpened(fd int) ([]byte, error) {
	opened, err := unix.Open("/proc/self/fd/"+strconv.Itoa(fd), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(opened) }()
	content := make([]byte, maxPersonal+1)
	n := 0
	for n < len(content) {
		got, err := unix.Read(opened, content[n:])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if got == 0 {
			return content[:n], nil
		}
		n += got
	}
	return nil, fmt.Errorf("it is larger than %d KiB", maxPersonal>>10)
}

// isLocal returns an error when something of the way to a file is on a file system whose
// server, or program, may not answer.
func (d *disk) isLocal(file string) error {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	file = path.Join(d.root, file)
	if m := remote(file, mountsOf(string(mounts))); m.kind != "" {
		return fmt.Errorf("%s is a file system of kind %s, of which it is not known that a look cannot hang", m.point, m.kind)
	}
	return nil
}

// remote is the first mount on the way to a file of which it is not known to be local.
func remote(file string, mounts []mount) mount {
	for _, m := range mounts {
		if _, on := under(file, m.point); on && !slices.Contains(localKinds(), m.kind) {
			return m
		}
	}
	return mount{}
}

func localKinds() []string {
	return []string{"ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "zfs", "vfat", "tmpfs", "ramfs", "rootfs", "overlay", "squashfs", "erofs", "iso9660"}
}
