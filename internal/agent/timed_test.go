package agent

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
)

// punctual is a kind with a resource that is due six hours after each check.
type punctual struct {
	want policy.Resource

	mu    sync.Mutex
	looks []time.Time
}

func (*punctual) Name() string { return "check" }

func (k *punctual) Check(context.Context) ([]converge.Resource, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.looks = append(k.looks, time.Now())
	return []converge.Resource{converge.Wanted(k.want)}, nil
}

func (*punctual) Repair(context.Context, []converge.Resource) []converge.Outcome { return nil }

func (k *punctual) NextLook() time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.looks[len(k.looks)-1].Add(6 * time.Hour)
}

func TestWhatIsLookedAtInItsOwnTimeIsLookedAtThenWithoutAnyEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newTestDaemon(t, t.TempDir(), "1.0")
		p := &policy.Policy{Resources: []policy.Resource{{ID: "check/x", Spec: policy.Check{Run: []string{"/bin/true"}}}}}
		k := &punctual{want: p.Resources[0]}
		d.findings.policy = p
		d.checks.assign(converge.New(p, []converge.Kind{k}, d.Ledger, d.System.Clock, slog.New(slog.DiscardHandler)), []converge.Kind{k})
		go d.checks.run(t.Context())
		begin := time.Now()
		time.Sleep(20 * time.Hour)
		synctest.Wait()
		k.mu.Lock()
		defer k.mu.Unlock()
		if len(k.looks) != 4 || k.looks[3].Sub(begin) < 18*time.Hour || k.looks[3].Sub(begin) > 18*time.Hour+time.Minute {
			t.Errorf("it was looked at %d times: %v", len(k.looks), k.looks)
		}
	})
}
