package watch

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"syscall"

	"github.com/soe-agent/soe-agent/internal/system"
)

// placings is how often place tries again until the directories stand still. It is a bound, because
// somebody may keep moving them. Moves after the first placing are reported by events.
const placings = 10

// place makes the inotify watches match the directories: each followed one that exists, and those above
// it, so that the watcher notices when it is created, removed or replaced, itself or one above it. No
// event reports what changes in a directory before its watch is placed, so the directories are read again
// afterwards.
func (w *Watcher) place() {
	if w.closed {
		return
	}
	if err := w.open(); err != nil {
		w.say([]string{"all files"}, err)
		return
	}
	there, silent := w.inodes()
	for range placings {
		w.placeAt(there, silent)
		before := there
		if there, silent = w.inodes(); maps.Equal(before, there) {
			return
		}
	}
}

// errMayHang is why a directory on a network file system or FUSE is not watched. Waiting for an answer
// from there would delay everything else.
var errMayHang = errors.New("its file system may not answer")

// inodes returns the followed directories that exist and those above them. silent are the followed ones
// that must not be touched because their file system may hang.
func (w *Watcher) inodes() (there map[string]uint64, silent []string) {
	mayHang, err := system.MayHang()
	if err != nil {
		w.log.Warn("cannot tell which file systems may not answer; all are watched", "err", err)
		mayHang = func(string) bool { return false }
	}
	there = map[string]uint64{}
	seen := map[string]bool{}
	for dir := range w.dirs {
		if mayHang(dir) {
			silent = append(silent, dir)
		}
		for ; !seen[dir]; dir = path.Dir(dir) {
			seen[dir] = true
			if mayHang(dir) {
				continue
			}
			if info, err := w.files.Stat(dir); err == nil && info.IsDir() {
				there[dir] = info.Inode
			}
		}
	}
	slices.Sort(silent)
	return there, silent
}

// placeAt adds watches on the directories that exist and removes those on directories that no longer do.
func (w *Watcher) placeAt(there map[string]uint64, silent []string) {
	var dirs, above []string
	for dir := range there {
		if _, follows := w.dirs[dir]; follows {
			dirs = append(dirs, dir)
		} else {
			above = append(above, dir)
		}
	}
	slices.Sort(dirs)
	slices.Sort(above)
	for _, placed := range w.placed() {
		if !slices.Contains(dirs, placed) && !slices.Contains(above, placed) {
			w.notes.Remove(placed)
		}
	}
	unwatched, why := w.add(dirs, there)
	if errors.Is(why, syscall.ENOSPC) { // the kernel allows too few: give up the directories above
		for _, dir := range above {
			w.notes.Remove(dir)
		}
		unwatched, why = w.add(dirs, there)
	}
	more, whyMore := w.add(above, there)
	why = cmp.Or(why, whyMore)
	if len(silent) > 0 {
		why = cmp.Or(why, errMayHang)
	}
	w.say(slices.Concat(unwatched, more, silent), why)
}

// add watches directories and returns those that it cannot watch. Adding one again changes nothing in
// inotify, and is needed if another directory of the same name has replaced it. A directory that has gone
// since it was read is removed from there.
func (w *Watcher) add(dirs []string, there map[string]uint64) (failed []string, why error) {
	for _, dir := range dirs {
		switch err := w.notes.Add(dir); {
		case errors.Is(err, fs.ErrNotExist):
			delete(there, dir)
		case err != nil:
			failed, why = append(failed, dir), err // one error for all: it is the kernel's limit
		}
	}
	return failed, why
}

// open makes sure that there is an inotify instance, and its mark if possible. Without a mark, events of
// the agent's own writes cannot be told from others, and start another check. mu is held.
func (w *Watcher) open() error {
	if w.notes == nil {
		notes, err := system.OpenInotify()
		if err != nil {
			return fmt.Errorf("%w; see fs.inotify.max_user_instances", err)
		}
		w.notes = notes
		post(w.opened)
	}
	w.marks.place(w.notes)
	return nil
}

func post(to chan struct{}) {
	select {
	case to <- struct{}{}:
	default:
	}
}

// placed returns the directories that have a watch. mu is held.
func (w *Watcher) placed() []string {
	if w.notes == nil {
		return nil
	}
	mark := w.marks.name()
	return slices.DeleteFunc(w.notes.Watched(), func(name string) bool { return name == mark })
}

// placeMissing tries again to watch what could not be watched, and returns whether everything is watched
// now. Events were lost in the meantime, so the kinds concerned are marked dirty.
func (w *Watcher) placeMissing() (all bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || w.unwatched == "" {
		return true
	}
	before := len(w.placed())
	w.place()
	if w.unwatched == "" {
		w.log.Info("all directories are watched again")
	}
	if len(w.placed()) > before {
		for _, interests := range w.dirs {
			for _, i := range interests {
				w.notice(i)
			}
		}
	}
	return w.unwatched == ""
}

// say records what is not watched, logs it if that is new, and schedules another attempt.
func (w *Watcher) say(failed []string, why error) {
	unwatched := ""
	if len(failed) > 0 {
		unwatched = fmt.Sprintf("%s (%v)", some(failed), why)
		if errors.Is(why, syscall.ENOSPC) {
			unwatched = fmt.Sprintf("%s (%v; see fs.inotify.max_user_watches)", some(failed), why)
		}
		post(w.missed)
	}
	if unwatched == w.unwatched {
		return
	}
	w.unwatched = unwatched
	if unwatched != "" {
		w.log.Warn("cannot watch some directories; drift there is found by the periodic verify; watching is tried again",
			"unwatched", strings.Join(failed, " "), "err", why)
	}
	w.dirty(WatchesChanged)
}

// some names the first few of many.
func some(names []string) string {
	const few = 3
	if more := len(names) - few; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:few], ", "), more)
	}
	return strings.Join(names, ", ")
}

// Unwatched says for people what is not watched, and why. Drift there is found by the periodic verify
// only. It is "" if everything is watched.
func (w *Watcher) Unwatched() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var parts []string
	for _, part := range []string{w.unwatched, w.busTrouble} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, "; ")
}

// setBusTrouble records why units and sessions cannot be followed; "" means that they are.
func (w *Watcher) setBusTrouble(busTrouble string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.busTrouble != busTrouble {
		w.busTrouble = busTrouble
		w.dirty(WatchesChanged)
	}
}

// Watched returns the directories with an inotify watch, sorted.
func (w *Watcher) Watched() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.notes == nil {
		return nil
	}
	list := w.notes.Watched()
	slices.Sort(list)
	return list
}
