package policy

import (
	"regexp"
	"slices"
)

func systemSection() section {
	return section{"system", systemForm(), (*decoder).system, `[system]
timezone = "Europe/Berlin"
selinux = "enforcing"
`, []Spec{System{}}}
}

// System is one setting of the whole machine: "timezone", a name of the tz database, or "selinux",
// one of "enforcing", "permissive", "disabled".
type System struct {
	Value string `json:"value"`
}

// Kind implements Spec.
func (System) Kind() string { return "system" }

// Expand implements Spec.
func (s System) Expand(expand func(string) string) Spec {
	s.Value = expand(s.Value)
	return s
}

func systemForm() *form {
	return record("the machine as a whole",
		key{name: "timezone", form: &form{doc: "a name of the tz database", types: []string{aString}, pattern: timezoneName.String(), open: true, example: `"Europe/Berlin"`}},
		key{name: "selinux", form: &form{doc: "SELinux is never turned on where the kernel has it off", types: []string{aString}, words: []string{"enforcing", "permissive", "disabled"}, open: true}},
		key{name: "hostname", form: text(""), refused: "AWS gives a WorkSpace its name, by which the directory knows it; {{fact:hostname}} tells it"},
		key{name: "locale", form: text(""), refused: "people choose the language of their desktop; for a default, use a drop-in such as /etc/profile.d/lang.sh"},
	)
}

func (d *decoder) system(t *table) {
	for _, key := range []string{"timezone", "selinux"} {
		if value, ok := read[string](t, key, "a string"); ok {
			d.set(t, key, NewID("system", key), System{Value: value})
		}
	}
	t.close()
}

var timezoneName = regexp.MustCompile(`^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$`)

func (s System) validate(v *validator) {
	switch v.name {
	case "timezone":
		v.match(timezoneName, s.Value, "is not the name of a time zone, such as Europe/Berlin")
	case "selinux":
		v.refuse(!v.open(s.Value) && !slices.Contains([]string{"enforcing", "permissive", "disabled"}, s.Value),
			"%q is none of enforcing, permissive, disabled", s.Value)
	}
}

func (s System) entry(name string) entry { return inTable("system", pair(name, s.Value)) }
