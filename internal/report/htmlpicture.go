package report

import (
	"fmt"
	"slices"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/history"
	"github.com/soe-agent/soe-agent/internal/policy"
)

// Sizes in the pictures, in units of which a picture is pictureWidth wide.
const (
	pictureWidth = 960
	labelWidth   = 110
	rowHeight    = 26
)

func number(n int) string { return fmt.Sprint(n) }

func (p page) label(x, y int, name, text string) {
	p.line("text", text, attribute{"x", number(x)}, attribute{"y", number(y)}, class(name))
}

func (p page) rectangle(x, y, width, height int, name string) {
	p.element("rect", func() {}, attribute{"x", number(x)}, attribute{"y", number(y)},
		attribute{"width", number(width)}, attribute{"height", number(height)}, class(name))
}

// picture writes an SVG with a text alternative.
func (p page) picture(height int, says string, inside func()) {
	p.element("div", func() {
		p.element("svg", func() {
			p.line("title", says)
			inside()
		}, attribute{"role", "img"}, attribute{"viewBox", fmt.Sprintf("0 0 %d %d", pictureWidth, height)}, attribute{"aria-label", says})
	}, class("wide"))
}

// shares draws how much of each kind is in line.
func (p page) shares(r Report) {
	kinds := byKind(r)
	if len(kinds) == 0 {
		return
	}
	says := "In line by kind"
	for i, t := range kinds {
		separator := ", "
		if i == 0 {
			separator = ": "
		}
		says += separator + t.kind + " " + t.String()
	}
	p.section("In line by kind", "", func() {
		p.picture(len(kinds)*rowHeight, says, func() {
			const room = pictureWidth - labelWidth - 320
			for i, t := range kinds {
				y := i * rowHeight
				all := len(t.resources)
				p.label(labelWidth-10, y+17, "end", t.kind)
				p.rectangle(labelWidth, y+5, room, 16, "track")
				p.rectangle(labelWidth, y+5, room*t.inLine/all, 16, "good")
				text := fmt.Sprintf("%s, %d %%", t, 100*t.inLine/all)
				if took := r.Timing[t.kind]; took > 0 {
					text += ", in " + brief(took)
				}
				p.label(labelWidth+room+10, y+17, "", text)
			}
		})
	})
}

// maxChanges is how many changes the timeline shows: the last ones.
const maxChanges = 500

// timeline draws the changes until now, and lists them.
func (p page) timeline(changes []history.Change, now time.Time) {
	changes = slices.DeleteFunc(slices.Clone(changes), func(c history.Change) bool { return c.ID == "" })
	if len(changes) == 0 {
		return
	}
	all := len(changes)
	changes = changes[max(0, all-maxChanges):]
	p.section("Drift and repair", number(all), func() {
		if all > len(changes) {
			p.line("p", fmt.Sprintf("The last %d of them.", len(changes)), class("soft"))
		}
		p.lanes(changes, now)
		p.line("p", "● in line again, ■ waiting, ◆ not in line", class("soft"))
		p.element("div", func() {
			p.element("table", func() {
				p.tableHead("Time (UTC)", "What", "Resource", "Cause", "Noticed after", "Took")
				p.element("tbody", func() {
					for _, c := range slices.Backward(changes) {
						p.change(c)
					}
				})
			})
		}, class("wide"))
	})
}

func (p page) change(c history.Change) {
	p.markup("\n")
	p.element("tr", func() {
		p.line("td", c.Time.UTC().Format("2006-01-02 15:04:05"), class("kept"))
		p.line("td", Style{}.eventMark(c.Event)+" "+string(c.Event), class("kept "+eventTone(c.Event)))
		p.line("th", string(c.ID), attribute{"scope", "row"}, class("id"))
		p.line("td", causeText(c.Cause))
		p.line("td", orUnknown(c.Unnoticed), class("kept"))
		p.line("td", orUnknown(c.Took), class("kept"))
	})
}

func orUnknown(d time.Duration) string {
	if d == 0 {
		return "–"
	}
	return brief(d)
}

// eventTone returns the CSS class of an event: good, bad or wait.
func eventTone(e converge.Event) string {
	switch e {
	case converge.WasCorrected, converge.WasReclaimed, converge.WasCarriedOut, converge.IsInLineAgain:
		return "good"
	}
	return tone(converge.Resource{State: converge.State(e)})
}

// lanes draws the changes over time, with a lane for each kind. A good event is a circle, a bad one a diamond,
// a waiting one a square.
func (p page) lanes(changes []history.Change, now time.Time) {
	first, last := now, now
	lanes := map[string]int{}
	for _, c := range changes {
		lanes[c.ID.Kind()] = 0
		if c.Time.Before(first) {
			first = c.Time
		}
		if c.Time.After(last) {
			last = c.Time
		}
	}
	kinds := slices.DeleteFunc(append(policy.Kinds(), "agent"), func(kind string) bool { _, there := lanes[kind]; return !there })
	for i, kind := range kinds {
		lanes[kind] = i
	}
	span := max(last.Sub(first), time.Minute)
	const left, room = labelWidth + 10, pictureWidth - labelWidth - 30
	bottom := len(kinds) * rowHeight
	says := fmt.Sprintf("%d changes from %s to %s UTC, by kind and time; the table below lists them",
		len(changes), first.UTC().Format("2006-01-02 15:04"), last.UTC().Format("2006-01-02 15:04"))
	p.picture(bottom+28, says, func() {
		for _, kind := range kinds {
			y := lanes[kind]*rowHeight + rowHeight/2
			p.label(labelWidth-10, y+4, "end", kind)
			p.element("path", func() {}, attribute{"d", fmt.Sprintf("M%d %dH%d", labelWidth, y, pictureWidth)}, class("rule"))
		}
		const ticks = 6
		for i := range ticks {
			place := "middle"
			switch i {
			case 0:
				place = ""
			case ticks - 1:
				place = "end"
			}
			at := first.Add(span * time.Duration(i) / (ticks - 1))
			p.label(left+room*i/(ticks-1), bottom+20, "soft "+place, at.UTC().Format("2 Jan 15:04"))
		}
		for _, c := range changes {
			x := left + int(float64(room)*float64(c.Time.Sub(first))/float64(span))
			p.mark(x, lanes[c.ID.Kind()]*rowHeight+rowHeight/2, c)
		}
	})
}

func (p page) mark(x, y int, c history.Change) {
	tone := eventTone(c.Event)
	shape := "M%d %da6 6 0 1 0 12 0a6 6 0 1 0 -12 0"
	switch tone {
	case "bad":
		shape = "M%d %dl7 -7l7 7l-7 7z"
		x--
	case "wait":
		shape = "M%d %dv-5h11v10h-11z"
	}
	p.element("path", func() {
		p.line("title", fmt.Sprintf("%s %s, %s UTC", c.ID, c.Event, c.Time.UTC().Format("2006-01-02 15:04:05")))
	}, attribute{"d", fmt.Sprintf(shape, x-6, y)}, class(tone))
}
