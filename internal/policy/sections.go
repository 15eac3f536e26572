package policy

import (
	"slices"
	"sync"
)

// A section is a table of a fragment, with all that is known of it: its keys and their
// meaning, how it is read, and what for.
type section struct {
	name    string
	form    *form
	read    func(*decoder, *table)
	example string // in TOML, of each of its specs: for people, and for tests
	specs   []Spec // what it may be read as; of these, their types and kinds
}

// sections are all that there are, in the order in which their kinds are kept. It is the
// one list of them: the decoder, the schema, the reference and the names of kinds go by it.
// The forms are large, so it is made once, when it is first asked for, and never changed.
var sections = sync.OnceValue(func() []section {
	all := []section{
		systemSection(),
		groupsSection(),
		usersSection(),
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

// Kinds are the kinds of resources, in the order in which they are kept.
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

// Sections are the names of the tables of a fragment that set resources.
func Sections() (names []string) {
	for _, section := range sections() {
		names = append(names, section.name)
	}
	return names
}

// Meaning is what a value of a resource means, for people, or "" where that is no more
// than it says.
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
func (d *decoder) document(t *table) (personas []string, description string) {
	switch schema := t.number("schema"); {
	case schema == nil && !t.has("schema"):
		d.problem(nil, "cannot read the fragment: it does not say which schema it follows; begin it with: schema = 1")
	case schema != nil && *schema != 1:
		t.problem("schema", "this agent knows schema 1 and not %d; it may be too old for this policy", *schema)
		return nil, "" // what another schema means by the other keys is not known
	}
	personas = t.texts("personas")
	if personas != nil && len(personas) == 0 {
		t.problem("personas", "it names nobody; leave it out to mean every persona")
	}
	for _, p := range personas {
		if !IsPersona(p) {
			t.problem("personas", "%q is not a persona's name (small letters, digits and hyphens)", p)
		}
	}
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
	return personas, description
}

// set records a resource, unless its values break a rule.
func (d *decoder) set(t *table, key string, id ID, spec Spec) {
	path := append(slices.Clone(t.path), key)
	if d.full() { // the fragment is refused already
		d.untold = true
		return
	}
	for _, message := range validate(id, spec, false) {
		d.problem(path, "cannot use %s: %s", t.name(key), message)
	}
	d.settings = append(d.settings, Setting{ID: id, Spec: spec, Line: d.lines.at(path), Evidence: t.evidence(key, id)})
}

// each reads a section whose every key is a table of its own.
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
