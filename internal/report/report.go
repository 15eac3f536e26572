// Package report says what state a machine is in: for a person as text (Text) or as HTML, on a screen or on
// paper; for a program as JSON; for a pipeline as JUnit XML; for an auditor as XCCDF; and for SSM
// Compliance.
//
// A Report is one document about one machine at one moment. Its JSON is described by docs/report.schema.json,
// and Schema is its version. It holds no secrets: the kinds and the engine have removed them. It may quote
// files that not everybody may read, and programs that ran as root, so it is for root; ForEverybody makes the
// public one. It also contains text that strangers wrote, in files and directories: no format passes that on
// to the terminal, the parser or the browser unescaped.
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

// Schema is the version of the document. It grows when a field changes its meaning or is removed; new fields
// may be added at any time.
const Schema = 1

// A Report is the compliance of one machine.
type Report struct {
	Schema int       `json:"schema"`
	Public bool      `json:"public,omitempty"` // made by ForEverybody: what not everybody may read is left out
	Time   time.Time `json:"time"`
	Agent  string    `json:"agent"` // the agent's version
	// Daemon is the process id of the daemon that keeps the machine; 0 if a single run made the report.
	Daemon    int     `json:"daemon,omitempty"`
	Machine   Machine `json:"machine"`
	Policy    Policy  `json:"policy"`
	Verdict   Verdict `json:"verdict"`
	Compliant bool    `json:"compliant"` // the verdict is Compliant
	// Awaited is what the verdict is Converging for, besides the resources that are Unseen: above all
	// the published policy.
	Awaited   []string                 `json:"awaited,omitempty"`
	Summary   map[converge.State]int   `json:"summary"`
	Timing    map[string]time.Duration `json:"timing_ns"` // by kind
	Waivers   []Waiver                 `json:"waivers,omitempty"`
	Resources []converge.Resource      `json:"resources"`
	// Controls is set by ByControl.
	Controls []Control `json:"controls,omitzero"`

	open open
}

// Machine identifies the machine.
type Machine struct {
	Hostname    string `json:"hostname"`
	MachineID   string `json:"machine_id"`
	ManagedNode string `json:"managed_node,omitempty"`
	OS          string `json:"os"`
}

// Policy is the policy that the machine was compared with.
type Policy struct {
	Digest   string   `json:"digest"`
	Serial   int64    `json:"serial,omitempty"` // of the manifest
	Personas []string `json:"personas"`
	// Refused are the problems because of which newer policy is not in force. While there is one
	// the machine is not compliant, because nobody knows what it should be like.
	Refused []string `json:"refused,omitempty"`
	// Doubts are why this may not be the policy that is meant for the machine, such as a persona that
	// could not be determined. While there is one the machine is not compliant, for the same reason.
	Doubts []string `json:"doubts,omitempty"`
	// Idle are the rules that match nothing on this machine. They may be meant for another persona's
	// resources, or be misspelled.
	Idle []Rule `json:"idle_rules,omitempty"`
	// Partial says that a part of the policy is not known: it may want more than is listed here.
	Partial bool `json:"partial,omitempty"`
	// Benchmarks list the controls that ByControl shows.
	Benchmarks []policy.Benchmark `json:"benchmarks,omitempty"`
}

// New makes a report of what was found. It contains every resource of the policy: one that is not in resources
// is reported as not checked. refused are the problems of a policy that is not in force, if any.
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
	if r.Policy.Personas == nil { // so that the JSON has [] and not null
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

// ForEverybody returns the report without the details that not everybody on the machine may read; resources,
// states and counts stay. Which details are public is known only where the report is made: of a report that
// was read from JSON, all of them are left out.
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

// withheldReasons returns benchmarks without the reasons of their waivers.
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

// openly returns the public texts; if there are texts and none is public, it says that there are some.
func openly(texts, open []string) []string {
	if len(texts) > 0 && len(open) == 0 {
		return []string{public.Withheld}
	}
	return open
}

// Digest is equal for two reports with the same content, whenever they were made and however long that took.
func (r Report) Digest() string {
	r.Time, r.Timing = time.Time{}, nil
	content := sha256.New()
	_ = json.NewEncoder(content).Encode(r) // plain data always marshals, and a hash takes all
	return hex.EncodeToString(content.Sum(nil))
}

// Details returns the report with the details of root's report, if that is about the same policy and the same
// states, each since the same time. Otherwise same is false.
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

// Of returns the part of the report that is about these kinds, with the verdict on this part. What is refused,
// doubted or awaited stays, and so do resources of no kind, such as what the agent says of itself.
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

// missing returns the policy's resources that are not among resources, as not checked.
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
