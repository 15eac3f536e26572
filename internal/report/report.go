// Package report says where a machine stands: to a person at a terminal (Text) or at
// a browser and on paper (HTML), to a program as JSON, to a pipeline as JUnit XML, to an
// auditor as XCCDF, and to SSM Compliance.
//
// A Report is one document about one machine at one moment. Its JSON is described by
// docs/report.schema.json, which grows with Schema. It holds no secret: what a kind
// hands in is already free of them. What it says may quote files that not everybody may
// read, and programs that ran as root: it is root's, and everybody else has what Public
// leaves of it. It does hold what strangers wrote, in files and
// directories: no format lets that speak to the terminal, the parser or the browser.
package report

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/public"
)

// Schema is the version of the document. It grows when a field changes its
// meaning or goes away; new fields may come at any time.
const Schema = 1

// A Report is the compliance of one machine.
type Report struct {
	Schema int       `json:"schema"`
	Public bool      `json:"public,omitempty"` // what not everybody on the machine may read is left out
	Time   time.Time `json:"time"`
	Agent  string    `json:"agent"` // version of the agent
	// Daemon is the process that keeps the machine so; 0 for what a single run has found.
	Daemon    int     `json:"daemon,omitempty"`
	Machine   Machine `json:"machine"`
	Policy    Policy  `json:"policy"`
	Verdict   Verdict `json:"verdict"`
	Compliant bool    `json:"compliant"` // that the verdict is Compliant
	// Awaited is what has to come before there is another verdict than Converging, besides
	// a check of what is Unseen: the policy that is published, above all.
	Awaited   []string                 `json:"awaited,omitempty"`
	Summary   map[converge.State]int   `json:"summary"`
	Timing    map[string]time.Duration `json:"timing_ns"` // by kind
	Waivers   []Waiver                 `json:"waivers,omitempty"`
	Resources []converge.Resource      `json:"resources"`
	// Controls are there once ByControl was asked for.
	Controls []Control `json:"controls,omitzero"`

	open open
}

// Machine is whose report it is.
type Machine struct {
	Hostname    string `json:"hostname"`
	MachineID   string `json:"machine_id"`
	ManagedNode string `json:"managed_node,omitempty"`
	OS          string `json:"os"`
}

// Policy is what the machine was held against.
type Policy struct {
	Digest   string   `json:"digest"`
	Serial   int64    `json:"serial,omitempty"` // of the manifest
	Personas []string `json:"personas"`
	// Refused is why newer policy is not in force, one problem each. While there
	// is one the machine is not compliant, for nobody knows what it should be.
	Refused []string `json:"refused,omitempty"`
	// Doubts are why it may not be what is meant for the machine, such as a persona that
	// cannot be told. While there is one the machine is not compliant, for the same reason.
	Doubts []string `json:"doubts,omitempty"`
	// Idle are the rules that are about nothing on this machine. They may be about
	// another persona's resources; or misspelled.
	Idle []Rule `json:"idle_rules,omitempty"`
	// Partial says that a layer of it could not be had: more may be wanted than is named here.
	Partial bool `json:"partial,omitempty"`
	// Benchmarks name the controls that are to be shown, by which ByControl goes.
	Benchmarks []policy.Benchmark `json:"benchmarks,omitempty"`
}

// New makes a report of what was found. Every resource of the policy is in it: one that
// is not among resources has not been checked. refused are the problems of a policy
// that is not in force, if any.
func New(version string, f facts.Facts, p *policy.Policy, refused []public.Line, at time.Time, resources []converge.Resource, timing map[string]time.Duration) Report {
	resources = append(slices.Clone(resources), missing(p, at, resources)...)
	for i := range resources {
		resources[i].GoStale(at)
	}
	r := Report{
		Schema: Schema, Time: at, Agent: version,
		Machine: Machine{Hostname: f.Hostname, MachineID: f.MachineID, ManagedNode: f.ManagedNode, OS: f.OSName},
		Policy: Policy{
			Digest: p.Digest(), Serial: p.Serial, Personas: p.Personas, Refused: public.Whole(refused), Doubts: public.Whole(p.Doubts), Idle: idleRules(p, resources),
			Partial: p.Partial, Benchmarks: p.Benchmarks,
		},
		Summary: map[converge.State]int{}, Timing: timing, Resources: resources,
		Waivers: waivers(p, at, resources),
	}
	if r.Policy.Personas == nil { // a list without entries is [] in the document
		r.Policy.Personas = []string{}
	}
	if r.Timing == nil {
		r.Timing = map[string]time.Duration{}
	}
	if r.Resources == nil {
		r.Resources = []converge.Resource{}
	}
	for _, resource := range resources {
		r.Summary[resource.State]++
	}
	r.open = open{refused: public.Open(refused), doubts: public.Open(p.Doubts)}
	r.judge()
	return r
}

// open is what everybody may read of the report's own texts.
type open struct{ refused, doubts, awaited []string }

// ForEverybody is the report without the details that not everybody on the machine may
// read: the same resources, states and counts. Which those are is known where the report
// is made; one that was read from JSON knows no more, and keeps no detail.
func (r Report) ForEverybody() Report {
	all := r.Resources
	r.Public, r.Resources = true, make([]converge.Resource, len(all))
	r.Policy.Refused = openly(r.Policy.Refused, r.open.refused)
	r.Policy.Doubts = openly(r.Policy.Doubts, r.open.doubts)
	r.Awaited = openly(r.Awaited, r.open.awaited)
	r.Waivers, r.Policy.Idle = slices.Clone(r.Waivers), slices.Clone(r.Policy.Idle)
	for i := range r.Waivers {
		r.Waivers[i].Match, r.Waivers[i].Reason = []string{public.Withheld}, public.Withheld
	}
	r.Policy.Benchmarks = withheldReasons(r.Policy.Benchmarks)
	for i := range r.Policy.Idle {
		r.Policy.Idle[i].Match = []string{public.Withheld}
	}
	for i, resource := range all {
		r.Resources[i] = resource.Public()
	}
	return r
}

// withheldReasons are benchmarks without why what is waived is waived.
func withheldReasons(benchmarks []policy.Benchmark) []policy.Benchmark {
	benchmarks = slices.Clone(benchmarks)
	for i, b := range benchmarks {
		benchmarks[i].Waived = maps.Clone(b.Waived)
		for control := range b.Waived {
			benchmarks[i].Waived[control] = public.Withheld
		}
	}
	return benchmarks
}

// openly is what everybody may read of texts: at the least that there are some.
func openly(texts, open []string) []string {
	if len(texts) > 0 && len(open) == 0 {
		return []string{public.Withheld}
	}
	return open
}

// Digest is the same for two reports that say the same, whenever they were made and
// however long that took.
func (r Report) Digest() string {
	r.Time, r.Timing = time.Time{}, nil
	content := sha256.New()
	_ = json.NewEncoder(content).Encode(r) // plain data always marshals, and a hash takes all
	return hex.EncodeToString(content.Sum(nil))
}

// Details is the report with the details of root's, if that is about the same: the same
// policy and the same states, each since the same time.
func (r Report) Details(roots Report) (whole Report, same bool) {
	if r.Policy.Digest != roots.Policy.Digest || r.Verdict != roots.Verdict || len(r.Resources) != len(roots.Resources) {
		return r, false
	}
	for i, resource := range r.Resources {
		other := roots.Resources[i]
		if resource.ID != other.ID || resource.State != other.State || !resource.Since.Equal(other.Since) {
			return r, false
		}
	}
	r.Public, r.Resources = false, roots.Resources
	r.Policy.Refused, r.Policy.Doubts, r.Awaited = roots.Policy.Refused, roots.Policy.Doubts, roots.Awaited
	r.Waivers, r.Policy.Idle, r.Policy.Benchmarks = roots.Waivers, roots.Policy.Idle, roots.Policy.Benchmarks
	return r, true
}

// Of is the report as far as it is about these kinds, with the verdict on them alone. What
// is refused, in doubt or awaited, and what the agent says of itself, is about them too.
func (r Report) Of(kinds ...string) Report {
	r.Resources = slices.DeleteFunc(slices.Clone(r.Resources), func(resource converge.Resource) bool {
		kind := resource.ID.Kind()
		return slices.Contains(policy.Kinds(), kind) && !slices.Contains(kinds, kind)
	})
	r.Summary = map[converge.State]int{}
	for _, resource := range r.Resources {
		r.Summary[resource.State]++
	}
	r.judge()
	return r
}

// missing are the resources of the policy of which nothing was found.
func missing(p *policy.Policy, at time.Time, resources []converge.Resource) []converge.Resource {
	found := make(map[policy.ID]bool, len(resources))
	for _, r := range resources {
		found[r.ID] = true
	}
	var rest []converge.Resource
	for _, want := range p.Resources {
		if !found[want.ID] {
			rest = append(rest, converge.NotChecked(p, want, at))
		}
	}
	return rest
}
