package agent

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/soe-agent/soe-agent/internal/converge"
)

// A worker walks its kinds whenever one of them may have drifted. What becomes
// dirty during a walk is walked next: the first event is acted on at once, and
// those that follow it meanwhile become one.
type worker struct {
	// done is told of each walk, from the worker's goroutine.
	done func(*worker, converge.Result)

	wake chan struct{} // holds one: there is something to do

	mu     sync.Mutex
	engine *converge.Engine
	kinds  []converge.Kind
	dirty  map[string]bool
	busy   []string // the kinds of the walk under way
}

func newWorker(done func(*worker, converge.Result)) *worker {
	return &worker{done: done, wake: make(chan struct{}, 1), dirty: map[string]bool{}}
}

// assign gives the worker another engine, whose kinds it then walks all.
func (w *worker) assign(engine *converge.Engine, kinds []converge.Kind) {
	w.mu.Lock()
	w.engine, w.kinds = engine, kinds
	w.dirty = map[string]bool{}
	w.mu.Unlock()
	w.markAll()
}

// mark has a kind walked, if it is one of this worker's.
func (w *worker) mark(kind string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if slices.ContainsFunc(w.kinds, func(k converge.Kind) bool { return k.Name() == kind }) {
		w.dirty[kind] = true
		w.signal()
	}
}

// markAll has all kinds walked.
func (w *worker) markAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, kind := range w.kinds {
		w.dirty[kind.Name()] = true
	}
	w.signal()
}

func (w *worker) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// all says whether a walk went over all of the worker's kinds.
func (w *worker) all(walk converge.Result) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(walk.Kinds) == len(w.kinds)
}

// idle says whether nothing is under way or waiting.
func (w *worker) idle() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.dirty) == 0 && len(w.busy) == 0
}

// walking are the kinds of the walk under way.
func (w *worker) walking() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.busy)
}

// take begins a walk of what is dirty.
func (w *worker) take() (*converge.Engine, []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.busy = slices.Sorted(maps.Keys(w.dirty))
	w.dirty = map[string]bool{}
	return w.engine, w.busy
}

// run walks until ctx is done.
func (w *worker) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.wake:
		}
		engine, kinds := w.take()
		if len(kinds) == 0 {
			continue
		}
		result := engine.Pass(ctx, kinds...)
		if ctx.Err() != nil {
			return // what was cut short says nothing
		}
		w.mu.Lock()
		w.busy = nil
		w.mu.Unlock()
		w.done(w, result)
	}
}
