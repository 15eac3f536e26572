package policy

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/public"
	"github.com/soe-agent/soe-agent/internal/target"
)

// A Policy is the whole desired state of one machine: every resource once, with the place that set
// it. It is immutable.
type Policy struct {
	Personas  []string
	Serial    int64 // serial of the remote layer's manifest; 0 without one
	Resources []Resource
	// Rules are those of [[rules]] and those made by the tables of resources (Evidence), in order
	// of increasing precedence.
	Rules      []Rule
	Benchmarks []Benchmark // sorted by name
	// Partial is set while a layer could not be had. What is not named here may still be wanted,
	// and must not be removed.
	Partial bool
	// Doubts say, for people, why the machine's policy may be another one: one line for each thing
	// that cannot be determined.
	Doubts []public.Line
	// Why says why the value of a Missing reference could not be had, as far as that is known. The
	// key is the reference as it is written.
	Why map[string]string
	// Left are the resources that only fragments for other machines name: their conditions do not hold
	// here, or do not hold any more. What the agent once installed for them stays, if it is a package or
	// an account.
	Left map[ID]Elsewhere

	index *ruleIndex // of Rules
}

// Elsewhere is a place that sets a resource for other machines.
type Elsewhere struct {
	Origin Origin
	Why    string // the fact that excludes this machine, for people
}

// A Resource is one thing that the policy wants, and where that is set.
type Resource struct {
	ID     ID
	Spec   Spec
	Origin Origin
	// Secrets are the secret values that the spec contains after Expand. They must never be shown,
	// nor the fact that one is currently empty.
	Secrets []string
	// Missing are the references without a value. The spec cannot be enforced for now.
	Missing []Reference
	// Unusable says why the values of the references in Missing are not used although they are
	// known; "": they are not known. It contains no value of a secret.
	Unusable string
	// NotApplicable says why this machine has no use for the resource; "": it has. Nothing is written for it.
	NotApplicable string
	// Undecided says why it cannot be told whether the resource is wanted on this machine; "": it is. It
	// is left as it is.
	Undecided string
	// Shown is the spec that may be shown: it has references in place of secrets. It is nil if
	// there are no secrets, and Spec itself may be shown.
	Shown Spec

	digest string // set by Expand, because it is needed at every check
}

// A Want is a resource with the type of its spec.
type Want[S Spec] struct {
	Resource
	Spec S
}

// Enforceable says whether the resource can be enforced now: it is for this machine, and fully known.
func (r Resource) Enforceable() bool {
	return len(r.Missing) == 0 && r.NotApplicable == "" && r.Undecided == ""
}

// Of returns the resources that are Enforceable and whose specs are of type S, by ID.
func Of[S Spec](p *Policy) []Want[S] {
	n := 0
	for _, r := range p.Resources {
		if _, ok := r.Spec.(S); ok {
			n++
		}
	}
	wants := make([]Want[S], 0, n)
	for _, r := range p.Resources {
		if spec, ok := r.Spec.(S); ok && r.Enforceable() {
			wants = append(wants, Want[S]{Resource: r, Spec: spec})
		}
	}
	return wants
}

// Lookup returns the resource with an ID.
func (p *Policy) Lookup(id ID) (Resource, bool) {
	i, ok := p.find(id)
	if !ok {
		return Resource{}, false
	}
	return p.Resources[i], true
}

func (p *Policy) find(id ID) (i int, ok bool) {
	return slices.BinarySearchFunc(p.Resources, id, func(r Resource, id ID) int { return cmp.Compare(r.ID, id) })
}

// Digest identifies what the policy wants, its rules and its benchmarks, so that two machines, or
// one machine on two days, can be compared. It does not depend on the values of secrets, nor on
// where anything came from.
func (p *Policy) Digest() string {
	hash := sha256.New()
	for _, r := range p.Resources {
		hash.Write([]byte(r.Digest()))
		if !r.Enforceable() {
			fmt.Fprintf(hash, "%t %t\n", r.NotApplicable != "", r.Undecided != "")
		}
	}
	for _, r := range p.Rules {
		r.Origin = Origin{}
		rule, _ := json.Marshal(r) // plain data always marshals
		hash.Write(rule)
	}
	for _, b := range p.Benchmarks {
		b.Origin = Origin{}
		benchmark, _ := json.Marshal(b) // plain data always marshals
		hash.Write(benchmark)
	}
	return hex.EncodeToString(hash.Sum(nil))[:16]
}

// Digest identifies what is wanted of the resource. A secret counts by name, not by value: rotating
// it does not change the policy.
func (r Resource) Digest() string {
	if r.digest != "" {
		return r.digest
	}
	wanted := r.Spec
	if r.Shown != nil {
		wanted = r.Shown
	}
	spec, _ := json.Marshal(wanted) // specs are plain data and always marshal
	hash := sha256.New()
	fmt.Fprintf(hash, "%s\n%s\n", r.ID, spec)
	if c, is := wanted.(Confidential); is {
		text, _ := c.Confidential(r.ID)
		fmt.Fprintf(hash, "%s\n", text)
	}
	return hex.EncodeToString(hash.Sum(nil)[:8])
}

// Merge merges the fragments that are for any of a machine's personas, and whose conditions its facts
// fulfil. What a fragment sets whose conditions cannot be told is Undecided.
//
// The rank of a fragment is its layer and, within the layer, the position of the last of the
// machine's personas that it names; a fragment for everybody ranks below those. For the same
// resource, the higher rank replaces the lower one entirely. Two fragments of one rank that differ
// about a resource are an error, which names both places.
func Merge(fragments []Fragment, personas []string, facts target.Facts) (*Policy, error) {
	p := &Policy{Personas: personas, Left: map[ID]Elsewhere{}}
	settings, rules, benchmarks := p.selected(fragments, facts)
	var problems Problems
	p.Resources, problems = resolveRanks(settings)
	p.judgeApplicable(facts)
	problems = append(problems, p.sudoProblems()...)
	problems = append(problems, p.accountProblems()...)
	problems = append(problems, p.contradictions()...)
	problems = append(problems, contradicted(settings, rules)...)
	own, differ := ownRules(settings)
	rules, problems = append(rules, own...), append(problems, differ...) // after the [[rules]] of the same rank
	p.Benchmarks, differ = together(benchmarks)
	problems = append(problems, differ...)
	problems = append(problems, p.fileProblems()...)
	problems = append(problems, p.firewallProblems()...)
	slices.SortStableFunc(rules, func(a, b rankedRule) int { return cmp.Compare(a.rank, b.rank) })
	for _, r := range rules {
		p.Rules = append(p.Rules, r.Rule)
	}
	p.index = indexOf(p.Rules)
	if why := p.index.tooMuch(); why != "" {
		problems = append(problems, Problem{File: p.Rules[0].Origin.Fragment, Message: "cannot merge the policy: " + why})
	}
	slices.SortFunc(problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Message, b.Message))
	})
	return p, problems.asError()
}

// selected returns what the fragments say that are for the policy's personas, and for a machine with
// these facts or perhaps so. It notes what is for other machines.
func (p *Policy) selected(fragments []Fragment, facts target.Facts) (settings []rankedSetting, rules []rankedRule, benchmarks []Benchmark) {
	for _, f := range fragments {
		persona, selected := selects(f, p.Personas)
		if !selected {
			continue
		}
		rank := int(f.Layer)*(len(p.Personas)+1) + slices.Index(p.Personas, persona) + 1
		origin := Origin{Layer: f.Layer, Fragment: f.Name, Persona: persona}
		undecided := ""
		switch answer, why := f.When.Hold(facts); answer {
		case target.No:
			p.leave(f, origin, why)
			continue
		case target.Unknown:
			undecided = why
			p.Doubts = append(p.Doubts, undecidedFragment(f.Name, why))
		}
		for _, s := range f.Settings {
			origin.Line = s.Line
			settings = append(settings, rankedSetting{s, origin, rank, undecided})
		}
		for _, r := range f.Rules {
			origin.Line = r.Origin.Line
			r.Origin = origin
			if r, applies := r.on(facts, undecided); applies {
				rules = append(rules, rankedRule{r, rank})
			}
		}
		for _, b := range f.Benchmarks {
			origin.Line = b.Origin.Line
			b.Origin = origin
			if undecided == "" {
				benchmarks = append(benchmarks, b)
			}
		}
	}
	return settings, rules, benchmarks
}

// A rankedSetting is a setting of a fragment with its rank, and a rankedRule is a rule with its
// rank.
type rankedSetting struct {
	Setting
	origin    Origin
	rank      int
	undecided string // why it cannot be told whether it is for the machine
}

type rankedRule struct {
	Rule
	rank int
}

// resolveRanks returns each resource from the highest rank, and reports differences within a rank.
func resolveRanks(settings []rankedSetting) ([]Resource, Problems) {
	var problems Problems
	slices.SortStableFunc(settings, func(a, b rankedSetting) int {
		// of one rank, those that may not be for the machine come first
		return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(b.rank, a.rank), -cmp.Compare(min(len(a.undecided), 1), min(len(b.undecided), 1)))
	})
	resources := make([]Resource, 0, len(settings))
	for len(settings) > 0 {
		winner, peer := settings[0], settings[0] // peer is the first of the current rank
		settings = settings[1:]
		for ; len(settings) > 0 && settings[0].ID == winner.ID; settings = settings[1:] {
			other := settings[0]
			switch {
			case other.rank != peer.rank, peer.undecided != "":
				peer = other
			case !reflect.DeepEqual(other.Spec, peer.Spec):
				problems = append(problems, Problem{
					File: other.origin.Fragment, Line: other.origin.Line,
					Message: fmt.Sprintf("cannot merge %s: it is set differently at %s, which has the same rank", winner.ID, peer.origin),
				})
			}
			if other.rank != winner.rank {
				winner.origin.Overrode = append(winner.origin.Overrode, other.origin)
			}
		}
		resources = append(resources, Resource{ID: winner.ID, Spec: winner.Spec, Origin: winner.origin, Undecided: winner.undecided})
	}
	return resources, problems
}

// selects reports whether a fragment is for a machine with these personas, and which of them gives
// it its rank ("" if it is for everybody).
func selects(f Fragment, personas []string) (persona string, ok bool) {
	if len(f.Personas) == 0 {
		return "", true
	}
	for _, p := range slices.Backward(personas) {
		if slices.Contains(f.Personas, p) {
			return p, true
		}
	}
	return "", false
}

// References returns all references of the policy, without duplicates, in the order of the
// resources.
func (p *Policy) References() []Reference {
	var all []Reference
	known := map[Reference]bool{}
	for _, r := range p.Resources {
		if r.NotApplicable != "" || r.Undecided != "" {
			continue
		}
		references, _ := References(r.Spec) // Parse has refused unreadable ones
		for _, ref := range references {
			if !known[ref] {
				known[ref] = true
				all = append(all, ref)
			}
		}
	}
	return all
}

// Expand returns a copy of a merged policy with each reference replaced by its value. Text in a
// value is never interpreted as a reference. If value returns false for a reference, its resource
// keeps its spec and lists the reference in Missing. If a value does not fit its place, the
// resource also keeps its spec, and Unusable says why.
func (p *Policy) Expand(value func(Reference) (string, bool)) *Policy {
	expanded := *p
	expanded.Resources = slices.Clone(p.Resources)
	for i := range expanded.Resources {
		r := &expanded.Resources[i]
		r.digest = "" // it was computed from the previous spec
		r.expand(value)
	}
	for _, problem := range expanded.sudoProblems() { // Merge has reported those that do not depend on values
		i, _ := expanded.find(NewID("sudo", "allow"))
		before := p.Resources[i]
		references, _ := References(before.Spec)
		before.refuse(references, problem.Message)
		expanded.Resources[i] = before
	}
	for _, c := range slices.Concat(expanded.grants(), expanded.writtenProblems()) { // a file that contradicts because of a value keeps its references
		if i, _ := expanded.find(c.id); c.Gravity == Error {
			before := p.Resources[i]
			if references, _ := References(before.Spec); len(references) > 0 {
				before.refuse(references, c.Message)
				expanded.Resources[i] = before
			}
		}
	}
	for _, c := range expanded.packageProblems() { // likewise
		name, _ := PackageArch(c.id.Name())
		for _, id := range []ID{c.id, NewID(c.id.Kind(), name)} {
			i, _ := expanded.find(id)
			before := p.Resources[i]
			if references, _ := References(before.Spec); len(references) > 0 {
				before.refuse(references, c.Message)
				expanded.Resources[i] = before
				break
			}
		}
	}
	for i := range expanded.Resources {
		expanded.Resources[i].digest = expanded.Resources[i].Digest()
	}
	return &expanded
}

// expand replaces the references with values, if these fit.
func (r *Resource) expand(value func(Reference) (string, bool)) {
	references, _ := References(r.Spec)
	if len(references) == 0 || r.NotApplicable != "" || r.Undecided != "" {
		return
	}
	public, all := map[Reference]string{}, map[Reference]string{}
	var secrets []string
	for _, ref := range references {
		v, ok := value(ref)
		if !ok {
			r.Missing = append(r.Missing, ref)
			continue
		}
		all[ref] = v
		if !ref.Secret() {
			public[ref] = v
		} else {
			secrets = append(secrets, v)
		}
	}
	if len(r.Missing) > 0 {
		return
	}
	if why := unfit(r.Spec, all); why != "" {
		r.refuse(references, fmt.Sprintf("cannot use %s: %s", r.ID, why))
		return
	}
	put := r.Spec.Expand(replacing(all))
	if wrong := validate(r.ID, put, true); len(wrong) > 0 {
		r.refuse(references, fmt.Sprintf("cannot use %s once its references are resolved: %s", r.ID, strings.Join(wrong, "; ")))
		return
	}
	if len(public) < len(all) {
		r.Shown = r.Spec.Expand(replacing(public))
	}
	r.Spec, r.Secrets = put, secrets
}

// refuse records why the values of references cannot be used.
func (r *Resource) refuse(references []Reference, why string) {
	r.Missing, r.Unusable = references, fmt.Sprintf("%s (set at %s)", why, r.Origin)
}

// replacing returns a function that replaces references with values, and leaves references without
// a value.
func replacing(values map[Reference]string) func(string) string {
	return func(text string) string {
		return referenceSyntax.ReplaceAllStringFunc(text, func(match string) string {
			if ref, err := ParseReference(match); err == nil {
				if v, ok := values[ref]; ok {
					return v
				}
			}
			return match
		})
	}
}
