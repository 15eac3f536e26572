package dconf

import (
	"fmt"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/kind/dconf/gvdb"
	"github.com/soe-agent/soe-agent/internal/policy"
)

func exampleSchemas(t testing.TB) *schemas {
	t.Helper()
	content, err := os.ReadFile("gvdb/testdata/gschemas.compiled")
	if err != nil {
		t.Fatal(err)
	}
	s, err := parseSchemas(content)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func render(t testing.TB, path string, want policy.Dconf) (string, error) {
	t.Helper()
	key, err := exampleSchemas(t).key(path, want.Schema)
	if err != nil {
		return "", err
	}
	return text(want, key)
}

func TestAValueTakesTheTypeOfItsSchema(t *testing.T) {
	for _, c := range []struct {
		key   string
		value any
		want  string
	}{
		{"picture-filename", "/usr/share/it's.png", `'/usr/share/it\'s.png'`},
		{"picture-options", "centered", "'centered'"},
		{"opacity", int64(50), "50"},
		{"idle", int64(10), "uint32 10"},
		{"big", int64(math.MaxInt64), "uint64 9223372036854775807"},
		{"scale", int64(2), "2.0"},
		{"scale", 1.5, "1.5"},
		{"names", []any{"a", "b"}, "['a', 'b']"},
		{"names", []any{}, "@as []"},
		{"marks", []any{"one", "two"}, "['one', 'two']"},
		{"size", []any{int64(1), int64(2)}, "(1, 2)"},
		{"pairs", []any{[]any{"x", int64(1)}}, "[('x', 1)]"},
		{"anything", true, "<true>"},
		{"choice", "right", "'right'"},
		{"title", "Guten Tag\n", `'Guten Tag\n'`},
		{"inherited", true, "true"},
		{"inner/enabled", false, "false"},
	} {
		got, err := render(t, "/org/example/background/"+c.key, policy.Dconf{Value: c.value})
		if err != nil || got != c.want {
			t.Errorf("%s = %v: got %q, %v; want %q", c.key, c.value, got, err, c.want)
		}
	}
}

func TestAValueThatDoesNotFitIsRefusedWithTheReason(t *testing.T) {
	for _, c := range []struct {
		key    string
		value  any
		reason string
	}{
		{"opacity", "fifty", `the string "fifty" does not fit the type int32; the installed schema org.example.background has it as int32`},
		{"opacity", int64(101), "101 is not between 0 and 100"},
		{"opacity", int64(1 << 40), "does not fit the type int32 (-2147483648 to 2147483647)"},
		{"opacity", 1.5, "the number 1.5 does not fit the type int32"},
		{"opacity", true, "true does not fit"},
		{"scale", 0.25, "0.25 is not between 0.5 and 3"},
		{"scale", int64(4), "4 is not between 0.5 and 3"},
		{"big", int64(0), "0 is not between 1 and 18446744073709551615"},
		{"idle", int64(-1), "does not fit the type uint32"},
		{"picture-options", "zooom", `"zooom" is none of zoom, centered, no, middle`},
		{"marks", []any{"one", "three"}, `"three" is none of one, two`},
		{"choice", "up", `"up" is none of left, right`},
		{"names", "a", "does not fit the type array of strings"},
		{"names", []any{"a", int64(1)}, "the number 1 does not fit the type string"},
		{"size", []any{int64(1)}, "it has 1 elements, and 2 are needed"},
		{"map", []any{"a"}, "say it as a gvariant"},
		{"picture-filename", []any{"a"}, "an array does not fit the type string"},
		{"picture-filename", "a\x00b", "zero character"},
		{"picture-filenam", "a", `has no key "picture-filenam"; did you mean "picture-filename"?`},
		{"inner/enabeld", true, `did you mean "enabled"?`},
	} {
		_, err := render(t, "/org/example/background/"+c.key, policy.Dconf{Value: c.value})
		if err == nil || !strings.Contains(err.Error(), c.reason) {
			t.Errorf("%s = %v: %v; want %q", c.key, c.value, err, c.reason)
		}
	}
}

func TestWithoutASchemaAValueHasItsNaturalType(t *testing.T) {
	for _, c := range []struct {
		value any
		want  string
	}{
		{"text", "'text'"},
		{true, "true"},
		{int64(-7), "-7"},
		{int64(1 << 40), "int64 1099511627776"},
		{1e20, "1e+20"},
		{math.Inf(-1), "-inf"},
		{[]any{}, "@as []"},
		{[]any{int64(1), 1.5}, "[1.0, 1.5]"},
		{[]any{int64(1), int64(1 << 40)}, "[int64 1, int64 1099511627776]"},
		{[]any{[]any{"a"}, []any{"b"}}, "[['a'], ['b']]"},
	} {
		got, err := render(t, "/com/example/tool/key", policy.Dconf{Value: c.value})
		if err != nil || got != c.want {
			t.Errorf("%v: got %q, %v; want %q", c.value, got, err, c.want)
		}
	}
	if got, err := render(t, "/com/example/tool/key", policy.Dconf{Value: []any{"a", int64(1)}}); err == nil {
		t.Errorf("an array of two types became %s", got)
	}
}

func TestAGVariantOfAnotherTypeThanTheSchemasIsRefused(t *testing.T) {
	for given, reason := range map[string]string{
		"uint32 50": "is of type uint32, and the installed schema org.example.background has the key as int32",
		"'50'":      "is of type string",
		"50.0":      "is of type double",
		"true":      "is of type boolean",
		"@as []":    "is of type array of strings",
	} {
		_, err := render(t, "/org/example/background/opacity", policy.Dconf{GVariant: given})
		if err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%s: %v; want %q", given, err, reason)
		}
	}
	for _, given := range []string{"50", "int32 50", "@i 50", "0x10"} {
		if _, err := render(t, "/org/example/background/opacity", policy.Dconf{GVariant: given}); err != nil {
			t.Errorf("%s: %v", given, err)
		}
	}
}

func TestAGVariantIsHeldToTheChoicesAndTheRangeOfItsSchema(t *testing.T) {
	for _, c := range []struct{ key, given, reason string }{
		{"opacity", "101", "101 is not between 0 and 100, says the installed schema org.example.background"},
		{"opacity", "int32 -1", "-1 is not between 0 and 100"},
		{"opacity", "@i 0x65", "101 is not between 0 and 100"},
		{"scale", "0.25", "0.25 is not between 0.5 and 3"},
		{"scale", "double 4", "4 is not between 0.5 and 3"},
		{"big", "uint64 0", "0 is not between 1 and"},
		{"picture-options", "'zooom'", `"zooom" is none of zoom, centered, no, middle`},
		{"choice", `@s "up"`, `"up" is none of left, right`},
		{"opacity", "100", ""},
		{"scale", "3.0", ""},
		{"big", "uint64 18446744073709551615", ""},
		{"picture-options", `"zoom"`, ""},
		{"picture-options", `'\u007aoom'`, ""}, // only dconf can tell
		{"marks", "['three']", ""},             // here too
	} {
		_, err := render(t, "/org/example/background/"+c.key, policy.Dconf{GVariant: c.given})
		if got := fmt.Sprint(err); c.reason == "" && err != nil || !strings.Contains(got, c.reason) {
			t.Errorf("%s = %s: %v; want %q", c.key, c.given, err, c.reason)
		}
	}
}

func TestWithSchemasInstalledOnlyAGVariantNeedsNone(t *testing.T) {
	installed := exampleSchemas(t)
	for _, c := range []struct {
		schemas *schemas
		path    string
		want    policy.Dconf
		isError bool
	}{
		{installed, "/com/example/tool/key", policy.Dconf{Value: "text"}, true},
		{installed, "/com/example/tool/key", policy.Dconf{GVariant: "'text'"}, false},
		{installed, "/org/example/background/opacity", policy.Dconf{Value: int64(1)}, false},
		{&schemas{}, "/com/example/tool/key", policy.Dconf{Value: "text"}, false},
	} {
		if _, err := c.schemas.keyOf(c.path, c.want); (err != nil) != c.isError {
			t.Errorf("%s %v: %v", c.path, c.want, err)
		}
	}
}

func TestAGVariantIsTakenAsItIs(t *testing.T) {
	got, err := render(t, "/org/example/background/opacity", policy.Dconf{GVariant: " (uint32 3, 'soft') "})
	if err != nil || got != "(uint32 3, 'soft')" {
		t.Errorf("got %q, %v", got, err)
	}
}

func FuzzSchemas(f *testing.F) {
	content, err := os.ReadFile("gvdb/testdata/gschemas.compiled")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(content, "/org/example/background/opacity")
	f.Add([]byte("GVariant"), "/a/b")
	f.Fuzz(func(_ *testing.T, content []byte, path string) {
		if len(content) > 1<<13 {
			return
		}
		s, err := parseSchemas(content)
		if err != nil {
			return
		}
		if key, err := s.key(path, ""); err == nil && key != nil {
			_, _ = text(policy.Dconf{Value: int64(1)}, key)
			_, _ = text(policy.Dconf{Value: []any{"a"}}, key)
		}
		for dir := range s.byDir {
			if key, err := s.key(dir+"opacity", ""); err == nil && key != nil {
				_, _ = text(policy.Dconf{Value: "a"}, key)
			}
		}
	})
}

// The database shows what the text does not, such as an element of an array. GSettings silently
// ignores such a value.
func TestAValueOfADatabaseIsHeldToItsSchemaWhateverItsText(t *testing.T) {
	u32 := func(n byte) []byte { return []byte{n, 0, 0, 0} }
	for _, c := range []struct {
		key    string
		value  gvdb.Variant
		reason string
	}{
		{"marks", gvdb.Variant{Type: "as", Data: []byte("one\x00three\x00\x04\x0a")}, `"three" is none of one, two`},
		{"marks", gvdb.Variant{Type: "as", Data: []byte("one\x00two\x00\x04\x08")}, ""},
		{"marks", gvdb.Variant{Type: "as"}, ""},
		{"marks", gvdb.Variant{Type: "s", Data: []byte("one\x00")}, "it is of type string, and the installed schema org.example.background has the key as array of strings"},
		{"opacity", gvdb.Variant{Type: "i", Data: u32(101)}, "101 is not between 0 and 100"},
		{"opacity", gvdb.Variant{Type: "i", Data: u32(100)}, ""},
		{"big", gvdb.Variant{Type: "t", Data: make([]byte, 8)}, "0 is not between 1 and"},
		{"choice", gvdb.Variant{Type: "s", Data: []byte("up\x00")}, `"up" is none of left, right`},
		{"size", gvdb.Variant{Type: "(ii)", Data: append(u32(1), u32(2)...)}, ""},
		{"map", gvdb.Variant{Type: "a{sv}"}, ""},
	} {
		key, err := exampleSchemas(t).key("/org/example/background/"+c.key, "")
		if err != nil {
			t.Fatal(err)
		}
		if err := key.judge(c.value); (err != nil) != (c.reason != "") || err != nil && !strings.Contains(err.Error(), c.reason) {
			t.Errorf("%s %q: %v; want %q", c.key, c.value.Data, err, c.reason)
		}
	}
}
