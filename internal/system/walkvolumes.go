package system

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/soe-agent/soe-agent/internal/mounts"
)

// A volume is a file system, or a part of one, that a Walk goes through.
type volume struct {
	name  string // where it is, below the root of the Walk
	point string // the same, below "/"
	local map[int]bool
}

// localVolumes returns the file systems to go through, by name, and notes all mount points. A file
// system that is mounted in several places is one volume.
func (v *searcher) localVolumes() ([]volume, error) {
	if err := v.look.at("read", "/proc/thread-self/mountinfo"); err != nil {
		return nil, fmt.Errorf("cannot tell what is mounted where: %w", err)
	}
	content, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("cannot tell what is mounted where: %w", err)
	}
	all := mounts.Parse(string(content))
	local := map[int]bool{}
	for _, m := range all {
		local[m.ID] = slices.Contains(localKinds(), m.Kind)
	}
	var volumes []volume
	for _, m := range searchable(all, v.root) {
		below, is := under(m.Point, v.root)
		if !is {
			below = "" // the root is inside it
		}
		volumes = append(volumes, volume{"/" + below, cmp.Or(strings.TrimSuffix(v.root, "/")+"/"+below, "/"), local})
	}
	for _, m := range all {
		if below, is := under(m.Point, v.root); is && below != "" {
			v.points = append(v.points, "/"+below)
		}
	}
	slices.SortFunc(volumes, func(a, b volume) int { return strings.Compare(a.name, b.name) })
	return volumes, nil
}

// searchable returns the mounts to go through: that which the root is on, and those below it. What is
// on read-only images nobody can change, and a container's overlay shows files of another volume.
func searchable(all []mounts.Mount, root string) (chosen []mounts.Mount) {
	var on mounts.Mount
	for _, m := range all {
		if _, is := under(root, m.Point); is && len(m.Point) >= len(on.Point) {
			on = m
		}
	}
	chosen = []mounts.Mount{on}
	skipped := []string{"devtmpfs", "squashfs", "erofs", "iso9660", "overlay"}
	for _, m := range all {
		below, is := under(m.Point, root)
		if top, visible := mounts.At(all, m.Point); !is || below == "" || !visible || top.ID != m.ID {
			continue
		}
		if slices.Contains(localKinds(), m.Kind) && !slices.Contains(skipped, m.Kind) {
			chosen = append(chosen, m)
		}
	}
	// Of those with the same files, the one that shows most of them.
	return slices.DeleteFunc(chosen, func(m mounts.Mount) bool {
		return m.ID != on.ID && slices.ContainsFunc(chosen, func(o mounts.Mount) bool {
			_, within := under(m.Root, o.Root)
			return within && o.Device == m.Device && (o.Root != m.Root || o.ID < m.ID)
		})
	})
}

// open opens the file system's directory with nothing mounted below it, or describes the file if
// a file is mounted. Each step of the way is looked at before the next, because the owner of a
// directory on the way may have replaced it: nothing is asked of a file system that is not local.
func (v volume) open() (dir *os.File, file Info, err error) {
	fd, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, file, err
	}
	for part := range strings.SplitSeq(strings.Trim(v.point, "/"), "/") {
		if part == "" {
			break
		}
		if err := v.isLocal(fd); err != nil {
			return nil, file, closing(fd, err)
		}
		next, err := unix.Openat(fd, part, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, file, closing(fd, err)
		}
		_ = unix.Close(fd)
		fd = next
	}
	defer func() { _ = unix.Close(fd) }()
	if err := v.isLocal(fd); err != nil {
		return nil, file, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, file, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil, infoOf(st), nil
	}
	dir, err = alone(fd)
	return dir, file, err
}

func closing(fd int, err error) error {
	_ = unix.Close(fd)
	return err
}

// isLocal returns an error unless an open directory is on a local file system. It asks the kernel
// about the mount, and not the file system.
func (v volume) isLocal(fd int) error {
	about, err := os.ReadFile("/proc/thread-self/fdinfo/" + strconv.Itoa(fd))
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(about)) {
		if id, is := strings.CutPrefix(line, "mnt_id:"); is {
			if id, err := strconv.Atoi(strings.TrimSpace(id)); err == nil && v.local[id] {
				return nil
			}
		}
	}
	return errors.New("something on the way to it is not on a local file system")
}

// alone opens a directory without what is mounted below it. The mount made for that needs a place for
// a moment, and nothing in this thread needs /sys.
func alone(fd int) (*os.File, error) {
	const place = "/sys"
	if err := unix.Mount("/proc/thread-self/fd/"+strconv.Itoa(fd), place, "", unix.MS_BIND, ""); err != nil {
		return nil, err
	}
	dir, err := os.OpenFile(place, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.Unmount(place, unix.MNT_DETACH); err != nil {
		dir.Close()
		return nil, err
	}
	return dir, nil
}
