package agent

import (
	"runtime/debug"
	"slices"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/public"
)

// enforce puts a policy into force.
func (d *daemon) enforce(p *policy.Policy, refused []public.Line) {
	d.enforcing.Lock()
	defer d.enforcing.Unlock()
	d.hold(p, refused)
}

// enforceAgain puts the policy that is in force into force again, after the end of safe mode.
func (d *daemon) enforceAgain() {
	d.enforcing.Lock()
	defer d.enforcing.Unlock()
	d.hold(d.findings.inForce(), d.refusals.ofPolicy())
}

// hold puts a policy into force: it opens the kinds again, hands them to the workers and sets the watches. The
// lock enforcing is held.
func (d *daemon) hold(p *policy.Policy, refused []public.Line) {
	d.mu.Lock()
	machine := *d.Machine // a copy, because its schedule and facts change
	d.findings.hold(p, d.System.Clock.Now())
	d.refusals.setPolicy(refused)
	d.enforced = d.Schedule
	d.status.Serial, d.status.Digest, d.status.Personas = p.Serial, p.Digest(), p.Personas
	d.mu.Unlock()
	debug.SetGCPercent(growth(len(p.Resources)))

	given := make([][]converge.Kind, len(d.workers()))
	for i, w := range d.workers() {
		given[i] = d.enabled(p, machine.withHeartbeat(&w.heartbeat).kindsOf(p, func(k kind) bool { return k.worker == workerOf(i) }))
	}
	d.reportUnassigned(slices.Concat(given...))
	if d.watcher != nil {
		d.watcher.Follow(slices.Concat(given...), LocalDir, d.configFile)
	}
	for i, w := range d.workers() {
		engine := d.engineOf(p, given[i])
		if workerOf(i) == quick { // the other workers' kinds may take long
			engine.CheckTimeout, engine.HangEnded = d.timeouts.check, w.mark
		}
		w.assign(engine, given[i])
	}
	d.publish()
}

// freeMemoryAfter is how long after the last pass memory is returned to the system. By then everything has been
// published.
const freeMemoryAfter = time.Second

// growth returns by how many percent the heap may grow before it is collected: by some 4 MiB, however many
// resources there are, each of which takes about 1.4 KiB.
func growth(resources int) int { return max(20, 400*1024/(5*1024+resources*14/10)) }

// refuse records why a newer policy is not enforced. The policy in force stays.
func (d *daemon) refuse(problems []public.Line) {
	d.refusals.setPolicy(problems)
	d.publish()
}
