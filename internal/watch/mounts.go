package watch

import (
	"context"
	"time"
)

// mountsSettle is how long nothing more must be mounted for it to be told of: much may be at once.
const mountsSettle = 100 * time.Millisecond

// FollowMounts makes Run tell also of what is mounted, unmounted or remounted. changes is
// system.MountChanges. It must be called before Run.
func (w *Watcher) FollowMounts(changes func(ctx context.Context, changed func()) error) {
	w.mountChanges = changes
}

// followMounts tells when something is mounted, unmounted or remounted, and what ends the
// following.
func (w *Watcher) followMounts(ctx context.Context) (changes <-chan struct{}, stop func()) {
	if w.mountChanges == nil {
		return nil, func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	found, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		err := w.mountChanges(ctx, func() {
			select {
			case found <- struct{}{}:
			case <-ctx.Done():
			}
		})
		if ctx.Err() == nil {
			w.log.Warn("cannot watch what is mounted; its drift is found by the periodic verify", "err", err)
		}
	}()
	return found, func() {
		cancel()
		<-ended
	}
}

func (w *Watcher) mounted() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, kind := range w.mounts {
		w.notice(interest{kind: kind, settle: mountsSettle})
	}
}
