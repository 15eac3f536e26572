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

	"github.com/soe-agent/soe-agent/internal/mounts"
)

// maxPersonal is the largest file of a person that is read, in bytes.
const maxPersonal = 64 << 10

// ReadPersonal returns a small regular file in the home of a person, where nothing can be trusted.
// It follows no link, opens only a regular file that belongs to the person, never waits, and reads
// only on local file systems, because others may hang. The error wraps fs.ErrNotExist only if there
// is no such file. The person controls the content.
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
	fd, err := d.descriptor()
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

// DescribeHome implements Homes.
func (d *disk) DescribeHome(home string) (Info, error) {
	info, err := d.describeHome(home)
	if err != nil {
		return Info{}, cannot("look at", home, err)
	}
	return info, nil
}

func (d *disk) describeHome(home string) (Info, error) {
	if err := errors.Join(clean("look at", home), d.look.at("stat", home)); err != nil {
		return Info{}, err
	}
	if err := d.isLocal(home); err != nil {
		return Info{}, err
	}
	fd, err := d.descriptor()
	if err != nil {
		return Info{}, err
	}
	defer func() { _ = unix.Close(fd) }()
	var st unix.Stat_t
	for part := range strings.SplitSeq(rel(home), "/") {
		if st.Mode&unix.S_IFMT == unix.S_IFLNK {
			return Info{}, errors.New("a link is on the way, and it is not followed")
		}
		next, err := unix.Openat(fd, part, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if errors.Is(err, unix.ENOTDIR) {
			return Info{}, fs.ErrNotExist
		}
		if err != nil {
			return Info{}, err
		}
		_ = unix.Close(fd)
		fd = next
		if err := unix.Fstat(fd, &st); err != nil {
			return Info{}, err
		}
	}
	return infoOf(st), nil
}

// readOpened reads the file of an O_PATH descriptor. It does not wait, not even for a lease of the
// owner on the file (fcntl(2)).
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

// isLocal returns an error if part of the path is on a file system whose server, or program, may
// not answer.
func (d *disk) isLocal(file string) error {
	mountinfo, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	file = path.Join(d.root, file)
	if m := remote(file, mounts.Parse(string(mountinfo))); m.Kind != "" {
		return fmt.Errorf("%s is a file system of kind %s, where reading may hang", m.Point, m.Kind)
	}
	return nil
}

// remote returns the first mount on the path that is not known to be local.
func remote(file string, all []mounts.Mount) mounts.Mount {
	for _, m := range all {
		if _, on := under(file, m.Point); on && !slices.Contains(localKinds(), m.Kind) {
			return m
		}
	}
	return mounts.Mount{}
}

func localKinds() []string {
	return []string{"ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "zfs", "vfat", "tmpfs", "devtmpfs", "ramfs", "rootfs", "overlay", "squashfs", "erofs", "iso9660"}
}
