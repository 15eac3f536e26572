package report_test

import (
	"strings"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/report"
)

func TestAGlanceShowsTheWorstFirstAndSaysWhatItLeavesOut(t *testing.T) {
	now := time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)
	at := func(id policy.ID, state converge.State, ago time.Duration) converge.Resource {
		return converge.Resource{ID: id, State: state, Since: now.Add(-ago)}
	}
	waits := at("pcoip/a", converge.Pending, 90*time.Second)
	waits.Effect, waits.Reason = converge.NextSession, "a session is connected\nand more"
	overdue := at("pcoip/b", converge.Pending, 8*24*time.Hour+time.Hour)
	overdue.Effect, overdue.Overdue = converge.Maintenance, true
	hostile := at("dropin/etc/\x1b[2J", converge.Failed, 40*time.Second)
	hostile.Reason = "it is \x1b]0;x\a"
	r := report.Report{Resources: []converge.Resource{
		at("dropin/etc/fine", converge.Compliant, 0), at("dropin/etc/mended", converge.Corrected, 0), at("x/waived", converge.Waived, 0),
		waits, overdue, hostile, at("x/contested", converge.Contested, 2*time.Hour+5*time.Minute),
	}}
	var text strings.Builder
	if err := r.Glance(&text, report.Style{}, 3, now); err != nil {
		t.Fatal(err)
	}
	got := text.String()
	if strings.ContainsAny(got, "\x1b\a") {
		t.Errorf("it speaks to the terminal: %q", got)
	}
	lines := strings.Split(strings.TrimSpace(got), "\n")
	if len(lines) != 4 {
		t.Fatalf("it has the lines %q", lines)
	}
	for i, want := range []string{"failed for 40s: it is", "x/contested  contested for 2h 5m", "pcoip/b  pending for 8d 1h, until the maintenance window", "and 1 more: soe-agent report"} {
		if !strings.Contains(lines[i], want) {
			t.Errorf("line %d is %q and not %q", i, lines[i], want)
		}
	}
	text.Reset()
	if err := r.Glance(&text, report.Style{}, 9, now); err != nil || !strings.Contains(text.String(), "pcoip/a  pending for 1m 30s, until the next session: a session is connected\n") {
		t.Errorf("%v: %s", err, text.String())
	}
}
