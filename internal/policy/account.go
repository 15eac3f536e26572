package policy

import "fmt"

// accountProblems finds ids that the policy gives to two accounts, or to two
// groups: on a machine the first would get it and the second never.
func (p *Policy) accountProblems() Problems {
	var problems Problems
	holders := map[string]Resource{}
	for _, r := range p.Resources {
		var word string
		var id *int
		var ensure Ensure
		switch s := r.Spec.(type) {
		case User:
			word, id, ensure = "uid", s.UID, s.Ensure
		case Group:
			word, id, ensure = "gid", s.GID, s.Ensure
		}
		if id == nil || ensure == Absent {
			continue
		}
		key := fmt.Sprintf("%s %d", word, *id)
		if other, taken := holders[key]; taken {
			problems = append(problems, Problem{
				File: r.Origin.Fragment, Line: r.Origin.Line,
				Message: fmt.Sprintf("cannot merge %s: %s is that of %s as well, which %s sets", r.ID, key, other.ID, other.Origin),
			})
			continue
		}
		holders[key] = r
	}
	return problems
}
