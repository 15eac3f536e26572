package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Limits of the rules of a policy. At each check, every resource is compared with every pattern whose
// beginning or end it has, and lists all its controls.
const (
	mostPatterns = 1000 // different patterns with a *
	mostControls = 1000 // different controls
)

// A ruleIndex finds the rules about a resource. It is used for every resource at each check.
type ruleIndex struct {
	exact    map[string]*said
	patterns patterns
	globs    map[string]*said // all globs
	controls map[string]bool
}

// said is what all rules with one glob say together: for each aspect, the index of the last rule
// that says it, counted from 1.
type said struct {
	glob                               string
	severity, pending, disrupt, audits int
	controls                           []control
	has                                map[string]bool // the names in controls
}

type control struct {
	name string
	rule int
}

func indexOf(rules []Rule) *ruleIndex {
	x := &ruleIndex{exact: map[string]*said{}, patterns: newPatterns(), globs: map[string]*said{}, controls: map[string]bool{}}
	for i, r := range rules {
		x.add(i+1, r)
	}
	return x
}

func (x *ruleIndex) add(place int, r Rule) {
	for _, c := range r.Controls {
		x.controls[c] = true
	}
	for _, glob := range r.Match {
		s := x.globs[glob]
		if s == nil {
			s = &said{glob: glob, has: map[string]bool{}}
			x.globs[glob] = s
			if strings.Contains(glob, "*") {
				x.patterns.add(s)
			} else {
				x.exact[glob] = s
			}
		}
		s.add(place, r)
	}
}

func (s *said) add(place int, r Rule) {
	if r.Severity != "" {
		s.severity = place
	}
	if r.Pending > 0 {
		s.pending = place
	}
	if r.Disrupt != "" {
		s.disrupt = place
	}
	if r.Audit {
		s.audits = place
	}
	for _, c := range r.Controls {
		if !s.has[c] {
			s.has[c] = true
			s.controls = append(s.controls, control{c, place})
		}
	}
}

// about returns what the rules that match an ID say together.
func (x *ruleIndex) about(id ID) said {
	var all said
	take := func(s *said) {
		all.severity, all.pending = max(all.severity, s.severity), max(all.pending, s.pending)
		all.disrupt, all.audits = max(all.disrupt, s.disrupt), max(all.audits, s.audits)
		all.controls = append(all.controls, s.controls...)
	}
	if s := x.exact[string(id)]; s != nil {
		take(s)
	}
	for s := range x.patterns.near(string(id)) {
		if matchGlob(s.glob, string(id)) {
			take(s)
		}
	}
	slices.SortStableFunc(all.controls, func(a, b control) int { return cmp.Compare(a.rule, b.rule) })
	return all
}

// matched returns the globs that match any of the IDs.
func (x *ruleIndex) matched(ids []ID) map[string]bool {
	matched := map[string]bool{}
	for _, id := range ids {
		if x.exact[string(id)] != nil {
			matched[string(id)] = true
		}
		for s := range x.patterns.near(string(id)) {
			if !matched[s.glob] && matchGlob(s.glob, string(id)) {
				matched[s.glob] = true
			}
		}
	}
	return matched
}

// rules returns the index of the policy's rules. Merge creates it.
func (p *Policy) rules() *ruleIndex {
	if p.index == nil {
		return indexOf(p.Rules)
	}
	return p.index
}

// Ruling returns what the rules say about a resource at a given time. Without a rule the severity
// is medium.
func (p *Policy) Ruling(id ID, now time.Time) Ruling {
	ruling := Ruling{Severity: Medium, Pending: patience}
	all := p.rules().about(id)
	if all.severity > 0 {
		ruling.Severity = p.Rules[all.severity-1].Severity
	}
	if all.pending > 0 {
		ruling.Pending = p.Rules[all.pending-1].Pending
	}
	if all.disrupt > 0 {
		ruling.Disrupt = p.Rules[all.disrupt-1].Disrupt
	}
	seen := map[string]bool{}
	for _, c := range all.controls {
		if !seen[c.name] {
			seen[c.name] = true
			ruling.Controls = append(ruling.Controls, c.name)
		}
	}
	if all.audits > 0 {
		r := p.Rules[all.audits-1]
		ruling.Waived = !r.Until.IsZero() && now.Before(r.Until)
		ruling.Audit = r.Until.IsZero() || ruling.Waived
		ruling.Until, ruling.Reason = r.Until, r.Reason
	}
	return ruling
}

// Auditing returns the index in Rules of the rule whose mode = "audit" applies to a resource, or -1
// if there is none.
func (p *Policy) Auditing(id ID) int { return p.rules().about(id).audits - 1 }

// NextWaiverEnd returns when the next waiver of a resource of a kind ends after a given time, or
// the zero time if none does.
func (p *Policy) NextWaiverEnd(kind string, after time.Time) time.Time {
	var next time.Time
	var ids []ID
	for _, r := range p.Resources {
		if r.ID.Kind() == kind {
			ids = append(ids, r.ID)
		}
	}
	ending := slices.DeleteFunc(slices.Clone(p.Rules), func(r Rule) bool { return !r.Until.After(after) })
	matched := indexOf(ending).matched(ids)
	for _, r := range ending {
		if (next.IsZero() || r.Until.Before(next)) && slices.ContainsFunc(r.Match, func(glob string) bool { return matched[glob] }) {
			next = r.Until
		}
	}
	return next
}

// Idle returns the indexes in Rules of rules that match none of the IDs.
func (p *Policy) Idle(ids []ID) []int {
	var idle []int
	matched := p.rules().matched(ids)
	for i, r := range p.Rules {
		if !slices.ContainsFunc(r.Match, func(glob string) bool { return matched[glob] }) {
			idle = append(idle, i)
		}
	}
	return idle
}

// tooMuch returns which limit the rules exceed, or "".
func (x *ruleIndex) tooMuch() string {
	switch {
	case x.patterns.count > mostPatterns:
		return fmt.Sprintf("its rules have more than %d different patterns with a *", mostPatterns)
	case len(x.controls) > mostControls:
		return fmt.Sprintf("its rules have more than %d different controls", mostControls)
	}
	return ""
}
