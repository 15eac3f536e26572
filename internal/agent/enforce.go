package agent

import (
	"runtime/debug"
	"slices"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/public"
)

// enforce makes a policy the one that the machine is held to from now on.
func (d *daemon) enforce(p *policy.Policy, refused []public.Line) {
	d.enforcing.Lock()
	defer d.enforcing.Unlock()
	d.hold(p, refused)
}

// enforceAgain does so with the one that is in force, in the way that is right by now.
func (d *daemon) enforceAgain() {
	d.enforcing.Lock()
	defer d.enforcing.Unlock()
	d.hold(d.findings.inForce(), d.refusals.ofPolicy())
}

// hold puts a policy in force: it makes the kinds anew, gives them to the workers and resets the
// watches. The lock enforcing is held.
func (d *daemon) hold(p *policy.Policy, refused []public.Line) {
	d.mu.Lock()
	machine := *d.Machine // its schedule and facts change
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
		if workerOf(i) == quick { // what takes the others long may take them long
			engine.CheckTimeout, engine.HangEnded = d.timeouts.check, w.mark
		}
		w.assign(engine, given[i])
	}
	d.publish()
}

// freeMemoryAfter is how long after the last pass memory is given back: by then all has been
// told that there was to tell.
const freeMemoryAfter = time.Second

// growth is by how many percent the heap may grow before it is swept: by some 4 MiB,
// however many resources there are, of which each holds about 1.4 KiB.
func growth(resources int) int { return max(20, 400*1024/(5*1024+resources*14/10)) }

// refuse records why a newer policy is not enforced. The policy in force stays.
func (d *daemon) refuse(problems []public.Line) {
	d.refusals.setPolicy(problems)
	d.publish()
}
