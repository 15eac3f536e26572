package persona

import (
	"errors"
	"fmt"
	"path"
	"slices"

	"github.com/soe-agent/soe-agent/internal/policy"
)

// A Rule gives a persona to the machines on which all its conditions hold.
type Rule struct {
	Name string     `toml:"name"`
	When Conditions `toml:"when"`
}

// Conditions are the tests of a rule. A condition holds if any of its values matches.
type Conditions struct {
	Hostname Values `toml:"hostname"` // patterns of path.Match, regardless of case
	Group    Values `toml:"group"`    // names as getent(1) finds them, local or in the directory
	Tag      ByName `toml:"tag"`      // tags of the managed node; values are exact
	Fact     ByName `toml:"fact"`     // names and values as in package target
}

// Values is one string or a list of strings in TOML.
type Values []string

// UnmarshalTOML implements toml.Unmarshaler.
func (v *Values) UnmarshalTOML(value any) error {
	list, ok := value.([]any)
	if !ok {
		list = []any{value}
	}
	texts := make(Values, len(list))
	for i, element := range list {
		if texts[i], ok = element.(string); !ok {
			return fmt.Errorf("%v is neither a string nor a list of strings", value)
		}
	}
	*v = texts
	return nil
}

// ByName maps the name of a tag or fact to its values.
type ByName map[string]Values

// UnmarshalTOML implements toml.Unmarshaler.
func (b *ByName) UnmarshalTOML(value any) error {
	table, ok := value.(map[string]any)
	if !ok {
		return fmt.Errorf("%v is no table; write it as in tag.Persona = \"developer\"", value)
	}
	*b = make(ByName, len(table))
	for name, element := range table {
		var values Values
		if err := values.UnmarshalTOML(element); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		(*b)[name] = values
	}
	return nil
}

// Validate returns all problems of the rules, joined.
func Validate(rules []Rule) error {
	var errs []error
	for i, rule := range rules {
		for _, problem := range rule.problems() {
			errs = append(errs, fmt.Errorf("cannot use persona rule %d (%s): %s", i+1, rule.Name, problem))
		}
	}
	return errors.Join(errs...)
}

func (r Rule) problems() (problems []string) {
	problem := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	if !policy.IsPersona(r.Name) {
		problem("name = %q is not a persona's name (small letters, digits and hyphens)", r.Name)
	}
	conditions := r.When.inOrder()
	if len(conditions) == 0 {
		problem("it has no conditions; what every machine has belongs in personas")
	}
	for _, c := range conditions {
		if c.kind == fact {
			if why := policy.FactProblem(c.key, c.values); why != "" {
				problem("%s: %s", c, why)
			}
			continue
		}
		if len(c.values) == 0 {
			problem("%s names no value, so it never holds", c)
		}
		if c.kind != tag && slices.Contains(c.values, "") {
			problem("%s: no machine has an empty one", c)
		}
		if c.kind == hostname {
			for _, pattern := range c.values {
				if _, err := path.Match(pattern, ""); err != nil {
					problem("%s: %q is not a pattern (path.Match)", c, pattern)
				}
			}
		}
	}
	return problems
}
