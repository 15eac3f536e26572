// Package watch says which kinds to check again because something on the machine has changed: a file, by
// inotify; a unit, by systemd's signals; a login or logout, by logind's; the mounts, by the kernel. It
// also reports that the machine has woken up from a sleep, by logind's signal or by a jump of the clock.
//
// It only ever says "check again". The content of an event is never trusted, and a check that finds no
// drift changes nothing. Only signals of systemd and logind themselves count; everybody on the machine can
// send others. What cannot be watched is left to the periodic verify, is reported (Unwatched), and is
// tried again: the kernel limits each user's inotify instances and watches, and others may use them up for
// a time. Units and sessions do not depend on inotify.
//
// No change is lost. When the kernel's event queue overflows, or the connection to the bus was lost,
// everything concerned is checked again. A check covers every change before it began: CatchUp, called
// right before the check, waits until the events of these changes have been read. So the agent's own
// writes do not start a second check.
package watch

import (
	"context"
	"log/slog"
	"maps"
	"path"
	"slices"
	"sync"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/own"
	"github.com/soe-agent/soe-agent/internal/system"
)

// A Watcher follows what the kinds watch. It is safe for concurrent use.
type Watcher struct {
	files system.FS
	log   *slog.Logger
	dirty func(kind string)

	catchUpTimeout time.Duration // how long CatchUp waits at most

	jumper system.Jumper // nil: the clock is not followed

	mountChanges func(ctx context.Context, changed func()) error // nil: mounts are not followed

	resumes resumes   // used by Run alone
	lost    time.Time // when events were last lost; used by Run alone
	moved   moves     // used by Run alone
	marks   marks

	missed chan struct{} // buffer of one: something could not be watched
	opened chan struct{} // buffer of one: an inotify instance was opened

	mu                   sync.Mutex
	localDir, configFile string
	notes                *system.Inotify // nil while it cannot be opened
	closed               bool
	followed             map[string][]converge.Watch // by kind
	dirs                 map[string][]interest
	units                map[string][]string // unit → kinds
	sessions             []string            // kinds
	mounts               []string            // kinds
	unsettled            bursts
	unwatched            string // directories that cannot be watched, and why
	busTrouble           string // why units and sessions cannot be followed; "" if they are
	bus                  *signals
}

// An interest is what a kind watches in a directory.
type interest struct {
	kind   string
	names  []string // names of entries; if empty, all
	settle time.Duration
}

func (i interest) in(name string) bool { return len(i.names) == 0 || slices.Contains(i.names, name) }

// New returns a watcher that follows nothing yet. dirty is called, from any goroutine, with the name of
// each kind to check again, and with LocalPolicy, Configuration, Resumed and WatchesChanged.
func New(files system.FS, log *slog.Logger, dirty func(kind string)) *Watcher {
	return &Watcher{files: files, log: log, dirty: dirty, unsettled: bursts{}, catchUpTimeout: longestCatchUp, missed: make(chan struct{}, 1), opened: make(chan struct{}, 1)}
}

// What dirty is called with when the local policy, or the agent's configuration, may have changed. No
// kinds have these names.
const (
	LocalPolicy   = "local policy"
	Configuration = "configuration"
)

// WatchesChanged is what dirty is called with when the result of Unwatched has changed. No kind has this name.
const WatchesChanged = "watches changed"

// configSettle is how long the configuration or the local policy must be quiet before it is read. A
// file that was just emptied or moved away in order to be rewritten is readable, and would say that no
// policy is published to this machine, or that the policy no longer wants anything here.
const configSettle = 500 * time.Millisecond

// sessionsDir is where logind keeps its state of the sessions. It sends no signal when somebody logs out
// and leaves a process running.
const sessionsDir = "/run/systemd/sessions"

// Follow makes the watcher follow what these kinds watch, the local policy in localDir and the agent's
// configuration, and nothing else. Paths are absolute.
func (w *Watcher) Follow(kinds []converge.Kind, localDir, configFile string) {
	followed := map[string][]converge.Watch{}
	for _, kind := range kinds {
		if watcher, ok := kind.(converge.Watcher); ok {
			followed[kind.Name()] = watcher.Watches()
		}
	}
	w.mu.Lock()
	w.localDir, w.configFile, w.followed = localDir, configFile, followed
	w.arrange()
	bus := w.bus
	w.mu.Unlock()
	if bus != nil {
		w.followUnits(bus)
	}
}

// FollowAlso makes the watcher follow what a kind watches after one of its checks. If that has changed,
// the kind is marked dirty, because events were lost in between.
func (w *Watcher) FollowAlso(kind converge.Explorer) {
	watches := kind.Watches()
	w.mu.Lock()
	defer w.mu.Unlock()
	before, follows := w.followed[kind.Name()]
	if !follows || slices.EqualFunc(before, watches, converge.Watch.Equal) {
		return
	}
	w.followed[kind.Name()] = watches
	w.arrange()
	w.dirty(kind.Name())
}

// arrange decides which kinds an event concerns, and places the watches. mu is held.
func (w *Watcher) arrange() {
	dirs, units := map[string][]interest{w.localDir: {{kind: LocalPolicy, settle: configSettle}}}, map[string][]string{}
	var sessions, mounts []string
	configDir := path.Dir(w.configFile) // the directory, because editors replace the file
	dirs[configDir] = append(dirs[configDir], interest{Configuration, []string{path.Base(w.configFile)}, configSettle})
	for _, kind := range slices.Sorted(maps.Keys(w.followed)) {
		for _, watch := range w.followed[kind] {
			switch {
			case watch.Dir != "":
				dirs[watch.Dir] = append(dirs[watch.Dir], interest{kind, watch.Names, watch.Settle})
			case watch.Unit != "":
				units[watch.Unit] = append(units[watch.Unit], kind)
			case watch.Sessions:
				sessions = append(sessions, kind)
				dirs[sessionsDir] = append(dirs[sessionsDir], interest{kind, nil, 100 * time.Millisecond})
			case watch.Mounts:
				mounts = append(mounts, kind)
			}
		}
	}
	w.dirs, w.units, w.sessions, w.mounts = dirs, units, sessions, mounts
	w.place()
}

// Run follows changes until ctx is done.
func (w *Watcher) Run(ctx context.Context) {
	defer w.close()
	news := makeNews()
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	defer wg.Wait()
	defer cancel() // if the loop panics, do not wait for the bus: an agent that lives on would see nothing
	wg.Go(func() { w.followBus(ctx, news) })
	w.loop(ctx, news)
}

func (w *Watcher) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	if w.notes != nil {
		w.notes.Close()
	}
}

// inotify returns the channels of file events; they are nil while there is no inotify instance.
func (w *Watcher) inotify() (events chan system.FileEvent, problems chan error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.notes == nil {
		return nil, nil
	}
	return w.notes.Events, w.notes.Problems
}

func (w *Watcher) loop(ctx context.Context, bus news) {
	jumps, stop := w.followClock(ctx)
	defer stop()
	mounts, end := w.followMounts(ctx)
	defer end()
	var moved, quiet, again <-chan time.Time
	pauses := newPauses(time.Second)
	for {
		events, problems := w.inotify()
		select {
		case <-ctx.Done():
			return
		case event := <-events:
			if w.file(event) && moved == nil {
				moved = time.After(settleTime)
			}
		case <-moved:
			moved = nil
			if w.moveOn() {
				moved = time.After(settleTime)
			}
		case <-quiet:
			quiet = nil
		case err := <-problems:
			w.overflowed(err)
		case <-w.opened: // the next round listens to it
		case <-w.missed:
			if again == nil {
				again = time.After(pauses.NextBackOff())
			}
		case <-again:
			again = nil
			if w.placeMissing() {
				pauses.Reset()
			}
		case name := <-bus.unit:
			w.unit(name)
		case <-bus.session:
			w.session()
		case <-mounts:
			w.mounted()
		case <-bus.woken:
			w.resumed(byLogind, 0)
		case <-bus.joined:
			w.joined() // signals were lost until now
		case ahead := <-jumps:
			if ahead >= shortestSleep {
				w.resumed(byClock, ahead)
			}
		}
		if quiet == nil {
			quiet = w.settled()
		}
	}
}

// sayLostAgain is how long no events must have been lost before a loss is logged as a warning again.
const sayLostAgain = time.Minute

// overflowed marks every kind dirty: an overflow has lost events.
func (w *Watcher) overflowed(err error) {
	level := slog.LevelDebug
	if now := time.Now(); now.Sub(w.lost) > sayLostAgain {
		level, w.lost = slog.LevelWarn, now
	}
	w.log.Log(context.Background(), level, "inotify lost events; every kind is checked again", "err", err)
	w.markAll()
	w.marks.reached() // the mark may be lost too
}

func (w *Watcher) unit(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, kind := range w.units[name] {
		w.dirty(kind)
	}
}

func (w *Watcher) session() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, kind := range w.sessions {
		w.dirty(kind)
	}
}

// joined marks every kind dirty that follows anything over the bus.
func (w *Watcher) joined() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, kinds := range w.units {
		for _, kind := range kinds {
			w.dirty(kind)
		}
	}
	for _, kind := range w.sessions {
		w.dirty(kind)
	}
}

// markAll places all watches again and marks every kind dirty that watches files.
func (w *Watcher) markAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.place()
	for _, interests := range w.dirs {
		for _, i := range interests {
			w.notice(i)
		}
	}
}

// file handles an event. It returns whether a followed directory, or one above it, has come or gone.
func (w *Watcher) file(event system.FileEvent) (moved bool) {
	if event.Name != "" && event.Name == w.marks.name() {
		w.marks.reached()
		return false
	}
	dir, base := path.Split(event.Name)
	if _, is := own.IsTemporary(base); is {
		return false // a file that the agent is writing
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, i := range w.dirs[path.Clean(dir)] {
		if i.in(base) {
			w.notice(i)
		}
	}
	for _, i := range w.dirs[event.Name] { // the directory's own mode or owner changed
		w.notice(i)
	}
	if !event.Moved {
		return false
	}
	// An entry came or went: it may be a followed directory, or one above it.
	if !w.noticeBelow(event.Name) {
		return false
	}
	if w.moved.add(event.Name) {
		w.place()
	}
	return true
}

// notice reports a change at once, or when it has settled.
func (w *Watcher) notice(i interest) {
	if i.settle == 0 {
		w.dirty(i.kind)
		return
	}
	w.unsettled.add(i.kind, i.settle, time.Now())
}

// settled reports the changes that have settled, and returns when to ask again.
func (w *Watcher) settled() <-chan time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	over, wait := w.unsettled.over(time.Now())
	for _, kind := range over {
		w.dirty(kind)
	}
	if wait == 0 {
		return nil
	}
	return time.After(wait)
}
