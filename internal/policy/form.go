package policy

import "slices"

// A form describes which values are valid, as far as that can be told without the rest of the
// document: the words of the language with their meanings. The decoder accepts only the keys of its
// forms; Schema and Manual present them to editors and people.
type form struct {
	doc     string   // its meaning: a sentence without the full stop
	is      string   // its type, for people; "": derived from the other fields
	example string   // in TOML
	types   []string // its types in JSON Schema; none: any form of either
	either  []*form

	// For a string:
	words   []string // allowed values, besides those that match pattern
	pattern string   // pattern of allowed values, besides the words; "": only the words, or anything if there are none
	open    bool     // it may contain references, and then anything
	isDate  bool     // it is a date and not a string

	// For a number:
	bounded     bool
	least, most int

	items *form // of the elements of an array

	// For a table:
	keys   []key
	called string     // what the author's own keys are called, for people
	names  string     // the pattern of such keys; "": any
	each   *form      // the form of the values of such keys
	needs  [][]string // all keys of at least one of these lists are required
}

// A key is a word of the language and the form of its value.
type key struct {
	name string
	*form
	refused string // why it is not allowed, although it might be expected
}

const (
	aString  = "string"
	anInt    = "integer"
	aNumber  = "number"
	aBoolean = "boolean"
	anArray  = "array"
	aTable   = "object"
)

func text(doc string) *form { return &form{doc: doc, types: []string{aString}} }

// value returns the form of a text that may contain references.
func value(doc string) *form { return &form{doc: doc, types: []string{aString}, open: true} }

func word(doc string, words ...string) *form {
	return &form{doc: doc, types: []string{aString}, words: words}
}

func like(doc, pattern string) *form {
	return &form{doc: doc, types: []string{aString}, pattern: pattern}
}

func yesOrNo(doc string) *form { return &form{doc: doc, types: []string{aBoolean}} }

func whole(doc string, least, most int) *form {
	return &form{doc: doc, types: []string{anInt}, bounded: true, least: least, most: most}
}

func texts(doc string, items *form) *form {
	return &form{doc: doc, types: []string{anArray}, items: items}
}

func record(doc string, keys ...key) *form {
	return &form{doc: doc, types: []string{aTable}, keys: keys}
}

// named returns the form of a table whose keys the author chooses.
func named(doc, called, names string, each *form) *form {
	return &form{doc: doc, types: []string{aTable}, called: called, names: names, each: each}
}

func oneOf(either ...*form) *form { return &form{either: either} }

func (f *form) eg(example string) *form {
	f.example = example
	return f
}

// needing sets which keys are required: all keys of at least one list.
func (f *form) needing(lists ...[]string) *form {
	f.needs = lists
	return f
}

// table returns the form for a table, if it has one, or nil.
func (f *form) table() *form {
	if f == nil || slices.Contains(f.types, aTable) {
		return f
	}
	for _, other := range f.either {
		if t := other.table(); t != nil {
			return t
		}
	}
	return nil
}

// under returns the form of the value of a key in a table, or nil if the key is not allowed.
func (f *form) under(name string) *form {
	if i := slices.IndexFunc(f.keys, func(k key) bool { return k.name == name }); i >= 0 {
		return f.keys[i].form
	}
	return f.each
}

// known returns the names of the keys that a table may have.
func (f *form) known() []string {
	var names []string
	for _, k := range f.keys {
		if k.refused == "" {
			names = append(names, k.name)
		}
	}
	slices.Sort(names)
	return names
}

// why returns why a key is not allowed, or "".
func (f *form) why(name string) string {
	for _, k := range f.keys {
		if k.name == name {
			return k.refused
		}
	}
	return ""
}
