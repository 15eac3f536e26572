package report

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
)

// A Control is the state of one requirement of a standard: the worst state of its resources.
type Control struct {
	ID        string `json:"id"`
	Benchmark string `json:"benchmark,omitempty"` // the benchmark of the policy that names it, if any
	// State is NotCovered if the control has no resource, and Waived if its benchmark gives a reason for that.
	State converge.State `json:"state"`
	// Reason is why the benchmark waives it.
	Reason string `json:"reason,omitempty"`
	// Since is when the last of its resources came into line; if it is not in line, when the first of
	// the resources in its state came into that state. It is zero if there is no resource.
	Since     time.Time       `json:"since,omitzero"`
	Severity  policy.Severity `json:"severity,omitempty"` // the highest of its resources
	Unseen    bool            `json:"unseen,omitempty"`   // as in a resource
	Overdue   bool            `json:"overdue,omitempty"`  // as in a resource
	Resources []policy.ID     `json:"resources"`
	Waivers   []Waiver        `json:"waivers,omitempty"` // those that waive one of its resources
}

// NotCovered is the state of a control that a benchmark of the policy names and that has no resource.
const NotCovered converge.State = "not covered"

// ByControl returns the report with its Controls set; every format then shows these. They are the controls
// that the policy's benchmarks name, and all others that resources name. While a part of the policy is not
// known, a control without resources is unknown.
func (r Report) ByControl() Report {
	of := map[string][]converge.Resource{}
	for _, resource := range r.Resources {
		for _, id := range slices.Compact(slices.Sorted(slices.Values(resource.Controls))) {
			of[id] = append(of[id], resource)
		}
	}
	r.Controls = []Control{}
	named := map[string]bool{}
	for _, b := range r.Policy.Benchmarks {
		for _, id := range b.Controls {
			named[id] = true
			c := r.control(id, b.Name, of[id])
			if reason, waived := b.Waived[id]; waived && c.State == NotCovered {
				c.State, c.Reason = converge.Waived, reason
			}
			r.Controls = append(r.Controls, c)
		}
	}
	var others []string
	for id := range of {
		if !named[id] {
			others = append(others, id)
		}
	}
	slices.SortFunc(others, policy.CompareControls)
	for _, id := range others {
		r.Controls = append(r.Controls, r.control(id, "", of[id]))
	}
	return r
}

func (r Report) control(id, benchmark string, resources []converge.Resource) Control {
	c := Control{ID: id, Benchmark: benchmark, State: NotCovered, Resources: []policy.ID{}}
	if len(resources) == 0 {
		if r.Policy.Partial {
			c.State, c.Unseen = converge.Unknown, true
		}
		return c
	}
	worst := resources[0]
	for _, resource := range resources {
		c.Resources = append(c.Resources, resource.ID)
		if badness(resource) < badness(worst) {
			worst = resource
		}
		if c.Severity == "" || severityRank(resource.Severity) < severityRank(c.Severity) {
			c.Severity = resource.Severity
		}
	}
	c.State, c.Overdue, c.Unseen, c.Since = worst.State, worst.Overdue, worst.State == converge.Unknown, worst.Since
	for _, resource := range resources {
		switch {
		case worst.State.InLine():
			c.Since = later(c.Since, resource.Since)
		case badness(resource) == badness(worst):
			c.Unseen = c.Unseen && resource.Unseen
			c.Since = earlier(c.Since, resource.Since)
		}
	}
	c.Waivers = r.waiversOf(resources)
	return c
}

// badness is smaller for worse states.
func badness(r converge.Resource) int {
	n := 2 * slices.Index(stateOrder(), r.State)
	if r.State == converge.Pending && r.Overdue {
		n--
	}
	return n
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// waiversOf returns the waivers in force that waive any of some resources. If several match a resource, the
// last one counts. It returns none if the report does not say what the waivers match.
func (r Report) waiversOf(resources []converge.Resource) (all []Waiver) {
	for _, resource := range resources {
		if resource.State != converge.Waived {
			continue
		}
		for _, w := range slices.Backward(r.Waivers) {
			if w.Expired || !(policy.Rule{Match: w.Match}).Matches(resource.ID) {
				continue
			}
			if !slices.ContainsFunc(all, func(other Waiver) bool { return other.String() == w.String() }) {
				all = append(all, w)
			}
			break
		}
	}
	return all
}

// tolerable says whether a machine with this control may be called compliant.
func (c Control) tolerable() bool {
	return c.State == NotCovered || (&converge.Resource{State: c.State, Overdue: c.Overdue}).Tolerable()
}

// uncontrolled returns the resources that name no control.
func (r Report) uncontrolled() []converge.Resource {
	var all []converge.Resource
	for _, resource := range r.Resources {
		if len(resource.Controls) == 0 {
			all = append(all, resource)
		}
	}
	return all
}

func (r Report) byID() map[policy.ID]converge.Resource {
	all := make(map[policy.ID]converge.Resource, len(r.Resources))
	for _, resource := range r.Resources {
		all[resource.ID] = resource
	}
	return all
}

// A group is the controls of one benchmark, or those of none.
type group struct {
	name     string
	controls []Control
}

func (r Report) groups() (all []group) {
	for _, b := range r.Policy.Benchmarks {
		all = append(all, group{name: b.Name})
	}
	all = append(all, group{name: "of no benchmark"})
	for _, c := range r.Controls {
		i := len(all) - 1
		if at := slices.IndexFunc(r.Policy.Benchmarks, func(b policy.Benchmark) bool { return b.Name == c.Benchmark }); at >= 0 && c.Benchmark != "" {
			i = at
		}
		all[i].controls = append(all[i].controls, c)
	}
	return slices.DeleteFunc(all, func(g group) bool { return len(g.controls) == 0 })
}

// String returns how many controls there are, and how many are in each state.
func (g group) String() string {
	summary := map[converge.State]int{}
	for _, c := range g.controls {
		summary[c.State]++
	}
	text := Counts(summary)
	if n := summary[NotCovered]; n > 0 {
		text = strings.TrimPrefix(fmt.Sprintf("%s, %d %s", text, n, NotCovered), ", ")
	}
	what := "controls"
	if len(g.controls) == 1 {
		what = "control"
	}
	return fmt.Sprintf("%s: %d %s: %s", g.name, len(g.controls), what, text)
}

// standing describes the state of a control in a line.
func (c Control) standing() string {
	notes := []string{string(c.State)}
	switch {
	case c.Unseen && len(c.Resources) == 0:
		notes[0] += ": the whole policy is not known"
	case c.Unseen:
		notes[0] += ": not checked yet"
	case c.Overdue:
		notes[0] += ": overdue"
	}
	if !c.Since.IsZero() {
		notes = append(notes, "since "+c.Since.UTC().Format("2006-01-02 15:04")+" UTC")
	}
	if c.Severity != "" {
		notes = append(notes, string(c.Severity))
	}
	return strings.Join(notes, " · ")
}

func (p *printer) controls(r Report, style Style) {
	byID := r.byID()
	for _, g := range r.groups() {
		var uncovered []string
		for _, c := range g.controls {
			switch {
			case c.State == NotCovered:
				uncovered = append(uncovered, c.ID)
			case c.State != converge.Compliant || style.Verbose:
				p.control(c, byID, style)
			}
		}
		if len(uncovered) > 0 {
			p.printf("%s %s\n", style.paint(yellow, "○ "+string(NotCovered)+":"), Clean(strings.Join(uncovered, ", ")))
		}
		p.printf("%s\n", style.paint(bold, Clean(g.String())))
	}
	if len(r.Controls) == 0 {
		p.printf("No resource is there for a control, and the policy has no benchmark.\n")
	}
	rest := r.uncontrolled()
	for _, resource := range rest {
		if !resource.State.InLine() || style.Verbose {
			p.resource(resource, style)
		}
	}
	if len(rest) > 0 {
		inLine := slices.DeleteFunc(slices.Clone(rest), func(resource converge.Resource) bool { return !resource.State.InLine() })
		p.printf("%s\n", style.paint(bold, fmt.Sprintf("for no control: %s, %d in line", counted(len(rest)), len(inLine))))
	}
}

func (p *printer) control(c Control, byID map[policy.ID]converge.Resource, style Style) {
	p.printf("%s %s  %s\n", style.mark(c.State), style.paint(bold, Clean(c.ID)), style.paint(dim, c.standing()))
	if c.Reason != "" {
		p.printf("    %s\n", Clean(c.Reason))
	}
	for _, id := range c.Resources {
		resource := byID[id]
		if resource.State == converge.Compliant && !style.Verbose {
			continue
		}
		line := fmt.Sprintf("%s %s", name(id), resource.State)
		if reason, _, _ := strings.Cut(resource.Reason, "\n"); reason != "" {
			line += ": " + Clean(reason)
		}
		p.printf("    %s %s\n", style.mark(resource.State), line)
	}
	for _, w := range c.Waivers {
		p.printf("    %s %s  %s\n", style.paint(dim, "○ waiver:"), Clean(w.String()), style.paint(dim, Clean(w.Origin.String())))
	}
}

// junitControls adds a suite for each benchmark, and one for the resources that name no control. So there is
// a failure or an error exactly when the report is not compliant.
func (r Report) junitControls(add func(suite string, c junitCase)) {
	byID := r.byID()
	for _, g := range r.groups() {
		for _, control := range g.controls {
			add(Clean(g.name), control.junit(byID))
		}
	}
	for _, resource := range r.uncontrolled() {
		add("for no control", junitResource(resource))
	}
}

// text is all that is known of the control: its resources, its waivers, and why it is waived.
func (c Control) text(byID map[policy.ID]converge.Resource) string {
	var text strings.Builder
	if c.Reason != "" {
		fmt.Fprintf(&text, "%s\n", Clean(c.Reason))
	}
	for _, id := range c.Resources {
		text.WriteString(junitText(byID[id]))
	}
	for _, w := range c.Waivers {
		text.WriteString(waiverLine(w))
	}
	return text.String()
}

func waiverLine(w Waiver) string {
	return fmt.Sprintf("waiver: %s; %s\n", Clean(w.String()), Clean(w.Origin.String()))
}

func (c Control) junit(byID map[policy.ID]converge.Resource) junitCase {
	of := junitCase{Name: Clean(c.ID)}
	message := &junitMessage{Type: string(c.State), Message: c.standing(), Text: c.text(byID)}
	switch {
	case c.State == converge.Unknown:
		of.Error = message
	case !c.tolerable():
		of.Failure = message
	case c.State == NotCovered, !c.State.InLine(), c.State == converge.Waived, c.State == converge.NotApplicable:
		of.Skipped = message
	default:
		of.Output = message.Text
	}
	return of
}

// controls writes a table for the controls of each benchmark.
func (p page) controls(r Report) {
	for _, g := range r.groups() {
		name, note, _ := strings.Cut(g.String(), ": ")
		p.section("Controls: "+name, note, func() {
			p.element("div", func() {
				p.element("table", func() {
					p.element("thead", func() {
						p.element("tr", func() {
							for _, column := range []string{"Control", "State", "Severity", "Since (UTC)", "Resources and waivers"} {
								p.line("th", column, attribute{"scope", "col"})
							}
						})
					})
					p.element("tbody", func() {
						for _, c := range g.controls {
							p.controlRow(c)
						}
					})
				}, class("controls"))
			}, class("wide"))
		})
	}
}

func (p page) controlRow(c Control) {
	tone := tone(converge.Resource{State: c.State, Overdue: c.Overdue, Unseen: c.Unseen})
	if c.State == NotCovered {
		tone = "wait"
	}
	p.markup("\n")
	p.open("tr", class(tone))
	p.line("th", c.ID, attribute{"scope", "row"}, class("id"))
	p.line("td", signed(c.State))
	p.line("td", string(c.Severity))
	since := ""
	if !c.Since.IsZero() {
		since = c.Since.UTC().Format("2006-01-02 15:04")
	}
	p.line("td", since)
	p.element("td", func() {
		if c.Reason != "" {
			p.line("div", c.Reason)
		}
		for _, id := range c.Resources {
			p.line("div", string(id), class("id"))
		}
		for _, w := range c.Waivers {
			p.line("div", "○ waiver: "+w.String())
		}
	})
	p.shut("tr")
}
