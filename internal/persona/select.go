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

// A Subject is the machine that the rules are applied to.
type Subject struct {
	System *system.System
	Facts  facts.Facts
	// Tags returns the tags of the managed node. It is called at most once, and only if a rule that
	// tests a tag is reached.
	Tags func(context.Context) (map[string]string, error)
	// Previous are the personas that were selected last time, if any.
	Previous []string
}

// A Selection is the result: which personas a machine has.
type Selection struct {
	Personas []string // in order: first those that it always has
	Why      []string // one for each persona, for people: "developer: tag Persona is developer"
	// Unknown lists, for people, what could not be determined and might change the selection. While
	// there is any, nothing may be removed because a persona is missing.
	Unknown []string
}

// A Choice is how a machine gets its personas.
type Choice struct {
	Always []string // it always has these
	Rules  []Rule   // they must satisfy Validate
	Every  bool     // every rule that holds gives its persona, and not only the first
}

// Select returns the personas that the machine always has, and that of the first rule that holds; with
// Every, those of all rules that hold, in the order of the rules.
// While the first rule cannot be determined, the rule that gave
// the persona last time still gives it, unless it is known not to hold any more. Without such a
// rule the machine has no persona from rules yet.
func (c Choice) Select(ctx context.Context, subject Subject) Selection {
	var s Selection
	for _, name := range c.Always {
		s.add(name, "always")
	}
	l := newLook(ctx, subject)
	if c.Every {
		s.every(ctx, l, c.Rules, subject.Previous)
		return s
	}
	var doubts []string
	var candidates []candidate
	for _, rule := range c.Rules {
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

// every adds the personas of all rules that hold. One that cannot be determined gives the persona if it
// gave it last time.
func (s *Selection) every(ctx context.Context, l *look, rules []Rule, previous []string) {
	certain := map[string]bool{}
	doubts := map[string]string{}
	for _, rule := range rules {
		switch a := l.rule(ctx, rule); a.verdict {
		case yes:
			certain[rule.Name] = true
			s.add(rule.Name, a.why)
		case unknown:
			if slices.Contains(previous, rule.Name) {
				s.add(rule.Name, "as before, for more cannot be told now")
			}
			doubts[rule.Name] = fmt.Sprintf("cannot tell whether persona %s applies: %s", rule.Name, a.why)
		}
	}
	for _, rule := range rules { // one that another rule gives for certain is no doubt
		if doubt := doubts[rule.Name]; doubt != "" && !certain[rule.Name] && !slices.Contains(s.Unknown, doubt) {
			s.Unknown = append(s.Unknown, doubt)
		}
	}
}

// A candidate is a rule that may be the first that holds. All candidates are undetermined, except
// the last, which may hold.
type candidate struct{ name, why string }

// agree reports whether all candidates give the same persona.
func agree(candidates []candidate) bool {
	return !slices.ContainsFunc(candidates, func(c candidate) bool { return c.name != candidates[0].name })
}

func (s *Selection) add(name, why string) {
	if !slices.Contains(s.Personas, name) {
		s.Personas = append(s.Personas, name)
		s.Why = append(s.Why, name+": "+why)
	}
}

// A look is one evaluation of the rules for a machine. It queries everything at most once.
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

// rule determines whether all conditions of a rule hold. One that does not hold decides it, even if
// others cannot be determined.
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
