package report

import (
	"encoding/xml"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
)

// The elements of XCCDF 1.2 (NIST IR 7275 revision 4) that carry results, in the order that its schema
// demands. The schema is xccdf_1.2.xsd of OpenSCAP.
type (
	xccdfBenchmark struct {
		XMLName xml.Name         `xml:"http://checklists.nist.gov/xccdf/1.2 Benchmark"`
		ID      string           `xml:"id,attr"`
		Status  xccdfStatus      `xml:"status"`
		Title   string           `xml:"title"`
		Version string           `xml:"version"`
		Groups  []*xccdfGroup    `xml:"Group"`
		Result  *xccdfTestResult `xml:"TestResult"`
	}
	xccdfStatus struct {
		Date string `xml:"date,attr"`
		Text string `xml:",chardata"`
	}
	xccdfGroup struct {
		ID    string      `xml:"id,attr"`
		Title string      `xml:"title"`
		Rules []xccdfRule `xml:"Rule"`
	}
	xccdfRule struct {
		ID       string       `xml:"id,attr"`
		Severity string       `xml:"severity,attr"`
		Title    string       `xml:"title"`
		Idents   []xccdfIdent `xml:"ident"`
	}
	xccdfIdent struct {
		System string `xml:"system,attr"`
		Text   string `xml:",chardata"`
	}
	xccdfTestResult struct {
		ID         string            `xml:"id,attr"`
		TestSystem string            `xml:"test-system,attr"`
		Version    string            `xml:"version,attr"`
		EndTime    string            `xml:"end-time,attr"`
		Title      string            `xml:"title"`
		Target     string            `xml:"target"`
		Facts      []xccdfFact       `xml:"target-facts>fact"`
		Results    []xccdfRuleResult `xml:"rule-result"`
		Score      xccdfScore        `xml:"score"`
	}
	xccdfFact struct {
		Name string `xml:"name,attr"`
		Type string `xml:"type,attr"`
		Text string `xml:",chardata"`
	}
	xccdfRuleResult struct {
		Rule     string        `xml:"idref,attr"`
		Time     string        `xml:"time,attr"`
		Severity string        `xml:"severity,attr"`
		Result   string        `xml:"result"`
		Idents   []xccdfIdent  `xml:"ident"`
		Message  *xccdfMessage `xml:"message"`
	}
	xccdfMessage struct {
		Severity string `xml:"severity,attr"`
		Text     string `xml:",chardata"`
	}
	xccdfScore struct {
		System  string `xml:"system,attr"`
		Maximum int    `xml:"maximum,attr"`
		Value   int    `xml:",chardata"`
	}
)

// The results of a rule. What they mean is said in section 6.6.4.2 of the specification.
const (
	xccdfPass          = "pass"
	xccdfFixed         = "fixed"
	xccdfFail          = "fail"
	xccdfError         = "error"
	xccdfUnknown       = "unknown"
	xccdfNotChecked    = "notchecked"
	xccdfNotApplicable = "notapplicable"
	xccdfNotSelected   = "notselected"
	xccdfInformational = "informational"
)

// XCCDF writes the report as a Benchmark of XCCDF 1.2 with its TestResult: a Group for each kind with a
// Rule for each resource; or a Group for each benchmark with a Rule for each control (ByControl). The
// rules carry no checks: the document is evidence, and nothing that a scanner could run.
//
// What is compliant is "pass", what was corrected "fixed", and what is drifted, failed or contested
// "fail". What is pending is not yet in effect, so that is "fail" too, though the report may be
// compliant. What is waived is "informational", and the message names the waiver (an override would
// say so too, but OpenSCAP 1.3.7 then wants one in every result). A control that its benchmark waives is
// "notselected", with the reason. What could not be told is "unknown"; what was not checked yet, and a
// control without a resource, is "notchecked". What is wrong with the policy itself is a rule of its own
// with "error". The score counts "pass" and "fixed" among all that have a verdict.
func (r Report) XCCDF(w io.Writer) error {
	d := xccdfDocument{report: r, at: r.Time.UTC().Format(time.RFC3339)}
	for i, q := range r.questions() {
		rule := xccdfRule{ID: xccdfID("rule", fmt.Sprintf("question-%d", i+1)), Severity: "unknown", Title: Clean(q.text)}
		d.add("the policy", rule, xccdfRuleResult{Result: xccdfError, Message: message("error", q.kind+": "+q.text)})
	}
	if r.Controls != nil {
		byID := r.byID()
		for _, g := range r.groups() {
			for _, control := range g.controls {
				d.addControl(g.name, control, byID)
			}
		}
		for _, resource := range r.uncontrolled() {
			d.addResource("for no control", resource)
		}
	} else {
		for _, resource := range r.Resources {
			d.addResource(resource.ID.Kind(), resource)
		}
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	encoder := xml.NewEncoder(w)
	encoder.Indent("", " ")
	if err := encoder.Encode(d.benchmark()); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

// An xccdfDocument collects the rules and their results.
type xccdfDocument struct {
	report  Report
	at      string // the time of the report
	groups  []*xccdfGroup
	results []xccdfRuleResult
}

// add appends a rule to the group of this name, which is made when it is not there, and its result.
func (d *xccdfDocument) add(group string, rule xccdfRule, result xccdfRuleResult) {
	id := xccdfID("group", group)
	i := slices.IndexFunc(d.groups, func(g *xccdfGroup) bool { return g.ID == id })
	if i < 0 {
		i = len(d.groups)
		d.groups = append(d.groups, &xccdfGroup{ID: id, Title: Clean(group)})
	}
	d.groups[i].Rules = append(d.groups[i].Rules, rule)
	result.Rule, result.Severity, result.Idents, result.Time = rule.ID, rule.Severity, rule.Idents, d.at
	d.results = append(d.results, result)
}

func (d *xccdfDocument) addControl(group string, c Control, byID map[policy.ID]converge.Resource) {
	rule := xccdfRule{
		ID: xccdfID("rule", group, strings.TrimPrefix(c.ID, c.Benchmark+":")), Severity: xccdfSeverity(c.Severity),
		Title: Clean(c.ID), Idents: idents(c.ID),
	}
	result := xccdfRuleResult{Result: xccdfState(c.State, c.Unseen), Message: message("info", c.text(byID))}
	if c.State == converge.Waived && len(c.Resources) == 0 { // by its benchmark
		result.Result = xccdfNotSelected
	}
	d.add(group, rule, result)
}

func (d *xccdfDocument) addResource(group string, r converge.Resource) {
	rule := xccdfRule{
		ID: xccdfID("rule", string(r.ID)), Severity: xccdfSeverity(r.Severity), Title: Clean(string(r.ID)),
		Idents: idents(r.Controls...),
	}
	text := junitText(r)
	for _, w := range d.report.waiversOf([]converge.Resource{r}) {
		text += waiverLine(w)
	}
	d.add(group, rule, xccdfRuleResult{Result: xccdfState(r.State, r.Unseen), Message: message("info", text)})
}

// benchmark is the whole document. The schema wants at least one result in a TestResult.
func (d *xccdfDocument) benchmark() xccdfBenchmark {
	r := d.report
	b := xccdfBenchmark{
		ID: xccdfID("benchmark", "policy"), Status: xccdfStatus{Date: r.Time.UTC().Format(time.DateOnly), Text: "accepted"},
		Title: "Policy of soe-agent", Version: xccdfVersion(r.Policy), Groups: d.groups,
	}
	if len(d.results) == 0 {
		return b
	}
	result := &xccdfTestResult{
		ID:         xccdfID("testresult", r.Machine.MachineID+"-"+r.Time.UTC().Format("20060102T150405Z")),
		TestSystem: Clean("soe-agent " + r.Agent), Version: b.Version, EndTime: d.at,
		Title: Clean("Compliance of " + r.Machine.Hostname + ": " + string(r.Verdict)), Target: Clean(r.Machine.Hostname),
		Results: d.results, Score: xccdfScore{System: "urn:xccdf:scoring:flat-unweighted"},
	}
	for _, fact := range []xccdfFact{
		{Name: "urn:xccdf:fact:asset:identifier:host_name", Text: r.Machine.Hostname},
		{Name: "urn:soe-agent:fact:machine_id", Text: r.Machine.MachineID},
		{Name: "urn:soe-agent:fact:managed_node", Text: r.Machine.ManagedNode},
		{Name: "urn:soe-agent:fact:os", Text: r.Machine.OS},
		{Name: "urn:soe-agent:fact:personas", Text: strings.Join(r.Policy.Personas, " ")},
	} {
		if fact.Text != "" {
			fact.Text, fact.Type = Clean(fact.Text), "string"
			result.Facts = append(result.Facts, fact)
		}
	}
	for _, of := range d.results {
		switch of.Result {
		case xccdfPass, xccdfFixed:
			result.Score.Value++
			result.Score.Maximum++
		case xccdfFail, xccdfError, xccdfUnknown:
			result.Score.Maximum++
		}
	}
	b.Result = result
	return b
}

// xccdfVersion identifies the policy: its serial number, if it was published, and its digest.
func xccdfVersion(p Policy) string {
	if p.Serial != 0 {
		return fmt.Sprintf("%d-%s", p.Serial, p.Digest)
	}
	return p.Digest
}

func xccdfState(state converge.State, unseen bool) string {
	switch state {
	case converge.Compliant:
		return xccdfPass
	case converge.Corrected:
		return xccdfFixed
	case converge.Waived:
		return xccdfInformational
	case converge.NotApplicable:
		return xccdfNotApplicable
	case NotCovered:
		return xccdfNotChecked
	case converge.Unknown:
		if unseen {
			return xccdfNotChecked
		}
		return xccdfUnknown
	default: // drifted, pending, failed, contested
		return xccdfFail
	}
}

// xccdfSeverity is the word of XCCDF, which knows nothing graver than high.
func xccdfSeverity(s policy.Severity) string {
	switch s {
	case policy.Critical, policy.High:
		return "high"
	case policy.Medium, policy.Low:
		return string(s)
	case policy.Informational:
		return "info"
	}
	return "unknown"
}

func message(severity, text string) *xccdfMessage {
	return &xccdfMessage{Severity: severity, Text: strings.TrimSpace(Clean(text))}
}

// idents names controls as the policy does: BENCHMARK:CONTROL.
func idents(controls ...string) (all []xccdfIdent) {
	for _, control := range controls {
		all = append(all, xccdfIdent{System: "urn:soe-agent:control", Text: Clean(control)})
	}
	return all
}

// xccdfID makes an identifier of this sort: xccdf_NAMESPACE_SORT_NAME. Different names make different
// identifiers.
func xccdfID(sort string, name ...string) string {
	for i := range name {
		name[i] = xccdfEscape(name[i])
	}
	return "xccdf_com.github.soe-agent_" + sort + "_" + strings.Join(name, "_")
}

// xccdfEscape writes each byte that may not stand in an identifier (NCName of XML Schema) as two
// underscores and its value in hex.
func xccdfEscape(name string) string {
	var escaped strings.Builder
	for _, b := range []byte(name) {
		switch {
		case 'a' <= b && b <= 'z', 'A' <= b && b <= 'Z', '0' <= b && b <= '9', b == '.', b == '-':
			escaped.WriteByte(b)
		default:
			fmt.Fprintf(&escaped, "__%02x", b)
		}
	}
	return escaped.String()
}
