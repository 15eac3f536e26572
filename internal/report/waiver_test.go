package report_test

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/report"
	"github.com/soe-agent/soe-agent/internal/system"
)

const waiving = `schema = 1
[checks.waived]
run = ["/bin/true"]
[[rules]]
match  = ["check/*"]
mode   = "audit"
until  = 2026-11-23
reason = "TICKET-1"
[[rules]]
match    = ["package/none-*"]
severity = "high"
`

func TestAWaiverHoldsUntilItsLastDayEndsAndIsAFindingFromThenOn(t *testing.T) {
	fragment, err := policy.Parse(policy.Source{Name: "10-base", Layer: policy.Remote, Text: waiving})
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.Merge([]policy.Fragment{fragment}, []string{"base"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := system.Open(system.Options{Root: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	ledger, err := converge.OpenLedger(s.FS, "/var/lib/soe-agent", facts.Identity{MachineID: "m"})
	if err != nil {
		t.Fatal(err)
	}
	now := &clock{at}
	kind := &moody{policy: p, broken: map[policy.ID]bool{"check/waived": true}}
	engine := converge.New(p, []converge.Kind{kind}, ledger, now, slog.New(slog.DiscardHandler))
	for _, step := range []struct {
		at      string
		state   converge.State
		expired bool
		says    string
	}{
		{"2026-11-21T06:00:00Z", converge.Waived, false, "○ check/waived  waived"},
		{"2026-11-23T23:59:59Z", converge.Waived, false, "waived until 2026-11-23: TICKET-1"},
		{"2026-11-24T00:00:00Z", converge.Corrected, true, "! expired waiver: check/*, ended after 2026-11-23: TICKET-1  10-base:4 (remote)"},
		{"2026-12-24T00:00:00Z", converge.Compliant, true, "! expired waiver:"},
	} {
		if now.now, err = time.Parse(time.RFC3339, step.at); err != nil {
			t.Fatal(err)
		}
		result := engine.Pass(t.Context())
		r := report.New("0.1.0", facts.Facts{MachineID: "m"}, p, nil, now.now, result.Resources, result.Timing)
		if got := r.Resources[0].State; got != step.state || !r.Compliant {
			t.Errorf("%s: it is %s, and compliant is %v", step.at, got, r.Compliant)
		}
		want := report.Waiver{
			Rule:  report.Rule{Match: []string{"check/*"}, Origin: policy.Origin{Layer: policy.Remote, Fragment: "10-base", Line: 4}},
			Until: "2026-11-23", Reason: "TICKET-1", Expired: step.expired,
		}
		if !step.expired {
			want.Holds = 1
		}
		if diff := cmp.Diff([]report.Waiver{want}, r.Waivers); diff != "" {
			t.Errorf("%s: %s", step.at, diff)
		}
		var said strings.Builder
		if err := r.Text(&said, report.Style{}); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(said.String(), step.says) {
			t.Errorf("%s: %q is not said:\n%s", step.at, step.says, said.String())
		}
		if inHTML := strings.Contains(strings.Join(texts(page(t, r), "article"), ""), "! expired waiver"); inHTML != step.expired {
			t.Errorf("%s: the page calls it a finding: %v", step.at, inHTML)
		}
	}
}

func TestARuleAboutNothingIsTold(t *testing.T) {
	fragment, err := policy.Parse(policy.Source{Name: "10-base", Text: waiving})
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.Merge([]policy.Fragment{fragment}, []string{"base"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	idle := func(resources ...converge.Resource) []report.Rule {
		return report.New("0.1.0", facts.Facts{}, p, nil, at, resources, nil).Policy.Idle
	}
	want := []report.Rule{{Match: []string{"package/none-*"}, Origin: policy.Origin{Fragment: "10-base", Line: 9}}}
	if diff := cmp.Diff(want, idle()); diff != "" {
		t.Error(diff)
	}
	if got := idle(resource("package/none-of-the-policy", converge.Drifted)); got != nil {
		t.Errorf("a rule about what was found is called idle: %v", got)
	}
	p.Partial = true
	if got := idle(); got != nil {
		t.Errorf("while a part of the policy is not known, a rule is called idle: %v", got)
	}
}

func TestOfTwoWaiversTheLastOneHolds(t *testing.T) {
	rule := func(glob string) policy.Rule {
		return policy.Rule{Match: []string{glob}, Audit: true, Until: at.AddDate(0, 0, 1), Reason: "r"}
	}
	p := &policy.Policy{Rules: []policy.Rule{rule("package/*"), rule("package/b")}}
	resources := []converge.Resource{resource("package/a", converge.Waived), resource("package/b", converge.Waived), resource("package/c", converge.Compliant)}
	var holds []int
	for _, w := range report.New("0.1.0", facts.Facts{}, p, nil, at, resources, nil).Waivers {
		holds = append(holds, w.Holds)
	}
	if diff := cmp.Diff([]int{1, 1}, holds); diff != "" {
		t.Error(diff)
	}
}
