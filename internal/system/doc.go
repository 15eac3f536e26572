// Package system is the only door to the machine. Whatever the agent reads,
// writes, runs or asks of systemd, logind and polkit goes through it, so that a dry run,
// an image that is not running, fault injection and a record of every change
// come for free, and no kind can forget them.
//
// A System bundles FS, Units, Runner, Clock, Sessions, Authority and Writers. Each is an
// interface of a few methods, or made of some: what only reads files takes a FileReader, and
// a test or a wrapper replaces the one part that it plays.
// Open returns the real ones, below a root: "/" for the running machine, or the
// root directory of an image, in which commands then run by chroot.
//
// Every change passes a Gate first, at the granularity at which a machine can
// die: creating a temporary file, writing it, each fsync, the rename, starting a
// command that changes something. ReadOnly refuses all changes, FailNth one,
// FailFrom all from one on (a crash), and a Recorder notes them. Every look passes a
// Looker, in the same way.
package system

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"
)

// A System is a machine as the agent sees it.
type System struct {
	Root     string // "/" for the running machine
	FS       FS
	Rights   Rights // the same, for who takes rights away
	Guarded  FS     // the same, for who proves that nobody is locked out: it may change sshd_config too
	Runner   Runner
	Clock    Clock
	Units    Units
	Sessions Sessions
	// Authority is polkit.
	Authority Authority
	Writers   WriterMonitor
	// Log is where the agent says what it does to the machine. It is never nil in a System that
	// Open returns.
	Log *slog.Logger

	journal *journalBox // nil: what goes there is dropped
	homes   *pendingLooks
	gate    Gate
}

// Running says whether this is the running machine, and not an image: only then are there services,
// sessions and a kernel to ask.
func (s *System) Running() bool { return s.Root == "/" }

// Options say how Open opens a machine.
type Options struct {
	Root    string       // absolute; "" means "/"
	Backups BackupStore  // nil: nothing is kept
	Gate    Gate         // nil: every change may pass
	Look    Looker       // nil: every look is taken
	Log     *slog.Logger // nil: nothing is said
	// Unregister lifts the protection of the state of amazon-ssm-agent. Sealing an image needs it.
	Unregister bool
}

// Open returns the machine below a root.
func Open(options Options) (*System, error) {
	root := "/"
	if options.Root != "" {
		root = filepath.Clean(options.Root)
	}
	if !filepath.IsAbs(root) {
		return nil, fmt.Errorf("cannot open the root directory %s: it is not an absolute path", root)
	}
	gate := options.Gate
	if gate == nil {
		gate = func(Change) error { return nil }
	}
	log := options.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	disk, err := openDisk(root, options.Backups, gate, options.Look)
	if err != nil {
		return nil, err
	}
	disk.unregister, disk.log = options.Unregister, log
	runner := &runner{root: root, gate: gate, look: options.Look, log: log}
	s := &System{Root: root, FS: fsOf(disk), Rights: rightsOf(disk), Guarded: guardedOf(disk), Runner: runner, Clock: wallClock{&zone{file: localtime}}, Log: log, homes: &pendingLooks{}, gate: gate}
	if s.Running() {
		s.journal = newJournalBox(journalSocket)
		bus := &bus{gate: gate, look: options.Look, files: disk, dialing: newTurn(), mute: map[string]muteness{}}
		runner.bus = bus
		s.Units, s.Sessions, s.Writers = Units{bus, bus, bus, bus}, bus, fanotify{}
		s.Authority = &authority{look: options.Look, asking: newTurn()}
	} else {
		s.Units, s.Sessions, s.Authority, s.Writers = Units{notRunning{}, notRunning{}, notRunning{}, notRunning{}}, notRunning{}, notRunning{}, noMonitor{}
	}
	return s, nil
}

// A Change is one step that alters the machine.
type Change struct {
	Op     string // "create", "write", "sync", "rename", "remove", "run", "start", …
	Target string // a path, a command line or a unit
}

func (c Change) String() string { return c.Op + " " + c.Target }

// A Gate is asked before every change; an error keeps it from happening and is
// the error of the operation that wanted it. It may be called by several
// goroutines at once.
type Gate func(Change) error

// ErrReadOnly is the error of every change in a system opened with ReadOnly.
var ErrReadOnly = errors.New("this run must not change anything")

// ReadOnly refuses every change.
func ReadOnly(c Change) error {
	return fmt.Errorf("%w: %s", ErrReadOnly, c)
}

// ErrInjected is the error of a change that FailNth or FailFrom refused.
var ErrInjected = errors.New("injected fault")

// FailNth lets all changes pass but the n-th, counted from 1: one fault.
func FailNth(n int) Gate { return fail(func(i int) bool { return i == n }) }

// FailFrom lets the first n-1 changes pass and none after: a machine that dies.
func FailFrom(n int) Gate { return fail(func(i int) bool { return i >= n }) }

func fail(refused func(int) bool) Gate {
	var mu sync.Mutex
	count := 0
	return func(c Change) error {
		mu.Lock()
		defer mu.Unlock()
		if count++; refused(count) {
			return fmt.Errorf("%w at change %d: %s", ErrInjected, count, c)
		}
		return nil
	}
}

// A Recorder notes every change and lets it pass.
type Recorder struct {
	mu      sync.Mutex
	changes []Change
}

// Gate is the gate that records.
func (r *Recorder) Gate(c Change) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changes = append(r.changes, c)
	return nil
}

// Changes returns what passed since the last call.
func (r *Recorder) Changes() []Change {
	r.mu.Lock()
	defer r.mu.Unlock()
	changes := r.changes
	r.changes = nil
	return changes
}

// A Clock tells the time and lets it pass.
type Clock interface {
	// Now has a monotonic reading: the difference of two times of one process is what has passed,
	// even if the clock was set meanwhile. It is not in the time zone of the machine: see Here.
	Now() time.Time
	// Sleep waits for d, or until ctx is done, whose error it then returns.
	Sleep(ctx context.Context, d time.Duration) error
}

type wallClock struct{ zone *zone }

func (wallClock) Now() time.Time { return time.Now() }

func (c wallClock) here() time.Time { return time.Now().In(c.zone.here()) }

// Here is the current time in the time zone that the machine has now. It is for what people read
// and for hours of the day. It has no use for measuring, since the clock may be set.
func Here(c Clock) time.Time {
	if placed, ok := c.(interface{ here() time.Time }); ok {
		return placed.here()
	}
	if around, ok := c.(interface{ Unwrap() Clock }); ok {
		return Here(around.Unwrap())
	}
	return c.Now()
}

// Earlier says whether one thing was before another by wall time. Both times come from outside, or
// from before a restart. A time in the future is from a clock that was wrong, and can only be
// compared with another one in the future.
func Earlier(one, other, now time.Time) bool {
	one, other, now = one.Round(0), other.Round(0), now.Round(0)
	return one.Before(other) && one.After(now) == other.After(now)
}

func (wallClock) Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
