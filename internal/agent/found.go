package agent

import (
	"fmt"
	"maps"
	"slices"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/public"
)

// What was found of the machine, and under which policy: what has not been looked at
// under the one in force, in this life of the agent, is called so and nothing else.

// resetFound has nothing be known of the machine, mu being held: it is to be held to a
// policy under which nothing has been looked at. That something was corrected stays
// known where the policy wants the same of it as the one before: it is told of once the
// resource has been looked at.
func (d *daemon) resetFound(p *policy.Policy) {
	now := d.System.Clock.Now()
	d.resources = map[string][]converge.Resource{}
	corrected := map[policy.ID]converge.Resource{}
	for id, r := range d.corrected {
		if wantTheSame(d.policy, p, id) {
			corrected[id] = r
		}
	}
	d.corrected = corrected
	clear(d.timing)
	for _, kind := range policy.Kinds() {
		d.resources[kind] = converge.NotCheckedYet(p, kind, now)
	}
}

// wantTheSame says whether both policies want the same of a resource.
func wantTheSame(a, b *policy.Policy, id policy.ID) bool {
	before, was := a.Lookup(id)
	after, is := b.Lookup(id)
	return was && is && before.Digest() == after.Digest() && slices.Equal(before.Secrets, after.Secrets)
}

// reportUnassigned says of the resources of kinds that no worker walks that nobody will ever
// look at them.
func (d *daemon) reportUnassigned(walked []converge.Kind) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, kind := range policy.Kinds() {
		if slices.ContainsFunc(walked, func(k converge.Kind) bool { return k.Name() == kind }) {
			continue
		}
		d.Log.Error("no worker checks a kind; this is a bug of the agent: please report it", "kind", kind)
		for i := range d.resources[kind] {
			r := &d.resources[kind][i]
			r.SetUnknown("nothing in this agent looks at " + kind + ": this is a bug of the agent").ReasonIsPublic()
			r.Unseen = false
		}
	}
}

// record takes over what a walk found. It returns false for what was found under another
// policy than the one in force: that says nothing about this.
func (d *daemon) record(result converge.Result) (known bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !samePolicy(result.Policy, d.policy) {
		for _, r := range result.Resources {
			if r.State == converge.Corrected && wantTheSame(result.Policy, d.policy, r.ID) {
				d.corrected[r.ID] = r // what it is now is still to be seen
			}
		}
		return false
	}
	for _, kind := range result.Kinds {
		d.resources[kind] = nil
		d.timing[kind] = result.Timing[kind]
	}
	for _, r := range result.Resources {
		// A correction is worth being seen until the next verify, not only until the
		// next look a moment later.
		switch was, ok := d.corrected[r.ID]; {
		case r.State == converge.Corrected:
			d.corrected[r.ID] = r
		case ok && r.State == converge.Compliant:
			r.SetCorrected(was)
		default:
			delete(d.corrected, r.ID)
		}
		kind := r.ID.Kind()
		d.resources[kind] = append(d.resources[kind], r)
	}
	d.status.LastPass = result.Started.Add(result.Took)
	return true
}

// unseen says whether anything has not been looked at yet, mu being held.
func (d *daemon) unseen() bool {
	for _, resources := range d.resources {
		if slices.ContainsFunc(resources, func(r converge.Resource) bool { return r.Unseen }) {
			return true
		}
	}
	return false
}

// found is all that is known of the machine, mu being held. What a walk is bringing into
// line for the time being is not in line, whatever it was before.
func (d *daemon) found() []converge.Resource {
	var byKind [][]converge.Resource
	for _, kind := range slices.Sorted(maps.Keys(d.resources)) {
		byKind = append(byKind, d.resources[kind])
	}
	resources := append(slices.Concat(byKind...), d.own()...)
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

// awaited is what has to come before a verdict can be given, for people, mu being held.
func (d *daemon) awaited() []public.Line {
	if d.earlierTransaction {
		return []public.Line{public.All("a package transaction that an earlier life of the agent has begun goes on")}
	}
	switch path := d.config.AWS.Path; {
	case path == "" || len(d.refused()) > 0:
	case d.status.Serial == 0:
		return []public.Line{d.config.line(NothingPublished(path), "nothing of what is published for this machine has been had yet: the seed is in force")}
	case !d.heard && d.policy.Partial:
		return []public.Line{public.All("nothing has been heard since the start of what is published by now")}
	}
	return nil
}

// NothingPublished says that a machine has never had a policy from where its policy is
// published.
func NothingPublished(path string) string {
	return fmt.Sprintf("nothing of what is published below %s has been had yet: the seed is in force", path)
}
