package system

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/soe-agent/soe-agent/internal/public"
)

// ErrHangs is wrapped by the error of a look that its file system does not answer.
var ErrHangs = errors.New("its file system does not answer")

// silence is how long a look at a home may take before its file system counts as silent.
const silence = time.Second

// pendingLooks are those at homes that are under way. The file system of a home may be a server's
// that is gone, or a program's of the person's own: whoever looks into it then is held by the kernel.
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

// StatHome is FS.Stat, and ListHomes FS.ReadDir, for places of which nobody knows whether they
// answer. Neither takes longer than a second, nor than ctx: the error wraps ErrHangs. The look is
// left behind then, and for as long as it lasts it is not begun again, nor waited for by anybody.
func (s *System) StatHome(ctx context.Context, home string) (Info, error) {
	return answer(ctx, s.homes, "look at", home, s.FS.Stat)
}

// ListHomes is described with StatHome.
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
	case <-l.ended: // also where there was no time left
		found, _ := l.found.(T)
		return found, l.err
	default:
		var none T
		return none, public.Error(fmt.Errorf("cannot %s %s: %w", verb, name, ErrHangs))
	}
}

// join returns the look of that key, which is begun if there is none.
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
