package gvdb

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode"
)

// A Variant is a GVariant: a type and a serialised value of it.
type Variant struct {
	Type string // as in g_variant_type_string_scan(3), such as "as" or "(ib)"
	Data []byte
}

// Scalar returns the value of a basic type: a bool, int64, uint64, float64 or string. ok is false
// for other types and malformed values.
func (v Variant) Scalar() (any, bool) {
	if len(v.Type) != 1 || !strings.Contains(basicTypes, v.Type) {
		return nil, false
	}
	if _, size := layout(v.Type); size != 0 && size != len(v.Data) {
		return nil, false
	}
	switch v.Type[0] {
	case 'b':
		return v.Data[0] != 0, v.Data[0] <= 1
	case 'y':
		return uint64(v.Data[0]), true
	case 'n':
		return int64(int16(binary.LittleEndian.Uint16(v.Data))), true // the conversion sets the sign
	case 'q':
		return uint64(binary.LittleEndian.Uint16(v.Data)), true
	case 'i', 'h':
		return int64(int32(binary.LittleEndian.Uint32(v.Data))), true // the conversion sets the sign
	case 'u':
		return uint64(binary.LittleEndian.Uint32(v.Data)), true
	case 'x':
		return int64(binary.LittleEndian.Uint64(v.Data)), true // the conversion sets the sign
	case 't':
		return binary.LittleEndian.Uint64(v.Data), true
	case 'd':
		return math.Float64frombits(binary.LittleEndian.Uint64(v.Data)), true
	case 's', 'o', 'g':
		text, terminated := bytes.CutSuffix(v.Data, []byte{0})
		return string(text), terminated && bytes.IndexByte(text, 0) < 0
	}
	return nil, false
}

// Children returns the content of a container: the elements of an array, tuple or dictionary entry,
// the value in a variant, the value of a maybe if there is one.
func (v Variant) Children() ([]Variant, bool) {
	if one, rest, ok := FirstType(v.Type); !ok || rest != "" || one == "" {
		return nil, false
	}
	switch v.Type[0] {
	case 'v':
		end := bytes.LastIndexByte(v.Data, 0)
		if end < 0 {
			return nil, false
		}
		inner := Variant{Type: string(v.Data[end+1:]), Data: v.Data[:end]}
		_, rest, ok := FirstType(inner.Type)
		return []Variant{inner}, ok && rest == ""
	case 'm':
		return v.maybe()
	case 'a':
		if _, size := layout(v.Type[1:]); size > 0 {
			return v.fixedArray(size)
		}
		return v.array()
	case '(', '{':
		return v.tuple()
	}
	return nil, false
}

func (v Variant) maybe() ([]Variant, bool) {
	if len(v.Data) == 0 {
		return nil, true
	}
	element := Variant{Type: v.Type[1:], Data: v.Data}
	if _, size := layout(element.Type); size == 0 {
		element.Data = v.Data[:len(v.Data)-1] // an extra byte distinguishes it from nothing
	} else if size != len(v.Data) {
		return nil, false
	}
	return []Variant{element}, true
}

func (v Variant) fixedArray(size int) ([]Variant, bool) {
	if len(v.Data)%size != 0 {
		return nil, false
	}
	elements := make([]Variant, 0, len(v.Data)/size)
	for data := v.Data; len(data) > 0; data = data[size:] {
		elements = append(elements, Variant{Type: v.Type[1:], Data: data[:size]})
	}
	return elements, true
}

// array reads an array whose elements vary in size. The offset of each element's end is stored
// after the last element.
func (v Variant) array() ([]Variant, bool) {
	if len(v.Data) == 0 {
		return nil, true
	}
	width := offsetWidth(len(v.Data))
	last := offset(v.Data[len(v.Data)-width:], width)
	if last > len(v.Data)-width || (len(v.Data)-last)%width != 0 {
		return nil, false
	}
	align, _ := layout(v.Type[1:])
	var elements []Variant
	start := 0
	for ends := v.Data[last:]; len(ends) > 0; ends = ends[width:] {
		start = alignUp(start, align)
		end := offset(ends, width)
		if start > end || end > last {
			return nil, false
		}
		elements = append(elements, Variant{Type: v.Type[1:], Data: v.Data[start:end]})
		start = end
	}
	return elements, true
}

// tuple reads the members one after the other. The offsets of the ends of members without a fixed
// size are stored at the very end, in reverse order, except for the last member's.
func (v Variant) tuple() ([]Variant, bool) {
	members := memberTypes(v.Type)
	if len(members) == 0 {
		return nil, len(v.Data) == 1 // the empty tuple is a zero byte
	}
	width := offsetWidth(len(v.Data))
	offsets := 0
	for _, m := range members[:len(members)-1] {
		if _, size := layout(m); size == 0 {
			offsets++
		}
	}
	limit := len(v.Data) - width*offsets
	children := make([]Variant, len(members))
	at, used := 0, 0
	for i, m := range members {
		align, size := layout(m)
		at = alignUp(at, align)
		end := limit
		if size > 0 {
			end = at + size
		} else if i < len(members)-1 {
			used++
			if width*used > len(v.Data) {
				return nil, false
			}
			end = offset(v.Data[len(v.Data)-width*used:], width)
		}
		if at > end || end > limit {
			return nil, false
		}
		children[i] = Variant{Type: m, Data: v.Data[at:end]}
		at = end
	}
	return children, true
}

// offsetWidth returns the size of the offsets in a container of size bytes.
func offsetWidth(size int) int {
	switch {
	case size <= math.MaxUint8:
		return 1
	case size <= math.MaxUint16:
		return 2
	case size <= math.MaxUint32:
		return 4
	}
	return 8
}

// offset reads one offset. An offset beyond any file is limited to MaxInt32, which is too large as
// well.
func offset(data []byte, width int) int {
	var n uint64
	for i := range min(width, len(data)) {
		n |= uint64(data[i]) << (8 * i)
	}
	return int(min(n, math.MaxInt32)) // limited to MaxInt32
}

func alignUp(n, align int) int { return (n + align - 1) / align * align }

// basicTypes are the types that contain no others and so can be keys of a dictionary.
const basicTypes = "bynqiuhxtdsog"

// maxDepth is how deep types, and values in variants, may be nested.
const maxDepth = 32

// FirstType splits a type string after its first complete type.
func FirstType(t string) (one, rest string, ok bool) { return firstType(t, 0) }

func firstType(t string, depth int) (one, rest string, ok bool) {
	if t == "" || depth > maxDepth {
		return "", "", false
	}
	switch t[0] {
	case 'b', 'y', 'n', 'q', 'i', 'u', 'h', 'x', 't', 'd', 's', 'o', 'g', 'v':
		return t[:1], t[1:], true
	case 'a', 'm':
		_, rest, ok = firstType(t[1:], depth+1)
	case '(':
		for rest, ok = t[1:], true; ok && !strings.HasPrefix(rest, ")"); {
			_, rest, ok = firstType(rest, depth+1)
		}
		rest = strings.TrimPrefix(rest, ")")
	case '{':
		if len(t) < 2 || !strings.Contains(basicTypes, t[1:2]) {
			return "", "", false
		}
		_, rest, ok = firstType(t[2:], depth+1)
		ok = ok && strings.HasPrefix(rest, "}")
		rest = strings.TrimPrefix(rest, "}")
	}
	return t[:len(t)-len(rest)], rest, ok
}

// memberTypes returns the types of the members of a tuple or dictionary entry.
func memberTypes(t string) []string {
	var members []string
	for rest := t[1 : len(t)-1]; rest != ""; {
		var one string
		one, rest, _ = FirstType(rest)
		members = append(members, one)
	}
	return members
}

// layout returns the alignment of a complete type's values, and their size, which is 0 if it
// varies.
func layout(t string) (align, size int) {
	switch t[0] {
	case 'b', 'y':
		return 1, 1
	case 'n', 'q':
		return 2, 2
	case 'i', 'u', 'h':
		return 4, 4
	case 'x', 't', 'd':
		return 8, 8
	case 'v':
		return 8, 0
	case 'a', 'm':
		align, _ = layout(t[1:])
		return align, 0
	case '(', '{':
		return tupleLayout(memberTypes(t))
	}
	return 1, 0
}

func tupleLayout(members []string) (align, size int) {
	if len(members) == 0 {
		return 1, 1
	}
	align, fixed := 1, true
	for _, m := range members {
		a, s := layout(m)
		align = max(align, a)
		fixed = fixed && s > 0
		size = alignUp(size, a) + s
	}
	if !fixed {
		return align, 0
	}
	return align, alignUp(size, align)
}

// Text returns the value in GVariant text format. A number has its type if the text would otherwise
// be read as another type. ok is false for a malformed value.
func (v Variant) Text() (string, bool) { return v.text(0) }

func (v Variant) text(depth int) (string, bool) {
	if scalar, ok := v.Scalar(); ok {
		return ScalarText(v.Type, scalar), true
	}
	children, ok := v.Children()
	if !ok || depth > maxDepth {
		return "", false
	}
	texts := make([]string, len(children))
	for i, child := range children {
		if texts[i], ok = child.text(depth + 1); !ok {
			return "", false
		}
	}
	switch v.Type[0] {
	case 'v':
		return "<" + texts[0] + ">", true
	case 'm':
		if len(texts) == 0 {
			return "@" + v.Type + " nothing", true
		}
		return "just " + texts[0], true
	case '{':
		return texts[0] + ": " + texts[1], true
	}
	return ContainerText(v.Type, texts), true
}

// ScalarText returns a value, as Scalar returns it, in GVariant text format.
func ScalarText(typ string, value any) string {
	var text string
	switch value := value.(type) {
	case float64:
		text = strconv.FormatFloat(value, 'g', -1, 64)
		switch {
		case math.IsInf(value, 0) || math.IsNaN(value):
			text = strings.TrimPrefix(strings.ToLower(text), "+")
		case !strings.ContainsAny(text, ".e"):
			text += ".0"
		}
	case string:
		text = quote(value)
	case uint64:
		text = strconv.FormatUint(value, 10)
		if typ == "y" {
			text = fmt.Sprintf("0x%02x", value)
		}
	default:
		text = fmt.Sprint(value)
	}
	names := map[string]string{
		"y": "byte", "n": "int16", "q": "uint16", "u": "uint32", "x": "int64", "t": "uint64",
		"h": "handle", "o": "objectpath", "g": "signature",
	}
	if name := names[typ]; name != "" {
		return name + " " + text
	}
	return text
}

// ContainerText joins the texts of the elements of an array or tuple.
func ContainerText(typ string, elements []string) string {
	inner := strings.Join(elements, ", ")
	switch {
	case strings.HasPrefix(typ, "("):
		if len(elements) == 1 {
			inner += "," // otherwise it would be a value in parentheses
		}
		return "(" + inner + ")"
	case strings.HasPrefix(typ, "a{"):
		inner = "{" + inner + "}"
	default:
		inner = "[" + inner + "]"
	}
	if len(elements) == 0 {
		return "@" + typ + " " + inner
	}
	return inner
}

func quote(text string) string {
	var b strings.Builder
	b.WriteByte('\'')
	for _, r := range text {
		switch {
		case r == '\'' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case !unicode.IsPrint(r) && r <= 0xffff:
			fmt.Fprintf(&b, `\u%04x`, r)
		case !unicode.IsPrint(r):
			fmt.Fprintf(&b, `\U%08x`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('\'')
	return b.String()
}
