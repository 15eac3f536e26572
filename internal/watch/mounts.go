package watch

import (
	"context"
	"time"
)

// mountsSettle is how long the mounts must be quiet before a change is reported: many may come at once.
const mountsSettle = 100 * time.Millisecond

// FollowMounts makes Run report mounts, unmounts and remounts as well. changes is system.MountChanges.
// Call it before Run.
func (w *Watcher) FollowMounts(changes func(ctx context.Context, changed func()) error) {
	w.mountChanges = changes
}

// followMounts returns a channel that receives at each change of the mounts, and a function that stops it.
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
