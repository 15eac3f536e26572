package dconf

import (
	"fmt"
	"strings"

	"github.com/soe-agent/soe-agent/internal/policy"
)

// Lint returns the problems of a policy's settings on a machine whose gschemas.compiled has this
// content. For a value with a reference, only the key is checked.
func Lint(p *policy.Policy, compiled []byte) (policy.Problems, error) {
	installed, err := parseSchemas(compiled)
	if err != nil {
		return nil, err
	}
	var problems policy.Problems
	for _, want := range policy.Of[policy.Dconf](p) {
		err := installed.judge(pathOf(want.ID), want.Spec)
		if err == nil {
			err = undone(p, want.ID)
		}
		if err != nil {
			problems = append(problems, policy.Problem{
				File: want.Origin.Fragment, Line: want.Origin.Line,
				Message: fmt.Sprintf("cannot set %s: %v", want.ID.Name(), err),
			})
		}
	}
	return problems, nil
}

func (s *schemas) judge(dconfPath string, want policy.Dconf) error {
	key, err := s.keyOf(dconfPath, want)
	if err != nil {
		return err
	}
	if strings.Contains(fmt.Sprint(want.Value, want.GVariant), "{{") {
		return nil
	}
	_, err = text(want, key)
	return err
}

// undone returns an error if another key of the policy disables the effect of this one:
// mate-screensaver and gnome-shell do not lock the screen while the lock screen is disabled.
func undone(p *policy.Policy, id policy.ID) error {
	switch other := map[policy.ID]policy.ID{
		"dconf/org/mate/screensaver/lock-enabled":          "dconf/org/mate/desktop/lockdown/disable-lock-screen",
		"dconf/org/gnome/desktop/screensaver/lock-enabled": "dconf/org/gnome/desktop/lockdown/disable-lock-screen",
	}[id]; {
	case other == "" || !isTrue(p, id) || !isTrue(p, other):
		return nil
	default:
		return fmt.Errorf("the policy sets %s as well, and with that the screen is never locked", other.Name())
	}
}

func isTrue(p *policy.Policy, id policy.ID) bool {
	want, _ := p.Lookup(id)
	spec, _ := want.Spec.(policy.Dconf)
	return spec.Value == true || strings.TrimSpace(spec.GVariant) == "true"
}
