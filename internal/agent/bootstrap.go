package agent

import (
	"context"
	"errors"
	"reflect"
	"time"

	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/report"
	"github.com/soe-agent/soe-agent/internal/source"
)

// attemptTimeout bounds one attempt to get the published policy.
const attemptTimeout = time.Minute

// bootstrap gets the published policy, and looks for a newer one ever after: when
// it is time, and when something on the machine asks for it.
func (d *daemon) bootstrap(ctx context.Context) {
	for ctx.Err() == nil {
		config := d.configuration()
		if config.AWS.Path == "" {
			d.byOwnLayers(ctx, config)
			d.sleep(ctx, 0)
			continue
		}
		_ = source.Retry(ctx, d.System.Clock, d.reload, d.waits, func(ctx context.Context) error {
			return d.attempt(ctx, d.configuration())
		})
		d.sleep(ctx, spread(config.Schedule.Poll.Duration))
	}
}

// sleep waits for d, for ever if it is 0, or until a reload is asked for.
func (d *daemon) sleep(ctx context.Context, pause time.Duration) {
	var up <-chan time.Time
	if pause > 0 {
		timer := time.NewTimer(pause)
		defer timer.Stop()
		up = timer.C
	}
	select {
	case <-ctx.Done():
	case <-up:
	case <-d.reload:
	}
}

// configuration reads agent.toml again. One that cannot be read leaves the last
// one, or the default, in force, and is reported.
func (d *daemon) configuration() Config {
	config, err := ReadConfig(d.System.FS, d.configFile)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.configProblems = nil
	if err != nil {
		d.Log.Error("cannot use the configuration", "err", err)
		d.configProblems = problems(err)
		return d.config
	}
	d.config, d.Schedule = config, config.Schedule
	return config
}

// byOwnLayers enforces what is on the machine: nothing is published to it.
func (d *daemon) byOwnLayers(ctx context.Context, config Config) {
	p, refused, err := d.Known(ctx, config)
	if err != nil {
		d.refuse(problems(err))
		return
	}
	d.mu.Lock()
	d.status.Waiting = ""
	d.mu.Unlock()
	d.enforce(p, refused)
}

// attempt looks once for the published policy and enforces it if it is new. A
// policy that is refused is no reason to try again soon: its author has to act.
func (d *daemon) attempt(ctx context.Context, config Config) error {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	f, err := facts.Gather(ctx, d.System)
	if err != nil {
		return err
	}
	d.mu.Lock()
	d.Facts = f // the activation comes late, and names the node and its region
	d.mu.Unlock()
	aws, err := d.connect(config)
	if err != nil {
		return err
	}
	p, good, err := d.fetch(ctx, config, aws)
	switch {
	case isRefusal(err) && !errors.Is(err, source.ErrHalfPublished):
		d.Log.Error("the published policy is refused; the last good one stays in force", "err", err)
		d.contacted()
		d.refuse(problems(err))
		return nil
	case err != nil:
		return err
	}
	if err := source.WriteLastGood(d.System.FS, StateDir, good); err != nil {
		d.Log.Error("cannot keep the policy for the next boot", "err", err)
	}
	d.contacted()
	d.take(p)
	return nil
}

// contacted notes that the service answered with a policy.
func (d *daemon) contacted() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.status.Waiting, d.status.NextAttempt = "", time.Time{}
	d.status.LastContact = d.System.Clock.Now()
}

// take enforces a policy that was fetched, if it is another one, or if values in
// it are now known that were missing.
func (d *daemon) take(p *policy.Policy) {
	d.mu.Lock()
	same := d.fetched != nil && sameWish(d.fetched, p) && len(d.status.Refused) == 0 && reflect.DeepEqual(d.Schedule, d.enforced)
	d.fetched = p
	d.mu.Unlock()
	if same {
		d.settle()
		d.publish()
		return
	}
	d.Log.Info("enforcing the published policy", "policy", p.Digest(), "serial", p.Serial)
	d.enforce(p, nil)
}

// sameWish says whether two policies want the same, secrets included.
func sameWish(a, b *policy.Policy) bool {
	if a.Serial != b.Serial || a.Digest() != b.Digest() || len(a.Resources) != len(b.Resources) {
		return false
	}
	for i := range a.Resources {
		before, after := a.Resources[i], b.Resources[i]
		if len(before.Secrets) != len(after.Secrets) {
			return false
		}
		for j := range before.Secrets {
			if before.Secrets[j] != after.Secrets[j] {
				return false
			}
		}
	}
	return true
}

// waits notes what is waited for, for all who ask.
func (d *daemon) waits(err error, next time.Time) {
	reason := source.Reason(err)
	d.mu.Lock()
	news := d.status.Waiting != reason
	d.status.Waiting, d.status.NextAttempt = reason, next
	d.mu.Unlock()
	if news {
		d.Log.Warn("waiting", "for", reason, "err", err)
	}
	d.publish()
}

// deliver takes one report to SSM Compliance, if it is wanted there. A machine
// that is no managed node yet has no place there: the next report may.
func (d *daemon) deliver(ctx context.Context, r report.Report) error {
	d.mu.Lock()
	config, region := d.config, d.Facts.Region
	d.mu.Unlock()
	if config.AWS.Path == "" || !config.Report.SSM || r.Machine.ManagedNode == "" {
		return nil
	}
	aws, err := source.Connect(config.AWS, region, d.System)
	if err != nil {
		return err
	}
	_, err = aws.SSM().PutComplianceItems(ctx, r.ComplianceItems())
	return err
}
