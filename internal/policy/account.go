package policy

import (
	"fmt"
	"regexp"
	"strings"
)

const greatestID = 4294967294

// accountName matches the names that the useradd of some distribution accepts; each has its own
// rules. Debian's, the most tolerant, accepts all of these, and also names with slashes
// (shadow-utils, is_valid_name). # begins a comment in passwd(5).
var accountName = regexp.MustCompile(`^[^-~+#:,/\\\s][^:,/\\\s]*$`)

// account checks the name and the id of a user or a group. why says that it is protected, or is "".
func (v *validator) account(id *int, what, why string) {
	v.match(accountName, v.name, "is not a name that useradd and groupadd accept")
	v.refuse(breaksLine(v.name), "%q has a control character in it", v.name)
	v.refuse(strings.Trim(v.name, "0123456789") == "", "%q would be taken for an id wherever it is looked up", v.name)
	v.refuse(v.name == "." || v.name == "..", "%q is no name for a home", v.name)
	if why != "" {
		v.wrong("%s is protected: %s", v.name, why)
	}
	if why := reserved(v.name); why != "" {
		v.wrong("%s is the name of no account: %s", v.name, why)
	}
	if id != nil && (*id < 1 || *id > 4294967294) {
		v.wrong("%s %d is not between 1 and 4294967294", what, *id)
	}
}

// accountProblems reports ids that the policy gives to two accounts, or to two groups: on a machine
// the first would get the id and the second never.
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
				Message: fmt.Sprintf("cannot merge %s: %s also belongs to %s, set at %s", r.ID, key, other.ID, other.Origin),
			})
			continue
		}
		holders[key] = r
	}
	return problems
}
