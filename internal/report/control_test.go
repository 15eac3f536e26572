package report_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/report"
)

func demanded(id policy.ID, state converge.State, days int, controls ...string) converge.Resource {
	return converge.Resource{ID: id, State: state, Since: at.AddDate(0, 0, -days), Severity: policy.Medium, Controls: controls}
}

// audited returns a report with controls in every state.
func audited(partial bool) report.Report {
	p := &policy.Policy{
		Partial: partial,
		Benchmarks: []policy.Benchmark{
			{Name: "b", Controls: []string{"b:1", "b:2", "b:3", "b:4", "b:5", "b:6", "b:7", "b:10"}},
			{Name: "empty", Controls: []string{"empty:1"}},
		},
		Rules: []policy.Rule{
			{Match: []string{"check/*"}, Audit: true, Until: at.AddDate(0, 0, 9), Reason: "the first", Origin: policy.Origin{Fragment: "f", Line: 1}},
			{Match: []string{"check/w*"}, Audit: true, Until: at.AddDate(0, 0, 9), Reason: "TICKET-1", Origin: policy.Origin{Fragment: "f", Line: 2}},
			{Match: []string{"check/waived"}, Audit: true, Until: at.AddDate(0, 0, -9), Reason: "long gone", Origin: policy.Origin{Fragment: "f", Line: 3}},
		},
	}
	unseen := demanded("check/unseen", converge.Unknown, 0, "b:5")
	unseen.Unseen = true
	overdue := demanded("check/overdue", converge.Pending, 8, "b:7")
	overdue.Overdue = true
	grave := demanded("check/corrected", converge.Corrected, 1, "b:1", "b:1")
	grave.Severity = policy.High
	return report.New("0.1.0", facts.Facts{MachineID: "m", Hostname: "h"}, p, nil, at, []converge.Resource{
		demanded("check/compliant", converge.Compliant, 5, "b:1", "b:3", "b:5", "b:2", "b:4"), grave,
		demanded("check/failed", converge.Failed, 3, "b:2"), demanded("check/failed-too", converge.Failed, 2, "b:2"), demanded("check/unknown", converge.Unknown, 9, "b:2", "b:6"),
		demanded("check/waived", converge.Waived, 7, "b:3"),
		unseen, overdue, demanded("check/waiting", converge.Pending, 1, "b:4", "b:7"), demanded("check/contested", converge.Contested, 1, "z 10", "z 9"),
		demanded("check/free", converge.Drifted, 1), demanded("check/free-too", converge.Compliant, 1),
	}, nil)
}

func TestAControlIsAsTheWorstOfItsResourcesSinceThatCameAndWithItsWaiver(t *testing.T) {
	day := func(n int) time.Time { return at.AddDate(0, 0, -n) }
	want := []report.Control{
		{ID: "b:1", Benchmark: "b", State: converge.Corrected, Since: day(1), Severity: policy.High, Resources: []policy.ID{"check/compliant", "check/corrected"}},
		{ID: "b:2", Benchmark: "b", State: converge.Failed, Since: day(3), Severity: policy.Medium, Resources: []policy.ID{"check/compliant", "check/failed", "check/failed-too", "check/unknown"}},
		{ID: "b:3", Benchmark: "b", State: converge.Waived, Since: day(5), Severity: policy.Medium, Resources: []policy.ID{"check/compliant", "check/waived"}},
		{ID: "b:4", Benchmark: "b", State: converge.Pending, Since: day(1), Severity: policy.Medium, Resources: []policy.ID{"check/compliant", "check/waiting"}},
		{ID: "b:5", Benchmark: "b", State: converge.Unknown, Since: day(0), Severity: policy.Medium, Unseen: true, Resources: []policy.ID{"check/compliant", "check/unseen"}},
		{ID: "b:6", Benchmark: "b", State: converge.Unknown, Since: day(9), Severity: policy.Medium, Resources: []policy.ID{"check/unknown"}},
		{ID: "b:7", Benchmark: "b", State: converge.Pending, Since: day(8), Severity: policy.Medium, Overdue: true, Resources: []policy.ID{"check/overdue", "check/waiting"}},
		{ID: "b:10", Benchmark: "b", State: report.NotCovered, Resources: []policy.ID{}},
		{ID: "empty:1", Benchmark: "empty", State: report.NotCovered, Resources: []policy.ID{}},
		{ID: "z 9", State: converge.Contested, Since: day(1), Severity: policy.Medium, Resources: []policy.ID{"check/contested"}},
		{ID: "z 10", State: converge.Contested, Since: day(1), Severity: policy.Medium, Resources: []policy.ID{"check/contested"}},
	}
	got := audited(false).ByControl()
	for i, c := range got.Controls {
		if len(c.Waivers) > 0 {
			if c.ID != "b:3" || len(c.Waivers) != 1 || c.Waivers[0].Reason != "TICKET-1" {
				t.Errorf("%s is waived by %v", c.ID, c.Waivers)
			}
			got.Controls[i].Waivers = nil
		} else if c.State == converge.Waived {
			t.Errorf("nobody knows by what %s is waived", c.ID)
		}
	}
	if diff := cmp.Diff(want, got.Controls); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got.Verdict != report.Converging || got.Compliant {
		t.Errorf("the verdict is %s", got.Verdict)
	}
}

func TestWhileThePolicyIsNotKnownAsAWholeNoControlIsCalledNotCovered(t *testing.T) {
	for _, c := range audited(true).ByControl().Controls {
		if c.State == report.NotCovered || len(c.Resources) == 0 && (c.State != converge.Unknown || !c.Unseen) {
			t.Errorf("%s is %s", c.ID, c.State)
		}
	}
}

func TestAReportByControlIsTheSameFromTheDocumentAndKeepsToTheSchema(t *testing.T) {
	whole := audited(false)
	raw := encode(t, whole)
	var read report.Report
	if err := json.Unmarshal(raw, &read); err != nil {
		t.Fatal(err)
	}
	byControl := encode(t, read.ByControl())
	if diff := cmp.Diff(string(encode(t, whole.ByControl())), string(byControl)); diff != "" {
		t.Errorf("(-made +read):\n%s", diff)
	}
	for _, document := range [][]byte{raw, byControl, encode(t, audited(true).ForEverybody().ByControl()), encode(t, report.Report{}.ByControl())} {
		if err := validate(t, validator(t), document); err != nil && !bytes.Contains(document, []byte(`"schema": 0`)) {
			t.Errorf("%v\n%s", err, document)
		}
	}
	if bytes.Contains(raw, []byte(`"not covered"`)) || !bytes.Contains(byControl, []byte(`"not covered"`)) {
		t.Error("controls are in the wrong one of the two")
	}
	public := audited(false).ForEverybody().ByControl()
	if text := string(encode(t, public)); strings.Contains(text, "TICKET-1") {
		t.Errorf("the public report says why something is waived:\n%s", text)
	}
}

func TestAControlThatItsBenchmarkWaivesSaysWhyUnlessAResourceIsThereForIt(t *testing.T) {
	r := audited(false)
	r.Policy.Benchmarks[1].Waived = map[string]string{"empty:1": "a desktop needs it"}
	r.Policy.Benchmarks[0].Waived = map[string]string{"b:2": "not worth it"}
	states := map[string]converge.State{}
	for _, c := range r.ByControl().Controls {
		states[c.ID] = c.State
	}
	if states["empty:1"] != converge.Waived || states["b:2"] != converge.Failed || states["b:10"] != report.NotCovered {
		t.Errorf("they are %v", states)
	}
	var text, page, junit bytes.Buffer
	if err := errors.Join(r.ByControl().Text(&text, report.Style{}), r.ByControl().HTML(&page, nil), r.ByControl().JUnit(&junit)); err != nil {
		t.Fatal(err)
	}
	for in, want := range map[*bytes.Buffer]string{
		&text:  "○ empty:1  waived\n    a desktop needs it\nempty: 1 control: 1 waived\n",
		&page:  "<div>a desktop needs it</div>",
		&junit: "<skipped type=\"waived\" message=\"waived\">a desktop needs it",
	} {
		if !strings.Contains(in.String(), want) {
			t.Errorf("it has no %q:\n%s", want, in)
		}
	}
	public := encode(t, r.ForEverybody().ByControl())
	if err := validate(t, validator(t), public); err != nil || bytes.Contains(public, []byte("a desktop needs it")) {
		t.Errorf("%v: the public report says why something is waived, or does not keep to the schema:\n%s", err, public)
	}
	if whole := r.ByControl().Policy.Benchmarks[1].Waived["empty:1"]; whole != "a desktop needs it" {
		t.Errorf("root's report says %q", whole)
	}
	r.Policy.Partial = true
	for _, c := range r.ByControl().Controls {
		if c.ID == "empty:1" && c.State != converge.Unknown {
			t.Errorf("while the policy is not known as a whole it is %s", c.State)
		}
	}
}

func TestTextByControlTellsWhatIsNotInLineAndWhatIsNotCovered(t *testing.T) {
	var text bytes.Buffer
	if err := audited(false).ByControl().Text(&text, report.Style{}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"↺ b:1  corrected · since 2026-11-20 06:00 UTC · high\n    ↺ check/corrected corrected\n",
		"✗ b:2  failed · since 2026-11-18 06:00 UTC · medium\n    ✗ check/failed failed\n    ✗ check/failed-too failed\n    ? check/unknown unknown\n",
		"○ b:3  waived · since 2026-11-16 06:00 UTC · medium\n    ○ check/waived waived\n    ○ waiver: check/w*, until 2026-11-29: TICKET-1  f:2 (seed)\n",
		"? b:5  unknown: not checked yet · since",
		"… b:7  pending: overdue · since",
		"○ not covered: b:10\nb: 8 controls: 1 corrected, 2 pending, 1 waived, 1 failed, 2 unknown, 1 not covered\n",
		"○ not covered: empty:1\nempty: 1 control: 1 not covered\n",
		"of no benchmark: 2 controls: 2 contested\n~ check/free  drifted\nfor no control: 2 resources, 1 in line\n",
		"… converging  12 resources",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("it has no %q:\n%s", want, text.String())
		}
	}
	if strings.Contains(text.String(), "check/compliant") {
		t.Errorf("it tells of what is in line:\n%s", text.String())
	}
	text.Reset()
	none := report.New("0.1.0", facts.Facts{}, &policy.Policy{}, nil, at, nil, nil).ByControl()
	if err := none.Text(&text, report.Style{}); err != nil || !strings.HasPrefix(text.String(), "No resource is there for a control, and the policy has no benchmark.\n") {
		t.Errorf("%v: %q", err, text.String())
	}
}

// A pipeline counts failures and errors.
func TestJUnitByControlIsRedExactlyWhenTheReportIsNotCompliant(t *testing.T) {
	type outcome struct {
		Name    string    `xml:"name,attr"`
		Failure *struct{} `xml:"failure"`
		Error   *struct{} `xml:"error"`
		Skipped *struct{} `xml:"skipped"`
	}
	var document struct {
		Failures int `xml:"failures,attr"`
		Errors   int `xml:"errors,attr"`
		Suites   []struct {
			Name  string    `xml:"name,attr"`
			Cases []outcome `xml:"testcase"`
		} `xml:"testsuite"`
	}
	var text bytes.Buffer
	if err := audited(false).ByControl().JUnit(&text); err != nil {
		t.Fatal(err)
	}
	if err := xml.Unmarshal(text.Bytes(), &document); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, s := range document.Suites {
		for _, c := range s.Cases {
			word := "passed"
			switch {
			case c.Failure != nil:
				word = "failure"
			case c.Error != nil:
				word = "error"
			case c.Skipped != nil:
				word = "skipped"
			}
			got[s.Name+"/"+c.Name] = word
		}
	}
	want := map[string]string{
		"b/b:1": "passed", "b/b:2": "failure", "b/b:3": "skipped", "b/b:4": "skipped", "b/b:5": "error", "b/b:6": "error", "b/b:7": "failure", "b/b:10": "skipped",
		"empty/empty:1": "skipped", "of no benchmark/z 9": "failure", "of no benchmark/z 10": "failure",
		"for no control/check/free": "failure", "for no control/check/free-too": "passed",
		"waivers/check/*": "passed", "waivers/check/w*": "passed", "waivers/check/waived": "skipped",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, r := range []report.Report{audited(false), audited(true), inLine()} {
		text.Reset()
		if err := r.ByControl().JUnit(&text); err != nil {
			t.Fatal(err)
		}
		document.Failures, document.Errors = 0, 0
		if err := xml.Unmarshal(text.Bytes(), &document); err != nil {
			t.Fatal(err)
		}
		if red := document.Failures+document.Errors > 0; red == r.Compliant {
			t.Errorf("compliant: %v, red: %v", r.Compliant, red)
		}
	}
}

// inLine returns a compliant report that has a control that is not covered.
func inLine() report.Report {
	p := &policy.Policy{Benchmarks: []policy.Benchmark{{Name: "b", Controls: []string{"b:1", "b:2"}}}}
	return report.New("0.1.0", facts.Facts{}, p, nil, at, []converge.Resource{demanded("check/x", converge.Compliant, 1, "b:1"), demanded("check/y", converge.Pending, 1, "b:1")}, nil)
}

func TestThePageByControlHasEachControlWithItsResourcesAndLetsNoNameSpeak(t *testing.T) {
	r := audited(false)
	r.Policy.Benchmarks[1].Controls[0] = "<script>\x1b\u202e"
	var page, plain bytes.Buffer
	if err := r.ByControl().HTML(&page, nil); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Controls: b", "<th scope=\"row\" class=\"id\">b:10</th><td>○ not covered</td>", "check/failed-too", "○ waiver: check/w*, until 2026-11-29: TICKET-1", `&lt;script&gt;\x1b\u202e`} {
		if !strings.Contains(page.String(), want) {
			t.Errorf("it has no %q", want)
		}
	}
	if err := r.HTML(&plain, nil); err != nil || strings.Contains(plain.String(), "Controls: b") {
		t.Errorf("%v: nobody has asked for controls", err)
	}
}

func TestAnAuditorIsToldOfEachControlInTheWordsOfXCCDF(t *testing.T) {
	r := audited(false)
	r.Policy.Doubts = []string{"the persona is not known"}
	r.Policy.Benchmarks[1].Waived = map[string]string{"empty:1": "a desktop needs it"}
	var document struct {
		Groups []struct {
			Title string `xml:"title"`
			Rules []struct {
				ID string `xml:"id,attr"`
			} `xml:"Rule"`
		} `xml:"Group"`
		Result struct {
			Results []struct {
				Rule    string `xml:"idref,attr"`
				Result  string `xml:"result"`
				Message string `xml:"message"`
			} `xml:"rule-result"`
			Score struct {
				Maximum int `xml:"maximum,attr"`
				Value   int `xml:",chardata"`
			} `xml:"score"`
		} `xml:"TestResult"`
	}
	written := func(r report.Report) {
		t.Helper()
		var raw bytes.Buffer
		if err := r.XCCDF(&raw); err != nil {
			t.Fatal(err)
		}
		document.Groups, document.Result.Results = nil, nil
		if err := xml.Unmarshal(raw.Bytes(), &document); err != nil {
			t.Fatal(err)
		}
	}
	results := func() map[string]string {
		all := map[string]string{}
		for _, of := range document.Result.Results {
			name := strings.TrimPrefix(of.Rule, "xccdf_com.github.soe-agent_rule_")
			if all[name] != "" {
				t.Errorf("there are two results of %s", name)
			}
			all[name] = of.Result
			switch name {
			case "b_3":
				if !strings.Contains(of.Message, "TICKET-1") {
					t.Errorf("nothing says by what b:3 is waived: %q", of.Message)
				}
			case "empty_1":
				if of.Message != "a desktop needs it" {
					t.Errorf("nothing says why empty:1 is waived: %q", of.Message)
				}
			}
		}
		return all
	}
	written(r.ByControl())
	want := map[string]string{
		"question-1": "error", "b_1": "fixed", "b_2": "fail", "b_3": "informational", "b_4": "fail", "b_5": "notchecked",
		"b_6": "unknown", "b_7": "fail", "b_10": "notchecked", "empty_1": "notselected", "of__20no__20benchmark_z__209": "fail", "of__20no__20benchmark_z__2010": "fail",
		"check__2ffree": "fail", "check__2ffree-too": "pass",
	}
	if diff := cmp.Diff(want, results()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if score := document.Result.Score; score.Value != 2 || score.Maximum != 10 {
		t.Errorf("the score is %+v", score)
	}
	written(r)
	if got := results(); len(got) != 1+len(r.Resources) || got["check__2fcorrected"] != "fixed" || got["check__2fwaived"] != "informational" || got["check__2funseen"] != "notchecked" {
		t.Errorf("by resource: %v", got)
	}
}
