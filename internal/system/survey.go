package system

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// A Survey reads all regular files below a directory. Below it no link is followed, and no other
// file system is entered.
type Survey struct {
	Dir string
	// Each is called for each file, with one part after the other. first is set for the first part
	// of the file. Each later part begins with the last Overlap bytes of the previous one. It must
	// not keep part.
	Each func(name string, info Info, part []byte, first bool)
	// Overlap is how many bytes of a part are repeated in the next.
	Overlap int
}

// Unseen is a file or directory that a Survey could not read.
type Unseen struct {
	Name string
	Why  string // for people
}

// partSize is the size of a part, in bytes.
const partSize = 1 << 20

// Survey implements FS.
func (d *disk) Survey(ctx context.Context, s Survey) []Unseen {
	fd, err := d.open(s.Dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NONBLOCK)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	v := &surveyor{Survey: s, look: d.look, part: make([]byte, partSize)}
	if err != nil {
		v.miss(s.Dir, cannot("look below", s.Dir, err).Error())
		return v.unseen
	}
	dir := os.NewFile(uintptr(fd), s.Dir)
	defer dir.Close()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		v.miss(s.Dir, cannot("look below", s.Dir, err).Error())
		return v.unseen
	}
	v.device = st.Dev
	v.walk(ctx, dir, s.Dir)
	return v.unseen
}

type surveyor struct {
	Survey
	look   Looker
	device uint64
	part   []byte
	unseen []Unseen
	ended  bool // the time is over, and that is recorded
}

func (v *surveyor) miss(name, why string) { v.unseen = append(v.unseen, Unseen{name, why}) }

func (v *surveyor) walk(ctx context.Context, dir *os.File, name string) {
	err := v.look.at("list", name)
	var names []string
	if err == nil {
		names, err = dir.Readdirnames(-1)
	}
	if err != nil {
		v.miss(name, cannot("list", name, err).Error())
	}
	slices.Sort(names)
	for _, entry := range names {
		if ctx.Err() != nil {
			if !v.ended {
				v.miss(path.Join(name, entry), "the time was up before it, and what comes after it")
			}
			v.ended = true
			return
		}
		v.visit(ctx, dir, entry, path.Join(name, entry))
	}
}

func (v *surveyor) visit(ctx context.Context, dir *os.File, entry, full string) {
	var st unix.Stat_t
	err := v.look.at("stat", full)
	if err == nil {
		err = unix.Fstatat(int(dir.Fd()), entry, &st, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT)
	}
	kind := st.Mode & unix.S_IFMT
	switch {
	case errors.Is(err, fs.ErrNotExist): // it is gone
		return
	case err != nil:
		v.miss(full, cannot("look at", full, err).Error())
		return
	case kind != unix.S_IFDIR && kind != unix.S_IFREG:
		return
	case kind == unix.S_IFDIR && st.Dev != v.device:
		v.miss(full, "another file system is mounted there")
		return
	case kind == unix.S_IFDIR && strings.Count(full, "/") > maxDepth:
		v.miss(full, "directories lie too deep in one another")
		return
	}
	fd, err := unix.Openat(int(dir.Fd()), entry, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil {
		v.miss(full, cannot("open", full, err).Error())
		return
	}
	f := os.NewFile(uintptr(fd), full)
	defer f.Close()
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != kind || kind == unix.S_IFDIR && st.Dev != v.device {
		v.miss(full, "something else came there meanwhile")
		return
	}
	if kind == unix.S_IFDIR {
		v.walk(ctx, f, full)
	} else if err := v.read(ctx, f, full, infoOf(st)); err != nil {
		v.miss(full, err.Error())
	}
}

// read reads a file, and calls Each for its parts.
func (v *surveyor) read(ctx context.Context, f *os.File, name string, info Info) error {
	if err := v.look.at("read", name); err != nil {
		return cannot("read", name, err)
	}
	have, first := 0, true
	for {
		if ctx.Err() != nil {
			return errors.New("there was not enough time for all of it")
		}
		n, err := unix.Read(int(f.Fd()), v.part[have:])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("cannot read all of %s: %w", name, err)
		}
		have += n
		if n > 0 && have < len(v.part) {
			continue
		}
		if first || have > v.Overlap {
			v.Each(name, info, v.part[:have], first)
		}
		if n == 0 {
			return nil
		}
		first = false
		have = copy(v.part, v.part[have-v.Overlap:have])
	}
}
