package policy

import (
	"slices"
	"sync"

	"github.com/soe-agent/soe-agent/internal/target"
)

// A section is a table of a fragment: its keys and their meaning, how it is read, and into which
// specs.
type section struct {
	name    string
	form    *form
	read    func(*decoder, *table)
	example string // in TOML, of each of its specs, for people and tests
	specs   []Spec // examples of the types of spec that it is read into
}

// sections returns all sections, in the order in which their kinds are checked. It is the only list
// of them: the decoder, the schema, the reference and the names of kinds use it. The forms are
// large, so it is made once, on first use, and never changed.
var sections = sync.OnceValue(func() []section {
	all := []section{
		systemSection(),
		groupsSection(),
		usersSection(),
		ageingSection(),
		idsSection(),
		sudoSection(),
		filesSection(),
		dropinsSection(),
		directoriesSection(),
		mountsSection(),
		firewallSection(),
		pcoipSection(),
		dconfSection(),
		repositoriesSection(),
		packagesSection(),
		patchSection(),
		servicesSection(),
		checksSection(),
	}
	for _, s := range all {
		s.form.bearing()
	}
	return all
})

// Kinds returns the kinds of resources, in the order in which they are checked.
func Kinds() (names []string) {
	for _, section := range sections() {
		for _, spec := range section.specs {
			if !slices.Contains(names, spec.Kind()) {
				names = append(names, spec.Kind())
			}
		}
	}
	return names
}

// Sections returns the names of the tables of a fragment that set resources.
func Sections() (names []string) {
	for _, section := range sections() {
		names = append(names, section.name)
	}
	return names
}

// Meaning returns what a value of a resource means, for people, or "" if that is obvious from the
// value.
func Meaning(id ID, value string) string {
	for _, section := range sections() {
		for _, spec := range section.specs {
			if s, is := spec.(explained); is && spec.Kind() == id.Kind() {
				return s.meaning(id.Name(), value)
			}
		}
	}
	return ""
}

// document reads the top level of a fragment.
func (d *decoder) document(t *table) (personas []string, when target.Conditions, description string) {
	switch schema := t.number("schema"); {
	case schema == nil && !t.has("schema"):
		d.problem(nil, "cannot read the fragment: it does not say which schema it follows; begin it with: schema = 1")
	case schema != nil && *schema != 1:
		t.problem("schema", "this agent knows schema 1 and not %d; it may be too old for this policy", *schema)
		return nil, nil, "" // other keys may have another meaning in another schema
	}
	personas = t.texts("personas")
	if personas != nil && len(personas) == 0 {
		t.problem("personas", "it names nobody; leave it out to mean every persona")
	}
	for _, p := range personas {
		if len(p) > mostOfPersona {
			t.problem("personas", "the name %.40q… is longer than %d bytes", p, mostOfPersona)
		}
		if !IsPersona(p) {
			t.problem("personas", "%q is not a persona's name (small letters, digits and hyphens)", p)
		}
	}
	when = t.when()
	description = t.text("description")
	for _, section := range sections() {
		if child := t.child(section.name); child != nil {
			section.read(d, child)
		}
	}
	if child := t.child("benchmarks"); child != nil {
		d.each(child, d.benchmark)
	}
	for _, rule := range t.children("rules") {
		d.rule(rule)
	}
	t.close()
	return personas, when, description
}

// set adds a resource. Invalid values are problems.
func (d *decoder) set(t *table, key string, id ID, spec Spec) {
	path := append(slices.Clone(t.path), key)
	if d.full() { // the fragment is refused anyway
		d.untold = true
		return
	}
	for _, message := range validate(id, spec, false) {
		d.problem(path, "cannot use %s: %s", t.name(key), message)
	}
	d.settings = append(d.settings, Setting{ID: id, Spec: spec, Line: d.lines.at(path), Evidence: t.evidence(key, id)})
}

// each reads a section in which every key is a table of its own.
func (d *decoder) each(t *table, read func(name string, entry *table)) {
	for _, name := range t.keys() {
		if entry := t.child(name); entry != nil {
			read(name, entry)
			entry.close()
		}
	}
}

func (t *table) ensure() Ensure {
	if e := t.text("ensure"); e != "" {
		return Ensure(e)
	}
	return Present
}
