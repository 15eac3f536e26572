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

// placings is how often watches are placed at most until directories stand still. It is
// a bound on who keeps moving them: what moves after the first has been told of.
const placings = 10

// place makes the inotify watches those that the directories need: each one that
// is there, and those above it, so that it is noticed when it comes, or goes with
// one of them and another takes its place. Of what comes or goes before the watch above
// it is placed nobody tells, so it is looked again afterwards.
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

// errMayHang is why nothing is watched where a server or somebody's program answers. Whoever waits
// for that would miss what happens everywhere else.
var errMayHang = errors.New("its file system may not answer")

// inodes are the directories that are followed, and those above them, as far as they are
// there. silent are those that are followed and where nobody may look.
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

// placeAt places the watches at the directories that are there, and takes out those that are
// there no longer.
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
	if errors.Is(why, syscall.ENOSPC) { // the kernel allows too few: those above go without
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

// add watches directories, and returns those that it cannot watch. Adding one again
// is nothing to inotify, and needed when the directory was replaced by another of
// the same name. One that has gone since it was seen is taken out of what is there.
func (w *Watcher) add(dirs []string, there map[string]uint64) (failed []string, why error) {
	for _, dir := range dirs {
		switch err := w.notes.Add(dir); {
		case errors.Is(err, fs.ErrNotExist):
			delete(there, dir)
		case err != nil:
			failed, why = append(failed, dir), err // one for all: the kernel's limit is reached
		}
	}
	return failed, why
}

// open sees to it that there is an inotify instance, and its mark if that can be: without
// the events of our own writes cannot be told from others, so what is written is checked twice. mu is held.
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

// placed are the directories with a watch. mu is held.
func (w *Watcher) placed() []string {
	if w.notes == nil {
		return nil
	}
	mark := w.marks.name()
	return slices.DeleteFunc(w.notes.Watched(), func(name string) bool { return name == mark })
}

// placeMissing tries again to watch what could not be watched, and says whether all is watched now.
// Events in the meantime are lost, so the kinds concerned are marked dirty.
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

// say says what is not watched, when that is news, and has it tried again.
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

// some names a few of many.
func some(names []string) string {
	const few = 3
	if more := len(names) - few; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:few], ", "), more)
	}
	return strings.Join(names, ", ")
}

// Unwatched says what is not watched, and why, for people: drift of that is found by the
// next verify alone. It is "" when everything is.
func (w *Watcher) Unwatched() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var parts []string
	for _, part := range []string{w.unwatched, w.deaf} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, "; ")
}

// hears notes why units and sessions cannot be followed; "" when they are.
func (w *Watcher) hears(deaf string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.deaf != deaf {
		w.deaf = deaf
		w.dirty(WatchesChanged)
	}
}

// Watched are the directories with an inotify watch, sorted.
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
