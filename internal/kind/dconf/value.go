package dconf

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/soe-agent/soe-agent/internal/kind/dconf/gvdb"
	"github.com/soe-agent/soe-agent/internal/policy"
)

// text returns a policy's value in GVariant text format. key is the definition in the installed
// schema, or nil if there is none.
func text(want policy.Dconf, key *schemaKey) (string, error) {
	if want.Value == nil {
		given := strings.TrimSpace(want.GVariant)
		return given, judgeText(given, key)
	}
	if key == nil {
		typ, err := naturalType(want.Value)
		if err != nil {
			return "", err
		}
		return convert(want.Value, typ)
	}
	rendered, err := convert(want.Value, key.typ)
	if err != nil {
		return "", fmt.Errorf("%w; the installed schema %s has it as %s", err, key.schema, describeType(key.typ))
	}
	if err := key.allows(want.Value); err != nil {
		return "", fmt.Errorf("%w, says the installed schema %s", err, key.schema)
	}
	return rendered, nil
}

// judgeText returns an error if a GVariant text violates the installed schema, as far as that can
// be told without dconf.
func judgeText(given string, key *schemaKey) error {
	typ, rest := writtenType(given)
	if key == nil || typ == "" {
		return nil
	}
	if typ != key.typ {
		return fmt.Errorf("%s is of type %s, and the installed schema %s has the key as %s",
			given, describeType(typ), key.schema, describeType(key.typ))
	}
	if err := key.allows(writtenValue(typ, rest)); err != nil {
		return fmt.Errorf("%w, says the installed schema %s", err, key.schema)
	}
	return nil
}

// writtenType returns the type that a GVariant text begins with, and the rest of the text. The type
// is "" if only dconf can tell it.
func writtenType(text string) (typ, rest string) {
	if annotated, ok := strings.CutPrefix(text, "@"); ok {
		if one, rest, ok := gvdb.FirstType(annotated); ok {
			return one, strings.TrimSpace(rest)
		}
		return "", ""
	}
	word, rest, isTyped := strings.Cut(text, " ")
	types := map[string]string{
		"boolean": "b", "byte": "y", "int16": "n", "uint16": "q", "int32": "i", "uint32": "u", "int64": "x", "uint64": "t",
		"handle": "h", "double": "d", "string": "s", "objectpath": "o", "signature": "g",
	}
	switch {
	case isTyped && types[word] != "":
		return types[word], strings.TrimSpace(rest)
	case text == "true" || text == "false":
		return "b", text
	case strings.HasPrefix(text, "'") || strings.HasPrefix(text, `"`):
		return "s", text
	}
	if _, err := strconv.ParseInt(text, 0, 64); err == nil {
		return "i", text
	}
	if _, err := strconv.ParseFloat(text, 64); err == nil {
		return "d", text
	}
	return "", ""
}

// writtenValue returns the string or number of a GVariant text, or nil if only dconf can tell it.
func writtenValue(typ, text string) any {
	switch typ {
	case "s":
		// dconf has its own rules for escapes, so do not interpret them.
		if n := len(text); n >= 2 && text[0] == text[n-1] && !strings.ContainsAny(text[1:n-1], `\'"`) {
			return text[1 : n-1]
		}
	case "d":
		if number, err := strconv.ParseFloat(text, 64); err == nil {
			return number
		}
	default:
		_, _, isNumber := limits(typ)
		if number, err := strconv.ParseInt(text, 0, 64); isNumber && err == nil {
			return number
		}
	}
	return nil
}

// naturalType returns the type that GVariant text format gives a value without a type annotation.
func naturalType(value any) (string, error) {
	switch value := value.(type) {
	case string:
		return "s", nil
	case bool:
		return "b", nil
	case float64:
		return "d", nil
	case int64:
		if value < math.MinInt32 || value > math.MaxInt32 {
			return "x", nil
		}
		return "i", nil
	case []any:
		return naturalArray(value)
	}
	return "", fmt.Errorf("%v is of no type that dconf knows", value)
}

func naturalArray(values []any) (string, error) {
	if len(values) == 0 {
		return "as", nil
	}
	var types []string
	for _, v := range values {
		t, err := naturalType(v)
		if err != nil {
			return "", err
		}
		if !slices.Contains(types, t) {
			types = append(types, t)
		}
	}
	if len(types) == 1 {
		return "a" + types[0], nil
	}
	for _, wide := range []string{"x", "d"} { // small mixed with large numbers; whole numbers mixed with others
		if !slices.ContainsFunc(types, func(t string) bool { return t != wide && t != "i" && (wide != "d" || t != "x") }) {
			return "a" + wide, nil
		}
	}
	return "", errors.New("the elements of an array must be of one type; say it as a gvariant")
}

// convert returns a value as text of a GVariant type.
func convert(value any, typ string) (string, error) {
	misfit := fmt.Errorf("%s does not fit the type %s", describe(value), describeType(typ))
	switch {
	case typ == "v":
		inner, err := naturalType(value)
		if err != nil {
			return "", err
		}
		boxed, err := convert(value, inner)
		return "<" + boxed + ">", err
	case len(typ) == 1:
		return convertScalar(value, typ, misfit)
	}
	values, isArray := value.([]any)
	switch {
	case !isArray && strings.ContainsAny(typ[:1], "a("), isArray && strings.HasPrefix(typ, "a{"), !strings.ContainsAny(typ[:1], "a("):
		return "", fmt.Errorf("%w; say it as a gvariant", misfit)
	}
	types := elementTypes(typ, len(values))
	if len(types) != len(values) {
		return "", fmt.Errorf("%w: it has %d elements, and %d are needed", misfit, len(values), len(types))
	}
	texts := make([]string, len(values))
	for i, v := range values {
		var err error
		if texts[i], err = convert(v, types[i]); err != nil {
			return "", err
		}
	}
	return gvdb.ContainerText(typ, texts), nil
}

// elementTypes returns the types of the n elements of an array, or of those of a tuple.
func elementTypes(typ string, n int) []string {
	if typ[0] == 'a' {
		return slices.Repeat([]string{typ[1:]}, n)
	}
	var types []string
	for rest := typ[1 : len(typ)-1]; rest != ""; {
		var one string
		one, rest, _ = gvdb.FirstType(rest)
		types = append(types, one)
	}
	return types
}

func convertScalar(value any, typ string, misfit error) (string, error) {
	switch value := value.(type) {
	case bool:
		if typ == "b" {
			return gvdb.ScalarText(typ, value), nil
		}
	case string:
		return convertText(value, typ, misfit)
	case float64:
		if typ == "d" {
			return gvdb.ScalarText(typ, value), nil
		}
	case int64:
		if typ == "d" {
			return gvdb.ScalarText(typ, float64(value)), nil
		}
		lowest, highest, isNumber := limits(typ)
		switch {
		case !isNumber:
		case value < lowest || value >= 0 && uint64(value) > highest:
			return "", fmt.Errorf("%d does not fit the type %s (%d to %d)", value, describeType(typ), lowest, highest)
		case lowest == 0:
			return gvdb.ScalarText(typ, uint64(value)), nil
		default:
			return gvdb.ScalarText(typ, value), nil
		}
	}
	return "", misfit
}

func convertText(value, typ string, misfit error) (string, error) {
	switch {
	case strings.ContainsRune(value, 0):
		return "", fmt.Errorf("%q holds a zero character, which no string of dconf can", value)
	case typ == "o" && !isObjectPath(value):
		return "", fmt.Errorf("%q is not an object path", value)
	case typ == "s" || typ == "o":
		return gvdb.ScalarText(typ, value), nil
	}
	return "", misfit
}

func isObjectPath(text string) bool {
	if text == "/" {
		return true
	}
	elements := strings.Split(text, "/")
	if len(elements) < 2 || elements[0] != "" {
		return false
	}
	return !slices.ContainsFunc(elements[1:], func(element string) bool {
		return element == "" || strings.ContainsFunc(element, func(r rune) bool {
			return r != '_' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
		})
	})
}

// limits returns the lowest and highest value of an integer type.
func limits(typ string) (lowest int64, highest uint64, ok bool) {
	switch typ {
	case "y":
		return 0, math.MaxUint8, true
	case "n":
		return math.MinInt16, math.MaxInt16, true
	case "q":
		return 0, math.MaxUint16, true
	case "i", "h":
		return math.MinInt32, math.MaxInt32, true
	case "u":
		return 0, math.MaxUint32, true
	case "x":
		return math.MinInt64, math.MaxInt64, true
	case "t":
		return 0, math.MaxUint64, true
	}
	return 0, 0, false
}

func describe(value any) string {
	switch value := value.(type) {
	case string:
		return fmt.Sprintf("the string %q", value)
	case []any:
		return "an array"
	case bool:
		return fmt.Sprint(value)
	}
	return fmt.Sprintf("the number %v", value)
}

func describeType(typ string) string {
	names := map[string]string{
		"b": "boolean", "y": "byte", "n": "int16", "q": "uint16", "i": "int32", "u": "uint32", "x": "int64", "t": "uint64",
		"d": "double", "s": "string", "o": "object path", "g": "signature", "as": "array of strings",
	}
	if name := names[typ]; name != "" {
		return name
	}
	return fmt.Sprintf("GVariant %q", typ)
}
