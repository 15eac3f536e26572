package agent

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
)

// A worker checks and repairs its kinds whenever one of them may have drifted. It acts on the first
// event at once; events during a pass lead to one more pass. With detachAfter, a slow kind is taken out
// of the pass and goes on by itself, and the others do not wait for it.
type worker struct {
	// done is called after each pass, from the goroutine that made it.
	done func(*worker, converge.Result)
	// catchUp returns when every earlier change of a file has been marked. It may be nil.
	catchUp func(ctx context.Context, kinds []string)

	// detachAfter is how long a pass waits for one of its kinds before it goes on without it; 0 means
	// for ever.
	detachAfter time.Duration

	// passBegun, if not nil, has a buffer of one and receives at the start of a pass.
	passBegun chan struct{}

	detached  sync.WaitGroup // detached passes under way
	wake      chan struct{}  // buffer of one: there is something to do
	ping      chan struct{}  // received from by a worker that has nothing to do
	heartbeat heartbeat

	hangs converge.Hangs // shared by all engines that the worker has had

	mu        sync.Mutex
	engine    *converge.Engine
	kinds     []converge.Kind
	dirty     map[string]bool
	busy      []string                       // the kinds of all passes under way
	apart     []string                       // those of them that are in a detached pass
	repairing map[string][]converge.Resource // the resources that these passes are repairing, by kind
	later     map[string]time.Time           // when a kind is next to be checked, at the latest
	failed    map[string]*retry              // by kind
}

func newWorker(done func(*worker, converge.Result)) *worker {
	return &worker{done: done, wake: make(chan struct{}, 1), ping: make(chan struct{}), dirty: map[string]bool{}, later: map[string]time.Time{}, failed: map[string]*retry{}, repairing: map[string][]converge.Resource{}}
}

// assign gives the worker another engine, and marks all of its kinds dirty.
func (w *worker) assign(engine *converge.Engine, kinds []converge.Kind) {
	if engine != nil && w.catchUp != nil {
		engine.BeforeCheck = func(ctx context.Context, kinds []string) { w.beforeCheck(ctx, engine, kinds) }
	}
	if engine != nil {
		engine.Hangs = &w.hangs
		engine.Repairing = func(kind string, drifted []converge.Resource) { w.setRepairing(engine, kind, drifted) }
	}
	if engine != nil && w.detachAfter > 0 {
		engine.DetachAfter, engine.Detach = w.detachAfter, w.detach
	}
	w.mu.Lock()
	w.engine, w.kinds = engine, kinds
	w.dirty = map[string]bool{}
	clear(w.repairing)
	for kind := range w.failed {
		w.forget(kind)
	}
	w.mu.Unlock()
	w.markAll()
}

// beforeCheck removes the marks of kinds that the engine is about to check: the check sees every change
// that they stand for, the agent's own writes included. If a newer engine has been assigned, its marks
// stay.
func (w *worker) beforeCheck(ctx context.Context, engine *converge.Engine, kinds []string) {
	w.catchUp(ctx, kinds)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.engine != engine {
		return
	}
	for _, kind := range kinds {
		delete(w.dirty, kind)
	}
}

// setRepairing records the resources of a kind that are under repair, if this is the worker's present engine.
func (w *worker) setRepairing(engine *converge.Engine, kind string, drifted []converge.Resource) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.engine == engine {
		w.repairing[kind] = drifted
	}
}

// mark marks a kind dirty if it is one of this worker's.
func (w *worker) mark(kind string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if slices.ContainsFunc(w.kinds, func(k converge.Kind) bool { return k.Name() == kind }) {
		w.dirty[kind] = true
		w.signal()
	}
}

// markAt marks a kind dirty at a time, unless that is to happen earlier already.
func (w *worker) markAt(kind string, at time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if next, waits := w.later[kind]; waits && !at.Before(next) {
		return
	}
	w.later[kind] = at
	time.AfterFunc(time.Until(at), func() {
		w.mu.Lock()
		if w.later[kind].Equal(at) {
			delete(w.later, kind)
		}
		w.mu.Unlock()
		w.mark(kind)
	})
}

// given returns the kinds of this worker.
func (w *worker) given() []converge.Kind {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.kinds
}

// markAll marks every kind dirty and drops its cache.
func (w *worker) markAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, kind := range w.kinds {
		invalidateCache(kind)
		w.dirty[kind.Name()] = true
	}
	w.signal()
}

// invalidate marks a kind dirty and drops its cache.
func (w *worker) invalidate(name string) {
	for _, kind := range w.given() {
		if kind.Name() == name {
			invalidateCache(kind)
		}
	}
	w.mark(name)
}

func invalidateCache(kind converge.Kind) {
	if r, remembers := kind.(converge.Cacher); remembers {
		r.InvalidateCache()
	}
}

func (w *worker) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// idle says whether nothing is under way or waiting.
func (w *worker) idle() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.dirty) == 0 && len(w.busy) == 0
}

// inPass returns the kinds of the passes under way.
func (w *worker) inPass() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.busy)
}

// take begins a pass over the dirty kinds, except those in a detached pass.
func (w *worker) take() (engine *converge.Engine, kinds []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, kind := range slices.Sorted(maps.Keys(w.dirty)) {
		if !slices.Contains(w.busy, kind) {
			kinds = append(kinds, kind)
			delete(w.dirty, kind)
		}
	}
	w.busy = append(w.busy, kinds...)
	return w.engine, kinds
}

// ended records that the pass over these kinds has ended, except for those that were detached from it.
func (w *worker) ended(kinds []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.busy = slices.DeleteFunc(w.busy, func(kind string) bool {
		return slices.Contains(kinds, kind) && !slices.Contains(w.apart, kind)
	})
	for _, kind := range kinds {
		if !slices.Contains(w.busy, kind) {
			delete(w.repairing, kind)
		}
	}
	if len(w.dirty) > 0 {
		w.signal()
	}
}

// detach runs the rest of a pass for slow kinds in a goroutine, while the worker goes on. If it has
// repaired something, the other kinds are checked again, because they may have needed it.
func (w *worker) detach(ctx context.Context, kinds []string, rest func() converge.Result) {
	w.mu.Lock()
	w.apart = append(w.apart, kinds...)
	w.mu.Unlock()
	w.detached.Go(func() {
		defer w.heartbeat.pass()()
		result := rest()
		w.mu.Lock()
		w.apart = slices.DeleteFunc(w.apart, func(kind string) bool { return slices.Contains(kinds, kind) })
		w.mu.Unlock()
		if ctx.Err() != nil {
			return // the result of an interrupted pass means nothing
		}
		w.ended(kinds)
		w.done(w, result)
		if result.Rounds == 0 {
			return
		}
		for _, kind := range w.given() {
			if !slices.Contains(kinds, kind.Name()) {
				w.mark(kind.Name())
			}
		}
	})
}

// answers says whether the worker is alive: it takes a ping, or it has given a sign of life within timeout.
func (w *worker) answers(timeout time.Duration) bool {
	if still, inPass := w.heartbeat.inPass(); inPass {
		return still <= timeout
	}
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case w.ping <- struct{}{}:
		return true
	case <-timer.C:
		still, inPass := w.heartbeat.inPass()
		return inPass && still <= timeout
	}
}

// hanging returns the kinds whose check hangs, and since when.
func (w *worker) hanging() map[string]time.Time {
	w.mu.Lock()
	engine := w.engine
	w.mu.Unlock()
	if engine == nil {
		return nil
	}
	return engine.Hanging()
}

// run makes passes until ctx is done.
func (w *worker) run(ctx context.Context) {
	defer w.detached.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.ping:
			continue
		case <-w.wake:
		}
		result, whole := w.pass(ctx)
		if !whole {
			return // the result of an interrupted pass means nothing
		}
		if slices.ContainsFunc(result.Resources, func(r converge.Resource) bool { return r.State == converge.Contested }) {
			select { // each change by the other side wakes the worker in vain
			case <-ctx.Done():
			case <-time.After(pauseWhenContested):
			}
		}
	}
}

// pauseWhenContested is how long a worker rests after a pass that found something contested. Resources
// that guard rights are repaired once in each such pass, so this bounds the cost.
const pauseWhenContested = 400 * time.Millisecond

// pass makes one pass over the dirty kinds. whole is false if ctx ended it early.
func (w *worker) pass(ctx context.Context) (result converge.Result, whole bool) {
	engine, kinds := w.take()
	if len(kinds) == 0 {
		return result, true
	}
	defer w.heartbeat.pass()()
	if w.passBegun != nil {
		select {
		case w.passBegun <- struct{}{}:
		default:
		}
	}
	result = engine.Pass(ctx, kinds...)
	if ctx.Err() != nil {
		return result, false
	}
	w.ended(kinds)
	w.done(w, result)
	return result, true
}
