package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
)

// maxDetailed is how many resources of a section are described in full, and maxShownLines how many lines of
// one difference are shown: the page has to open even if everything on a machine is wrong.
const (
	maxDetailed   = 200
	maxShownLines = 60
)

// findings writes what people have to look at, the most severe first.
func (p page) findings(r Report) {
	var bad []converge.Resource
	unseen := 0
	for _, resource := range r.Resources {
		switch {
		case resource.Unseen:
			unseen++
		case !resource.Tolerable():
			bad = append(bad, resource)
		}
	}
	slices.SortStableFunc(bad, func(a, b converge.Resource) int {
		return cmp.Or(
			cmp.Compare(severityRank(a.Severity), severityRank(b.Severity)),
			cmp.Compare(slices.Index(stateOrder(), a.State), slices.Index(stateOrder(), b.State)),
		)
	})
	var expired []Waiver
	for _, w := range r.Waivers {
		if w.Expired {
			expired = append(expired, w)
		}
	}
	questions := r.questions()
	n := len(questions) + len(bad) + len(expired)
	p.section("Findings", number(n), func() {
		if n == 0 && unseen == 0 {
			p.line("p", "None: everything is as the policy wants it, or is on its way there.")
		}
		if unseen > 0 {
			p.line("p", fmt.Sprintf("%s not checked yet: these are the findings among the others.", counted(unseen)), class("wait"))
		}
		for _, q := range questions {
			p.question(q)
		}
		p.detailed(bad, r.Time)
		for _, w := range expired {
			p.expired(w)
		}
	})
}

func (p page) question(q question) {
	tone := "bad"
	if q.kind == "awaited" {
		tone = "wait"
	}
	p.element("article", func() {
		p.element("h3", func() {
			p.line("span", q.mark+" "+q.kind, class("state"))
			p.text(map[string]string{
				"refused": "Newer policy is not in force", "doubt": "This may not be the policy that is meant for the machine", "awaited": "The verdict is not final yet",
			}[q.kind])
		})
		p.line("p", q.text)
	}, class(tone))
}

func (p page) expired(w Waiver) {
	p.element("article", func() {
		p.element("h3", func() {
			p.line("span", "! expired waiver", class("state"))
			p.line("span", strings.Join(w.Match, ", "), class("id"))
		})
		p.line("p", fmt.Sprintf("It ended after %s: %s", w.Until, w.Reason))
		p.element("ul", func() { p.fact("Set by", w.Origin.String()) }, class("facts"))
	}, class("wait"))
}

// waiting writes the resources that are pending and not overdue.
func (p page) waiting(r Report) {
	var waiting []converge.Resource
	for _, resource := range r.Resources {
		if resource.State == converge.Pending && resource.Tolerable() {
			waiting = append(waiting, resource)
		}
	}
	if len(waiting) > 0 {
		p.section("Waiting to take effect", number(len(waiting)), func() { p.detailed(waiting, r.Time) })
	}
}

func (p page) detailed(resources []converge.Resource, now time.Time) {
	for _, resource := range resources[:min(maxDetailed, len(resources))] {
		p.detail(resource, now)
	}
	if more := len(resources) - maxDetailed; more > 0 {
		p.line("p", fmt.Sprintf("%d more are in the list of all resources below, and in full in the report as JSON.", more))
	}
}

func (p page) detail(r converge.Resource, now time.Time) {
	p.markup("\n")
	p.element("article", func() {
		p.element("h3", func() {
			p.line("span", signed(r.State), class("state"))
			p.line("span", string(r.ID), class("id"))
		})
		if r.Reason != "" {
			p.line("p", r.Reason)
		}
		p.element("ul", func() {
			p.fact("Severity", string(r.Severity))
			p.element("li", func() {
				p.line("span", "Since: ")
				p.time(r.Since)
				p.text(" (" + age(now.Sub(r.Since)) + ")")
			})
			p.fact("Takes effect", effectText(r.Effect))
			p.fact("Cause", causeText(r.Cause))
			p.fact("Controls", strings.Join(r.Controls, ", "))
			p.fact("Reported by", r.WordOf)
			if r.Origin.Fragment != "" {
				p.fact("Set by", r.Origin.String())
			}
			p.fact("For persona", r.Origin.Persona)
			var lower []string
			for _, origin := range r.Origin.Overrode {
				lower = append(lower, origin.String())
			}
			p.fact("Instead of", strings.Join(lower, ", "))
			p.fact("In root's report only", strings.Join(r.Withheld, ", "))
		}, class("facts"))
		p.differences(r.ID, r.Diff)
	}, class(tone(r)))
}

func effectText(e converge.Effect) string {
	switch e {
	case converge.Now:
		return "with the next pass"
	case converge.NextSession:
		return "with the next session"
	case converge.Maintenance:
		return "in the maintenance window"
	case converge.Reboot:
		return "with the next start"
	}
	return string(e)
}

func causeText(c converge.Cause) string {
	switch c {
	case converge.Corrective:
		return "the machine changed"
	case converge.Intentional:
		return "the policy changed"
	}
	return string(c)
}

func (p page) differences(id policy.ID, diff []converge.Difference) {
	if len(diff) == 0 {
		return
	}
	p.element("div", func() {
		p.element("table", func() {
			p.tableHead("Aspect", "Found", "Wanted")
			p.element("tbody", func() {
				for _, d := range diff {
					p.element("tr", func() { p.difference(meant(id, d)) })
				}
			})
		})
	}, class("wide"))
}

func (p page) difference(d converge.Difference) {
	p.line("th", d.Aspect, attribute{"scope", "row"})
	if !strings.Contains(d.Want+d.Got, "\n") {
		for _, text := range []string{d.Got, d.Want} {
			p.line("td", orNothing(text), class("id"))
		}
		return
	}
	p.element("td", func() {
		changes, ok := lineDiff(d.Got, d.Want)
		if !ok {
			p.text("It differs, in more lines than can be shown.")
			return
		}
		changes = aroundChanges(changes, 2)
		p.element("pre", func() {
			for _, c := range changes[:min(maxShownLines, len(changes))] {
				switch c.mark {
				case '-':
					p.line("del", "- "+c.text)
				case '+':
					p.line("ins", "+ "+c.text)
				case ' ':
					p.text("  " + c.text + "\n")
				default:
					p.text("…\n")
				}
			}
		})
		if more := len(changes) - maxShownLines; more > 0 {
			p.text(fmt.Sprintf("… and %d lines more", more))
		}
	}, attribute{"colspan", "2"})
}

// waivers writes the waivers, for whoever has to answer for them, and the rules that match nothing.
func (p page) waivers(r Report) {
	if len(r.Waivers) > 0 {
		p.section("Waivers", number(len(r.Waivers)), func() {
			p.element("div", func() {
				p.element("table", func() {
					p.tableHead("For", "Until", "Reason", "Holds now", "Set by")
					p.element("tbody", func() {
						for _, w := range r.Waivers {
							p.waiver(w)
						}
					})
				})
			}, class("wide"))
		})
	}
	if len(r.Policy.Idle) > 0 {
		p.section("Rules that match nothing on this machine", number(len(r.Policy.Idle)), func() {
			p.line("p", "They may be meant for another persona's resources, or be misspelled.", class("soft"))
			p.element("ul", func() {
				for _, rule := range r.Policy.Idle {
					p.element("li", func() {
						p.line("span", strings.Join(rule.Match, ", "), class("id"))
						p.text(", " + rule.Origin.String())
					})
				}
			})
		})
	}
}

func (p page) waiver(w Waiver) {
	p.element("tr", func() {
		p.line("th", strings.Join(w.Match, ", "), attribute{"scope", "row"}, class("id"))
		if w.Expired {
			p.line("td", w.Until+", expired", class("wait"))
		} else {
			p.line("td", w.Until)
		}
		p.line("td", w.Reason)
		p.line("td", counted(w.Holds))
		p.line("td", w.Origin.String())
	})
}

func (p page) tableHead(columns ...string) {
	p.element("thead", func() {
		p.element("tr", func() {
			for _, column := range columns {
				p.line("th", column, attribute{"scope", "col"})
			}
		})
	})
}
