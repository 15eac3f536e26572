package report_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/public"
	"github.com/soe-agent/soe-agent/internal/report"
)

var at = time.Date(2026, 11, 21, 6, 0, 0, 0, time.UTC)

func of(refused []string, resources ...converge.Resource) report.Report {
	p := &policy.Policy{Personas: []string{"base"}, Serial: 7}
	f := facts.Facts{Hostname: "A-1", MachineID: "m", ManagedNode: "mi-0123456789abcdef0", OSName: "Amazon Linux 2"}
	return report.New("0.1.0", f, p, open(refused...), at, resources, nil)
}

func resource(id policy.ID, state converge.State) converge.Resource {
	return converge.Resource{ID: id, State: state, Since: at, Severity: policy.High}
}

func TestAReportIsCompliantWhenNothingIsOutOfLineAndNoPolicyIsRefused(t *testing.T) {
	for state, compliant := range map[converge.State]bool{
		converge.Compliant: true, converge.Corrected: true, converge.Waived: true, converge.Pending: true,
		converge.Drifted: false, converge.Failed: false, converge.Contested: false, converge.Unknown: false,
	} {
		if r := of(nil, resource("package/a", converge.Compliant), resource("package/b", state)); r.Compliant != compliant {
			t.Errorf("with something %s the report is compliant: %v", state, r.Compliant)
		}
	}
	overdue := resource("package/b", converge.Pending)
	overdue.Overdue = true
	if of(nil, overdue).Compliant {
		t.Error("a machine on which something has been pending for too long is called compliant")
	}
	if of([]string{"x:1: cannot read the fragment"}).Compliant {
		t.Error("a machine whose policy was refused is called compliant")
	}
}

func TestAReportSurvivesTheWayThroughJSON(t *testing.T) {
	want := of(nil, converge.Resource{
		ID: "pcoip/enable_audio", State: converge.Pending, Effect: converge.Reboot, Cause: converge.Corrective, Since: at, Reason: "r",
		Diff:     []converge.Difference{{Aspect: "value", Want: "0", Got: "1"}},
		Severity: policy.Low, Controls: []string{"C"},
		Origin: policy.Origin{Layer: policy.Remote, Fragment: "10", Line: 3, Persona: "base", Overrode: []policy.Origin{{Layer: policy.Seed, Fragment: "00"}}},
	})
	raw, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got report.Report
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatal(err)
	}
	a, _ := json.Marshal(want)
	b, _ := json.Marshal(got)
	if diff := cmp.Diff(string(a), string(b)); diff != "" {
		t.Error(diff)
	}
}

func TestWhatStoodInAFileNeverSpeaksToTheTerminal(t *testing.T) {
	r := resource("dropin/etc/x.d/\x1b]0;title\x07y", converge.Drifted)
	r.Reason = "because\x1b[2J"
	r.AddDrift("content", "good\n", "evil\x1b[31m\r\nline\u009b5m\n")
	var text strings.Builder
	if err := of(nil, r).Plan(&text, report.Style{}); err != nil {
		t.Fatal(err)
	}
	for _, forbidden := range []string{"\x1b", "\r", "\x07", "\u009b"} {
		if strings.Contains(text.String(), forbidden) {
			t.Errorf("%q is printed:\n%q", forbidden, text.String())
		}
	}
}

func TestADiffShowsWhatChangesAndALittleAround(t *testing.T) {
	r := resource("dropin/etc/x.d/y", converge.Drifted)
	r.AddDrift("content", "1\n2\n3\n4\n5\n6\nnew\n8\n", "1\n2\n3\n4\n5\n6\nold\n8\n")
	r.AddDrift("mode", "0644", "0666")
	var text strings.Builder
	if err := of(nil, r).Plan(&text, report.Style{}); err != nil {
		t.Fatal(err)
	}
	want := `~ dropin/etc/x.d/y  drifted
    content
        5
        6
      - old
      + new
        8
    mode     0666 → 0644
1 would change, 0 would not.
`
	if diff := cmp.Diff(want, text.String()); diff != "" {
		t.Error(diff)
	}
}

func TestADiffSaysWhatANumberOfPCoIPMeans(t *testing.T) {
	clipboard, rate := resource("pcoip/server_clipboard_state", converge.Drifted), resource("pcoip/maximum_frame_rate", converge.Drifted)
	clipboard.AddDrift("value", "2", "3")
	rate.AddDrift("value", "30", "not set")
	var text strings.Builder
	if err := of(nil, clipboard, rate).Plan(&text, report.Style{}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"value    3 (copy-only, from the desktop to the client) → 2 (paste-only, from the client to the desktop)\n", "value    not set → 30\n",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("%s does not hold %s", text.String(), want)
		}
	}
}

func TestOnlyThoseWhoAskForColourGetIt(t *testing.T) {
	for _, colour := range []bool{false, true} {
		var text strings.Builder
		if err := of(nil, resource("package/a", converge.Failed)).Text(&text, report.Style{Color: colour}); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(text.String(), "\x1b[") != colour {
			t.Errorf("colour %v: %q", colour, text.String())
		}
	}
}

func open(texts ...string) []public.Line {
	var lines []public.Line
	for _, text := range texts {
		lines = append(lines, public.All(text))
	}
	return lines
}

func TestAReportOfSomeKindsHasTheVerdictOnTheseAndOnWhatIsAboutAll(t *testing.T) {
	p := &policy.Policy{Resources: []policy.Resource{{ID: "check/a", Spec: policy.Check{}}, {ID: "package/b", Spec: policy.Package{}}}}
	at := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	of := func(state converge.State, refused ...string) report.Report {
		found := []converge.Resource{{ID: "check/a", State: state, Since: at}}
		return report.New("0.1.0", facts.Facts{}, p, open(refused...), at, found, nil)
	}
	for what, c := range map[string]struct {
		r     report.Report
		kinds []string
		want  report.Verdict
	}{
		"what was walked":          {of(converge.Compliant), []string{"check"}, report.Compliant},
		"what was not":             {of(converge.Compliant), []string{"package"}, report.Converging},
		"both":                     {of(converge.Compliant), []string{"check", "package"}, report.Converging},
		"what is not in line":      {of(converge.Failed), []string{"check"}, report.NotCompliant},
		"a policy that is refused": {of(converge.Compliant, "no"), []string{"check"}, report.NotCompliant},
	} {
		if got := c.r.Of(c.kinds...); got.Verdict != c.want || got.Compliant != (c.want == report.Compliant) || c.r.Verdict != report.Converging || len(c.r.Resources) != 2 {
			t.Errorf("%s: %s, and of the whole %s", what, got.Verdict, c.r.Verdict)
		}
	}
}
