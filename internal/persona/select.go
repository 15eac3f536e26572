package persona

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/system"
)

// A Subject is the machine of which rules ask.
type Subject struct {
	System *system.System
	Facts  facts.Facts
	// Tags are those of the managed node. It is called once at the most, and only
	// if it comes to a rule that asks for a tag.
	Tags func(context.Context) (map[string]string, error)
	// Previous are the personas that were selected last, if any were.
	Previous []string
}

// A Selection is which personas a machine has.
type Selection struct {
	Personas []string // in their order: those that it always has come first
	Why      []string // for each of them, for people: "developer: tag Persona is developer"
	// Unknown is what could not be told, for people, and might have led to another
	// selection. While there is any, nothing may be taken away for the reason that
	// a persona is missing.
	Unknown []string
}

// Select returns the personas that the machine always has and the one of the first
// rule that holds; Validate accepts the rules. While the first cannot be told, the
// rule that gave the persona last time keeps giving it, unless it is known to hold
// no more; if there is none, the machine has no persona from rules yet.
func Select(ctx context.Context, always []string, rules []Rule, subject Subject) Selection {
	var s Selection
	for _, name := range always {
		s.add(name, "always")
	}
	l := newLook(ctx, subject)
	var doubts []string
	var candidates []candidate
	for _, rule := range rules {
		a := l.rule(ctx, rule)
		if a.verdict == no {
			continue
		}
		candidates = append(candidates, candidate{rule.Name, a.why})
		if a.verdict == yes {
			break
		}
		doubts = append(doubts, fmt.Sprintf("cannot tell whether persona %s applies: %s", rule.Name, a.why))
	}
	switch {
	case len(candidates) == 0:
	case len(doubts) < len(candidates) && agree(candidates):
		last := candidates[len(candidates)-1]
		s.add(last.name, last.why)
	default:
		s.Unknown = doubts
		before := slices.IndexFunc(candidates, func(c candidate) bool { return slices.Contains(subject.Previous, c.name) })
		if before >= 0 {
			s.add(candidates[before].name, "as before, for more cannot be told now")
		}
	}
	return s
}

// A candidate is a rule that may be the first that holds. All are in doubt but the
// last, which may hold.
type candidate struct{ name, why string }

// agree says whether it makes no difference which of them it is.
func agree(candidates []candidate) bool {
	return !slices.ContainsFunc(candidates, func(c candidate) bool { return c.name != candidates[0].name })
}

func (s *Selection) add(name, why string) {
	if !slices.Contains(s.Personas, name) {
		s.Personas = append(s.Personas, name)
		s.Why = append(s.Why, name+": "+why)
	}
}

// A look is one at a machine: nothing is asked for twice.
type look struct {
	system *system.System
	facts  facts.Facts
	tags   func() (map[string]string, error)
	people func() people
}

func newLook(ctx context.Context, s Subject) *look {
	l := &look{system: s.System, facts: s.Facts}
	l.tags = sync.OnceValues(func() (map[string]string, error) { return s.Tags(ctx) })
	l.people = sync.OnceValue(func() people { return desktopPeople(ctx, s.System) })
	return l
}

// rule says whether all conditions of a rule hold. One that does not settles it,
// whatever cannot be told of the others.
func (l *look) rule(ctx context.Context, rule Rule) answer {
	var reasons, doubts []string
	for _, c := range rule.When.inOrder() {
		switch a := l.ask(ctx, c); a.verdict {
		case no:
			return answer{}
		case yes:
			reasons = append(reasons, a.why)
		case unknown:
			doubts = append(doubts, a.why)
		}
	}
	if len(doubts) > 0 {
		return answer{unknown, strings.Join(doubts, "; ")}
	}
	return answer{yes, strings.Join(reasons, ", ")}
}
