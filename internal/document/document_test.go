package document_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"

	"github.com/soe-agent/soe-agent/internal/document"
)

func TestWhatIsNestedMoreThan32DeepIsRefusedWithItsLine(t *testing.T) {
	arrays := func(n int) string { return "a = " + strings.Repeat("[", n) + strings.Repeat("]", n) + "\n" }
	inline := func(n int) string {
		return "a = " + strings.Repeat("{ a = ", n) + "1.5" + strings.Repeat("}", n) + "\n"
	}
	dotted := func(n int) string { return strings.Repeat("a . ", n-1) + "a = 1\n" }
	quoted := func(n int) string { return strings.Repeat(`"a]".`, n-1) + "'a' = 1\n" }
	header := func(n int) string { return "[" + strings.Repeat("a.", n-1) + "a]\n" }
	headers := func(n int) string { return "[[ " + strings.Repeat("a .\t", n-1) + "\"a\" ]] # [[[\n" }
	mixed := func(n int) string { return header(n-2) + "b = [ { c = 1 } ]\n" }
	below := func(n int) string { return header(20) + strings.Repeat("b.", n-20) + "b = 1\n" }
	lines := func(n int) string { return "a = " + strings.Repeat("[\n", n) + strings.Repeat("]\n", n) }
	withDots := func(n int) string {
		return "a = " + strings.Repeat("{ a.b = ", n/2) + "1" + strings.Repeat("}", n/2) + "\n"
	}
	for name, of := range map[string]func(int) string{
		"arrays": arrays, "inline tables": inline, "a dotted key": dotted, "a quoted key": quoted, "a header": header,
		"a header of tables": headers, "below a header": mixed, "a key below a header": below, "lines": lines, "dotted keys of inline tables": withDots,
	} {
		t.Run(name, func(t *testing.T) {
			text := "# '''\nb = '''\n[[[['''\n" + of(document.Deepest)
			if _, err := document.Values(text); err != nil {
				t.Errorf("%d deep: %v", document.Deepest, err)
			}
			text = "# '''\nb = '''\n[[[['''\n" + of(document.Deepest+2)
			_, err := document.Values(text)
			var e *document.Error
			if !errors.As(err, &e) || e.Line < 4 || !strings.Contains(e.Message, "more than 32") {
				t.Errorf("%d deep: %v", document.Deepest+2, err)
			}
		})
	}
}

func TestWhatIsRefusedForItsDepthNeverReachesTheDecoder(t *testing.T) {
	text := "a = " + strings.Repeat("{a=", document.Largest/8)
	if n := testing.AllocsPerRun(1, func() { _, _ = document.Values(text) }); n > 100 {
		t.Errorf("%v allocations", n)
	}
}

func TestADocumentOfMoreThanAMegabyteIsRefused(t *testing.T) {
	if _, err := document.Values(strings.Repeat("\n", document.Largest)); err != nil {
		t.Error(err)
	}
	if _, err := document.Values(strings.Repeat("\n", document.Largest+1)); err == nil {
		t.Error("it is read")
	}
}

type machine struct {
	Personas []string       `toml:"personas"`
	Inner    inner          `toml:"inner"`
	List     []inner        `toml:"list"`
	Optional *inner         `toml:"optional"`
	Names    map[string]int `toml:"names"`
}

type inner struct {
	Path string `toml:"path"`
}

func TestAKeyInOtherLettersIsNotTheKey(t *testing.T) {
	for text, want := range map[string]string{
		"personas = ['a']\nPersonas = ['b']\n":        "[Personas]",
		"Personas = ['b']\n":                          "[Personas]",
		"[Inner]\npath = 'x'\n":                       "[Inner]",
		"[inner]\npath = 'x'\nPATH = 'y'\n":           "[inner.PATH]",
		"[[list]]\n[[list]]\npatH = 'x'\n":            "[list.patH]",
		"list = [ { path = 'x' }, { Path = 'y' } ]\n": "[list.Path]",
		"optional = { Path = 'x', b = 1 }\n":          "[optional.Path optional.b]",
		"per\u017fonas = 1\n":                         `["perſonas"]`,
		"\"per\u017fonas\" = ['b']\n":                 `["perſonas"]`,
		"personas = ['a']\n[inner]\npath = 'b'\n[names]\na = 1\nA = 2\n[[list]]\npath=''": "[]",
	} {
		var m machine
		unknown, err := document.Decode(text, &m)
		if err != nil && !strings.HasPrefix(text, "per\u017f") {
			t.Errorf("%q: %v", text, err)
		}
		if got := fmt.Sprint(unknown); err == nil && got != want {
			t.Errorf("%q: unknown are %s, want %s", text, got, want)
		}
	}
}

// The decoder and the limits have to agree about what a document is: what the decoder
// takes is never nested more deeply than the limits allow.
func FuzzLimits(f *testing.F) {
	for _, text := range []string{
		"a = [[1.5]]", "[a.b]\nc.d = {e = 1}", "a = '''\n[[[\n'''", "a = \"\"\"x\\\"\"\"\"\"", "a = \"\\\"[\"", "[[a]]\n[a.b]", "a=[#]\n[\n]]", "'' = 1", "a = [\n1,\n2 ]\n[b]",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		// What stands for a bracket is repeated, so that little text is deep.
		for _, deep := range []string{text, strings.ReplaceAll(strings.ReplaceAll(text, "[1", strings.Repeat("[", 40)+"1"), "1]", "1"+strings.Repeat("]", 40))} {
			var all any
			if _, err := toml.Decode(deep, &all); err != nil {
				continue
			}
			n := depthOf(all) - 1
			_, err := document.Values(deep)
			if err == nil && n > document.Deepest || err != nil && n < document.Deepest {
				t.Errorf("%q is %d deep: %v", deep, n, err)
			}
		}
	})
}

// depthOf is how many tables and arrays are around the deepest value, the document too.
func depthOf(value any) int {
	deepest := 0
	switch v := value.(type) {
	case map[string]any:
		for _, element := range v {
			deepest = max(deepest, depthOf(element))
		}
	case []map[string]any:
		for _, element := range v {
			deepest = max(deepest, depthOf(element)-1) // the table of an array of tables is one with it
		}
	case []any:
		for _, element := range v {
			deepest = max(deepest, depthOf(element))
		}
	default:
		return 0
	}
	return 1 + deepest
}
