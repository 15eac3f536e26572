package watch

import (
	"context"
	"sync"
	"time"

	"github.com/soe-agent/soe-agent/internal/system"
)

// marks are set in the stream of events, to know when it has been read so far.
type marks struct {
	file string // whose change is the mark; "" when there is to be none

	setting sync.Mutex // one at a time

	mu     sync.Mutex
	placed bool          // it is watched
	next   chan struct{} // closed when the mark is reached; nil when nobody waits
}

// reached lets go whoever waits for the mark.
func (m *marks) reached() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.next != nil {
		close(m.next)
		m.next = nil
	}
}

// name is the file, while it is watched.
func (m *marks) name() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.placed {
		return ""
	}
	return m.file
}

// place has the file watched, if there is one.
func (m *marks) place(notes *system.Inotify) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.file != "" && !m.placed {
		m.placed = notes.AddFile(m.file) == nil
	}
}

// MarkWith names a file, of the agent's own and on a file system in memory, by
// whose changes the watcher finds out how far it has read. It must be called before
// Run; without it CatchUp does not wait.
func (w *Watcher) MarkWith(file string) error {
	if err := w.files.WriteFile(file, nil, system.Attr{Mode: 0o600}); err != nil {
		return err
	}
	w.marks.file = file // watched by the first Follow that can
	return nil
}

// longestCatchUp bounds how long a check waits for the events before it. There may
// be more than are soon read, or the mark is lost. Nothing is lost then but time:
// events that come later are checked later.
const longestCatchUp = 50 * time.Millisecond

// CatchUp waits until dirty has been called for all that has changed in files
// before. It is for whoever is about to check these kinds, and sees all that
// itself: what is known by then, and waits to settle, needs no further telling.
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
	timeout := time.NewTimer(w.patience)
	defer timeout.Stop()
	select {
	case <-reached:
	case <-timeout.C:
	case <-ctx.Done():
	}
}

// longestBurst is how long changes may go on until they are told of all the same.
const longestBurst = 15 * time.Second

// bursts are changes, by kind, that are told of when no more come.
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

// over takes out the kinds of which enough has been waited for, and returns how
// long to wait for the next, 0 when there is none.
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
