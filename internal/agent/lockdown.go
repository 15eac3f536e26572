package agent

import (
	"context"
	"sync"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
)

// lockDownTimeout is how long the desktop waits for the lock-down, and lockDownCheckTimeout how long the lock-down
// waits for the check of one kind.
const (
	lockDownTimeout      = 10 * time.Second
	lockDownCheckTimeout = 5 * time.Second
)

// lockDown enforces the last good policy, or the seed, with the quick kinds that need no network. None
// of them waits for a slow one. Whatever fails, the desktop comes up, and the report says what is not
// in line. If it takes longer than the desktop should wait, it goes on in the background, and
// endLockDown takes its result.
func (d *daemon) lockDown(ctx context.Context) (inBackground <-chan converge.Result, err error) {
	known, err := d.layers().Known(d.subjectAtBoot(d.configuration()))
	if err != nil {
		return nil, err
	}
	p := known.Policy
	d.findings.hold(p, d.System.Clock.Now())
	d.refusals.setOwn(known.Refused)
	d.refusals.setPolicy(known.Refused)
	d.contact.fromBefore(known.Saved, known.Since)
	d.status.Serial, d.status.Digest = p.Serial, p.Digest()
	d.enterSafeMode(p.Serial)
	d.publish() // the report of an earlier run says nothing about this one
	engine := d.engineOf(p, d.enabled(p, d.withHeartbeat(&d.quick.heartbeat).kindsOf(p, func(k kind) bool { return k.worker == quick && k.stage != afterLockDown })))
	engine.CheckTimeout, engine.Hangs = min(lockDownCheckTimeout, d.timeouts.check), &d.quick.hangs
	var detached sync.WaitGroup
	engine.DetachAfter, engine.Detach = detachAfter, func(_ context.Context, _ []string, rest func() converge.Result) {
		detached.Go(func() { d.record(rest()) })
	}
	ended := make(chan converge.Result, 1)
	stopped := make(chan struct{})
	endPass := d.quick.heartbeat.pass()
	go func() {
		result := engine.Pass(converge.SkipSlow(ctx))
		detached.Wait()
		endPass()
		ended <- result
		close(stopped)
	}()
	timer := time.NewTimer(lockDownTimeout)
	defer timer.Stop()
	select {
	case result := <-ended:
		d.lockedDownWith(result)
		return nil, nil
	case <-timer.C:
		d.Log.Error("lock-down takes too long; it goes on in the background, and the desktop may start", "policy", p.Digest(), "after", lockDownTimeout)
	case <-ctx.Done():
		d.stop(stopped)
	}
	return ended, nil
}

// endLockDown waits for the lock-down if it goes on in the background.
func (d *daemon) endLockDown(ctx context.Context, inBackground <-chan converge.Result) {
	if inBackground == nil {
		return
	}
	select {
	case result := <-inBackground:
		d.lockedDownWith(result)
		d.publish()
	case <-ctx.Done():
	}
}

func (d *daemon) lockedDownWith(result converge.Result) {
	d.record(result)
	d.startup.markLockedDown()
	d.Log.Info("locked down", "policy", d.findings.inForce().Digest(), "took", result.Took)
}

// engineOf returns an engine that knows who else changes contested resources.
func (d *daemon) engineOf(p *policy.Policy, kinds []converge.Kind) *converge.Engine {
	engine := d.engine(p, kinds, d.Log.With("policy", p.Digest()))
	engine.Writer = d.writers.writer
	return engine
}

// own returns what the agent reports about itself: while it has not checked everything, or does not keep
// everything, the machine is not compliant. mu is held.
func (d *daemon) own() []converge.Resource {
	r := converge.Resource{ID: "agent", State: converge.Failed, Severity: policy.Critical, Since: d.status.Started}
	switch {
	case d.status.SafeMode != "":
		r.SetFailed(d.status.SafeMode).ReasonIsPublic()
	case !d.startup.isLockedDown():
		r.SetUnknown("the machine is being locked down").ReasonIsPublic()
	default:
		return nil
	}
	return []converge.Resource{r}
}
