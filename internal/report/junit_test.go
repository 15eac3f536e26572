package report_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/joshdk/go-junit"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/report"
	"github.com/soe-agent/soe-agent/internal/report/example"
)

// readJUnit parses a report with a library that this project did not write.
func readJUnit(t testing.TB, r report.Report) map[string]junit.Suite {
	t.Helper()
	var content bytes.Buffer
	if err := r.JUnit(&content); err != nil {
		t.Fatal(err)
	}
	suites, err := junit.IngestReader(&content)
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]junit.Suite{}
	for _, s := range suites {
		byName[s.Name] = s
	}
	return byName
}

// failed counts what makes a pipeline red.
func failed(suites map[string]junit.Suite) (n int) {
	for _, s := range suites {
		n += s.Totals.Failed + s.Totals.Error
	}
	return n
}

func TestAPipelineSeesEachResourceAsTheCaseOfItsKind(t *testing.T) {
	r := of([]string{"10-base:3: refused"},
		resource("package/a", converge.Compliant), resource("package/b", converge.Corrected),
		resource("package/c", converge.Drifted), resource("package/d", converge.Failed),
		resource("sudo/allow", converge.Contested), resource("sudo/b", converge.Unknown),
		resource("sudo/c", converge.Pending), resource("sudo/d", converge.Waived),
	)
	r.Timing = map[string]time.Duration{"package": 1500 * time.Millisecond}
	overdue := resource("sudo/e", converge.Pending)
	overdue.Overdue = true
	r.Resources = append(r.Resources, overdue)
	suites := readJUnit(t, r)
	got := map[string]string{}
	for _, s := range suites {
		for _, c := range s.Tests {
			got[c.Classname+" "+c.Name] = string(c.Status)
		}
	}
	want := map[string]string{
		"package package/a": "passed", "package package/b": "passed", "package package/c": "failed", "package package/d": "failed",
		"sudo sudo/allow": "failed", "sudo sudo/b": "error", "sudo sudo/c": "skipped", "sudo sudo/d": "skipped", "sudo sudo/e": "failed",
		"policy 10-base:3: refused": "error",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got := suites["package"].Totals; got.Tests != 4 || got.Failed != 2 {
		t.Errorf("%+v", got)
	}
	var content strings.Builder
	if err := r.JUnit(&content); err != nil {
		t.Fatal(err)
	}
	const head = `<testsuite name="package" tests="4" failures="2" errors="0" time="1.500000" skipped="0" timestamp="2026-11-21T06:00:00" hostname="A-1">`
	if !strings.Contains(content.String(), head) {
		t.Errorf("%s is not in it:\n%s", head, content.String())
	}
}

func TestAPipelineIsRedExactlyWhenTheReportIsNotCompliant(t *testing.T) {
	for state, refused := range map[converge.State][]string{
		converge.Compliant: nil, converge.Corrected: nil, converge.Waived: nil, converge.Pending: nil, converge.Drifted: nil,
		converge.Failed: nil, converge.Contested: nil, converge.Unknown: nil, "compliant, but the policy is refused": {"x"},
	} {
		kept := resource("package/a", state)
		if refused != nil {
			kept.State = converge.Compliant
		}
		r := of(refused, kept)
		r.Waivers = []report.Waiver{{Rule: report.Rule{Match: []string{"package/b"}}, Expired: true}}
		if n := failed(readJUnit(t, r)); (n == 0) != r.Compliant {
			t.Errorf("with something %s: %d cases are red, and compliant is %v", state, n, r.Compliant)
		}
	}
}

func TestAPipelineSeesWhatTheReportSays(t *testing.T) {
	suites := readJUnit(t, example.Report(50))
	for _, c := range suites["dropin"].Tests {
		if c.Name != "dropin/etc/ssh/sshd_config.d/50-soe.conf" {
			continue
		}
		for _, part := range []string{"audited only", "- X11Forwarding yes", "+ X11Forwarding no", "0644 → 0600", "CIS-AL2-5.3.8", "severity critical", "10-base:88"} {
			if !strings.Contains(c.Error.Error(), part) {
				t.Errorf("%q is not said:\n%s", part, c.Error)
			}
		}
	}
	var said []string
	for _, c := range suites["waivers"].Tests {
		said = append(said, c.Name+": "+string(c.Status))
	}
	if diff := cmp.Diff([]string{"package/gimp: passed", "service/cups.service: skipped"}, said); diff != "" {
		t.Error(diff)
	}
}

// A character that XML 1.0 does not allow would make a reader refuse the whole document.
func FuzzNoTextBreaksTheXML(f *testing.F) {
	f.Add("]]><failure/>", "\x00\x1b\x0b\ufffe\xff")
	f.Add(`"'<&>`, "--> <!-- \u202e\r\n\t")
	f.Fuzz(func(t *testing.T, a, b string) {
		r := of([]string{b}, hostile(a, b)...)
		r.Machine.Hostname, r.Policy.Personas = a, []string{a, b}
		r.Waivers = []report.Waiver{{Rule: report.Rule{Match: []string{a}, Origin: policy.Origin{Fragment: b}}, Reason: b, Expired: true}}
		suites := readJUnit(t, r)
		n := 0
		for _, s := range suites {
			n += len(s.Tests)
		}
		if n != len(r.Resources)+2 {
			t.Errorf("%d cases of %d", n, len(r.Resources)+2)
		}
	})
}

// hostile returns resources in each of which one text was written by a stranger.
func hostile(a, b string) []converge.Resource {
	var all []converge.Resource
	for _, state := range []converge.State{converge.Compliant, converge.Corrected, converge.Drifted, converge.Unknown, converge.Pending, converge.Waived} {
		r := resource(policy.ID("dropin/"+string(state)+a), state)
		r.Reason, r.Controls = b, []string{a, b}
		r.Severity, r.Effect, r.Cause = policy.Severity(b), converge.Effect(a), converge.Cause(b)
		r.Origin = policy.Origin{Fragment: a, Persona: b, Overrode: []policy.Origin{{Fragment: b}}}
		if state != converge.Compliant {
			r.Diff = []converge.Difference{{Aspect: a, Want: b, Got: a}, {Aspect: "content", Want: a + "\n" + b, Got: b + "\n"}}
		}
		all = append(all, r)
	}
	return all
}
