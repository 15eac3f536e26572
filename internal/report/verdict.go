package report

import (
	"slices"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/public"
)

// A Verdict is what a report says of the machine as a whole. Everything that tells
// where a machine stands, by a word, a sign, a colour or an exit code, goes by it.
type Verdict string

// The verdicts.
const (
	// Compliant: all of it has been checked under the policy in force, in this run of
	// the agent, and is in line, or pending and not overdue; and it is known which policy
	// that should be.
	Compliant Verdict = "compliant"
	// NotCompliant: all of it has been checked, and it is not compliant.
	NotCompliant Verdict = "not compliant"
	// Converging: something of it has not been checked yet, or the policy that is meant
	// for it is not here yet, or the agent that keeps it does not run. What is said of the
	// rest is not the last word.
	Converging Verdict = "converging"
)

// judge is the one place where a verdict is made.
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

// Await says what the machine is waiting for, for people; it is converging until that
// has come.
func (r *Report) Await(what ...public.Line) {
	r.Awaited, r.open.awaited = public.Whole(what), public.Open(what)
	r.judge()
}

// Abandon says that the daemon whose report it is does not run any more: what it found last
// is nobody's word of how the machine is now.
func (r *Report) Abandon(why string) {
	r.Awaited, r.open.awaited = append(slices.Clip(r.Awaited), why), append(slices.Clip(r.open.awaited), why)
	r.judge()
}

// sign is the mark of the verdict, its colour in a terminal, and how it is to be taken.
func (v Verdict) sign() (mark, colour, tone string) {
	switch v {
	case Compliant:
		return "✓", green, "good"
	case Converging:
		return "…", yellow, "wait"
	}
	return "✗", red, "bad"
}

// Or is the verdict, or that of a document which an older agent wrote: they had none.
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

// String is the verdict with its mark.
func (v Verdict) String() string {
	mark, _, _ := v.sign()
	return mark + " " + string(v)
}

// A question is something that keeps the machine from being compliant, and is no resource.
type question struct {
	what string // "policy refused", "policy in doubt", "awaited"
	mark string
	kind string // for programs
	text string
}

// questions are all of them, the gravest first.
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
