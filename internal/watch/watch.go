// Package watch tells which kinds to look at again because something on the
// machine has changed: a file, by inotify; a unit, by systemd's signals; a login
// or logout, by logind's. And it tells when the machine has woken from a sleep, by
// logind's signal or by the jump of the clock.
//
// It only ever says "look again": what is seen is never trusted, and a kind that
// finds nothing wrong does nothing. Signals count that come from systemd and logind
// themselves; everybody on the machine can send others. What cannot be watched is
// left to the full verify that happens from time to time.
package watch

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/system"
)

// A Watcher follows what the kinds watch. Its methods may be called by several
// goroutines.
type Watcher struct {
	files system.FS
	log   *slog.Logger
	notes *fsnotify.Watcher
	dirty func(kind string)

	jumper  system.Jumper // nil: none is followed
	resumes resumes       // of Run alone

	mu       sync.Mutex
	dirs     map[string][]string // directory → kinds
	units    map[string][]string // unit → kinds
	sessions []string            // kinds
	bus      *signals
}

// New returns a watcher that follows nothing yet. dirty is called, from any
// goroutine, with the name of each kind that should look again, and with LocalPolicy
// and Resumed.
func New(files system.FS, log *slog.Logger, dirty func(kind string)) (*Watcher, error) {
	notes, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("cannot watch files: %w; see fs.inotify.max_user_instances", err)
	}
	return &Watcher{files: files, log: log, notes: notes, dirty: dirty}, nil
}

// LocalPolicy is what dirty is called with when the local policy may have
// changed. It is the name of no kind.
const LocalPolicy = "local policy"

// Follow makes the watcher follow what these kinds watch and the local policy in
// localDir, and nothing else.
func (w *Watcher) Follow(kinds []converge.Kind, localDir string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dirs, w.units, w.sessions = map[string][]string{localDir: {LocalPolicy}}, map[string][]string{}, nil
	for _, kind := range kinds {
		watcher, ok := kind.(converge.Watcher)
		if !ok {
			continue
		}
		for _, watch := range watcher.Watches() {
			switch {
			case watch.Dir != "":
				w.dirs[watch.Dir] = append(w.dirs[watch.Dir], kind.Name())
			case watch.Unit != "":
				w.units[watch.Unit] = append(w.units[watch.Unit], kind.Name())
			case watch.Sessions:
				w.sessions = append(w.sessions, kind.Name())
			}
		}
	}
	w.place()
	if w.bus != nil {
		w.bus.follow(w.units)
	}
}

// place makes the inotify watches those that the directories need: the
// directory itself, and while it is not there the nearest one above, so that it
// is noticed when it comes.
func (w *Watcher) place() {
	needed := map[string]bool{}
	for dir := range w.dirs {
		needed[w.nearest(dir)] = true
	}
	for _, placed := range w.notes.WatchList() {
		if !needed[placed] {
			_ = w.notes.Remove(placed) // it may have gone with its directory
		}
	}
	for dir := range needed {
		// Adding one again is nothing to inotify, and needed when the directory was
		// replaced by another of the same name.
		if err := w.notes.Add(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			w.log.Warn("cannot watch a directory; drift in it is found by the next verify", "dir", dir, "err", err)
		}
	}
}

func (w *Watcher) nearest(dir string) string {
	for dir != "/" {
		if info, err := w.files.Stat(dir); err == nil && info.IsDir() {
			return dir
		}
		dir = path.Dir(dir)
	}
	return dir
}

// Run follows changes until ctx is done.
func (w *Watcher) Run(ctx context.Context) {
	defer w.notes.Close()
	bus, err := connect(ctx)
	if err != nil {
		w.log.Warn("cannot follow services and sessions; drift of them is found by the next verify", "err", err)
		bus = &signals{}
	} else {
		defer bus.close()
		w.mu.Lock()
		w.bus = bus
		bus.follow(w.units)
		w.mu.Unlock()
	}
	w.loop(ctx, bus)
}

func (w *Watcher) loop(ctx context.Context, bus *signals) {
	jumps, stop := w.followClock(ctx)
	defer stop()
	var settled <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case event, ok := <-w.notes.Events:
			if !ok {
				return
			}
			if w.file(event) {
				settled = time.After(settleTime)
			}
		case <-settled:
			settled = nil
			w.everything()
		case err := <-w.notes.Errors:
			// An overflow has lost events: everything may have changed.
			w.log.Warn("inotify lost events; looking at everything", "err", err)
			w.everything()
		case signal, ok := <-bus.unit:
			if !ok {
				bus.unit = nil // the bus went away; the next verify makes up for it
				continue
			}
			w.unit(signal)
		case _, ok := <-bus.session:
			if !ok {
				bus.session = nil
				continue
			}
			w.session()
		case _, ok := <-bus.woken:
			if !ok {
				bus.woken = nil
				continue
			}
			w.resumed(byLogind, 0)
		case ahead := <-jumps:
			if ahead >= shortestSleep {
				w.resumed(byClock, ahead)
			}
		}
	}
}

func (w *Watcher) mark(kinds []string) {
	for _, kind := range kinds {
		w.dirty(kind)
	}
}

func (w *Watcher) unit(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mark(w.units[name])
}

func (w *Watcher) session() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mark(w.sessions)
}

// everything places all watches anew and has all kinds look again.
func (w *Watcher) everything() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, placed := range w.notes.WatchList() {
		_ = w.notes.Remove(placed) // it may be another directory's by now
	}
	w.place()
	for _, kinds := range w.dirs {
		w.mark(kinds)
	}
}

// settleTime is how long after the last of them all events about a directory that
// came or went have been read. There are several for one move, and some of them
// undo what was done upon the first; so then all is placed anew.
const settleTime = 50 * time.Millisecond

// file takes an event in. It says whether a directory that is followed has come
// or gone.
func (w *Watcher) file(event fsnotify.Event) (moved bool) {
	dir, base := path.Split(event.Name)
	if strings.HasPrefix(base, ".") && strings.HasSuffix(base, ".soe.swp") {
		return false // a file that is being written here, see system.Temporary
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mark(w.dirs[path.Clean(dir)])
	w.mark(w.dirs[event.Name]) // the mode or owner of the directory itself
	if event.Op == fsnotify.Write || event.Op == fsnotify.Chmod {
		return false
	}
	// Something came or went: perhaps a directory that is waited for.
	for watched, kinds := range w.dirs {
		if watched == event.Name || strings.HasPrefix(watched, event.Name+"/") {
			moved = true
			w.mark(kinds)
		}
	}
	if moved {
		w.place()
	}
	return moved
}

// Watched are the directories with an inotify watch, sorted.
func (w *Watcher) Watched() []string {
	list := w.notes.WatchList()
	slices.Sort(list)
	return list
}
