package publish

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/policy"
)

// heading says for whom something changes.
func (c Change) heading() string {
	if len(c.Targets) == 0 {
		return c.Persona
	}
	return c.Persona + " on " + strings.Join(c.Targets, ", ")
}

// Text writes a plan for people. Personas with the same changes share one entry.
func (p *Plan) Text(w io.Writer) {
	told := map[string]bool{}
	for i, c := range p.Changes {
		if c.Nothing() || told[c.heading()] {
			continue
		}
		personas := []string{c.heading()}
		for _, other := range p.Changes[i+1:] {
			if c.like(other) {
				personas, told[other.heading()] = append(personas, other.heading()), true
			}
		}
		fmt.Fprintf(w, "%s\n", strings.Join(personas, ", "))
		for _, d := range c.Resources {
			d.text(w)
		}
		if c.Rules {
			fmt.Fprintf(w, "  ~ rules\n")
		}
	}
	for _, warning := range p.Warnings {
		fmt.Fprintf(w, "warning: %s\n", warning)
	}
	fmt.Fprintf(w, "now:  %s\nthen: %s\n", p.Before, p.After)
	if p.After.Paused {
		fmt.Fprintf(w, "paused: every machine stays at the serial that it has, until publish --resume\n")
	}
}

// like says whether the changes are the same for two personas.
func (c Change) like(other Change) bool {
	return c.Rules == other.Rules && slices.EqualFunc(c.Resources, other.Resources, func(a, b Difference) bool {
		return a.ID == b.ID && a.Change == b.Change && a.Fragment == b.Fragment && a.Line == b.Line &&
			written(a.Was) == written(b.Was) && written(a.Is) == written(b.Is)
	})
}

func (d Difference) text(w io.Writer) {
	mark := map[string]string{"added": "+", "removed": "-", "changed": "~"}[d.Change]
	fmt.Fprintf(w, "  %s %s  # %s:%d\n", mark, d.ID, d.Fragment, d.Line)
	for _, wish := range []struct {
		mark string
		spec policy.Spec
	}{{"-", d.Was}, {"+", d.Is}} {
		if d.Change == "changed" && wish.spec != nil {
			fmt.Fprintf(w, "      %s %s\n", wish.mark, written(wish.spec))
		}
	}
}

// String describes the state in a few words.
func (s State) String() string {
	text := fmt.Sprintf("serial %d for everybody", s.Serial)
	switch {
	case s.Serial == 0:
		text = "nothing is published"
	case s.Rollout != nil:
		text = fmt.Sprintf("serial %d for %s %% of the machines, serial %d for the others", s.Rollout.Serial, number(s.Rollout.Percent), s.Serial)
	}
	if s.Paused {
		text += "; paused"
	}
	return text
}

// Text writes for people what was done.
func (r Result) Text(w io.Writer) {
	for _, warning := range r.Warnings {
		fmt.Fprintf(w, "warning: %s\n", warning)
	}
	var wrote []string
	if n := len(r.Written); n > 0 {
		wrote = append(wrote, counted(n))
	}
	if r.Version > 0 {
		wrote = append(wrote, fmt.Sprintf("the manifest, version %d", r.Version))
	}
	if len(wrote) > 0 {
		fmt.Fprintf(w, "Wrote %s.\n", strings.Join(wrote, " and "))
	}
	if n := len(r.Deleted); n > 0 {
		fmt.Fprintf(w, "Deleted %s that no manifest names any more.\n", counted(n))
	}
}

func counted(parameters int) string {
	if parameters == 1 {
		return "1 parameter"
	}
	return fmt.Sprintf("%d parameters", parameters)
}
