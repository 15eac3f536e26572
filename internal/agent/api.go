package agent

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/soe-agent/soe-agent/internal/bus"
	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/kind/packages"
	"github.com/soe-agent/soe-agent/internal/policy"
)

// api is the daemon's state for its D-Bus service.
type api struct {
	changed chan struct{} // buffer of one: report or status may have changed

	mu   sync.Mutex
	asks []*ask
}

// An ask waits for checks of its kinds that begin after it was made.
type ask struct {
	at    time.Time
	kinds []string // kinds that are still to be checked
	done  chan struct{}
}

// served implements bus.Documents and bus.Orders for the daemon.
type served struct{ *daemon }

func (d *daemon) serve(ctx context.Context) {
	server := bus.Server{Documents: served{d}, Orders: served{d}, Kinds: policy.Kinds(), Changed: d.api.changed, Clock: d.System.Clock, Log: d.Log}
	server.Run(ctx)
}

// published notes that report and status have been written.
func (a *api) published() {
	select {
	case a.changed <- struct{}{}:
	default:
	}
}

// passEnded ends the asks that are satisfied by a pass: one that began after the ask, or one that began
// earlier and after which the kind is settled, because it saw every change.
func (a *api) passEnded(result converge.Result, settled func(kind string) bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asks = slices.DeleteFunc(a.asks, func(one *ask) bool {
		one.kinds = slices.DeleteFunc(one.kinds, func(kind string) bool {
			return !result.Started.Before(one.at) && slices.Contains(result.Kinds, kind) || settled(kind)
		})
		if len(one.kinds) == 0 {
			close(one.done)
		}
		return len(one.kinds) == 0
	})
}

// settled says whether no pass over a kind is under way or due.
func (d *daemon) settled(kind string) bool {
	return !slices.ContainsFunc(d.workers(), func(w *worker) bool { return !w.settled(kind) })
}

func (w *worker) settled(kind string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.dirty[kind] && !slices.Contains(w.busy, kind)
}

// State implements bus.Documents.
func (s served) State() bus.State {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.said.everybody
	return bus.State{Version: s.version, Phase: string(now.Phase), Verdict: string(now.Verdict), Compliant: now.Compliant, Serial: now.Serial}
}

// Status implements bus.Documents. It does not read the status file, which may be out of date if it can no
// longer be written.
func (s served) Status(ctx context.Context) ([]byte, error) {
	progress, there := packages.ReadProgress(ctx, s.System)
	s.mu.Lock()
	status := s.said.everybody
	if bus.ForRoot(ctx) {
		status = s.said.root
	}
	s.mu.Unlock()
	if there {
		status.Packages = progress.String()
	}
	return json.Marshal(status)
}

// Apply implements bus.Orders.
func (s served) Apply(ctx context.Context, kinds []string) error {
	one := &ask{at: s.System.Clock.Now(), kinds: slices.Clone(kinds), done: make(chan struct{})}
	if len(kinds) == 0 {
		one.kinds = policy.Kinds()
	}
	wanted := slices.Clone(one.kinds)
	s.api.mu.Lock()
	s.api.asks = append(s.api.asks, one)
	s.api.mu.Unlock()
	for _, kind := range wanted {
		for _, w := range s.workers() {
			w.invalidate(kind)
		}
	}
	s.api.passEnded(converge.Result{}, s.settled) // kinds that nobody checks are done
	select {
	case <-one.done:
		return nil
	case <-ctx.Done():
		return errors.New("cannot tell the result: the daemon or the bus is stopping; the daemon starts with a pass over everything")
	}
}

// Reload implements bus.Orders.
func (s served) Reload() {
	s.readAgain("a reload was requested over the bus")
}

// CarryOutPending implements bus.Orders. Every pass carries out pending steps when it may.
func (s served) CarryOutPending(ctx context.Context) error { return s.Apply(ctx, nil) }

// SetDebug implements bus.Orders.
func (s served) SetDebug(on bool) { s.setDebug(on) }
