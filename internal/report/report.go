// Package report says where a machine stands: to a person at a terminal (Text) or at
// a browser and on paper (HTML), to a program as JSON, to a pipeline as JUnit XML, and
// to SSM Compliance.
//
// A Report is one document about one machine at one moment. Its JSON is described by
// docs/report.schema.json, which grows with Schema. It holds no secret: what a kind
// hands in is already free of them. It does hold what strangers wrote, in files and
// directories: no format lets that speak to the terminal, the parser or the browser.
package report

import (
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/policy"
)

// Schema is the version of the document. It grows when a field changes its
// meaning or goes away; new fields may come at any time.
const Schema = 1

// A Report is the compliance of one machine.
type Report struct {
	Schema    int                      `json:"schema"`
	Time      time.Time                `json:"time"`
	Agent     string                   `json:"agent"` // version of the agent
	Machine   Machine                  `json:"machine"`
	Policy    Policy                   `json:"policy"`
	Compliant bool                     `json:"compliant"`
	Summary   map[converge.State]int   `json:"summary"`
	Timing    map[string]time.Duration `json:"timing_ns"` // by kind
	Waivers   []Waiver                 `json:"waivers,omitempty"`
	Resources []converge.Resource      `json:"resources"`
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
	// Idle are the rules that are about nothing on this machine. They may be about
	// another persona's resources; or misspelled.
	Idle []Rule `json:"idle_rules,omitempty"`
}

// New makes a report of resources that were looked at at one time. refused are
// the problems of a policy that is not in force, if any.
func New(version string, f facts.Facts, p *policy.Policy, refused []string, at time.Time, resources []converge.Resource, timing map[string]time.Duration) Report {
	r := Report{
		Schema: Schema, Time: at, Agent: version,
		Machine: Machine{Hostname: f.Hostname, MachineID: f.MachineID, ManagedNode: f.ManagedNode, OS: f.OSName},
		Policy: Policy{
			Digest: p.Digest(), Serial: p.Serial, Personas: p.Personas, Refused: refused, Idle: idleRules(p, resources),
		},
		Summary: map[converge.State]int{}, Timing: timing, Resources: resources,
		Waivers: waivers(p, at, resources), Compliant: len(refused) == 0,
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
		if !resource.Tolerable() {
			r.Compliant = false
		}
	}
	return r
}
