package check

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

// An expedition goes through the machine's files once for all searches that need the same. It may end
// before it has seen everything, and is continued later.
type expedition struct {
	id    policy.ID // under which the ledger keeps how far it has come; no check can be called so
	wants []policy.Want[policy.Search]
	// explore goes on from where p says, adds what it finds, and returns whether it has come to the end.
	explore func(ctx context.Context, wants []policy.Want[policy.Search], p *progress) (ended bool, err error)
}

// expeditions returns those through the disks and through the packages, with what each searches for.
func (k *Kind) expeditions() []*expedition {
	disks := &expedition{id: "check/~disks", explore: k.exploreDisks}
	packages := &expedition{id: "check/~packages", explore: k.explorePackages}
	for _, want := range policy.Of[policy.Search](k.policy) {
		switch {
		case want.Spec.For == policy.AlteredFiles:
			packages.wants = append(packages.wants, want)
		case want.Spec.OfFiles():
			disks.wants = append(disks.wants, want)
		}
	}
	return []*expedition{disks, packages}
}

// digest identifies what is searched for.
func (e *expedition) digest() string {
	var digests []string
	for _, want := range e.wants {
		digests = append(digests, want.Digest())
	}
	return strings.Join(digests, " ")
}

// timeout is how long it may take at a time.
func (e *expedition) timeout() time.Duration {
	return slices.MaxFunc(e.wants, func(a, b policy.Want[policy.Search]) int { return cmp.Compare(a.Spec.Timeout, b.Spec.Timeout) }).Spec.Timeout
}

// progress is how far an expedition has come. The ledger keeps it until the end.
type progress struct {
	Began   time.Time            `json:"began"`
	Place   system.Place         `json:"place"`             // on the disks
	Package string               `json:"package,omitempty"` // the last that was verified
	Finds   map[policy.ID]*finds `json:"finds"`
	Unseen  []system.Unseen      `json:"unseen,omitempty"`
	Missed  int                  `json:"missed,omitempty"`
}

func (p *progress) of(id policy.ID) *finds {
	if p.Finds[id] == nil {
		p.Finds[id] = &finds{}
	}
	return p.Finds[id]
}

// miss notes what could not be looked at.
func (p *progress) miss(unseen []system.Unseen, total int) {
	p.Missed += total
	for _, u := range unseen {
		if len(p.Unseen) < mostMissed {
			p.Unseen = append(p.Unseen, system.Unseen{Name: plain(u.Name), Why: excerpt(u.Why)})
		}
	}
}

const mostMissed = 3

// finds are what a search has found so far. Of root's files and of those of all others as many are
// named, so that nobody can hide the former behind his own.
type finds struct {
	Roots  []string `json:"roots,omitempty"`
	Others []string `json:"others,omitempty"`
	Total  int      `json:"total"`
	// Of these it has to be asked, at the end, whether they count.
	Nameless map[string]*finds `json:"nameless,omitempty"` // by the id that has no local name, such as "uid 5"
	SetIDs   []setID           `json:"set_ids,omitempty"`  // whether a package brought them so
}

func (f *finds) add(uid int, text func() string) {
	f.Total++
	list := &f.Others
	if uid == 0 {
		list = &f.Roots
	}
	if len(*list) < mostTold {
		*list = append(*list, text())
	}
}

func (f *finds) merge(other *finds) {
	f.Total += other.Total
	f.Roots, f.Others = slices.Concat(f.Roots, other.Roots), slices.Concat(f.Others, other.Others)
}

// searchFiles returns the state of all searches of files, and makes those expeditions that are due.
func (k *Kind) searchFiles(ctx context.Context) (resources []converge.Resource) {
	for _, e := range k.expeditions() {
		due := slices.ContainsFunc(e.wants, func(want policy.Want[policy.Search]) bool {
			_, counts := k.lastSearched(want)
			return !counts || k.outrun(want.ID)
		})
		var results map[policy.ID]searched
		if due {
			results = k.send(ctx, e)
		}
		for _, want := range e.wants {
			result, is := results[want.ID]
			if !is {
				result, _ = k.lastSearched(want)
			}
			resources = append(resources, result.resource(want))
		}
	}
	return resources
}

// send has an expedition go on for as long as it may take, and keeps what it has found.
func (k *Kind) send(ctx context.Context, e *expedition) map[policy.ID]searched {
	p := k.resume(e)
	for _, want := range e.wants {
		k.starts(want.ID)
	}
	bounded, cancel := context.WithTimeout(ctx, e.timeout())
	defer cancel()
	ended, err := e.explore(bounded, e.wants, p)
	results := map[policy.ID]searched{}
	for _, want := range e.wants {
		result := k.conclude(ctx, want, p)
		result.at = k.system.Clock.Now().Round(0)
		switch {
		case err != nil:
			result.doubt("cannot search", err.Error())
		case !ended:
			result.GoesOn = true
			result.doubt(fmt.Sprintf("the search did not end within %s, and is continued", e.timeout()), "it has come to "+p.where())
		default:
			result.at = p.Began
		}
		results[want.ID] = result
		if ctx.Err() == nil { // one that was cancelled has no result
			k.remember(want.ID, want.Digest(), result.at, result)
		}
	}
	switch {
	case ended:
		k.ledger.KeepAnswer(e.id, converge.Answer{})
	case !p.Began.IsZero():
		k.remember(e.id, e.digest(), p.Began, p)
	}
	return results
}

// resume returns how far an expedition has come. It begins anew if something else is searched for now,
// and if its beginning is so long ago that the result would not count.
func (k *Kind) resume(e *expedition) *progress {
	now := k.system.Clock.Now().Round(0)
	p := &progress{}
	_, counts := k.recall(e.id, e.digest(), p)
	for _, want := range e.wants {
		counts = counts && now.Before(p.Began.Add(want.Spec.StaleAfter())) && !k.outrun(want.ID)
	}
	if !counts || p.Finds == nil {
		p = &progress{Began: now, Finds: map[policy.ID]*finds{}}
	}
	return p
}
