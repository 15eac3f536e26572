package agent

import (
	"context"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/system"
)

// over says whether an ask is done.
func over(one *ask) bool {
	select {
	case <-one.done:
		return true
	default:
		return false
	}
}

func TestAnAskWaitsForAWalkThatBeganAfterItOrTookItIn(t *testing.T) {
	noon := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	unsettled := func(string) bool { return false }
	walk := func(began time.Time, kinds ...string) converge.Result {
		return converge.Result{Started: began, Kinds: kinds}
	}
	var a api
	one := &ask{at: noon, kinds: []string{"sudo", "dropin"}, done: make(chan struct{})}
	a.asks = []*ask{one}
	a.passEnded(walk(noon.Add(-time.Second), "sudo", "dropin"), unsettled)
	if over(one) || len(one.kinds) != 2 {
		t.Fatal("it ended with a walk that had begun before")
	}
	a.passEnded(walk(noon, "sudo"), unsettled)
	a.passEnded(walk(noon.Add(time.Second), "pcoip"), unsettled)
	if over(one) || len(one.kinds) != 1 {
		t.Fatalf("it waits for %v, want dropin alone", one.kinds)
	}
	// A pass that began before the ask may still have seen every change: then the kind is settled.
	a.passEnded(walk(noon.Add(-time.Second), "dropin"), func(kind string) bool { return kind == "dropin" })
	if !over(one) || len(a.asks) != 0 {
		t.Error("it waits for what nobody will walk")
	}
}

func TestAnAskMarksItsKindsAndEndsWithItsContext(t *testing.T) {
	s, err := system.Open(system.Options{Root: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{Machine: &Machine{System: s, Ledger: new(converge.Ledger)}}
	d.quick, d.slow, d.checks = newWorker(nil), newWorker(nil), newWorker(nil)
	d.quick.kinds = []converge.Kind{users{}}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- served{d}.Apply(ctx, []string{"user", "sudo"}) }()
	<-d.quick.wake
	if d.quick.settled("user") || !d.quick.settled("sudo") {
		t.Error("it is not the users alone that are to be walked")
	}
	cancel()
	if err := <-ended; err == nil {
		t.Error("it says that it was done")
	}
	if err := (served{d}).Apply(t.Context(), []string{"package"}); err != nil {
		t.Errorf("a kind that nobody walks: %v", err)
	}
}
