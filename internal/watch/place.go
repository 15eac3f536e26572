package watch

import (
	"cmp"
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// place makes the inotify watches those that the directories need: each one that
// is there, and those above it, so that it is noticed when it comes, or goes with
// one of them and another takes its place.
func (w *Watcher) place() {
	var dirs, above []string
	for dir := range w.dirs {
		if w.isDir(dir) {
			dirs = append(dirs, dir)
		}
		for dir != "/" {
			if dir = path.Dir(dir); w.isDir(dir) {
				above = append(above, dir)
			}
		}
	}
	slices.Sort(dirs)
	slices.Sort(above)
	above = slices.DeleteFunc(slices.Compact(above), func(dir string) bool { return slices.Contains(dirs, dir) })
	for _, placed := range w.notes.WatchList() {
		if placed != w.marks.file && !slices.Contains(dirs, placed) && !slices.Contains(above, placed) {
			_ = w.notes.Remove(placed) // it may have gone with its directory
		}
	}
	unwatched, why := w.add(dirs)
	if len(unwatched) > 0 { // the kernel allows too few: those above go without
		for _, dir := range above {
			_ = w.notes.Remove(dir)
		}
		unwatched, why = w.add(dirs)
	}
	more, whyMore := w.add(above)
	w.say(append(unwatched, more...), cmp.Or(why, whyMore))
}

// add watches directories, and returns those that it cannot watch. Adding one again
// is nothing to inotify, and needed when the directory was replaced by another of
// the same name.
func (w *Watcher) add(dirs []string) (failed []string, why error) {
	for _, dir := range dirs {
		if err := w.notes.Add(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			failed, why = append(failed, dir), err // one for all: the kernel's limit is reached
		}
	}
	return failed, why
}

// say says which directories are not watched, when that is news.
func (w *Watcher) say(failed []string, why error) {
	unwatched := strings.Join(failed, " ")
	if unwatched != "" && unwatched != w.unwatched {
		w.log.Warn("cannot watch directories; drift in them is found by the next verify; see fs.inotify.max_user_watches",
			"dirs", unwatched, "err", why)
	}
	w.unwatched = unwatched
}

func (w *Watcher) isDir(name string) bool {
	info, err := w.files.Stat(name)
	return err == nil && info.IsDir()
}

// Watched are the directories with an inotify watch, sorted.
func (w *Watcher) Watched() []string {
	list := w.notes.WatchList()
	slices.Sort(list)
	return list
}
