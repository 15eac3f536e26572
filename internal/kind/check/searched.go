package check

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/public"
)

// searched is the result of a search of files.
type searched struct {
	Found  []string `json:"found,omitempty"` // the first of them
	Total  int      `json:"total,omitempty"`
	Doubts []doubt  `json:"doubts,omitempty"`
	GoesOn bool     `json:"goes_on,omitempty"` // it has not come to its end yet

	at time.Time
}

// A doubt is a reason why there may be more than was found.
type doubt struct {
	Why    string `json:"why"`              // for everybody
	Detail string `json:"detail,omitempty"` // for root
}

func (s *searched) doubt(why, detail string) { s.Doubts = append(s.Doubts, doubt{why, detail}) }

// resource is the state of a search. Names of files are for root: they may be in directories that
// others cannot read.
func (s searched) resource(want policy.Want[policy.Search]) converge.Resource {
	r := converge.Wanted(want.Resource)
	r.AsOf, r.StaleAt = s.at, s.at.Add(want.Spec.StaleAfter())
	var doubts error
	for _, d := range s.Doubts {
		err := public.Error(errors.New(d.Why))
		if d.Detail != "" {
			err = public.Because(d.Why, errors.New(d.Detail))
		}
		if doubts != nil {
			err = public.Because(public.Text(doubts), err)
		}
		doubts = err
	}
	switch {
	case s.Total > 0:
		what := strings.Join(s.Found, "; ")
		if more := s.Total - len(s.Found); more > 0 {
			what += fmt.Sprintf("; and %d more", more)
		}
		if doubts != nil {
			what += "; and there may be more: " + doubts.Error()
		}
		r.SetFailedErr(public.Because(fmt.Sprintf("the check does not hold: %d found", s.Total), errors.New(what)))
	case doubts != nil:
		r.SetUnknownErr(public.Because("cannot tell", doubts))
	}
	return r
}

// soonAgain is when a search that has not come to its end is continued.
const soonAgain = 10 * time.Minute

// due is the time when a search is to be made again.
func (s searched) due(spec policy.Search) time.Time {
	switch {
	case s.GoesOn:
		return s.at.Add(min(soonAgain, spec.Every/triesAgain))
	case len(s.Doubts) > 0:
		return s.at.Add(spec.Every / triesAgain)
	}
	return s.at.Add(spec.Every)
}

// lastSearched is the previous result of a search, if it still counts.
func (k *Kind) lastSearched(want policy.Want[policy.Search]) (s searched, counts bool) {
	s.at, counts = k.recall(want.ID, want.Digest(), &s)
	return s, counts && k.system.Clock.Now().Round(0).Before(s.due(want.Spec))
}

// conclude returns what a search has found, after asking whoever knows about the rest.
func (k *Kind) conclude(ctx context.Context, want policy.Want[policy.Search], p *progress) (s searched) {
	f := *p.of(want.ID)
	for _, id := range slices.Sorted(maps.Keys(f.Nameless)) {
		there, err := k.hasName(ctx, id)
		if err != nil {
			s.doubt("cannot tell whether ids have names", err.Error())
			break // whoever does not answer is not asked again
		}
		if !there {
			f.merge(f.Nameless[id])
		}
	}
	if err := k.unpackaged(ctx, judge{&f, want.Spec}); err != nil {
		s.doubt("cannot tell which set-id programs are of packages", err.Error())
	}
	if p.Missed > 0 {
		var names []string
		for _, u := range p.Unseen {
			names = append(names, u.Name+": "+u.Why)
		}
		s.doubt(fmt.Sprintf("%d places could not be looked at", p.Missed), strings.Join(names, "; "))
	}
	s.Total, s.Found = f.Total, slices.Concat(f.Roots, f.Others)
	s.Found = s.Found[:min(len(s.Found), mostTold)]
	return s
}

// hasName reports whether the name service knows an id, given as "uid 5" or "gid 5".
func (k *Kind) hasName(ctx context.Context, id string) (there bool, err error) {
	what, number, _ := strings.Cut(id, " ")
	if what == ofUser {
		_, there, err = facts.LookupUser(ctx, k.system, number)
	} else {
		_, there, err = facts.LookupGroup(ctx, k.system, number)
	}
	return there, err
}

// plain writes a name so that it cannot be taken for something else in a list, or on a terminal.
func plain(name string) string {
	name = shortened(name)
	for _, c := range []byte(name) {
		if c <= ' ' || c >= 0x7f || strings.IndexByte("\"';:,\\`", c) >= 0 {
			return strconv.QuoteToASCII(name)
		}
	}
	return name
}

// shortened cuts a long name in the middle: its end says which file it is.
func shortened(name string) string {
	if len(name) <= maxExcerpt {
		return name
	}
	return name[:maxExcerpt/2] + "..." + name[len(name)-maxExcerpt/2:]
}
