package report

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
)

// Glance writes a line for each resource that is not in line or is pending, the worst first, but at most so
// many lines as most says; then how many more there are, and how many resources are not checked yet.
func (r Report) Glance(w io.Writer, style Style, most int, now time.Time) error {
	p := &printer{w: w}
	var matters []converge.Resource
	unseen := 0
	for _, resource := range r.Resources {
		switch {
		case resource.Unseen:
			unseen++
		case !resource.State.InLine():
			matters = append(matters, resource)
		}
	}
	slices.SortStableFunc(matters, func(a, b converge.Resource) int { return cmp.Compare(urgency(a), urgency(b)) })
	for _, resource := range matters[:min(most, len(matters))] {
		p.printf("%s %s  %s\n", style.mark(resource.State), style.paint(bold, name(resource.ID)), Clean(outlook(resource, now)))
	}
	if more := len(matters) - most; more > 0 {
		p.printf("  and %d more: soe-agent report\n", more)
	}
	if unseen > 0 {
		p.printf("%s %s not checked yet\n", style.mark(converge.Unknown), counted(unseen))
	}
	return p.err
}

// urgency is smaller for what people should look at first.
func urgency(r converge.Resource) int {
	switch {
	case r.State != converge.Pending:
		return 0
	case r.Overdue:
		return 1
	}
	return 2
}

// outlook describes the state of a resource, since when it has it, and what it waits for.
func outlook(r converge.Resource, now time.Time) string {
	text := string(r.State)
	if !r.Since.IsZero() {
		text += " for " + Age(now.Sub(r.Since))
	}
	switch r.Effect {
	case converge.NextSession:
		text += ", until the next session"
	case converge.Maintenance:
		text += ", until the maintenance window"
	case converge.Reboot:
		text += ", until the next reboot"
	}
	reason, _, _ := strings.Cut(r.Reason, "\n")
	if reason != "" {
		text += ": " + reason
	}
	return text
}

// Age returns a duration in its two largest units: "3d 4h", "2h 5m", "40s".
func Age(d time.Duration) string {
	d = max(0, d.Round(time.Second))
	const day = 24 * time.Hour
	switch {
	case d >= day:
		return fmt.Sprintf("%dd %dh", d/day, d%day/time.Hour)
	case d >= time.Hour:
		return fmt.Sprintf("%dh %dm", d/time.Hour, d%time.Hour/time.Minute)
	case d >= time.Minute:
		return fmt.Sprintf("%dm %ds", d/time.Minute, d%time.Minute/time.Second)
	}
	return fmt.Sprintf("%ds", d/time.Second)
}

// Counts returns how many resources of a summary are in each state; states without resources are left out.
func Counts(summary map[converge.State]int) string {
	var parts []string
	for _, state := range []converge.State{
		converge.Compliant, converge.Corrected, converge.Pending, converge.Waived, converge.Drifted,
		converge.Failed, converge.Contested, converge.Unknown, converge.NotApplicable,
	} {
		if n := summary[state]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, state))
		}
	}
	return strings.Join(parts, ", ")
}
