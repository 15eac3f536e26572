// Package system is the only access to the machine. Whatever the agent reads, writes, runs or asks
// of systemd, logind and polkit goes through it. So a dry run, an image that is not running, fault
// injection and a record of every change work for all kinds, and no kind can forget them.
//
// A System consists of FS, Units, Runner, Clock, Sessions, Authority and Writers. Each is an
// interface of a few methods, or is made of some: code that only reads files takes a FileReader,
// and a test or a wrapper replaces only the part that it needs. Open returns the real ones, below a
// root: "/" for the running machine, or the root directory of an image, where commands run with
// chroot.
//
// Every change passes a Gate first, in the steps between which a machine can die: creating a
// temporary file, writing it, each fsync, the rename, starting a command that changes something.
// ReadOnly refuses all changes, FailNth one, FailFrom all from one on (a crash), and a Recorder
// records them. Every read or question passes a Looker in the same way.
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
	Root   string // "/" for the running machine
	FS     FS
	Rights Rights // the same, for code that takes rights away
	// Guarded is the same, for code that proves that nobody is locked out. Its WriteFile may change sshd_config too,
	// and replaces a symbolic link in one step; its ChangeAttr may change the files of accounts.
	Guarded  FS
	Runner   Runner
	Clock    Clock
	Units    Units
	Sessions Sessions
	// Authority is polkit.
	Authority Authority
	Writers   WriterMonitor
	// Log is for what the agent does to the machine. It is never nil in a System from Open.
	Log *slog.Logger

	journal *journalBox // nil: its lines are dropped
	homes   *pendingLooks
	gate    Gate
}

// Running reports whether this is the running machine and not an image. Only the running machine
// has services, sessions and a kernel to ask.
func (s *System) Running() bool { return s.Root == "/" }

// Options say how Open opens a machine.
type Options struct {
	Root    string       // absolute; "" means "/"
	Backups BackupStore  // nil: no backups
	Gate    Gate         // nil: every change passes
	Look    Looker       // nil: every look passes
	Log     *slog.Logger // nil: no log
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

// A Gate is called before every change. If it returns an error, the change does not happen, and the
// operation returns that error. It must be safe for concurrent use.
type Gate func(Change) error

// ErrReadOnly is the error of every change in a system opened with ReadOnly.
var ErrReadOnly = errors.New("this run must not change anything")

// ReadOnly refuses every change.
func ReadOnly(c Change) error {
	return fmt.Errorf("%w: %s", ErrReadOnly, c)
}

// ErrInjected is the error of a change that FailNth or FailFrom refused.
var ErrInjected = errors.New("injected fault")

// FailNth lets all changes pass except the n-th, counted from 1.
func FailNth(n int) Gate { return fail(func(i int) bool { return i == n }) }

// FailFrom lets the first n-1 changes pass and none after that, like a machine that dies.
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

// A Recorder records every change and lets it pass.
type Recorder struct {
	mu      sync.Mutex
	changes []Change
}

// Gate is the Gate to be used.
func (r *Recorder) Gate(c Change) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changes = append(r.changes, c)
	return nil
}

// Changes returns the changes since the last call.
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

// Here returns the current time in the machine's current time zone. It is for times shown to people
// and for hours of the day. Do not measure with it, because the clock may be set.
func Here(c Clock) time.Time {
	if placed, ok := c.(interface{ here() time.Time }); ok {
		return placed.here()
	}
	if around, ok := c.(interface{ Unwrap() Clock }); ok {
		return Here(around.Unwrap())
	}
	return c.Now()
}

// Earlier reports whether one is before other in wall time. Both times come from outside, or from
// before a restart. A time in the future is from a clock that was wrong, and can only be compared
// with another one in the future.
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
