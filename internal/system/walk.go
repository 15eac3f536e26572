package system

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A Walk describes everything on the machine's local disks. It opens no file, follows no link and
// enters no file system for which a server or a user's program answers.
type Walk struct {
	// From is where an earlier Walk stopped; the zero Place is the beginning.
	From Place
	// Each is called for each entry of a directory.
	Each func(dir, entry string, info Info)
}

// A Place is a position in a Walk. Names may be any bytes, so a Place is not text.
type Place struct {
	Volume []byte `json:"volume,omitempty"` // where a file system is mounted
	Entry  []byte `json:"entry,omitempty"`  // the next entry to look at; empty: all of that volume
}

// IsStart reports whether nothing has been looked at before this place.
func (p Place) IsStart() bool { return len(p.Volume) == 0 }

// Walked is the result of a Walk.
type Walked struct {
	Next   Place    // where to continue; the zero Place when everything was looked at
	Unseen []Unseen // what could not be looked at: the first of them
	Missed int      // how many there are
}

const (
	maxUnseen = 20
	// maxHeld and minHeld limit how many names are in memory at a time: of all directories on the
	// way, and of one. Anybody can make a directory of any size.
	maxHeld = 1 << 16
	minHeld = 1 << 8
	// maxEntries is how many entries of one directory are looked at. Somebody may create them as
	// fast as they are looked at.
	maxEntries = 1 << 22
)

// ErrWalking is returned by Walk while an earlier one hangs in the kernel.
var ErrWalking = errors.New("an earlier search of the disks has not ended; the kernel does not answer it")

// untilGivenUp is how long a Walk may take to stop.
const untilGivenUp = 2 * time.Second

// Walk implements FS. It runs in a thread with mounts of its own: there each file system is seen by
// itself, with nothing mounted on it, so that no mount that appears meanwhile can be entered. The
// thread has a low priority at the disk, and rests three quarters of the time: with a low priority at
// the processor it would hold up the collector of this process's memory, and so all of it. If the
// disk does not answer, Walk returns soon after ctx has ended, and the thread is left behind.
func (d *disk) Walk(ctx context.Context, w Walk) (Walked, error) {
	if !d.walking.TryLock() {
		return Walked{Next: w.From}, ErrWalking
	}
	v := &searcher{Walk: w, look: d.look, root: d.root}
	var err error
	ended := make(chan struct{})
	spend(func() {
		err = v.volumes(ctx)
		d.walking.Unlock()
		close(ended)
	})
	select {
	case <-ended:
		return v.walked, err
	case <-ctx.Done():
	}
	timer := time.NewTimer(untilGivenUp)
	defer timer.Stop()
	select {
	case <-ended:
		return v.walked, err
	case <-timer.C:
		v.abandon()
		return Walked{Next: w.From}, fmt.Errorf("the search hangs: %w", ErrHangs)
	}
}

type searcher struct {
	Walk
	look   Looker
	root   string
	points []string // where something is mounted
	held   int      // names in memory
	walked Walked
	looks  int       // since it has last asked for the time
	began  time.Time // of its work since it has last rested

	mu        sync.Mutex
	abandoned bool // the caller has gone
}

func (v *searcher) abandon() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.abandoned = true
}

// miss notes what could not be done to it. The reason does not contain the name, which may be any bytes.
func (v *searcher) miss(name, verb string, err error) {
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		err = pathError.Err
	}
	if v.walked.Missed++; len(v.walked.Unseen) < maxUnseen {
		v.walked.Unseen = append(v.walked.Unseen, Unseen{name, fmt.Sprintf("cannot %s it: %v", verb, err)})
	}
}

var errStopped = errors.New("the time is over")

// volumes walks through one file system after the other.
func (v *searcher) volumes(ctx context.Context) error {
	if err := lastAtDisk(); err != nil {
		return err
	}
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("cannot search with mounts of its own: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("cannot search with mounts of its own: %w", err)
	}
	// From here on no mount of this thread changes.
	volumes, err := v.localVolumes()
	if err != nil {
		return err
	}
	for _, volume := range volumes {
		at := volume.name
		if at < string(v.From.Volume) {
			continue
		}
		var after []string
		if at == string(v.From.Volume) && len(v.From.Entry) > 0 {
			after = strings.Split(strings.TrimPrefix(string(v.From.Entry), "/"), "/")
			if at != "/" {
				after = after[strings.Count(at, "/"):]
			}
		}
		err := v.volume(ctx, volume, after)
		if errors.Is(err, errStopped) {
			v.walked.Next.Volume = []byte(at)
			return nil
		}
		if err != nil {
			v.miss(at, "look below", err)
		}
	}
	return nil
}

// volume walks through one file system.
func (v *searcher) volume(ctx context.Context, volume volume, after []string) error {
	if ctx.Err() != nil {
		return errStopped
	}
	dir, file, err := volume.open()
	if errors.Is(err, fs.ErrNotExist) { // another mount hides it
		return nil
	}
	if err != nil {
		return err
	}
	if dir == nil {
		v.describe(path.Dir(volume.name), path.Base(volume.name), file)
		return nil
	}
	defer dir.Close()
	v.held = 0
	return v.walk(ctx, dir, volume.name, after)
}

// walk visits the entries of a directory in the order of names, beginning at after.
func (v *searcher) walk(ctx context.Context, dir *os.File, name string, after []string) error {
	last := ""
	for seen := 0; ; {
		names, more, err := v.list(ctx, dir, name, last, after)
		if errors.Is(err, errStopped) {
			if last != "" {
				last += "\x00" // what comes behind it
			}
			v.stop(name, last, nil)
			return err
		}
		if err != nil {
			v.miss(name, "list", err)
			return nil
		}
		v.held += len(names)
		for _, entry := range names {
			var below []string
			if len(after) > 0 && entry == after[0] {
				below = after[1:]
			}
			if ctx.Err() != nil {
				v.stop(name, entry, below)
				return errStopped
			}
			v.held--
			if err := v.visit(ctx, dir, name, entry, below); err != nil {
				return err
			}
			last = entry
		}
		if seen += len(names); more && seen >= maxEntries {
			v.miss(name, "look at all of", errors.New("it has too many entries"))
			return nil
		}
		if !more {
			return nil
		}
	}
}

// stop records where to continue. An empty entry means all of the directory, which itself has been
// described.
func (v *searcher) stop(dir, entry string, below []string) {
	v.walked.Next.Entry = []byte(strings.TrimSuffix(dir, "/") + "/" + strings.Join(append([]string{entry}, below...), "/"))
}

// list returns the next names of a directory, sorted: those behind last, from after on. more is true
// if there are others behind these. It reads the directory as often as needed instead of keeping all
// names in memory.
func (v *searcher) list(ctx context.Context, dir *os.File, name, last string, after []string) (names []string, more bool, err error) {
	if err := v.look.at("list", name); err != nil {
		return nil, false, err
	}
	if _, err := dir.Seek(0, io.SeekStart); err != nil {
		return nil, false, err
	}
	most := max(minHeld, maxHeld-v.held)
	least := func() {
		if slices.Sort(names); len(names) > most {
			names, more = names[:most], true
		}
	}
	for {
		batch, err := dir.Readdirnames(1 << 10)
		for _, entry := range batch {
			if entry > last && (len(after) == 0 || entry >= after[0]) && (!more || entry < names[most-1]) {
				names = append(names, entry)
			}
		}
		if len(names) >= 2*most {
			least()
		}
		switch {
		case ctx.Err() != nil:
			return nil, false, errStopped
		case errors.Is(err, io.EOF):
			least()
			return names, more, nil
		case err != nil && !errors.Is(err, fs.ErrNotExist): // it was removed
			return nil, false, err
		case err != nil || len(batch) == 0:
			return nil, false, nil
		}
	}
}

// visit describes one entry, and walks through it if it is a directory.
func (v *searcher) visit(ctx context.Context, dir *os.File, parent, entry string, after []string) error {
	v.rest()
	full := path.Join(parent, entry)
	if err := v.look.at("stat", full); err != nil {
		v.miss(full, "look at", err)
		return nil
	}
	var st unix.Stat_t
	err := unix.Fstatat(int(dir.Fd()), entry, &st, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT)
	isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil // it is gone
	case err != nil:
		v.miss(full, "look at", err)
		return nil
	case slices.Contains(v.points, full):
		return nil // what is mounted there is a volume of its own, or not local
	}
	if len(after) == 0 { // otherwise an earlier Walk has described it
		v.describe(parent, entry, infoOf(st))
	}
	if !isDir {
		return nil
	}
	if strings.Count(full, "/") > maxDepth {
		v.miss(full, "look below", errors.New("directories lie too deep in one another"))
		return nil
	}
	fd, err := unix.Openat(int(dir.Fd()), entry, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_NOATIME|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.EPERM) { // only the owner and root of the machine may leave the time of access as it is
		fd, err = unix.Openat(int(dir.Fd()), entry, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
		return nil // it has gone, or is not a directory any more
	case err != nil:
		v.miss(full, "look below", err)
		return nil
	}
	sub := os.NewFile(uintptr(fd), full)
	defer sub.Close()
	return v.walk(ctx, sub, full, after)
}

// After working for workTime, it rests for restFactor times as long.
const (
	workTime   = 5 * time.Millisecond
	restFactor = 3
	looksOften = 64
)

func (v *searcher) rest() {
	if v.looks++; v.looks < looksOften {
		return
	}
	v.looks = 0
	if worked := time.Since(v.began); worked >= workTime {
		if worked < time.Second { // otherwise it has waited for the disk, or is not even begun
			time.Sleep(restFactor * min(worked, 10*workTime))
		}
		v.began = time.Now()
	}
}

// describe calls Each, unless its caller has gone.
func (v *searcher) describe(dir, entry string, info Info) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.abandoned {
		v.Each(dir, entry, info)
	}
}
