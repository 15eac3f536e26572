package agent

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/policysync"
	"github.com/soe-agent/soe-agent/internal/source"
	"github.com/soe-agent/soe-agent/internal/system"
)

// users is a kind without resources.
type users struct{}

func (users) Name() string                                                   { return "user" }
func (users) Check(context.Context) ([]converge.Resource, error)             { return nil, nil }
func (users) Repair(context.Context, []converge.Resource) []converge.Outcome { return nil }

// findingsUnder returns findings under a policy, without any resource.
func findingsUnder(p *policy.Policy) *findings {
	f := newFindings()
	f.policy = p
	return f
}

func TestWhatAPassLeftForTheNextOneIsGoneOnWithAtOnce(t *testing.T) {
	s, err := system.Open(system.Options{Root: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{
		Machine:  &Machine{System: s, Ledger: new(converge.Ledger), Log: slog.New(slog.DiscardHandler)},
		findings: findingsUnder(&policy.Policy{}), config: Default(),
		freeMemory: time.NewTimer(time.Hour),
	}
	d.quick, d.slow, d.checks = newWorker(d.passEnded), newWorker(d.passEnded), newWorker(d.passEnded)
	d.quick.assign(nil, []converge.Kind{users{}})
	for effect, again := range map[converge.Effect]bool{converge.Now: true, converge.Reboot: false, converge.NextSession: false} {
		d.quick.take()
		d.startup.announced = true
		result := converge.Result{Policy: d.findings.policy, Kinds: []string{"user"}, Resources: []converge.Resource{{ID: "user/scan", State: converge.Pending, Effect: effect}}}
		d.quick.busy = nil
		d.passEnded(d.quick, result)
		if d.quick.idle() == again {
			t.Errorf("what waits for %s is gone on with: %t", effect, !d.quick.idle())
		}
	}
}

func TestChecksLookAgainAtWhatThePolicyHasComeToWantAndNotAtWhatIsPutBack(t *testing.T) {
	s, err := system.Open(system.Options{Root: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{
		Machine:  &Machine{System: s, Ledger: new(converge.Ledger), Log: slog.New(slog.DiscardHandler)},
		findings: findingsUnder(&policy.Policy{}), config: Default(),
		freeMemory: time.NewTimer(time.Hour),
	}
	d.quick, d.slow, d.checks = newWorker(d.passEnded), newWorker(d.passEnded), newWorker(d.passEnded)
	d.startup.announced = true
	d.checks.assign(nil, []converge.Kind{users{}})
	for cause, again := range map[converge.Cause]bool{converge.Intentional: true, converge.Corrective: false} {
		d.checks.take()
		d.checks.busy = nil
		d.passEnded(d.quick, converge.Result{Policy: d.findings.policy, Kinds: []string{"user"}, Rounds: 1, Resources: []converge.Resource{
			{ID: "user/scan", State: converge.Corrected, Cause: cause},
		}})
		if d.checks.idle() == again {
			t.Errorf("after a repair that is %s they look again: %t", cause, !d.checks.idle())
		}
	}
}

func TestTheHeapGrowsByTheSameWhateverThePolicysSize(t *testing.T) {
	for resources, want := range map[int]int{0: 80, 280: 74, 10_000: 21, 100_000: 20} {
		if got := growth(resources); got != want {
			t.Errorf("with %d resources it is %d %% and not %d %%", resources, got, want)
		}
	}
}

func TestTroubleWithAValueIsSaidOnceAndForAsLongAsItLasts(t *testing.T) {
	s, err := system.Open(system.Options{Root: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	d := &daemon{
		Machine: &Machine{System: s, Ledger: new(converge.Ledger), Log: slog.New(slog.NewTextHandler(&log, nil))}, config: Default(), findings: findingsUnder(&policy.Policy{}),
	}
	d.quick, d.slow, d.checks = newWorker(d.passEnded), newWorker(d.passEnded), newWorker(d.passEnded)
	missing := source.Missing{{Service: "ssm", Name: "/host"}: source.ErrNoValue}
	for range 3 {
		d.contacted(policysync.Found{Missing: missing})
		d.waits(missing, time.Now())
		d.contacted(policysync.Found{Missing: missing})
		if d.contact.trouble != source.ValueMissing || d.contact.waiting.Whole == "" {
			t.Errorf("the trouble is %q", d.contact.trouble)
		}
	}
	if n := strings.Count(log.String(), "cannot get the published policy; it is tried again"); n != 1 {
		t.Errorf("it is said %d times:\n%s", n, log.String())
	}
	if d.contacted(policysync.Found{}); d.contact.trouble != "" || d.contact.waiting.Whole != "" {
		t.Errorf("the trouble is %q still", d.contact.trouble)
	}
}
