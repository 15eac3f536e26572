package report

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
)

// A Style says how a report is written for people.
type Style struct {
	Color   bool
	Verbose bool // also show what is in line
}

// Colours of ECMA-48, which every terminal supports.
const (
	red    = "31"
	green  = "32"
	yellow = "33"
	dim    = "2"
	bold   = "1"
)

func (s Style) paint(colour, text string) string {
	if !s.Color || text == "" {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

// printer writes lines and keeps the first error.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) printf(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format, args...)
	}
}

// Plan writes what would change, as a diff.
func (r Report) Plan(w io.Writer, style Style) error {
	p := &printer{w: w}
	for _, resource := range r.Resources {
		if !resource.State.InLine() || resource.State == converge.Waived || style.Verbose {
			p.resource(resource, style)
		}
	}
	p.questions(r, style)
	p.planSummary(r, style)
	return p.err
}

func (p *printer) planSummary(r Report, style Style) {
	change := r.Summary[converge.Drifted]
	rest := len(r.Resources) - change - r.Summary[converge.NotApplicable]
	switch {
	case change == 0 && r.verdict() == Compliant:
		p.printf("%s %s in line%s; nothing would change.\n", style.paint(green, "✓"), counted(rest), p.asides(r))
	case change == 0:
		p.printf("Nothing would change, and yet not everything is in line%s.\n", p.asides(r))
	default:
		p.printf("%s would change, %d would not%s.\n", style.paint(bold, fmt.Sprint(change)), rest, p.asides(r))
	}
}

// counted returns "1 resource", "2 resources", ….
func counted(n int) string {
	if n == 1 {
		return "1 resource"
	}
	return fmt.Sprintf("%d resources", n)
}

// asides counts the states that a reader should not overlook.
func (p *printer) asides(r Report) string {
	var parts []string
	for _, state := range []converge.State{
		converge.Failed, converge.Unknown, converge.Contested, converge.Pending, converge.Waived, converge.NotApplicable,
	} {
		if n := r.Summary[state]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, state))
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return " (" + strings.Join(parts, ", ") + ")"
}

// Text writes the whole report, by controls if it has them.
func (r Report) Text(w io.Writer, style Style) error {
	p := &printer{w: w}
	if r.Controls != nil {
		p.controls(r, style)
	} else {
		for _, resource := range r.Resources {
			if quiet := resource.State == converge.Compliant || resource.State == converge.NotApplicable && !resource.LeftOver; !quiet || style.Verbose {
				p.resource(resource, style)
			}
		}
	}
	p.rules(r, style)
	p.questions(r, style)
	p.verdict(r, style)
	return p.err
}

func (p *printer) verdict(r Report, style Style) {
	_, colour, _ := r.verdict().sign()
	p.printf("%s  ", style.paint(colour, r.verdict().String()))
	p.printf("%s: %s\n", counted(len(r.Resources)), Counts(r.Summary))
	serial := ""
	if r.Policy.Serial > 0 {
		serial = fmt.Sprintf(" serial %d", r.Policy.Serial)
	}
	p.printf("%s\n", style.paint(dim, fmt.Sprintf("%s · policy %s%s · personas %s · %s",
		Clean(r.Machine.Hostname), Clean(r.Policy.Digest), serial, Clean(strings.Join(r.Policy.Personas, ", ")), r.Time.Format(time.DateTime))))
}

func (p *printer) questions(r Report, style Style) {
	for _, q := range r.questions() {
		colour := yellow
		if q.kind == "refused" {
			colour = red
		}
		p.printf("%s %s\n", style.paint(colour, q.mark+" "+q.what+":"), Clean(q.text))
	}
}

// rules writes the waivers that have expired; with Verbose also the others, and the rules that match nothing.
func (p *printer) rules(r Report, style Style) {
	for _, w := range r.Waivers {
		origin := style.paint(dim, Clean(w.Origin.String()))
		switch {
		case w.Expired:
			p.printf("%s %s  %s\n", style.paint(yellow, "! expired waiver:"), Clean(w.String()), origin)
		case style.Verbose:
			p.printf("%s %s; holds %s  %s\n", style.paint(dim, "○ waiver:"), Clean(w.String()), counted(w.Holds), origin)
		}
	}
	if !style.Verbose {
		return
	}
	for _, rule := range r.Policy.Idle {
		p.printf("%s %s  %s\n", style.paint(dim, "○ rule that matches nothing here:"),
			Clean(strings.Join(rule.Match, ", ")), style.paint(dim, Clean(rule.Origin.String())))
	}
}

// mark returns the sign in front of a resource.
func (s Style) mark(state converge.State) string {
	switch state {
	case converge.Compliant:
		return s.paint(green, "✓")
	case converge.Corrected:
		return s.paint(green, "↺")
	case converge.Drifted:
		return s.paint(yellow, "~")
	case converge.Pending:
		return s.paint(yellow, "…")
	case converge.NotApplicable:
		return s.paint(dim, "–")
	case converge.Waived, NotCovered:
		return s.paint(dim, "○")
	case converge.Unknown:
		return s.paint(yellow, "?")
	}
	return s.paint(red, "✗")
}

func (p *printer) resource(r converge.Resource, style Style) {
	notes := []string{string(r.State)}
	if r.Cause != "" {
		notes = append(notes, string(r.Cause))
	}
	if r.Effect != "" {
		notes = append(notes, "in effect after "+strings.ReplaceAll(string(r.Effect), "-", " "))
	}
	if r.WordOf != "" {
		notes = append(notes, "as reported by "+Clean(r.WordOf))
	}
	if !r.AsOf.IsZero() {
		notes = append(notes, "as of "+r.AsOf.UTC().Format("2006-01-02 15:04 UTC"))
	}
	if r.Origin.Fragment != "" {
		notes = append(notes, Clean(r.Origin.String()))
	}
	p.printf("%s %s  %s\n", style.mark(r.State), style.paint(bold, name(r.ID)), style.paint(dim, strings.Join(notes, " · ")))
	if r.Reason != "" {
		p.printf("    %s\n", strings.ReplaceAll(Clean(r.Reason), "\n", "\n    "))
	}
	if r.State != converge.Compliant {
		for _, d := range r.Diff {
			p.difference(meant(r.ID, d), style)
		}
	}
	if len(r.Withheld) > 0 {
		p.printf("    %s\n", style.paint(dim, "in root's report only: "+Clean(strings.Join(r.Withheld, ", "))))
	}
}

// meant adds the meaning to values that say nothing to people by themselves.
func meant(id policy.ID, d converge.Difference) converge.Difference {
	if d.Aspect != "value" {
		return d
	}
	for _, text := range []*string{&d.Want, &d.Got} {
		if means := policy.Meaning(id, *text); means != "" {
			*text += " (" + means + ")"
		}
	}
	return d
}

func (p *printer) difference(d converge.Difference, style Style) {
	d.Aspect = Clean(d.Aspect)
	if !strings.Contains(d.Want+d.Got, "\n") {
		p.printf("    %-8s %s → %s\n", d.Aspect, style.paint(red, orNothing(Clean(d.Got))), style.paint(green, orNothing(Clean(d.Want))))
		return
	}
	changes, ok := lineDiff(d.Got, d.Want)
	if !ok {
		p.printf("    %-8s differs, in more lines than can be shown\n", d.Aspect)
		return
	}
	p.printf("    %s\n", d.Aspect)
	for _, c := range aroundChanges(changes, 2) {
		switch c.mark {
		case '-':
			p.printf("      %s\n", style.paint(red, "- "+Clean(c.text)))
		case '+':
			p.printf("      %s\n", style.paint(green, "+ "+Clean(c.text)))
		case ' ':
			p.printf("        %s\n", Clean(c.text))
		default:
			p.printf("      %s\n", style.paint(dim, "…"))
		}
	}
}

func orNothing(text string) string {
	if text == "" {
		return "(nothing)"
	}
	return text
}

// Clean makes characters visible that could be interpreted by the terminal or the parser, or mislead the
// reader: control characters, invalid UTF-8, and marks that change the direction of writing. Texts from
// files and directories have to pass through it.
func Clean(text string) string {
	if utf8.ValidString(text) && !strings.ContainsFunc(text, hidden) {
		return text
	}
	var b strings.Builder
	for i, r := range text {
		_, size := utf8.DecodeRuneInString(text[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, text[i])
		case !hidden(r):
			b.WriteRune(r)
		case r < 0x100:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
	}
	return b.String()
}

// name returns an ID on one line, so that no ID can look like a line of its own.
func name(id policy.ID) string {
	return strings.NewReplacer("\n", `\n`, "\t", `\t`).Replace(Clean(string(id)))
}

// hidden says whether a character is invisible: a control character, a mark of direction (UAX #9), or one
// that XML 1.0 and HTML do not allow.
func hidden(r rune) bool {
	switch {
	case r == '\n', r == '\t':
		return false
	case r == 0xfffe, r == 0xffff, r > 0xffff && r&0xfffe == 0xfffe, r >= 0xfdd0 && r <= 0xfdef:
		return true
	}
	return unicode.Is(unicode.Cc, r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029' || r == '\ufeff'
}
