package converge

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/soe-agent/soe-agent/internal/system"
)

// grace is how long a Check may take to return after its context has ended.
const grace = 2 * time.Second

// Hangs holds the kinds whose Check was given up and has not returned since, with the time at which it
// began. A thread that hangs in the kernel, for instance on a file server that does not answer, cannot
// be ended. Nothing else should wait for it, and no second check should join it.
type Hangs struct {
	mu    sync.Mutex
	since map[string]time.Time
}

// Hanging returns the kinds whose Check has exceeded CheckTimeout and has not returned, with the time
// at which it began. They are skipped until it returns.
func (e *Engine) Hanging() map[string]time.Time {
	e.Hangs.mu.Lock()
	defer e.Hangs.mu.Unlock()
	return maps.Clone(e.Hangs.since)
}

// answer is the result of a Check.
type answer struct {
	resources []Resource
	err       error
}

// checkWithTimeout calls a kind's Check and waits for it for CheckTimeout, plus grace.
func (p *pass) checkWithTimeout(ctx context.Context, kind Kind) ([]Resource, error) {
	if p.CheckTimeout == 0 {
		return p.callCheck(ctx, kind)
	}
	name, start := kind.Name(), p.clock.Now()
	if since, hangs := p.Hanging()[name]; hangs {
		return nil, p.noAnswer(name, since)
	}
	bounded, cancel := context.WithTimeout(ctx, p.CheckTimeout)
	defer cancel()
	answered := make(chan answer, 1)
	go func() {
		resources, err := p.callCheck(bounded, kind)
		if p.answered(name, answered, answer{resources, err}) && p.HangEnded != nil {
			p.HangEnded(name)
		}
	}()
	select {
	case a := <-answered:
		return a.resources, a.err
	case <-bounded.Done():
	}
	timer := time.NewTimer(min(grace, p.CheckTimeout))
	defer timer.Stop()
	select {
	case a := <-answered:
		return a.resources, a.err
	case <-timer.C:
		return p.giveUp(name, answered, start)
	}
}

// answered delivers the result of a Check. late is true if the Check had been given up already.
func (e *Engine) answered(kind string, to chan<- answer, a answer) (late bool) {
	e.Hangs.mu.Lock()
	defer e.Hangs.mu.Unlock()
	if _, late = e.Hangs.since[kind]; late {
		delete(e.Hangs.since, kind)
		return true
	}
	to <- a // its buffer has room for one
	return false
}

// giveUp sets a kind aside until its Check returns, unless it has returned at the last moment.
func (e *Engine) giveUp(kind string, answered <-chan answer, start time.Time) ([]Resource, error) {
	e.Hangs.mu.Lock()
	defer e.Hangs.mu.Unlock()
	select {
	case a := <-answered:
		return a.resources, a.err
	default:
	}
	if e.Hangs.since == nil {
		e.Hangs.since = map[string]time.Time{}
	}
	e.Hangs.since[kind] = start
	e.log.Error("a check hangs; its kind is skipped until it returns", "kind", kind, "since", start)
	return nil, e.noAnswer(kind, start)
}

func (e *Engine) noAnswer(kind string, since time.Time) error {
	return fmt.Errorf("cannot check %s: its check has hung since %s; the kind is skipped until it returns", kind, since.In(system.Here(e.clock).Location()).Format(time.TimeOnly))
}
