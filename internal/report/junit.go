package report

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
)

// The elements of JUnit XML as Ant, Maven and Jenkins write and read them; there is no standard.
type (
	junitReport struct {
		XMLName xml.Name `xml:"testsuites"`
		Name    string   `xml:"name,attr"`
		counts
		Suites []*junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name string `xml:"name,attr"`
		counts
		Skipped    int             `xml:"skipped,attr"`
		Timestamp  string          `xml:"timestamp,attr"`
		Hostname   string          `xml:"hostname,attr"`
		Properties []junitProperty `xml:"properties>property"`
		Cases      []junitCase     `xml:"testcase"`
	}
	counts struct {
		Tests    int    `xml:"tests,attr"`
		Failures int    `xml:"failures,attr"`
		Errors   int    `xml:"errors,attr"`
		Time     string `xml:"time,attr"` // in seconds
	}
	junitProperty struct {
		Name  string `xml:"name,attr"`
		Value string `xml:"value,attr"`
	}
	junitCase struct {
		Class   string        `xml:"classname,attr"`
		Name    string        `xml:"name,attr"`
		Failure *junitMessage `xml:"failure"`
		Error   *junitMessage `xml:"error"`
		Skipped *junitMessage `xml:"skipped"`
		Output  string        `xml:"system-out,omitempty"`
	}
	junitMessage struct {
		Type    string `xml:"type,attr,omitempty"`
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
)

// JUnit writes the report as JUnit XML: a suite for each kind and a case for each resource, or after ByControl
// a suite for each benchmark and a case for each control. Pending and waived resources are skipped, unknown
// and unchecked ones are errors, and all others that are not in line are failures. There is a failure or an
// error exactly when the report is not compliant. Two more suites exist if they have a case: "policy" holds
// what is wrong with the policy itself, as errors, and "waivers" the waivers, skipped if they have expired.
func (r Report) JUnit(w io.Writer) error {
	document := junitReport{Name: "soe-agent"}
	suites := map[string]*junitSuite{}
	add := func(suite string, c junitCase) {
		s := suites[suite]
		if s == nil {
			s = r.junitSuite(suite)
			suites[suite] = s
			document.Suites = append(document.Suites, s)
		}
		c.Class = s.Name
		s.count(c)
		s.Cases = append(s.Cases, c)
	}
	for _, q := range r.questions() {
		message := &junitMessage{Type: q.kind, Message: Clean(q.text)}
		add("policy", junitCase{Name: message.Message, Error: message})
	}
	if r.Controls != nil {
		r.Timing = nil // it is by kind
		r.junitControls(add)
	} else {
		for _, resource := range r.Resources {
			add(Clean(resource.ID.Kind()), junitResource(resource))
		}
	}
	for _, waiver := range r.Waivers {
		add("waivers", junitWaiver(waiver))
	}
	var took time.Duration
	for _, s := range document.Suites {
		took += r.Timing[s.Name]
		document.Tests += s.Tests
		document.Failures += s.Failures
		document.Errors += s.Errors
	}
	document.Time = seconds(took)
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	encoder := xml.NewEncoder(w)
	encoder.Indent("", " ")
	if err := encoder.Encode(document); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

func (r Report) junitSuite(name string) *junitSuite {
	s := &junitSuite{Name: name, Timestamp: r.Time.UTC().Format("2006-01-02T15:04:05"), Hostname: Clean(r.Machine.Hostname)}
	s.Time = seconds(r.Timing[name])
	for _, p := range []junitProperty{
		{"machine_id", r.Machine.MachineID},
		{"managed_node", r.Machine.ManagedNode},
		{"os", r.Machine.OS},
		{"agent", r.Agent},
		{"policy_digest", r.Policy.Digest},
		{"policy_serial", fmt.Sprint(r.Policy.Serial)},
		{"personas", strings.Join(r.Policy.Personas, " ")},
	} {
		if p.Value != "" {
			s.Properties = append(s.Properties, junitProperty{p.Name, Clean(p.Value)})
		}
	}
	return s
}

func (s *junitSuite) count(c junitCase) {
	s.Tests++
	switch {
	case c.Failure != nil:
		s.Failures++
	case c.Error != nil:
		s.Errors++
	case c.Skipped != nil:
		s.Skipped++
	}
}

// seconds returns a duration in seconds, down to microseconds; the rest is noise.
func seconds(d time.Duration) string { return fmt.Sprintf("%.6f", d.Seconds()) }

func junitResource(r converge.Resource) junitCase {
	c := junitCase{Name: Clean(string(r.ID))}
	reason := r.Reason
	if reason == "" {
		reason = string(r.State)
		if len(r.Diff) > 0 {
			reason += ": " + strings.Join(aspects(r.Diff), ", ")
		}
	}
	message := &junitMessage{Type: string(r.State), Message: Clean(reason), Text: junitText(r)}
	switch {
	case r.State == converge.Compliant:
	case r.State == converge.Corrected:
		c.Output = message.Text
	case r.State == converge.Waived, r.State == converge.NotApplicable, r.State == converge.Pending && r.Tolerable():
		c.Skipped = message
	case r.State == converge.Unknown:
		c.Error = message
	default:
		c.Failure = message
	}
	return c
}

func aspects(diff []converge.Difference) []string {
	names := make([]string, len(diff))
	for i, d := range diff {
		names[i] = d.Aspect
	}
	return names
}

// junitText returns everything that a person wants to know of a resource: what the text report says.
func junitText(r converge.Resource) string {
	var text strings.Builder
	p := &printer{w: &text}
	p.resource(r, Style{})
	p.printf("    severity %s, since %s", r.Severity, r.Since.UTC().Format(time.RFC3339))
	if len(r.Controls) > 0 {
		p.printf(", controls %s", Clean(strings.Join(r.Controls, ", ")))
	}
	p.printf("\n")
	return text.String()
}

func junitWaiver(w Waiver) junitCase {
	c := junitCase{Name: Clean(strings.Join(w.Match, ", "))}
	message := fmt.Sprintf("%s; holds %s; %s", w, counted(w.Holds), w.Origin)
	if w.Expired {
		c.Skipped = &junitMessage{Type: "expired", Message: Clean(message)}
	} else {
		c.Output = Clean(message)
	}
	return c
}
