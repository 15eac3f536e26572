// Package firewall implements the kind "firewall": which connections are allowed in and out.
//
// The rules are in a table of nftables that belongs to the agent. If nft is not installed, they are
// in two chains of iptables and of ip6tables. The rules of others are not touched. Each rule set is
// replaced in one transaction of the kernel. What a WorkSpace cannot work without is allowed before
// any other rule (protected.Ports), and so is traffic of existing connections, so that no change
// cuts a connection. No chain has a policy that denies: if the rules are removed, the machine is
// open.
//
// The rules in force are read back from the kernel and compared one by one. The kernel does not
// notify of changes, so they are read every half minute. At boot a unit of the agent loads the
// rules that were last in force, before the network is up.
//
// If firewalld is running, the kind does nothing, because firewalld controls all rules itself.
package firewall

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/protected"
	"github.com/soe-agent/soe-agent/internal/public"
	"github.com/soe-agent/soe-agent/internal/system"
)

// Every is how often the rules in force are read.
const Every = 30 * time.Second

// A Kind checks and repairs the rules of a policy.
type Kind struct {
	*system.Unanswered
	policy *policy.Policy
	system *system.System
	ledger *converge.Ledger

	mu     sync.Mutex
	looked time.Time // when the rules were last read
}

// New returns the kind for a policy. The ledger knows which rules an earlier policy loaded.
func New(p *policy.Policy, s *system.System, l *converge.Ledger) *Kind {
	s, unanswered := s.Observe()
	return &Kind{Unanswered: unanswered, policy: p, system: s, ledger: l}
}

// Name implements converge.Kind.
func (*Kind) Name() string { return policy.Firewall{}.Kind() }

// Watches implements converge.Watcher: the files for the boot, and units that may load rules of
// their own.
func (k *Kind) Watches() []converge.Watch {
	if !k.concerned() {
		return nil
	}
	watches := []converge.Watch{{Dir: unitDir, Names: []string{policy.FirewallUnit}}, {Dir: wantsDir, Names: []string{policy.FirewallUnit}}, {Dir: dropinDir}}
	for _, unit := range []string{firewalld, "nftables.service", "iptables.service", "ip6tables.service"} {
		watches = append(watches, converge.Watch{Unit: unit})
	}
	return watches
}

// NextLook implements converge.Timed.
func (k *Kind) NextLook() time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.looked.IsZero() || !k.system.Running() || !k.concerned() {
		return time.Time{}
	}
	return k.looked.Add(Every)
}

func (k *Kind) concerned() bool {
	return len(policy.Of[policy.Firewall](k.policy)) > 0 || len(k.ledger.Owned(k.Name())) > 0
}

// unwanted returns the resources that an earlier policy named and this one does not.
func (k *Kind) unwanted() (ids []policy.ID) {
	for _, id := range k.ledger.Owned(k.Name()) {
		if _, named := k.policy.Lookup(id); !named {
			ids = append(ids, id)
		}
	}
	return ids
}

// Check implements converge.Kind.
func (k *Kind) Check(ctx context.Context) ([]converge.Resource, error) {
	k.mu.Lock()
	k.looked = k.system.Clock.Now()
	k.mu.Unlock()
	unwanted := k.unwanted()
	wants := policy.Of[policy.Firewall](k.policy)
	if len(wants) == 0 && len(unwanted) == 0 {
		return k.remains()
	}
	found, err := k.observe(ctx, len(wants) > 0)
	var judged judgement
	if err == nil {
		judged, err = k.judge(found, wants)
	}
	var resources []converge.Resource
	for _, want := range wants {
		r := converge.Wanted(want.Resource)
		k.tell(&r, want.Spec, judged, err)
		resources = append(resources, r)
	}
	for _, id := range unwanted {
		r := converge.Unwanted(id, "the policy no longer names it")
		if err != nil && !isAnswer(err) {
			r.SetUnknownErr(err)
		}
		resources = append(resources, r)
	}
	return resources, nil
}

// remains returns a resource if files of an agent whose ledger is lost exist, or rules are still in
// force although no policy wants any.
func (k *Kind) remains() ([]converge.Resource, error) {
	r := converge.Unwanted(policy.NewID(k.Name(), "rules"), "no policy names any")
	gone, back, err := k.left()
	switch {
	case err != nil:
		return nil, err
	case len(back) > 0:
		return []converge.Resource{r}, nil
	case gone:
		r.SetPending(converge.Reboot, untilBoot).ReasonIsPublic()
		return []converge.Resource{r}, nil
	}
	_, err = k.system.FS.Stat(unitFile)
	switch {
	case isMissing(err):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return []converge.Resource{r}, nil
}

const untilBoot = "rules are in force until the reboot that nobody can take away: the tool that loaded them is not installed any more"

func (k *Kind) tell(r *converge.Resource, f policy.Firewall, judged judgement, err error) {
	switch {
	case err != nil && isAnswer(err):
		r.SetFailedErr(public.Error(err))
		return
	case err != nil:
		r.SetUnknownErr(err)
		return
	}
	for _, d := range judged.of(r.ID.Name(), f.Direction) {
		r.AddDrift(d.Aspect, d.Want, d.Got)
	}
	if r.State == converge.Compliant && judged.left {
		r.SetPending(converge.Reboot, untilBoot).ReasonIsPublic()
	}
	if other := judged.others[f.Direction]; r.State == converge.Compliant && other != "" && f.Action == policy.Allow && !isDefault(r.ID.Name()) {
		r.SetUnknown(fmt.Sprintf("it is let through here, and the rules of somebody else, in %s, deny something too: whether they let it through cannot be told", other)).ReasonIsPublic()
	}
}

// An errAnswer says why there can be no rules. Unlike other errors, it means that this is known.
type errAnswer string

func (e errAnswer) Error() string { return string(e) }

func isAnswer(err error) bool {
	var answer errAnswer
	return errors.As(err, &answer)
}

// A judgement is everything that differs from the policy.
type judgement struct {
	own    map[string][]converge.Difference              // by resource
	whole  map[protected.Direction][]converge.Difference // by direction: affects all its resources
	boot   []converge.Difference                         // affects all resources
	others map[protected.Direction]string
	ruled  map[protected.Direction]bool // there is a resource of the direction
	// touched means that the rules in force differ from those last loaded. Then an unexpected rule
	// is drift of all resources of its direction, whatever owner its comment names. Otherwise the
	// policy has changed, and it is drift of its owner.
	touched bool
	left    bool // rules are in force that no installed tool can remove
}

func (j judgement) of(name string, d protected.Direction) []converge.Difference {
	all := slices.Concat(j.own[name], j.whole[d], j.boot)
	for _, other := range directions() {
		if !j.ruled[other] {
			all = append(all, j.whole[other]...)
		}
	}
	return all
}

func (k *Kind) judge(found observed, wants []policy.Want[policy.Firewall]) (judgement, error) {
	j := judgement{
		own: map[string][]converge.Difference{}, whole: map[protected.Direction][]converge.Difference{},
		others: map[protected.Direction]string{}, ruled: map[protected.Direction]bool{},
	}
	for _, want := range wants {
		j.ruled[want.Spec.Direction] = true
	}
	everything, err := k.planned(found.views, func(policy.ID) bool { return true })
	if err != nil {
		return j, err
	}
	if j.touched, err = k.isTouched(found); err != nil {
		return j, err
	}
	if k.system.Running() {
		for _, v := range found.views {
			for _, d := range directions() {
				k.compare(&j, d, v, everything[v.family][d])
			}
		}
	}
	enforced, err := k.planned(found.views, func(id policy.ID) bool { return k.policy.Auditing(id) < 0 })
	if err != nil {
		return j, err
	}
	if j.boot, err = k.judgeBoot(found, enforced); err != nil {
		return j, err
	}
	gone, back, err := k.left()
	j.left = gone
	for _, tool := range back {
		j.boot = append(j.boot, converge.Difference{Aspect: "left", Want: "no rules of " + tool, Got: "rules of an earlier time"})
	}
	return j, err
}

// compare compares the rules of one direction in a rule set with the wanted ones. Rules of
// resources that the policy no longer names do not count as drift of the others.
func (k *Kind) compare(j *judgement, d protected.Direction, v view, want []line) {
	differs := func(aspect, want, got string) {
		j.whole[d] = append(j.whole[d], converge.Difference{Aspect: aspect, Want: want, Got: got})
	}
	if other := v.others[d]; other != "" {
		j.others[d] = other
	}
	if why := v.unhooked[d]; why != "" {
		differs("effect "+string(d)+" "+string(v.family), "in force", why)
	}
	live := slices.DeleteFunc(slices.Clone(v.chains[d]), func(l line) bool { return l.raw == "" && k.isUnwanted(l.owner) })
	want = slices.DeleteFunc(slices.Clone(want), func(l line) bool { return k.isUnwanted(l.owner) })
	missing, extra := without(want, live), without(live, want)
	byOwner := map[string][2][]line{}
	for i, lines := range [][]line{missing, extra} {
		for _, l := range lines {
			owner := k.ownerOf(l)
			if i == 1 && j.touched {
				owner = ""
			}
			sides := byOwner[owner]
			sides[i] = append(sides[i], l)
			byOwner[owner] = sides
		}
	}
	for owner, sides := range byOwner {
		difference := converge.Difference{Aspect: "rules " + string(d) + " " + string(v.family), Want: some(sides[0]), Got: some(sides[1])}
		if owner == "" {
			j.whole[d] = append(j.whole[d], difference)
		} else {
			j.own[owner] = append(j.own[owner], difference)
		}
	}
	if !slices.Equal(without(want, missing), without(live, extra)) {
		differs("order "+string(d)+" "+string(v.family), "as their names say", "another")
	}
}

// ownerOf returns the name of the policy's resource that a line belongs to, or "".
func (k *Kind) ownerOf(l line) string {
	if _, named := k.policy.Lookup(policy.NewID(k.Name(), l.owner)); named && l.raw == "" {
		return l.owner
	}
	return ""
}

func (k *Kind) isUnwanted(owner string) bool {
	id := policy.NewID(k.Name(), owner)
	_, named := k.policy.Lookup(id)
	return !named && k.ledger.Owns(id)
}

// some lists the first few lines, and how many more there are.
func some(lines []line) string {
	const shown = 3
	var texts []string
	for _, l := range lines[:min(shown, len(lines))] {
		texts = append(texts, l.String())
	}
	if more := len(lines) - shown; more > 0 {
		texts = append(texts, fmt.Sprintf("and %d more", more))
	}
	if len(texts) == 0 {
		return "none"
	}
	return strings.Join(texts, "; ")
}

// planned returns the rule sets with the enforced resources as the policy wants them. The rules of
// all other resources stay as they are: those that are only reported, and those that a part of the
// policy which is not known yet may want.
func (k *Kind) planned(views []view, enforced func(policy.ID) bool) (plan, error) {
	p := plan{}
	for _, v := range views {
		p[v.family] = map[protected.Direction][]line{}
		for _, d := range directions() {
			lines := open(d)
			for _, want := range policy.Of[policy.Firewall](k.policy) {
				if want.Spec.Direction != d || !enforced(want.ID) {
					continue
				}
				own, err := compiled(want.ID.Name(), want.Spec)
				if err != nil {
					return nil, err
				}
				lines = append(lines, own...)
			}
			for _, l := range v.chains[d] {
				id := policy.NewID(k.Name(), l.owner)
				_, named := k.policy.Lookup(id)
				if l.raw == "" && (named || k.ledger.Owns(id)) && !enforced(id) {
					lines = append(lines, l)
				}
			}
			p[v.family][d] = sorted(slices.DeleteFunc(lines, func(l line) bool { return !v.family.has(l) }))
		}
	}
	return p, nil
}
