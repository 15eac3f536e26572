package report

import (
	"slices"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/public"
)

// A Verdict is what a report says of the machine as a whole. Every word, sign, colour and exit code about the
// machine's state is derived from it.
type Verdict string

// The verdicts.
const (
	// Compliant: everything has been checked under the policy in force since the agent started, and is
	// in line, or pending and not overdue; and there is no doubt which policy should be in force.
	Compliant Verdict = "compliant"
	// NotCompliant: everything has been checked, and something is not in line, or a policy is refused
	// or in doubt.
	NotCompliant Verdict = "not compliant"
	// Converging: something has not been checked yet, or the policy that is meant for the machine is
	// not here yet, or the daemon does not run. The states of the rest are not final.
	Converging Verdict = "converging"
)

// judge sets the verdict. It is the only place that does.
func (r *Report) judge() {
	unseen := func(resource converge.Resource) bool { return resource.Unseen }
	amiss := func(resource converge.Resource) bool { return !resource.Tolerable() }
	switch {
	case len(r.Awaited) > 0 || slices.ContainsFunc(r.Resources, unseen):
		r.Verdict = Converging
	case len(r.Policy.Refused) > 0 || len(r.Policy.Doubts) > 0 || slices.ContainsFunc(r.Resources, amiss):
		r.Verdict = NotCompliant
	default:
		r.Verdict = Compliant
	}
	r.Compliant = r.Verdict == Compliant
}

// Await sets what the machine waits for, for people. It is Converging until that is empty.
func (r *Report) Await(what ...public.Line) {
	r.Awaited, r.open.awaited = public.Whole(what), public.Open(what)
	r.judge()
}

// Abandon says that the daemon that made the report no longer runs: nobody vouches for what it found last.
func (r *Report) Abandon(why string) {
	r.Awaited, r.open.awaited = append(slices.Clip(r.Awaited), why), append(slices.Clip(r.open.awaited), why)
	r.judge()
}

// sign returns the verdict's mark, its colour in a terminal, and its CSS class.
func (v Verdict) sign() (mark, colour, tone string) {
	switch v {
	case Compliant:
		return "✓", green, "good"
	case Converging:
		return "…", yellow, "wait"
	}
	return "✗", red, "bad"
}

// Or returns the verdict. A document of an old agent has none; for that it is derived from compliant.
func (v Verdict) Or(compliant bool) Verdict {
	switch {
	case v != "":
		return v
	case compliant:
		return Compliant
	}
	return NotCompliant
}

func (r Report) verdict() Verdict { return r.Verdict.Or(r.Compliant) }

// String returns the verdict with its mark.
func (v Verdict) String() string {
	mark, _, _ := v.sign()
	return mark + " " + string(v)
}

// A question is something other than a resource that keeps the machine from being compliant.
type question struct {
	what string // "policy refused", "policy in doubt", "awaited"
	mark string
	kind string // a stable word, for programs
	text string
}

// questions returns all of them, the most severe first.
func (r Report) questions() []question {
	var all []question
	for _, text := range r.Policy.Refused {
		all = append(all, question{"policy refused", "✗", "refused", text})
	}
	for _, text := range r.Policy.Doubts {
		all = append(all, question{"policy in doubt", "?", "doubt", text})
	}
	for _, text := range r.Awaited {
		all = append(all, question{"awaited", "…", "awaited", text})
	}
	return all
}
