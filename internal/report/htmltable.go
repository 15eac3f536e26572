package report

import (
	"fmt"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/converge"
)

// A tally is the resources of one kind.
type tally struct {
	kind      string
	resources []converge.Resource
	inLine    int
}

// byKind groups the resources by kind, in the order in which the kinds first occur.
func byKind(r Report) []*tally {
	var all []*tally
	known := map[string]*tally{}
	for _, resource := range r.Resources {
		kind := resource.ID.Kind()
		if known[kind] == nil {
			known[kind] = &tally{kind: kind}
			all = append(all, known[kind])
		}
		t := known[kind]
		t.resources = append(t.resources, resource)
		if resource.State.InLine() {
			t.inLine++
		}
	}
	return all
}

func (t *tally) String() string { return fmt.Sprintf("%d of %d in line", t.inLine, len(t.resources)) }

// resources writes the table of all resources, and its filters.
func (p page) resources(r Report) {
	kinds := byKind(r)
	p.section("All resources", number(len(r.Resources)), func() {
		p.filters(r, kinds)
		p.element("div", func() {
			p.element("table", func() {
				p.element("thead", func() {
					p.element("tr", func() {
						for _, column := range []struct{ name, width string }{
							{"Resource", "w-id"},
							{"State", "w-state"},
							{"Severity", "w-severity"},
							{"Since (UTC)", "w-since"},
							{"Set by", "w-origin"},
						} {
							p.line("th", column.name, attribute{"scope", "col"}, class(column.width))
						}
					})
				})
				for _, kind := range kinds {
					p.kind(kind)
				}
			}, attribute{"id", "resources"})
		}, class("wide"))
	})
}

func (p page) kind(t *tally) {
	p.markup("\n")
	p.element("tbody", func() {
		p.element("tr", func() {
			p.line("th", fmt.Sprintf("%s: %s", t.kind, t), attribute{"scope", "rowgroup"}, attribute{"colspan", "5"}, class("kind"))
		})
		for _, resource := range t.resources {
			p.row(resource)
		}
	}, attribute{"data-kind", t.kind})
}

func (p page) row(r converge.Resource) {
	p.markup("\n")
	p.open("tr", class(tone(r)))
	p.line("th", string(r.ID), attribute{"scope", "row"}, class("id"))
	p.line("td", signed(r.State))
	p.line("td", string(r.Severity))
	p.line("td", r.Since.UTC().Format("2006-01-02 15:04"))
	p.open("td")
	if r.Origin.Fragment != "" {
		p.text(r.Origin.String())
	}
	if len(r.Controls) > 0 {
		p.text(" · " + strings.Join(r.Controls, ", "))
	}
	p.shut("td")
	p.shut("tr")
}

// filters writes the form with the filters. It is shown only if JavaScript runs.
func (p page) filters(r Report, kinds []*tally) {
	var names, states, severities []string
	for _, t := range kinds {
		names = append(names, t.kind)
	}
	for _, state := range stateOrder() {
		if r.Summary[state] > 0 {
			states = append(states, string(state))
		}
	}
	ranked := slices.Clone(r.Resources)
	slices.SortStableFunc(ranked, func(a, b converge.Resource) int { return severityRank(a.Severity) - severityRank(b.Severity) })
	for _, resource := range ranked {
		if !slices.Contains(severities, string(resource.Severity)) {
			severities = append(severities, string(resource.Severity))
		}
	}
	p.element("form", func() {
		p.choice("Kind", "kind", names)
		p.choice("State", "state", states)
		p.choice("Severity", "severity", severities)
		p.element("label", func() {
			p.text("Words in the row")
			p.open("input", attribute{"name", "text"}, attribute{"type", "search"}, attribute{"autocomplete", "off"})
		})
		p.line("output", fmt.Sprintf("%d shown", len(r.Resources)), attribute{"id", "told"})
	}, attribute{"id", "filters"}, attribute{"hidden", "hidden"})
}

func (p page) choice(label, name string, values []string) {
	p.element("label", func() {
		p.text(label)
		p.element("select", func() {
			p.line("option", "all", attribute{"value", ""})
			for _, value := range values {
				p.line("option", value)
			}
		}, attribute{"name", name})
	})
}
