// Package document reads TOML documents that others wrote: the policy's fragments, the
// manifest, agent.toml. What it reads is bounded, so that no document takes long, and a
// key is what its author wrote and not something like it.
package document

import (
	"errors"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

// Largest is how many bytes a document may have. A larger policy is split.
const Largest = 1 << 20

// An Error says what is wrong with a document, and where.
type Error struct {
	Line    int // counted from 1; 0 when the whole document is meant
	Message string
}

func (e *Error) Error() string { return e.Message }

// Values reads a document as it is written: tables are map[string]any. Its error is an
// *Error.
func Values(text string) (map[string]any, error) {
	if err := limits(text); err != nil {
		return nil, err
	}
	var document any // not a map, into which all would be copied
	if _, err := toml.Decode(text, &document); err != nil {
		return nil, readable(err, text)
	}
	values, _ := document.(map[string]any) // a document is always a table
	return values, nil
}

// Decode reads a document into a struct whose fields have toml tags. Its error is an
// *Error. unknown are the keys, as they are written in full, that the struct does not
// have in just these letters: the decoder would take one for the other, and of two the one that
// comes last.
func Decode(text string, into any) (unknown []string, err error) {
	values, err := Values(text)
	if err != nil {
		return nil, err
	}
	if _, err := toml.Decode(text, into); err != nil {
		return nil, readable(err, text)
	}
	return strange(values, reflect.TypeOf(into).Elem(), ""), nil
}

// readable is an error of the decoder.
func readable(err error, text string) *Error {
	e := &Error{Message: strings.TrimPrefix(err.Error(), "toml: ")}
	var parse toml.ParseError
	if errors.As(err, &parse) {
		// The decoder's own line is the next one when it stumbles over a line's end.
		e.Line = lineAt(text, parse.Position.Start)
		e.Message = parse.Message
	}
	return e
}

func lineAt(text string, at int) int {
	return 1 + strings.Count(text[:max(0, min(at, len(text)))], "\n")
}

// strange are the keys below a value that its type does not have.
func strange(value any, typ reflect.Type, name string) []string {
	for typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	if reflect.PointerTo(typ).Implements(reflect.TypeFor[toml.Unmarshaler]()) {
		return nil // it looks itself
	}
	var found []string
	switch v := value.(type) {
	case map[string]any:
		if typ.Kind() != reflect.Struct {
			return nil
		}
		fields := fieldsOf(typ)
		for _, key := range slices.Sorted(maps.Keys(v)) {
			full := strings.TrimPrefix(name+"."+toml.Key{key}.String(), ".")
			if field, known := fields[key]; known {
				found = append(found, strange(v[key], field, full)...)
			} else {
				found = append(found, full)
			}
		}
	case []map[string]any:
		for _, element := range v {
			found = append(found, strangeElement(element, typ, name)...)
		}
	case []any:
		for _, element := range v {
			found = append(found, strangeElement(element, typ, name)...)
		}
	}
	return found
}

func strangeElement(value any, typ reflect.Type, name string) []string {
	if typ.Kind() != reflect.Slice {
		return nil // the decoder says that it is none
	}
	return strange(value, typ.Elem(), name)
}

// fieldsOf are the fields of a struct by the names of their keys, those of embedded ones too.
func fieldsOf(typ reflect.Type) map[string]reflect.Type {
	fields := map[string]reflect.Type{}
	for _, f := range reflect.VisibleFields(typ) {
		if name, _, _ := strings.Cut(f.Tag.Get("toml"), ","); name != "" {
			fields[name] = f.Type
		}
	}
	return fields
}
