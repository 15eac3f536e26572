package policy

import (
	"math"
	"regexp"
	"slices"
	"strings"
)

func dconfSection() section {
	return section{
		"dconf", named("settings of the desktop, by the directory of their keys, such as `org/mate/desktop/session`", `"DIR"`, dconfDir, named("keys, as in the schema that is installed", "KEY", dconfKey.String(), dconfForm())),
		(*decoder).dconf, `[dconf."org/mate/screensaver"]
lock-enabled = true
idle-activation-enabled = { value = true, lock = false }
`,
		[]Spec{Dconf{}},
	}
}

// Dconf is one key of the machine's dconf database.
type Dconf struct {
	// Value is a string, int64, float64, bool or a []any of these. It gets the type of the key in
	// the installed schema. It is nil if GVariant is given.
	Value any `json:"value,omitempty"`
	// GVariant is the value in GVariant text format, used literally.
	GVariant string `json:"gvariant,omitempty"`
	// Schema is the id of the key's GSettings schema. It is needed if the path does not determine
	// it: a relocatable schema has no path.
	Schema string `json:"schema,omitempty"`
	// Lock means that the user cannot change the value.
	Lock bool `json:"lock"`
}

// Kind implements Spec.
func (Dconf) Kind() string { return "dconf" }

// Expand implements Spec.
func (d Dconf) Expand(expand func(string) string) Spec {
	d.Value = expandValue(d.Value, expand)
	d.GVariant = expand(d.GVariant)
	return d
}

func (d Dconf) notation() notation {
	if d.GVariant != "" {
		return quotedText
	}
	return wholeLines
}

// beside returns the resources that are about all settings together.
func (Dconf) beside(ID) []ID { return []ID{"dconf/database", "dconf/profile", "dconf/keyfiles"} }

func dconfForm() *form {
	plain := &form{doc: "the value: set, and locked", types: []string{aString, aNumber, aBoolean, anArray}, open: true}
	detailed := record("the value, and more about it",
		key{name: "value", form: &form{doc: "a string, a number, true, false or an array of these; it takes the type of the key in the installed schema", types: []string{aString, aNumber, aBoolean, anArray}, open: true}},
		key{name: "gvariant", form: value("the value in GVariant text format, instead of `value`").eg(`"(uint32 3, 'soft')"`)},
		key{name: "schema", form: text("the GSettings schema of the key, where the path does not tell").eg(`"org.mate.panel.toplevel"`)},
		key{name: "lock", form: yesOrNo("people cannot change it; left out: `true`")},
	).needing([]string{"value"}, []string{"gvariant"})
	return oneOf(plain, detailed)
}

func (d *decoder) dconf(t *table) {
	for _, dir := range t.keys() {
		keys := t.child(dir)
		if keys == nil {
			continue
		}
		for _, key := range keys.keys() {
			d.dconfKey(keys, dir, key)
		}
	}
}

func (d *decoder) dconfKey(keys *table, dir, key string) {
	value, _ := keys.value(key)
	spec := Dconf{Value: value, Lock: true}
	if _, isTable := value.(map[string]any); isTable {
		k := keys.child(key)
		spec.Value, _ = k.value("value")
		spec.GVariant = k.text("gvariant")
		spec.Schema = k.text("schema")
		if lock := k.flag("lock"); lock != nil {
			spec.Lock = *lock
		}
		switch {
		case spec.Value == nil && spec.GVariant == "" && !k.has("gvariant"):
			keys.problem(key, `it wants a value or a gvariant; a path is written in quotes, such as [dconf."org/mate/desktop/session"]`)
			return
		case (spec.Value == nil) == (spec.GVariant == ""):
			keys.problem(key, "it wants either a value or a gvariant, and not both")
		}
		k.close()
	}
	d.set(keys, key, NewID("dconf", dir+"/"+key), spec)
}

// GSettings keys consist of small letters, digits, and hyphens; dconf allows more.
var dconfKey = regexp.MustCompile(`^[A-Za-z0-9._-]+$`)

func (d Dconf) validate(v *validator) {
	parts := strings.Split(v.name, "/")
	for _, part := range parts {
		v.refuse(part == "", "%q is not a dconf path: no slash at either end, no empty part", v.name)
		v.refuse(strings.ContainsAny(part, "[]") || breaksLine(part) || strings.TrimSpace(part) != part,
			"%q is not a path that a keyfile of dconf can hold: no brackets, no control characters, no blank at the end of a part", v.name)
	}
	v.match(dconfKey, parts[len(parts)-1], "is not the name of a key: letters, digits, hyphens, dots and underscores")
	v.refuse(len(parts) < 2, "%q is a key in no directory", v.name)
	v.refuse(d.Value != nil && !isPlain(d.Value),
		"a value is a string, a number, true, false or an array of these; say anything else as a gvariant")
	v.refuse(breaksLine(d.GVariant), "the gvariant has a line break or another control character")
}

// isPlain reports whether a value is one that Dconf.Value may hold. NaN and infinities are not
// allowed, because specs are compared and reported as JSON.
func isPlain(value any) bool {
	switch v := value.(type) {
	case string, int64, bool:
		return true
	case float64:
		return !math.IsNaN(v) && !math.IsInf(v, 0)
	case []any:
		return !slices.ContainsFunc(v, func(element any) bool { return !isPlain(element) })
	}
	return false
}

func (d Dconf) entry(name string) entry {
	at := strings.LastIndexByte(name, '/')
	return inTable("dconf."+keyText(name[:at]), d.line(name[at+1:]))
}

func (d Dconf) line(key string) string {
	if d.Lock && d.Schema == "" && d.GVariant == "" {
		return pair(key, d.Value)
	}
	members := pairs("gvariant", d.GVariant, "schema", d.Schema)
	if d.Value != nil {
		members = append([]string{pair("value", d.Value)}, members...)
	}
	if !d.Lock {
		members = append(members, pair("lock", false))
	}
	return inline(key, members)
}
