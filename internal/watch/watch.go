// Package watch tells which kinds to check again because something on the
// machine has changed: a file, by inotify; a unit, by systemd's signals; a login
// or logout, by logind's; what is mounted, by the kernel. And it tells when the machine has woken from a sleep, by
// logind's signal or by the jump of the clock.
//
// It only ever says "look again": what is seen is never trusted, and a kind that
// finds nothing wrong does nothing. Signals count that come from systemd and logind
// themselves; everybody on the machine can send others. What cannot be watched is
// left to the full verify that happens from time to time, is said (Unwatched), and is
// tried again: the kernel gives each user so many inotify instances and watches, and
// others may have them all for a time. Units and sessions do not hang on that.
//
// Nothing that changes is lost. When the kernel's queue of events overflows, or the
// bus has been away, all is checked. And a check answers all that was told before
// it began: CatchUp, called right before, has told of everything by then, so that
// what the agent has just written itself need not be checked twice.
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

// A Watcher follows what the kinds watch. Its methods may be called by several
// goroutines.
type Watcher struct {
	files system.FS
	log   *slog.Logger
	dirty func(kind string)

	patience time.Duration // of CatchUp

	jumper system.Jumper // nil: none is followed

	mountChanges func(ctx context.Context, changed func()) error // nil: none are followed

	resumes resumes   // of Run alone
	lost    time.Time // when events were lost last; of Run alone
	moved   moves     // of Run alone
	marks   marks

	missed chan struct{} // holds one: something could not be watched
	opened chan struct{} // holds one: there is an inotify instance

	mu                   sync.Mutex
	localDir, configFile string
	notes                *system.Inotify // nil while there is none to be had
	closed               bool
	followed             map[string][]converge.Watch // by kind
	dirs                 map[string][]interest
	units                map[string][]string // unit → kinds
	sessions             []string            // kinds
	mounts               []string            // kinds
	unsettled            bursts
	unwatched            string // the directories that could not be watched last, and why
	deaf                 string // why units and sessions cannot be followed
	bus                  *signals
}

// An interest is what a kind cares for in a directory.
type interest struct {
	kind   string
	names  []string // of entries; empty: all
	settle time.Duration
}

func (i interest) in(name string) bool { return len(i.names) == 0 || slices.Contains(i.names, name) }

// New returns a watcher that follows nothing yet. dirty is called, from any
// goroutine, with the name of each kind that should look again, and with LocalPolicy,
// Configuration, Resumed and Sight.
func New(files system.FS, log *slog.Logger, dirty func(kind string)) *Watcher {
	return &Watcher{files: files, log: log, dirty: dirty, unsettled: bursts{}, patience: longestCatchUp, missed: make(chan struct{}, 1), opened: make(chan struct{}, 1)}
}

// What dirty is called with when the local policy, or the agent's configuration, may
// have changed. They are the names of no kinds.
const (
	LocalPolicy   = "local policy"
	Configuration = "configuration"
)

// WatchesChanged is what dirty is called with when Unwatched says something else than before. It
// is the name of no kind.
const WatchesChanged = "watches changed"

// half is how long nothing more must be written to the configuration or the local
// policy for it to be taken for whole: what has just been emptied or moved away to be
// written anew can be read, and says that no policy is published to this machine, or
// that what the policy wanted here is wanted no longer.
const half = 500 * time.Millisecond

// sessionsDir is where logind keeps what it knows of sessions. It sends no signal when
// somebody logs out and leaves something running.
const sessionsDir = "/run/systemd/sessions"

// Follow makes the watcher follow what these kinds watch, the local policy in
// localDir and the agent's configuration, and nothing else. Names are absolute.
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

// FollowAlso makes the watcher follow what a kind watches by now, after one of its checks. If
// that has changed, the kind is marked dirty: events in between are lost.
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

// arrange works out who is told of what, and places the watches for it. mu is held.
func (w *Watcher) arrange() {
	dirs, units := map[string][]interest{w.localDir: {{kind: LocalPolicy, settle: half}}}, map[string][]string{}
	var sessions, mounts []string
	configDir := path.Dir(w.configFile) // editors put another file in its place
	dirs[configDir] = append(dirs[configDir], interest{Configuration, []string{path.Base(w.configFile)}, half})
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
	defer cancel() // a panic of the loop must not wait for the bus: whoever lives on sees nothing
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

// inotify is what tells of files; while there is nothing, neither channel ever does.
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
			w.overflown(err)
		case <-w.opened: // and that is what there is to listen to now
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
			w.joined() // nobody has told of what happened until now
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

// sayLostAgain is how long no events must have been lost for it to be worth a
// warning when some are.
const sayLostAgain = time.Minute

// overflown marks every kind dirty: an overflow has lost events.
func (w *Watcher) overflown(err error) {
	level := slog.LevelDebug
	if now := time.Now(); now.Sub(w.lost) > sayLostAgain {
		level, w.lost = slog.LevelWarn, now
	}
	w.log.Log(context.Background(), level, "inotify lost events; every kind is checked again", "err", err)
	w.everything()
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

// joined has all kinds look again that follow anything by the bus.
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

// everything places all watches anew and has all kinds look again that watch files.
func (w *Watcher) everything() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.place()
	for _, interests := range w.dirs {
		for _, i := range interests {
			w.notice(i)
		}
	}
}

// file takes an event in. It says whether a directory that is followed has come
// or gone.
func (w *Watcher) file(event system.FileEvent) (moved bool) {
	if event.Name != "" && event.Name == w.marks.name() {
		w.marks.reached()
		return false
	}
	dir, base := path.Split(event.Name)
	if _, is := own.IsTemporary(base); is {
		return false // a file that is being written here
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, i := range w.dirs[path.Clean(dir)] {
		if i.in(base) {
			w.notice(i)
		}
	}
	for _, i := range w.dirs[event.Name] { // the mode or owner of the directory itself
		w.notice(i)
	}
	if !event.Moved {
		return false
	}
	// Something came or went: perhaps a directory that is waited for.
	if !w.noticeBelow(event.Name) {
		return false
	}
	if w.moved.add(event.Name) {
		w.place()
	}
	return true
}

// notice tells of a change at once, or when no more come with it.
func (w *Watcher) notice(i interest) {
	if i.settle == 0 {
		w.dirty(i.kind)
		return
	}
	w.unsettled.add(i.kind, i.settle, time.Now())
}

// settled tells of the bursts that are over, and returns when to ask again.
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
