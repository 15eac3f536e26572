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

// IsPersona reports whether a name is valid for a persona: small letters, digits and hyphens.
func IsPersona(name string) bool { return personaName.MatchString(name) }

// validate returns what is wrong with the values of a resource, as far as that can be told without
// a machine. A value with a reference is not checked until the reference is resolved. After that,
// braces are ordinary text: a resolved value never contains references.
func validate(id ID, spec Spec, resolved bool) []string {
	v := validator{name: id.Name(), resolved: resolved}
	if !resolved {
		v.references(id, spec)
	}
	if why := tooLong(id); why != "" {
		return []string{why} // and nothing that quotes it
	}
	spec.validate(&v)
	return v.messages
}

type validator struct {
	name     string
	resolved bool
	secret   bool // it contains a reference to a secret
	messages []string
}

// references reports references of a spec in places where they are not allowed.
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

// open reports whether a value is not known yet.
func (v *validator) open(value string) bool { return !v.resolved && hasReference(value) }

func (v *validator) wrong(format string, args ...any) {
	v.messages = append(v.messages, fmt.Sprintf(format, args...))
}

func (v *validator) refuse(when bool, format string, args ...any) {
	if when {
		v.wrong(format, args...)
	}
}

// match reports a single-line value that does not match a form, unless it is not resolved yet. A
// value with a control character never matches, even if the pattern allows it.
func (v *validator) match(form *regexp.Regexp, value, message string) {
	if !v.open(value) && (breaksLine(value) || !form.MatchString(value)) {
		v.wrong("%q %s", value, message)
	}
}

func (v *validator) ensure(e Ensure) {
	v.refuse(e != Present && e != Absent, `ensure is "present" or "absent", and not %q`, e)
}

func (v *validator) absolute(what, value string) {
	if why := pathTooLong(value); why != "" {
		v.wrong("%s: %s", what, why)
		return
	}
	v.refuse(!path.IsAbs(value) || path.Clean(value) != value || strings.Contains(value, ":") || breaksLine(value),
		"%s %q is not a clean absolute path", what, value)
}
