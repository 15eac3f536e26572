package agent

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
)

// toy is a kind with one resource.
type toy struct {
	name        string
	look, mends time.Duration   // how long a Check and a Repair take
	hangs       <-chan struct{} // a Check hangs until this is closed; nil: it does not hang
	needs       func() bool     // what a Repair needs to be there first; nil: nothing
	fails       func(toy, problem string)

	mu      sync.Mutex
	wrong   bool
	mended  time.Time
	looks   int
	inCheck int
}

func (k *toy) Name() string { return k.name }

func (k *toy) Check(context.Context) ([]converge.Resource, error) {
	k.mu.Lock()
	k.looks++
	k.inCheck++
	wrong := k.wrong
	k.mu.Unlock()
	time.Sleep(k.look)
	if k.hangs != nil {
		<-k.hangs
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.inCheck--
	r := converge.Resource{ID: policy.NewID(k.name, "x"), State: converge.Compliant}
	if wrong {
		r.AddDrift("value", "right", "wrong")
	}
	return []converge.Resource{r}, nil
}

func (k *toy) Repair(context.Context, []converge.Resource) []converge.Outcome {
	if k.needs != nil && !k.needs() {
		k.fails(k.name, "it is repaired before what it needs")
	}
	time.Sleep(k.mends)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.wrong, k.mended = false, time.Now()
	return nil
}

// urgent is a toy that does not wait for other kinds' repairs.
type urgent struct{ *toy }

func (urgent) Urgent() {}

// drift makes the resource wrong, and returns when it did.
func (k *toy) drift(d *daemon) time.Time {
	k.mu.Lock()
	k.wrong = true
	k.mu.Unlock()
	d.changed(k.name)
	return time.Now()
}

func (k *toy) mendedAt() time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.mended
}

// keeps makes the daemon keep toys as its quick kinds.
func keeps(t *testing.T, d *daemon, toys ...*toy) {
	t.Helper()
	kinds := make([]converge.Kind, len(toys))
	for i, k := range toys {
		kinds[i] = k
		if k.name == "sudo" {
			kinds[i] = urgent{k}
		}
	}
	engine := converge.New(d.findings.policy, kinds, d.Ledger, d.System.Clock, slog.New(slog.DiscardHandler))
	engine.CheckTimeout, engine.HangEnded = d.timeouts.check, d.quick.mark
	d.quick.assign(engine, kinds)
}

func TestAKindThatTakesAMinuteHoldsUpNoOther(t *testing.T) {
	for name, slow := range map[string]*toy{
		"to look":   {look: time.Minute},
		"to repair": {mends: time.Minute},
		"for both":  {look: time.Minute, mends: time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				d := newTestDaemon(t, root, "1.0")
				slow, guard := &toy{name: "dropin", look: slow.look, mends: slow.mends, wrong: true}, &toy{name: "sudo"}
				keeps(t, d, slow, guard)
				ctx, cancel := context.WithCancel(t.Context())
				go d.quick.run(ctx)
				begun := time.Now()
				for time.Since(begun) < 10*time.Minute {
					at := guard.drift(d)
					d.markAll()                  // it is checked together with the slow kind
					time.Sleep(47 * time.Second) // what drifts more often is contested
					if took := guard.mendedAt().Sub(at); took < 0 || took > 2*time.Second {
						t.Errorf("after %s: a drift of another kind is mended after %s", time.Since(begun), took)
					}
				}
				if slow.mendedAt().IsZero() {
					t.Error("what takes long is never mended")
				}
				cancel()
				time.Sleep(5 * time.Minute)
				synctest.Wait()
			})
		})
	}
}

func TestAKindIsNeverWalkedTwiceAtATimeAndWhatChangesMeanwhileIsSeen(t *testing.T) {
	root := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		d := newTestDaemon(t, root, "1.0")
		slow := &toy{name: "dropin", look: time.Minute}
		keeps(t, d, slow)
		ctx, cancel := context.WithCancel(t.Context())
		go d.quick.run(ctx)
		time.Sleep(30 * time.Second)
		slow.drift(d) // after the check has read it, before the check returns
		for range 60 {
			time.Sleep(5 * time.Second)
			slow.mu.Lock()
			if slow.inCheck > 1 {
				t.Errorf("%d looks at a time", slow.inCheck)
			}
			slow.mu.Unlock()
			if d.quick.settled("dropin") && slow.mendedAt().IsZero() {
				t.Error("it is called settled and has not been mended")
			}
		}
		if slow.mendedAt().IsZero() || !d.idle() {
			t.Errorf("it is mended at %s; idle: %t", slow.mendedAt(), d.idle())
		}
		cancel()
		synctest.Wait()
	})
}

func TestWhatIsRepairedAfterARepairThatTakesLongWaitsForIt(t *testing.T) {
	root := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		d := newTestDaemon(t, root, "1.0")
		slow := &toy{name: "dropin", mends: time.Minute, wrong: true}
		after := &toy{name: "service", wrong: true, needs: func() bool { return !slow.mendedAt().IsZero() }, fails: func(kind, problem string) { t.Error(kind, problem) }}
		keeps(t, d, slow, after)
		ctx, cancel := context.WithCancel(t.Context())
		go d.quick.run(ctx)
		time.Sleep(2 * time.Minute)
		if after.mendedAt().IsZero() || !d.idle() {
			t.Errorf("it is mended at %s; idle: %t", after.mendedAt(), d.idle())
		}
		d.findings.mu.Lock()
		for _, id := range []policy.ID{"dropin/x", "service/x"} {
			if r := d.findings.resources[id.Kind()]; len(r) != 1 || r[0].State != converge.Corrected {
				t.Errorf("%s is reported as %v", id, r)
			}
		}
		d.findings.mu.Unlock()
		cancel()
		synctest.Wait()
	})
}

func TestWhatHangsUnderOnePolicyIsNotBegunAgainUnderTheNext(t *testing.T) {
	root := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		d := newTestDaemon(t, root, "1.0")
		released := make(chan struct{})
		hanging := &toy{name: "dropin", hangs: released}
		ctx, cancel := context.WithCancel(t.Context())
		go d.quick.run(ctx)
		for range 20 {
			keeps(t, d, hanging) // as for each new policy
			time.Sleep(5 * time.Minute)
		}
		hanging.mu.Lock()
		if hanging.inCheck != 1 {
			t.Errorf("%d looks hang", hanging.inCheck)
		}
		hanging.mu.Unlock()
		d.findings.mu.Lock()
		if r := d.findings.resources["dropin"]; len(r) != 1 || r[0].State != converge.Unknown || !strings.Contains(r[0].Reason, "has hung since") {
			t.Errorf("it is reported as %v", r)
		}
		d.findings.mu.Unlock()
		close(released)
		time.Sleep(time.Second)
		d.findings.mu.Lock()
		if r := d.findings.resources["dropin"]; len(r) != 1 || r[0].State != converge.Compliant {
			t.Errorf("when it has ended it is reported as %v", r)
		}
		d.findings.mu.Unlock()
		cancel()
		synctest.Wait()
	})
}

// There are two lists of kinds, this one and the policy's.
func TestTheListOfKindsIsThatOfThePolicy(t *testing.T) {
	m, p := newTestDaemon(t, t.TempDir(), "1.0").Machine, &policy.Policy{}
	var names []string
	for _, k := range kinds() {
		names = append(names, k.name)
		if name := k.open(m, p).Name(); name != k.name {
			t.Errorf("what is listed as %s calls itself %s", k.name, name)
		}
		for _, other := range k.affects {
			if !slices.Contains(policy.Kinds(), other) {
				t.Errorf("%s affects %s, which is no kind", k.name, other)
			}
		}
	}
	if !slices.Equal(names, policy.Kinds()) {
		t.Errorf("the kinds are %v, and %v of the policy", names, policy.Kinds())
	}
}

func TestWhatPackagesBringIsCheckedByAllWorkers(t *testing.T) {
	for _, test := range []struct {
		worker, other workerOf
		affects       bool
	}{{slow, quick, true}, {slow, checks, true}, {quick, slow, false}, {quick, checks, false}, {checks, quick, false}, {checks, slow, false}} {
		if got := test.worker.affects(test.other); got != test.affects {
			t.Errorf("worker %d affects worker %d: %t", test.worker, test.other, got)
		}
	}
}

// One of the policy's own checks may take as long as it likes.
func TestChecksAreWalkedByAWorkerOfTheirOwn(t *testing.T) {
	for _, k := range kinds() {
		if alone := k.name == (policy.Check{}).Kind(); alone != (k.worker == checks) {
			t.Errorf("%s is walked by worker %d", k.name, k.worker)
		}
	}
}
