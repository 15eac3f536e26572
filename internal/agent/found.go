package agent

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/public"
)

// findings is the policy in force, and what was found on the machine under it. A resource that has not been
// checked under this policy since the agent started is reported as not checked, and nothing else.
type findings struct {
	mu        sync.Mutex
	policy    *policy.Policy
	resources map[string][]converge.Resource  // by kind: every kind, with every resource that the policy wants
	corrected map[policy.ID]converge.Resource // since the last verify
	timing    map[string]time.Duration        // by kind
}

func newFindings() *findings {
	return &findings{resources: map[string][]converge.Resource{}, corrected: map[policy.ID]converge.Resource{}, timing: map[string]time.Duration{}}
}

// inForce returns the policy in force; nil before the first.
func (f *findings) inForce() *policy.Policy {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.policy
}

// hold puts a policy into force. If it differs from the last one, everything found is forgotten.
func (f *findings) hold(p *policy.Policy, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.policy == nil || !samePolicy(f.policy, p) {
		f.reset(p, now)
	}
	f.policy = p
}

// reset makes everything unchecked, because nothing has been checked under the new policy. Corrections are
// kept for resources of which it wants the same as the policy before; they are reported once the resource
// has been checked. mu is held.
func (f *findings) reset(p *policy.Policy, now time.Time) {
	f.resources = map[string][]converge.Resource{}
	corrected := map[policy.ID]converge.Resource{}
	for id, r := range f.corrected {
		if wantTheSame(f.policy, p, id) {
			corrected[id] = r
		}
	}
	f.corrected = corrected
	clear(f.timing)
	for _, kind := range policy.Kinds() {
		f.resources[kind] = converge.NotCheckedYet(p, kind, now)
	}
}

// wantTheSame says whether both policies want the same of a resource.
func wantTheSame(a, b *policy.Policy, id policy.ID) bool {
	before, was := a.Lookup(id)
	after, is := b.Lookup(id)
	return was && is && before.Digest() == after.Digest() && slices.Equal(before.Secrets, after.Secrets)
}

// reportUnassigned reports kinds that no worker checks: their resources will never be checked.
func (d *daemon) reportUnassigned(assigned []converge.Kind) {
	for _, kind := range policy.Kinds() {
		if slices.ContainsFunc(assigned, func(k converge.Kind) bool { return k.Name() == kind }) {
			continue
		}
		d.Log.Error("no worker checks a kind; this is a bug of the agent: please report it", "kind", kind)
		d.findings.giveUp(kind, "no worker of this agent checks "+kind+": this is a bug of the agent")
	}
}

// giveUp makes the resources of a kind unknown that nobody will check, with the reason.
func (f *findings) giveUp(kind, why string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.resources[kind] {
		r := &f.resources[kind][i]
		r.SetUnknown(why).ReasonIsPublic()
		r.Unseen = false
	}
}

// record takes over the result of a pass. If the pass ran under another policy than the one in force it returns
// false: its states say nothing about this policy.
func (f *findings) record(result converge.Result) (known bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !samePolicy(result.Policy, f.policy) {
		for _, r := range result.Resources {
			if r.State == converge.Corrected && wantTheSame(result.Policy, f.policy, r.ID) {
				f.corrected[r.ID] = r // its present state is still to be checked
			}
		}
		return false
	}
	for _, kind := range result.Kinds {
		f.resources[kind] = nil
		f.timing[kind] = result.Timing[kind]
	}
	for _, r := range result.Resources {
		// A correction is shown until the next verify, and not only until the check that follows a
		// moment later.
		switch was, ok := f.corrected[r.ID]; {
		case r.State == converge.Corrected:
			f.corrected[r.ID] = r
		case ok && r.State == converge.Compliant:
			r.SetCorrected(was)
		default:
			delete(f.corrected, r.ID)
		}
		kind := r.ID.Kind()
		f.resources[kind] = append(f.resources[kind], r)
	}
	return true
}

// unseen says whether anything has not been checked yet.
func (f *findings) unseen() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, resources := range f.resources {
		if slices.ContainsFunc(resources, func(r converge.Resource) bool { return r.Unseen }) {
			return true
		}
	}
	return false
}

// settleCorrections makes corrected resources compliant, like the others.
func (f *findings) settleCorrections() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.corrected)
	for _, resources := range f.resources {
		for i := range resources {
			if resources[i].State == converge.Corrected {
				resources[i].State, resources[i].Diff, resources[i].Cause = converge.Compliant, nil, ""
			}
		}
	}
}

// all returns the policy in force and everything found under it, at one moment.
func (f *findings) all() (p *policy.Policy, resources []converge.Resource, timing map[string]time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, kind := range slices.Sorted(maps.Keys(f.resources)) {
		resources = append(resources, f.resources[kind]...)
	}
	return f.policy, resources, maps.Clone(f.timing)
}

// withAgentAndRepairs adds to what was found what the agent reports about itself, and replaces resources that a pass is
// repairing: they are not in line now, whatever they were before. mu is held.
func (d *daemon) withAgentAndRepairs(resources []converge.Resource) []converge.Resource {
	resources = append(resources, d.own()...)
	underRepair := map[policy.ID]converge.Resource{}
	for _, r := range d.repairing() {
		underRepair[r.ID] = r
	}
	for i, r := range resources {
		if now, is := underRepair[r.ID]; is && !r.Unseen {
			resources[i] = now
		}
		delete(underRepair, r.ID)
	}
	for _, id := range slices.Sorted(maps.Keys(underRepair)) { // unwanted, and not there before
		resources = append(resources, underRepair[id])
	}
	return resources
}

// awaited returns what has to come before a verdict is possible, and what is refused, for people. mu is held.
func (d *daemon) awaited() (awaited, refused []public.Line) {
	heard := d.contact.isHeard() // first, because a refusal is recorded before the contact
	refused = d.refusals.all()
	return d.awaits(heard, refused), refused
}

func (d *daemon) awaits(heard bool, refused []public.Line) []public.Line {
	if d.startup.awaitsTransaction() {
		return []public.Line{public.All("a package transaction that an earlier run of the agent began is still running")}
	}
	switch path := d.config.AWS.Path; {
	case path == "" || len(refused) > 0:
	case d.status.Serial == 0:
		return []public.Line{d.config.line(NothingPublished(path), "nothing that is published for this machine has been fetched yet: the seed is in force")}
	case !heard && d.findings.inForce().Partial:
		return []public.Line{public.All("AWS has not answered since the agent started, so the published policy may be another one by now")}
	}
	return nil
}

// NothingPublished is the text for a machine that has never had a policy from the path to which its policy is
// published.
func NothingPublished(path string) string {
	return fmt.Sprintf("nothing that is published below %s has been fetched yet: the seed is in force", path)
}
