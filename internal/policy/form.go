package policy

import "slices"

// A form is what a value may be, as far as can be told without the rest of the document:
// the words of the language with what they mean. The decoder knows no key but those of
// its forms; Schema and Manual tell them to editors and people.
type form struct {
	doc     string   // what it means: a sentence without its full stop
	is      string   // what it is, for people; "": what the rest tells
	example string   // as it is written in TOML
	types   []string // those of JSON Schema that it may have; none: it is one of either
	either  []*form

	// Of a string:
	words   []string // what it may be, besides what pattern allows
	pattern string   // what it may be, besides the words; "": anything, or nothing but the words
	open    bool     // it may hold references, and then be anything
	isDate  bool     // it is a date and no string

	// Of a number:
	bounded     bool
	least, most int

	items *form // of an array

	// Of a table:
	keys   []key
	called string     // keys that the author chooses, for people
	names  string     // a pattern of these; "": any
	each   *form      // of what stands under these
	needs  [][]string // of the keys in one of these lists all must be there
}

// A key is a word of the language and what may stand under it.
type key struct {
	name string
	*form
	refused string // why it must not be there, though one might expect it
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

// value is text that may hold references.
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

// named is a table in which the author chooses the keys.
func named(doc, called, names string, each *form) *form {
	return &form{doc: doc, types: []string{aTable}, called: called, names: names, each: each}
}

func oneOf(either ...*form) *form { return &form{either: either} }

func (f *form) eg(example string) *form {
	f.example = example
	return f
}

// needing says of which keys all of one list must be there.
func (f *form) needing(lists ...[]string) *form {
	f.needs = lists
	return f
}

// table is the form as far as it is one of a table, or nil.
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

// under is the form of what stands under a key of a table, or nil when nothing may.
func (f *form) under(name string) *form {
	if i := slices.IndexFunc(f.keys, func(k key) bool { return k.name == name }); i >= 0 {
		return f.keys[i].form
	}
	return f.each
}

// known are the names of the keys that a table may have.
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

// why says why a key must not be there, or "".
func (f *form) why(name string) string {
	for _, k := range f.keys {
		if k.name == name {
			return k.refused
		}
	}
	return ""
}
