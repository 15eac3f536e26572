package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/public"
)

// Every part of a report in which something of root's may stand. A part that is forgotten is in what everybody reads,
// and in AWS.
func TestNoPartOfTheReportForEverybodyHasWhatIsRoots(t *testing.T) {
	const mark = "M4RK"
	at := time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)
	roots := func(n string) public.Line { return public.Line{Whole: mark + n, Open: "open"} }
	p := &policy.Policy{
		Resources:  []policy.Resource{{ID: "check/a", Spec: policy.Check{}}, {ID: "check/b", Spec: policy.Check{}}},
		Doubts:     []public.Line{roots("doubt")},
		Benchmarks: []policy.Benchmark{{Name: "cis", Waived: map[string]string{"1.1": mark + "benchmark"}}},
		Rules: []policy.Rule{
			{Match: []string{"check/a", "x" + mark + "match"}, Audit: true, Until: at.AddDate(0, 1, 0), Reason: mark + "waiver"},
			{Match: []string{"check/" + mark + "idle"}, Audit: true},
		},
	}
	a, b := converge.Resource{ID: "check/a", State: converge.Waived}, converge.Resource{ID: "check/b"}
	a.AddDrift("exit", mark+"want", mark+"got")
	b.SetFailed(mark + "reason")
	r := New("1", facts.Facts{}, p, []public.Line{roots("refused")}, at, []converge.Resource{a, b}, nil)
	r.Await(roots("awaited"))
	whole := []string{"doubt", "benchmark", "match", "waiver", "idle", "want", "got", "reason", "refused", "awaited"}
	for _, one := range []struct {
		report Report
		roots  bool
	}{{r, true}, {r.ForEverybody(), false}} {
		document, err := json.Marshal(one.report)
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range whole {
			if strings.Contains(string(document), mark+part) != one.roots {
				t.Errorf("that the %s is there: %t", part, !one.roots)
			}
		}
	}
	everybody := r.ForEverybody()
	var told bytes.Buffer
	compliance, _ := everybody.ComplianceItems(Room)
	inventory, _ := everybody.Inventory(at)
	err := errors.Join(
		everybody.HTML(&told, nil), everybody.JUnit(&told), everybody.XCCDF(&told), everybody.Text(&told, Style{}), everybody.ByControl().Text(&told, Style{}),
		everybody.ByControl().XCCDF(&told), everybody.Glance(&told, Style{}, 10, at),
		json.NewEncoder(&told).Encode(compliance), json.NewEncoder(&told).Encode(inventory), json.NewEncoder(&told).Encode(everybody.ByControl()),
	)
	if err != nil {
		t.Fatal(err)
	}
	if at := strings.Index(told.String(), mark); at >= 0 {
		t.Errorf("a format of the report for everybody has what is root's: %s", told.String()[max(0, at-100):at+40])
	}
	if len(everybody.Resources) != 2 || everybody.Verdict != r.Verdict || len(everybody.Policy.Refused) != 1 || len(everybody.Awaited) != 1 {
		t.Errorf("more is left out than details: %+v", everybody)
	}
}
