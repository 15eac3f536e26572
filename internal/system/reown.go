package system

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Reown says which files get which new owner.
type Reown struct {
	Dir   string      // everything below it, on its own file system
	Group bool        // the ids are gids, not uids
	IDs   map[int]int // new id by old id
	Skip  []string    // directories that are skipped with everything below them
	After string      // where an earlier call stopped; "" to begin
	Limit int         // how many entries to look at before stopping
}

// Reowned is what Reown has done.
type Reowned struct {
	Seen    int
	Changed int
	Next    string // where to continue, for Reown.After; "" when everything was visited
	Failed  []ReownFailure
}

// A ReownFailure is an entry that keeps its old owner.
type ReownFailure struct {
	ID  int // the old one
	Err error
}

// maxFailures limits how many failures one call returns.
const maxFailures = 20

// maxDepth limits the number of open directories. Only an attacker nests them deeper.
const maxDepth = 512

// Reown implements FS. Each entry is reached from the descriptor of its directory and never by a
// path, and the owner of the opened inode is read and changed. So an attacker gains nothing by
// moving files at the same time.
func (d *disk) Reown(ctx context.Context, r Reown) (Reowned, error) {
	if err := clean("change owners below", r.Dir); err != nil {
		return Reowned{}, err
	}
	fd, err := d.open(r.Dir, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return Reowned{}, cannot("change owners below", r.Dir, err)
	}
	dir := os.NewFile(uintptr(fd), r.Dir)
	defer dir.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		return Reowned{}, cannot("change owners below", r.Dir, err)
	}
	w := &reowner{Reown: r, gate: d.gate, log: d.log, device: st.Dev}
	var after []string
	if r.After != "" {
		after = strings.Split(r.After, "/")
	}
	err = w.walk(ctx, dir, r.Dir, after)
	if errors.Is(err, errEnough) {
		err = nil
	}
	if w.found.Next != "" {
		w.found.Next = strings.TrimPrefix(strings.TrimPrefix(w.found.Next, r.Dir), "/")
	}
	if w.found.Changed > 0 { // the caller may drop its record of what is done
		err = errors.Join(err, unix.Syncfs(int(dir.Fd())))
	}
	return w.found, err
}

var errEnough = errors.New("as much as was asked for")

type reowner struct {
	Reown
	gate   Gate
	log    *slog.Logger
	device uint64
	found  Reowned
}

// walk visits a directory in the order of names, beginning after the name in after.
func (w *reowner) walk(ctx context.Context, dir *os.File, name string, after []string) error {
	names, err := dir.Readdirnames(-1)
	if err != nil && !errors.Is(err, io.EOF) {
		w.fail(-1, cannot("list", name, err))
	}
	slices.Sort(names)
	for _, entry := range names {
		var below []string
		if len(after) > 0 {
			if entry < after[0] {
				continue
			}
			if entry == after[0] {
				below = after[1:]
			}
		}
		full := path.Join(name, entry)
		if err := ctx.Err(); err != nil {
			w.found.Next = full
			return err
		}
		if w.found.Seen >= w.Limit {
			w.found.Next = full
			return errEnough
		}
		if err := w.visit(ctx, dir, entry, full, below); err != nil {
			return err
		}
	}
	return nil
}

func (w *reowner) visit(ctx context.Context, dir *os.File, entry, full string, after []string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(int(dir.Fd()), entry, &st, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT); err != nil {
		return nil // it is gone
	}
	isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	if isDir && (st.Dev != w.device || slices.Contains(w.Skip, full)) {
		return nil
	}
	if len(after) == 0 { // otherwise an earlier call has counted it
		w.found.Seen++
		if _, is := w.IDs[w.owner(st)]; is {
			w.change(dir, entry, full)
		}
	}
	if !isDir {
		return nil
	}
	if strings.Count(full, "/") > maxDepth {
		w.fail(-1, fmt.Errorf("cannot look below %s: directories lie too deep in one another", full))
		return nil
	}
	fd, err := unix.Openat(int(dir.Fd()), entry, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil // it has gone, or is not a directory any more
	}
	sub := os.NewFile(uintptr(fd), full)
	defer sub.Close()
	if err := unix.Fstat(fd, &st); err != nil || st.Dev != w.device {
		return nil // something was mounted there in the meantime
	}
	return w.walk(ctx, sub, full, after)
}

func (w *reowner) owner(st unix.Stat_t) int {
	if w.Group {
		return int(st.Gid)
	}
	return int(st.Uid)
}

// change gives an entry its new owner.
func (w *reowner) change(dir *os.File, entry, full string) {
	fd, err := unix.Openat(int(dir.Fd()), entry, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return // it is gone
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return
	}
	old := w.owner(st)
	id, is := w.IDs[old]
	if !is {
		return // another file has taken its place
	}
	uid, gid := id, -1
	if w.Group {
		uid, gid = -1, id
	}
	err = w.gate(Change{"chown", full})
	if err == nil {
		err = unix.Fchownat(fd, "", uid, gid, unix.AT_EMPTY_PATH)
	}
	if err != nil {
		w.fail(old, cannot("change the owner of", full, err))
		return
	}
	w.found.Changed++
	mode := st.Mode
	if err := unix.Fstat(fd, &st); err == nil && st.Mode != mode {
		// The kernel clears these bits. They are not set again, because the file may have got other
		// content in the meantime.
		w.log.Warn("removed the set-id bits of a file with the change of its owner", "path", full, "mode", fmt.Sprintf("%04o", mode&0o7777))
	}
}

func (w *reowner) fail(id int, err error) {
	if len(w.found.Failed) < maxFailures {
		w.found.Failed = append(w.found.Failed, ReownFailure{id, err})
	}
}
