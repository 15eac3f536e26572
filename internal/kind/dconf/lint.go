package dconf

import (
	"fmt"
	"strings"

	"github.com/soe-agent/soe-agent/internal/policy"
)

// Lint returns what is wrong with a policy's settings on a machine whose
// gschemas.compiled has this content. A value that holds a reference is not
// judged, only its key.
func Lint(p *policy.Policy, compiled []byte) (policy.Problems, error) {
	installed, err := parseSchemas(compiled)
	if err != nil {
		return nil, err
	}
	var problems policy.Problems
	for _, want := range policy.Of[policy.Dconf](p) {
		if err := installed.judge(pathOf(want.ID), want.Spec); err != nil {
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
