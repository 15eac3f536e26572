package system

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/soe-agent/soe-agent/internal/public"
)

// ErrHangs is wrapped by the error of a look whose file system does not answer.
var ErrHangs = errors.New("its file system does not answer")

// silence is how long a look at a home may take before its file system counts as hanging.
const silence = time.Second

// pendingLooks are the looks at homes that have not ended. The file system of a home may be on a
// server that has gone, or served by a program of the person's; the kernel then blocks whoever
// accesses it.
type pendingLooks struct {
	mu    sync.Mutex
	looks map[string]*pendingLook
}

type pendingLook struct {
	since time.Time
	ended chan struct{} // closed when the fields below are set
	found any
	err   error
}

// StatHome is FS.Stat, and ListHomes is FS.ReadDir, for paths that may hang. Neither takes longer
// than a second, or than ctx; the error then wraps ErrHangs. The look then continues in the
// background. While it does, the same look is neither started again nor waited for.
func (s *System) StatHome(ctx context.Context, home string) (Info, error) {
	return answer(ctx, s.homes, "look at", home, s.FS.Stat)
}

// ListHomes: see StatHome.
func (s *System) ListHomes(ctx context.Context, dir string) ([]string, error) {
	return answer(ctx, s.homes, "list", dir, s.FS.ReadDir)
}

func answer[T any](ctx context.Context, pending *pendingLooks, verb, name string, look func(string) (T, error)) (T, error) {
	l := pending.join(verb+" "+name, func() (any, error) { return look(name) })
	timer := time.NewTimer(silence - time.Since(l.since))
	defer timer.Stop()
	select {
	case <-l.ended:
	case <-timer.C:
	case <-ctx.Done():
	}
	select {
	case <-l.ended: // even if no time was left
		found, _ := l.found.(T)
		return found, l.err
	default:
		var none T
		return none, public.Error(fmt.Errorf("cannot %s %s: %w", verb, name, ErrHangs))
	}
}

// join returns the pending look with that key, and starts one if there is none.
func (p *pendingLooks) join(key string, look func() (any, error)) *pendingLook {
	if p == nil {
		p = &pendingLooks{}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if l, is := p.looks[key]; is {
		return l
	}
	if p.looks == nil {
		p.looks = map[string]*pendingLook{}
	}
	l := &pendingLook{since: time.Now(), ended: make(chan struct{})}
	p.looks[key] = l
	go func() {
		l.found, l.err = look()
		p.mu.Lock()
		delete(p.looks, key)
		p.mu.Unlock()
		close(l.ended)
	}()
	return l
}
