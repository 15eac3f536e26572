package report

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/history"
)

// History writes changes, in local time. With Style.Verbose it adds how long each took, and which policy was
// in force.
func History(w io.Writer, changes []history.Change, style Style) error {
	p := &printer{w: w}
	for _, c := range changes {
		p.change(c, style)
	}
	return p.err
}

func (p *printer) change(c history.Change, style Style) {
	at := c.Time.Local().Format(time.DateTime)
	if c.Omitted > 0 {
		p.printf("%s  %s\n", at, style.paint(dim, fmt.Sprintf("and %d more at that time, which are not kept", c.Omitted)))
		return
	}
	notes := []string{Clean(string(c.Event))}
	if c.Cause != "" {
		notes = append(notes, Clean(string(c.Cause)))
	}
	if c.Effect != "" {
		notes = append(notes, "in effect after "+strings.ReplaceAll(Clean(string(c.Effect)), "-", " "))
	}
	if c.Origin.Fragment != "" {
		notes = append(notes, Clean(c.Origin.String()))
	}
	p.printf("%s  %s %s  %s\n", at, style.eventMark(c.Event), style.paint(bold, name(c.ID)), style.paint(dim, strings.Join(notes, " · ")))
	if c.Reason != "" {
		p.printf("    %s\n", strings.ReplaceAll(Clean(c.Reason), "\n", "\n    "))
	}
	for _, d := range c.Diff {
		p.difference(d, style)
	}
	if style.Verbose {
		p.printf("    %s\n", style.paint(dim, strings.Join(circumstances(c), " · ")))
	}
}

// circumstances returns how long a change took, and under which policy it happened.
func circumstances(c history.Change) []string {
	var all []string
	if c.Unnoticed > 0 {
		all = append(all, "noticed after "+brief(c.Unnoticed))
	}
	if !c.Noticed.IsZero() {
		all = append(all, fmt.Sprintf("%s %s after that was noticed", Clean(string(c.Event)), brief(c.Took)))
	}
	text := "policy " + Clean(c.Policy)
	if c.Serial > 0 {
		text += fmt.Sprintf(" serial %d", c.Serial)
	}
	if c.Origin.Persona != "" {
		text += " for " + Clean(c.Origin.Persona)
	}
	return append(all, text)
}

// brief rounds a duration to what is of interest.
func brief(d time.Duration) string {
	switch {
	case d > time.Minute:
		return d.Round(time.Second).String()
	case d > time.Second:
		return d.Round(10 * time.Millisecond).String()
	}
	return d.Round(100 * time.Microsecond).String()
}

func (s Style) eventMark(event converge.Event) string {
	switch event {
	case converge.WasCorrected, converge.WasReclaimed:
		return s.mark(converge.Corrected)
	case converge.WasCarriedOut, converge.IsInLineAgain:
		return s.mark(converge.Compliant)
	}
	return s.mark(converge.State(event))
}
