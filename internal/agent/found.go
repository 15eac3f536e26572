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

// findings is the policy in force, and what was found of the machine under it: what has not
// been checked under that very policy, in this run of the agent, is called so and nothing
// else.
type findings struct {
	mu        sync.Mutex
	policy    *policy.Policy
	resources map[string][]converge.Resource  // by kind; of every kind and of all that the policy wants
	corrected map[policy.ID]converge.Resource // since the last verify
	timing    map[string]time.Duration        // by kind
}

func newFindings() *findings {
	return &findings{resources: map[string][]converge.Resource{}, corrected: map[policy.ID]converge.Resource{}, timing: map[string]time.Duration{}}
}

// inForce is the policy; nil before the first.
func (f *findings) inForce() *policy.Policy {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.policy
}

// hold puts a policy into force. Of another one nothing is known of the machine.
func (f *findings) hold(p *policy.Policy, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.policy == nil || !samePolicy(f.policy, p) {
		f.reset(p, now)
	}
	f.policy = p
}

// reset has nothing be known of the machine, mu being held: it is to be held to a
// policy under which nothing has been checked. That something was corrected stays
// known where the policy wants the same of it as the one before: it is told of once the
// resource has been checked.
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

// reportUnassigned says of the resources of kinds that no worker checks that nobody will ever
// check them.
func (d *daemon) reportUnassigned(walked []converge.Kind) {
	for _, kind := range policy.Kinds() {
		if slices.ContainsFunc(walked, func(k converge.Kind) bool { return k.Name() == kind }) {
			continue
		}
		d.Log.Error("no worker checks a kind; this is a bug of the agent: please report it", "kind", kind)
		d.findings.giveUp(kind, "nothing in this agent looks at "+kind+": this is a bug of the agent")
	}
}

// giveUp says of the resources of a kind why nobody will check them.
func (f *findings) giveUp(kind, why string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.resources[kind] {
		r := &f.resources[kind][i]
		r.SetUnknown(why).ReasonIsPublic()
		r.Unseen = false
	}
}

// record takes over what a pass found. It returns false for what was found under another
// policy than the one in force: that says nothing about this.
func (f *findings) record(result converge.Result) (known bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !samePolicy(result.Policy, f.policy) {
		for _, r := range result.Resources {
			if r.State == converge.Corrected && wantTheSame(result.Policy, f.policy, r.ID) {
				f.corrected[r.ID] = r // what it is now is still to be seen
			}
		}
		return false
	}
	for _, kind := range result.Kinds {
		f.resources[kind] = nil
		f.timing[kind] = result.Timing[kind]
	}
	for _, r := range result.Resources {
		// A correction is worth being seen until the next verify, not only until the
		// next check a moment later.
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

// settleCorrections makes what was corrected compliant like everything else.
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

// all is the policy in force and all that was found under it, at one moment.
func (f *findings) all() (p *policy.Policy, resources []converge.Resource, timing map[string]time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, kind := range slices.Sorted(maps.Keys(f.resources)) {
		resources = append(resources, f.resources[kind]...)
	}
	return f.policy, resources, maps.Clone(f.timing)
}

// asItIs is what was found and what there is to say besides, mu being held. What a pass is
// bringing into line for the time being is not in line, whatever it was before.
func (d *daemon) asItIs(resources []converge.Resource) []converge.Resource {
	resources = append(resources, d.own()...)
	mending := map[policy.ID]converge.Resource{}
	for _, r := range d.repairing() {
		mending[r.ID] = r
	}
	for i, r := range resources {
		if now, is := mending[r.ID]; is && !r.Unseen {
			resources[i] = now
		}
		delete(mending, r.ID)
	}
	for _, id := range slices.Sorted(maps.Keys(mending)) { // what nobody wants and was not there before
		resources = append(resources, mending[id])
	}
	return resources
}

// awaited is what has to come before a verdict can be given, and what is refused, for people,
// mu being held.
func (d *daemon) awaited() (awaited, refused []public.Line) {
	heard := d.contact.isHeard() // before: what is refused then is noted earlier
	refused = d.refusals.all()
	return d.awaits(heard, refused), refused
}

func (d *daemon) awaits(heard bool, refused []public.Line) []public.Line {
	if d.startup.awaitsTransaction() {
		return []public.Line{public.All("a package transaction that an earlier life of the agent has begun goes on")}
	}
	switch path := d.config.AWS.Path; {
	case path == "" || len(refused) > 0:
	case d.status.Serial == 0:
		return []public.Line{d.config.line(NothingPublished(path), "nothing of what is published for this machine has been had yet: the seed is in force")}
	case !heard && d.findings.inForce().Partial:
		return []public.Line{public.All("nothing has been heard since the start of what is published by now")}
	}
	return nil
}

// NothingPublished says that a machine has never had a policy from where its policy is
// published.
func NothingPublished(path string) string {
	return fmt.Sprintf("nothing of what is published below %s has been had yet: the seed is in force", path)
}
