package policy

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// decoder reads settings from one TOML document and collects the problems.
type decoder struct {
	file     string
	lines    lines
	problems Problems
	untold   bool // problems were dropped because there are too many
	settings []Setting
	advice   Problems // warnings for the author
	rules    []Rule

	benchmarks []Benchmark
	demanded   int // number of controls that they name
}

// mostProblems is how many problems of one document are reported. After fixing these, the author
// finds the rest.
const mostProblems = 200

func (d *decoder) full() bool { return len(d.problems) >= mostProblems }

func (d *decoder) problem(path []string, format string, args ...any) {
	if d.full() {
		d.untold = true
		return
	}
	d.problems = append(d.problems, Problem{
		File: d.file, Line: d.lines.at(path), Message: limited(fmt.Sprintf(format, args...)),
	})
}

// A table is a TOML table being read, and its form.
type table struct {
	d      *decoder
	form   *form
	path   []string
	values map[string]any
}

// name returns a key in full, as its author would write it, for messages.
func (t *table) name(key string) string {
	var name strings.Builder
	for i, part := range append(slices.Clone(t.path), key) {
		switch {
		case isElement(part):
			continue
		case i > 0:
			name.WriteByte('.')
		}
		if len(part) > mostOfName {
			part = strings.ToValidUTF8(part[:40], "") + "…"
		}
		if !bareKey.MatchString(part) {
			part = strconv.Quote(part)
		}
		name.WriteString(part)
	}
	return name.String()
}

// bareKey matches keys that need no quotes in TOML.
var bareKey = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

func (t *table) problem(key, format string, args ...any) {
	t.d.problem(append(slices.Clone(t.path), key), "cannot use "+t.name(key)+": "+format, args...)
}

// unknown reports an unknown key.
func (t *table) unknown(key string, hint func() string) {
	told := len(t.d.problems)
	if t.problem(key, "unknown key"); told < len(t.d.problems) {
		t.d.problems[told].Hint = hint()
	}
}

func (t *table) has(key string) bool {
	_, ok := t.values[key]
	return ok
}

func (t *table) value(key string) (any, bool) {
	v, ok := t.values[key]
	return v, ok
}

// read returns the value of key as a T. It returns the zero T if the key is absent or, after
// recording a problem, if it has another type.
func read[T any](t *table, key, wanted string) (v T, ok bool) {
	value, there := t.value(key)
	if !there {
		return v, false
	}
	v, ok = value.(T)
	if !ok {
		t.problem(key, "it wants %s and not %s", wanted, describe(value))
	}
	return v, ok
}

func (t *table) text(key string) string {
	v, _ := read[string](t, key, "a string")
	return v
}

func (t *table) flag(key string) *bool {
	if v, ok := read[bool](t, key, "true or false"); ok {
		return &v
	}
	return nil
}

func (t *table) isSet(key string) bool {
	v := t.flag(key)
	return v != nil && *v
}

func (t *table) number(key string) *int {
	if v, ok := read[int64](t, key, "a whole number"); ok {
		n := int(v)
		return &n
	}
	return nil
}

func (t *table) texts(key string) []string {
	values, ok := read[[]any](t, key, "an array of strings")
	if !ok {
		return nil
	}
	texts := make([]string, 0, len(values))
	for _, v := range values {
		text, ok := v.(string)
		if !ok {
			t.problem(key, "it wants an array of strings, and one element is %s", describe(v))
			continue
		}
		texts = append(texts, text)
	}
	return texts
}

func (t *table) isArray(key string) bool {
	_, is := t.values[key].([]any)
	return is
}

// child returns the table under key, or nil.
func (t *table) child(key string) *table {
	if values, ok := read[map[string]any](t, key, "a table"); ok {
		return &table{d: t.d, form: t.form.under(key).table(), path: append(slices.Clone(t.path), key), values: values}
	}
	return nil
}

// children returns the tables of an array of tables.
func (t *table) children(key string) []*table {
	value, ok := t.value(key)
	if !ok {
		return nil
	}
	elements, ok := value.([]map[string]any)
	if !ok {
		t.problem(key, "it wants tables, written [[%s]]", t.name(key))
		return nil
	}
	children := make([]*table, len(elements))
	for i, values := range elements {
		children[i] = &table{d: t.d, form: t.form.under(key).items, path: append(slices.Clone(t.path), key, element(i)), values: values}
	}
	return children
}

// keys returns all keys of a table whose keys are names chosen by the author.
func (t *table) keys() []string {
	return slices.Sorted(maps.Keys(t.values))
}

// close reports keys that the form does not have.
func (t *table) close() {
	known := t.form.known()
	for _, key := range t.keys() {
		if slices.Contains(known, key) {
			continue
		}
		if why := t.form.why(key); why != "" {
			t.problem(key, "it is not kept: %s", why)
			continue
		}
		t.unknown(key, func() string {
			if meant := Nearest(key, known); meant != "" {
				return fmt.Sprintf("did you mean %q?", meant)
			}
			if _, isTable := t.values[key].(map[string]any); isTable && len(t.path) > 0 {
				return "a name with a dot or a slash in it is written in quotes"
			}
			return "known here are " + strings.Join(known, ", ")
		})
	}
}

// describe names the TOML type of a decoded value.
func describe(value any) string {
	switch v := value.(type) {
	case string:
		return fmt.Sprintf("the string %.200q", v)
	case int64:
		return fmt.Sprintf("the number %d", v)
	case float64:
		return fmt.Sprintf("the floating-point number %v", v)
	case bool:
		return fmt.Sprint(v)
	case []any:
		return "an array"
	case map[string]any:
		return "a table"
	case []map[string]any:
		return "an array of tables"
	case time.Time:
		return "a date or time"
	}
	return fmt.Sprintf("a %T", value)
}
