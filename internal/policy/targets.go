package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/target"
)

// A Variant is what fragments are on some targets.
type Variant struct {
	Targets   []string // none: every target
	Fragments []Fragment
}

// On returns the fragments and rules that a machine of a target uses: those whose conditions hold there,
// without these conditions. What depends on a fact that differs among such machines keeps its conditions.
func On(fragments []Fragment, t target.Target) []Fragment {
	var on []Fragment
	for _, f := range fragments {
		var used bool
		if f.When, used = remaining(f.When, t); !used {
			continue
		}
		rules := f.Rules
		f.Rules = nil
		for _, r := range rules {
			if r.When, used = remaining(r.When, t); used {
				f.Rules = append(f.Rules, r)
			}
		}
		on = append(on, f)
	}
	return on
}

// remaining returns what is left to be told of conditions on a target.
func remaining(c target.Conditions, t target.Target) (left target.Conditions, may bool) {
	if !t.May(c) {
		return nil, false
	}
	if answer, _ := c.Hold(t.Facts); answer == target.Unknown {
		return c, true
	}
	return nil, true
}

// Variants returns what several policies are on the targets, target by target; those on which all are the
// same make one variant. The result has the variants of each policy, in the same order.
func Variants(policies ...[]Fragment) [][]Variant {
	all := make([][]Variant, len(policies))
	place := map[string]int{}
	targets := target.All()
	for _, t := range targets {
		on := make([][]Fragment, len(policies))
		key := ""
		for i, fragments := range policies {
			on[i] = On(fragments, t)
			key += usedOf(on[i]) + "\n"
		}
		at, known := place[key]
		if !known {
			at = len(place)
			place[key] = at
		}
		for i := range policies {
			if !known {
				all[i] = append(all[i], Variant{Fragments: on[i]})
			}
			all[i][at].Targets = append(all[i][at].Targets, t.Name)
		}
	}
	if len(place) == 1 { // everything is for every target
		for i := range all {
			all[i][0].Targets = nil
		}
	}
	return all
}

// usedOf names what is used of a policy.
func usedOf(fragments []Fragment) string {
	var key strings.Builder
	for _, f := range fragments {
		fmt.Fprintf(&key, "%q %v", f.Name, f.When)
		for _, r := range f.Rules {
			fmt.Fprintf(&key, " %d %v", r.Origin.Line, r.When)
		}
		key.WriteByte(';')
	}
	return key.String()
}

// targets warns of what holds on no target, and of what is not applicable on any of those that it is for.
func (a *adviser) targets(f Fragment) {
	const hint = "soe-agent facts says what a machine is; targets are "
	on := slices.DeleteFunc(target.All(), func(t target.Target) bool { return !t.May(f.When) })
	if len(on) == 0 {
		a.warn(0, "its conditions hold on no target", hint+strings.Join(target.AllNames(), ", "))
		return
	}
	for _, r := range f.Rules {
		if !slices.ContainsFunc(on, func(t target.Target) bool { return t.May(r.When) }) {
			a.warn(r.Origin.Line, "the rule's conditions hold on no target that its fragment is for", hint+strings.Join(target.AllNames(), ", "))
		}
	}
	for _, s := range f.Settings {
		why := ""
		if slices.ContainsFunc(on, func(t target.Target) bool {
			why = notApplicable(s.ID, t.Facts)
			return why == ""
		}) {
			continue
		}
		a.warn(s.Line, fmt.Sprintf("%s is not applicable on any target that its fragment is for: %s", s.ID, why), "")
	}
}
