package policy

import (
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

var personaName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]*$`)

// IsPersona says whether a persona may be called so: in small letters, digits and
// hyphens.
func IsPersona(name string) bool { return personaName.MatchString(name) }

// validate returns what is wrong with the values of a resource, as far as can be
// told without a machine. A value that holds a reference is not looked at until
// it is resolved. From then on braces are text like any other: what a value
// holds is never a reference.
func validate(id ID, spec Spec, resolved bool) []string {
	v := validator{name: id.Name(), resolved: resolved}
	if !resolved {
		v.references(id, spec)
	}
	spec.validate(&v)
	return v.messages
}

type validator struct {
	name     string
	resolved bool
	secret   bool // a reference to a secret is in it
	messages []string
}

// references says which of those of a spec stand where none may.
func (v *validator) references(id ID, spec Spec) {
	references, errs := findReferences(spec)
	for _, err := range errs {
		v.wrong("%v", err)
	}
	v.secret = slices.ContainsFunc(references, Reference.Secret)
	if _, is := spec.(Confidential); !is {
		for _, r := range references {
			v.refuse(r.Secret(), "%s is a secret, and what is written here can be read by everybody; %s", r, whereSecretsGo)
		}
	}
	fixed, _ := json.Marshal(spec.Expand(func(string) string { return "" }))
	v.refuse(meantAsReference.Match(fixed) || meantAsReference.MatchString(string(id)),
		"it holds a reference where none is replaced: names, accounts, services and attributes of files are written out")
}

// open says whether a value is not known yet.
func (v *validator) open(value string) bool { return !v.resolved && hasReference(value) }

func (v *validator) wrong(format string, args ...any) {
	v.messages = append(v.messages, fmt.Sprintf(format, args...))
}

func (v *validator) refuse(when bool, format string, args ...any) {
	if when {
		v.wrong(format, args...)
	}
}

// match says that a value that stands in one line must be of a form, unless it is yet to be
// resolved. A control character is of none, though its pattern should let it through.
func (v *validator) match(form *regexp.Regexp, value, message string) {
	if !v.open(value) && (breaksLine(value) || !form.MatchString(value)) {
		v.wrong("%q %s", value, message)
	}
}

func (v *validator) ensure(e Ensure) {
	v.refuse(e != Present && e != Absent, `ensure is "present" or "absent", and not %q`, e)
}

func (v *validator) absolute(what, value string) {
	v.refuse(!path.IsAbs(value) || path.Clean(value) != value || strings.Contains(value, ":") || breaksLine(value),
		"%s %q is not a clean absolute path", what, value)
}
