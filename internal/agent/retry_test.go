package agent

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
)

const (
	unreachable policy.ID = "package/firefox" // its repository is down
	fought      policy.ID = "package/thunderbird"
)

// repository is a kind with a package that cannot be installed, and perhaps another one that something else
// changes back.
type repository struct {
	fights *converge.Ledger // nil: nothing is contested
	undone func()           // called when the contested package has been changed back

	mu      sync.Mutex
	up      bool
	tries   []time.Time
	right   bool // the contested package is in line
	repairs int  // of the contested package
	amiss   int  // those repairs that were made while it should have been left alone
	beside  int  // attempts at the other package while it was contested
}

func (*repository) Name() string { return "package" }

func (k *repository) Check(context.Context) ([]converge.Resource, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	resources := []converge.Resource{{ID: unreachable, State: converge.Compliant}}
	if !k.up {
		resources[0].AddDrift("installed", "yes", "no")
	}
	if k.fights != nil {
		other := converge.Resource{ID: fought, State: converge.Compliant}
		if !k.right {
			other.AddDrift("version", "2", "1")
		}
		resources = append(resources, other)
	}
	return resources, nil
}

func (k *repository) Repair(_ context.Context, drifted []converge.Resource) (outcomes []converge.Outcome) {
	k.mu.Lock()
	defer k.mu.Unlock()
	contested := k.fights != nil && !k.fights.ContestedUntil(fought, time.Now()).IsZero()
	for _, r := range drifted {
		switch r.ID {
		case unreachable:
			k.tries = append(k.tries, time.Now())
			if contested {
				k.beside++
			}
			outcomes = append(outcomes, converge.Outcome{ID: r.ID, Err: errors.New("cannot install firefox: the repository does not answer")})
		case fought:
			k.right = true
			k.repairs++
			if contested {
				k.amiss++
			}
			time.AfterFunc(time.Second, func() {
				k.mu.Lock()
				k.right = false
				k.mu.Unlock()
				k.undone()
			})
		}
	}
	return outcomes
}

func (k *repository) tried() []time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.tries)
}

// keeping makes the daemon keep a kind, and returns after its first pass. status returns the daemon's status.
func keeping(t *testing.T, d *daemon, k converge.Kind) (status func() Status) {
	t.Helper()
	p := &policy.Policy{}
	d.slow.assign(converge.New(p, []converge.Kind{k}, d.Ledger, d.System.Clock, slog.New(slog.DiscardHandler)), []converge.Kind{k})
	go d.slow.run(t.Context())
	synctest.Wait()
	return func() (s Status) {
		content, err := d.System.FS.ReadFile(StatusFile)
		if err == nil {
			err = json.Unmarshal(content, &s)
		}
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
}

func TestWhatFailedIsTriedAgainSoonThenMoreAndMoreSeldomUntilItIsMended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, k := newTestDaemon(t, t.TempDir(), "1.0"), &repository{}
		status := keeping(t, d, k)
		if at := status().Retries["package"]; !at.After(time.Now()) {
			t.Errorf("the status says that it is tried again at %s, and it is %s", at, time.Now())
		}
		time.Sleep(3 * time.Hour)
		tries := k.tried()
		for i, want := range []time.Duration{1, 2, 4, 8, 16, 30, 30} {
			want *= time.Minute
			if i+1 >= len(tries) {
				break
			}
			if got := tries[i+1].Sub(tries[i]); got < want/2 || got > want*3/2 {
				t.Errorf("try %d comes %s after the one before, want %s, half as much more or less", i+2, got, want)
			}
		}
		if len(tries) < 8 {
			t.Errorf("in three hours it is tried %d times", len(tries))
		}
		k.mu.Lock()
		k.up, k.tries = true, nil
		k.mu.Unlock()
		time.Sleep(time.Hour)
		if retries := status().Retries; len(retries) > 0 || status().Summary[converge.Failed] > 0 {
			t.Errorf("when it is mended the status says that it is tried again at %s", retries)
		}
	})
}

func TestEventsMeanwhileNeitherHurryNorHoldUpWhatIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, k := newTestDaemon(t, t.TempDir(), "1.0"), &repository{}
		status := keeping(t, d, k)
		first := status().Retries["package"]
		for time.Now().Before(first.Add(-3 * time.Second)) {
			d.slow.mark("package")
			time.Sleep(3 * time.Second)
			synctest.Wait()
			if at := status().Retries["package"]; !at.Equal(first) {
				t.Fatalf("it was to be tried again at %s, and is now at %s", first, at)
			}
		}
		before := len(k.tried())
		time.Sleep(time.Until(first))
		synctest.Wait()
		if n := len(k.tried()) - before; n != 1 {
			t.Errorf("it is tried %d times when its time has come", n)
		}
		if next := status().Retries["package"].Sub(first); next < time.Minute || next > 3*time.Minute {
			t.Errorf("the next try is %s later", next)
		}
		// A new policy may be one with which it works.
		d.slow.assign(nil, nil)
		if retries := d.retries(); len(retries) > 0 {
			t.Errorf("without anything to keep it is tried again at %s", retries)
		}
	})
}

func TestWhatIsContestedIsLeftAloneWhenSomethingBesideItIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newTestDaemon(t, t.TempDir(), "1.0")
		k := &repository{fights: d.Ledger, undone: func() { d.slow.mark("package") }}
		keeping(t, d, k)
		time.Sleep(time.Hour)
		synctest.Wait()
		k.mu.Lock()
		defer k.mu.Unlock()
		if k.repairs < 10 || k.repairs > 50 || k.amiss > 0 {
			t.Errorf("what is fought over is repaired %d times, %d of them while it should be left alone", k.repairs, k.amiss)
		}
		if k.beside == 0 {
			t.Error("what failed is not tried again while something else is contested")
		}
	})
}

// silent is a kind whose resource is unknown until a time.
type silent struct {
	until  time.Time
	guards bool // its resource guards rights
}

func (silent) Name() string { return "package" }

func (k silent) Check(context.Context) ([]converge.Resource, error) {
	r := converge.Resource{ID: unreachable, State: converge.Compliant}
	if k.guards {
		r.GuardsRights()
	}
	if time.Now().Before(k.until) {
		r.SetUnknown("nobody answers")
	}
	return []converge.Resource{r}, nil
}

func (silent) Repair(context.Context, []converge.Resource) []converge.Outcome { return nil }

func TestWhatCouldNotBeToldIsLookedAtAgainWithoutAnybodyTelling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newTestDaemon(t, t.TempDir(), "1.0")
		status := keeping(t, d, silent{until: time.Now().Add(10 * time.Second)})
		if n := status().Summary[converge.Unknown]; n != 1 {
			t.Fatalf("%d resources are unknown", n)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if s := status(); s.Summary[converge.Unknown] != 0 || len(s.Retries) > 0 {
			t.Errorf("after it could be told it is %v, and to be tried again: %v", s.Summary, s.Retries)
		}
	})
}

func TestWhatGuardsRightsIsLookedAtAgainWithinSecondsWhenItCouldNotBeTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newTestDaemon(t, t.TempDir(), "1.0")
		status := keeping(t, d, silent{until: time.Now().Add(10 * time.Second), guards: true})
		time.Sleep(25 * time.Second) // the retries come after about two seconds, and then after twice as long each
		synctest.Wait()
		if s := status(); s.Summary[converge.Unknown] != 0 || len(s.Retries) > 0 {
			t.Errorf("15 s after it could be told it is %v, and to be tried again: %v", s.Summary, s.Retries)
		}
	})
}
