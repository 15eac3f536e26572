package watch

import (
	"context"
	"sync"
	"time"

	"github.com/soe-agent/soe-agent/internal/system"
)

// marks puts a mark into the stream of inotify events, to find out when all events before it have been read.
type marks struct {
	file string // a change of this file is the mark; "" if marks are off

	setting sync.Mutex // held while a mark is on its way: there is only one at a time

	mu     sync.Mutex
	placed bool          // the file is watched
	next   chan struct{} // closed when the mark arrives; nil if nobody waits
}

// reached wakes up whoever waits for the mark.
func (m *marks) reached() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.next != nil {
		close(m.next)
		m.next = nil
	}
}

// name returns the file if it is watched, else "".
func (m *marks) name() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.placed {
		return ""
	}
	return m.file
}

// place adds the watch on the file, if there is a file.
func (m *marks) place(notes *system.Inotify) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.file != "" && !m.placed {
		m.placed = notes.AddFile(m.file) == nil
	}
}

// MarkWith sets the file whose changes tell the watcher how far it has read. The file belongs to the
// agent and should be on a file system in memory. Call it before Run; without it CatchUp does not wait.
func (w *Watcher) MarkWith(file string) error {
	if err := w.files.WriteFile(file, nil, system.Attr{Mode: 0o600}); err != nil {
		return err
	}
	w.marks.file = file // the first Follow that can watches it
	return nil
}

// longestCatchUp bounds how long a check waits for the events before it. There may be too many events to
// read in that time, or the mark may be lost. That costs only time: events that are read later start
// another check.
const longestCatchUp = 50 * time.Millisecond

// CatchUp waits until dirty has been called for every earlier change of a file. Call it right before
// checking these kinds: the check will see all of those changes, so those that still wait to settle are
// dropped for these kinds.
func (w *Watcher) CatchUp(ctx context.Context, kinds []string) {
	w.waitForMark(ctx)
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, kind := range kinds {
		delete(w.unsettled, kind)
	}
}

func (w *Watcher) waitForMark(ctx context.Context) {
	if w.marks.name() == "" {
		return
	}
	w.marks.setting.Lock()
	defer w.marks.setting.Unlock()
	reached := make(chan struct{})
	w.marks.mu.Lock()
	w.marks.next = reached
	w.marks.mu.Unlock()
	if err := w.files.SetAttr(w.marks.file, system.Attr{Mode: 0o600, UID: -1, GID: -1}); err != nil {
		w.log.Debug("cannot tell whether all file events have been read", "err", err)
		return
	}
	timeout := time.NewTimer(w.catchUpTimeout)
	defer timeout.Stop()
	select {
	case <-reached:
	case <-timeout.C:
	case <-ctx.Done():
	}
}

// longestBurst is how long a series of changes may last before it is reported although it goes on.
const longestBurst = 15 * time.Second

// bursts are changes, by kind, that are reported when they have settled.
type bursts map[string]*burst

type burst struct {
	first, last time.Time
	settle      time.Duration
}

func (b bursts) add(kind string, settle time.Duration, now time.Time) {
	if b[kind] == nil {
		b[kind] = &burst{first: now}
	}
	b[kind].last, b[kind].settle = now, settle
}

// over removes and returns the kinds whose changes are to be reported now, and returns how long to wait
// for the next one; 0 if there is none.
func (b bursts) over(now time.Time) (kinds []string, wait time.Duration) {
	for kind, burst := range b {
		left := min(burst.last.Add(burst.settle).Sub(now), burst.first.Add(longestBurst).Sub(now))
		switch {
		case left <= 0:
			kinds = append(kinds, kind)
			delete(b, kind)
		case wait == 0 || left < wait:
			wait = left
		}
	}
	return kinds, wait
}
