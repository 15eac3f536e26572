package report

import (
	"cmp"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/history"
	"github.com/soe-agent/soe-agent/internal/policy"
)

//go:embed page.css
var pageStyle string

//go:embed page.js
var pageScript string

// HTML writes the report as one self-contained file that needs no network. It can be mailed, printed, and read
// without JavaScript, which only adds filters. changes are the history for the timeline, oldest first; there
// may be none.
func (r Report) HTML(w io.Writer, changes []history.Change) error {
	p := newPage(w)
	style, script := markup(strings.TrimSpace(pageStyle)), markup(strings.TrimSpace(pageScript))
	p.markup("<!DOCTYPE html>\n")
	p.element("html", func() {
		p.element("head", func() { p.head(r, style, script) })
		p.markup("\n")
		p.element("body", func() {
			p.header(r)
			p.element("main", func() {
				p.findings(r)
				p.waiting(r)
				p.controls(r)
				p.waivers(r)
				p.shares(r)
				p.timeline(changes, r.Time)
				p.resources(r)
			})
			p.footer(r)
			p.markup("<script>")
			p.markup(script)
			p.markup("</script>")
		})
	}, attribute{"lang", "en"})
	p.markup("\n")
	return p.Flush()
}

func (p page) head(r Report, style, script markup) {
	hash := func(text markup) string {
		sum := sha256.Sum256([]byte(text))
		return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
	}
	p.open("meta", attribute{"charset", "utf-8"})
	p.open("meta", attribute{"http-equiv", "Content-Security-Policy"}, attribute{"content", fmt.Sprintf(
		"default-src 'none'; style-src %s; script-src %s; base-uri 'none'; form-action 'none'", hash(style), hash(script))})
	p.open("meta", attribute{"name", "viewport"}, attribute{"content", "width=device-width, initial-scale=1"})
	p.open("meta", attribute{"name", "color-scheme"}, attribute{"content", "light dark"})
	p.line("title", fmt.Sprintf("%s: %s", r.Machine.name(), string(r.verdict())))
	p.markup("<style>")
	p.markup(style)
	p.markup("</style>")
}

// name returns what the machine is called; an image that is not running may have no name.
func (m Machine) name() string { return cmp.Or(m.Hostname, m.MachineID, "a machine without a name") }

// stateOrder returns the states in the order in which they are shown: the ones that need attention first.
func stateOrder() []converge.State {
	return []converge.State{
		converge.Failed, converge.Contested, converge.Drifted, converge.Unknown, converge.Pending, converge.Waived,
		converge.Corrected, converge.Compliant, converge.NotApplicable,
	}
}

// tone returns the CSS class of a state: good, bad or wait.
func tone(r converge.Resource) string {
	switch {
	case r.State == converge.Pending && r.Tolerable(), r.State == converge.Waived, r.State == converge.NotApplicable, r.Unseen:
		return "wait"
	case r.State.InLine():
		return "good"
	}
	return "bad"
}

// signed returns a state with the mark that the text report uses.
func signed(state converge.State) string { return Style{}.mark(state) + " " + string(state) }

func (p page) header(r Report) {
	mark, _, good := r.verdict().sign()
	word := string(r.verdict())
	sign := mark + " " + strings.ToUpper(word[:1]) + word[1:]
	p.element("header", func() {
		p.element("div", func() {
			p.line("h1", sign)
			p.element("p", func() {
				p.line("b", r.Machine.name())
				p.text(fmt.Sprintf(", %s, ", counted(len(r.Resources))))
				p.time(r.Time)
			})
		}, class("verdict "+good))
		p.element("ul", func() {
			for _, state := range stateOrder() {
				n := r.Summary[state]
				if n == 0 {
					continue
				}
				p.element("li", func() {
					p.line("b", number(n))
					p.text(signed(state))
				}, class(tone(converge.Resource{State: state})))
			}
		}, class("states"))
		p.facts(r)
	})
}

func (p page) facts(r Report) {
	serial := ""
	if r.Policy.Serial > 0 {
		serial = fmt.Sprint(r.Policy.Serial)
	}
	p.element("ul", func() {
		p.fact("Machine ID", r.Machine.MachineID)
		p.fact("Managed node", r.Machine.ManagedNode)
		p.fact("Operating system", r.Machine.OS)
		p.fact("Policy", r.Policy.Digest)
		p.fact("Serial of the manifest", serial)
		p.fact("Personas", strings.Join(r.Policy.Personas, ", "))
		p.fact("Agent", r.Agent)
	}, class("facts"))
}

// fact writes an entry of a list unless its value is empty.
func (p page) fact(name, value string) {
	if value == "" {
		return
	}
	p.element("li", func() {
		p.line("span", name+": ")
		p.text(value)
	})
}

// time writes a time in UTC, so that it is the same wherever the file is read.
func (p page) time(at time.Time) {
	p.line("time", at.UTC().Format("2006-01-02 15:04:05")+" UTC", attribute{"datetime", at.UTC().Format(time.RFC3339)})
}

// section writes a section with a heading and a note next to it.
func (p page) section(title, note string, inside func()) {
	p.markup("\n")
	p.element("section", func() {
		p.element("h2", func() {
			p.text(title)
			if note != "" {
				p.line("span", " ("+note+")", class("number"))
			}
		})
		inside()
	})
}

func (p page) footer(r Report) {
	p.element("footer", func() {
		p.line("p", fmt.Sprintf("Made by soe-agent %s. Format %d. This file holds no secret and needs no network.", r.Agent, r.Schema))
	})
}

// severityRank is 0 for critical and grows as the severity falls.
func severityRank(s policy.Severity) int {
	order := []policy.Severity{policy.Critical, policy.High, policy.Medium, policy.Low, policy.Informational}
	if i := slices.Index(order, s); i >= 0 {
		return i
	}
	return len(order)
}

// age returns how long something has lasted, as a person says it.
func age(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < time.Minute:
		return "just now"
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d < 2*day:
		return fmt.Sprintf("%d h", d/time.Hour)
	}
	return fmt.Sprintf("%d days", d/day)
}
