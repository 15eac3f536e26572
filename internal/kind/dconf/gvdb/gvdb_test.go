package gvdb_test

import (
	"encoding/binary"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/soe-agent/soe-agent/internal/kind/dconf/gvdb"
)

func load(t testing.TB, name string) []byte {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func parse(t testing.TB, name string) gvdb.Table {
	t.Helper()
	root, err := gvdb.Parse(load(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// The values in dconf's database equal those in the keyfile that it was compiled from.
func TestEveryValueOfADatabaseReadsAsItsKeyfileSays(t *testing.T) {
	want := map[string]string{}
	dir := ""
	for line := range strings.Lines(string(load(t, "keyfile.txt"))) {
		line = strings.TrimSuffix(line, "\n")
		if inner, ok := strings.CutPrefix(line, "["); ok {
			dir = "/" + strings.TrimSuffix(inner, "]") + "/"
			continue
		}
		key, text, _ := strings.Cut(line, "=")
		want[dir+key] = text
	}
	want["/org/example/background/maybes"] = "[just 'x', @ms nothing]"
	got := map[string]string{}
	for key, value := range parse(t, "dconf").Values() {
		text, ok := value.Text()
		if !ok {
			t.Errorf("%s has no text", key)
		}
		got[key] = text
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestALookUpFindsValuesAndLocks(t *testing.T) {
	root := parse(t, "dconf")
	if _, ok := root.Value("/org/example/lock-enabled"); !ok {
		t.Error("a value is not found")
	}
	if _, ok := root.Value("/org/example/nothing-of-the-kind"); ok {
		t.Error("a value is found that is not there")
	}
	var locks []string
	for key := range root.Table(".locks").Values() {
		locks = append(locks, key)
	}
	slices.Sort(locks)
	if diff := cmp.Diff([]string{"/org/example/background/opacity", "/org/example/lock-enabled"}, locks); diff != "" {
		t.Error(diff)
	}
}

func TestCompiledSchemasHoldPathsAndTypes(t *testing.T) {
	root := parse(t, "gschemas.compiled")
	ids := slices.Sorted(maps.Keys(maps.Collect(root.Tables())))
	want := []string{"org.example.background", "org.example.base", "org.example.inner", "org.example.relocatable"}
	if diff := cmp.Diff(want, ids); diff != "" {
		t.Error(diff)
	}
	schema := root.Table("org.example.background")
	path, _ := schema.Value(".path")
	if text, _ := path.Text(); text != "'/org/example/background/'" {
		t.Errorf("the path is %s", text)
	}
	opacity, _ := schema.Value("opacity")
	parts, ok := opacity.Children()
	if !ok || parts[0].Type != "i" {
		t.Fatalf("opacity is %v", opacity)
	}
	if text, _ := opacity.Text(); text != "(100, (byte 0x72, (0, 100)))" {
		t.Errorf("opacity is %s", text)
	}
}

func TestADamagedFileIsAnErrorOrEmptyAndNeverAPanic(t *testing.T) {
	for _, content := range [][]byte{
		nil,
		[]byte("GVariant"),
		[]byte("raVGtnai" + strings.Repeat("\x00", 16)), // the other byte order
		[]byte("GVariant\x01" + strings.Repeat("\x00", 15)),
		append([]byte("GVariant"+strings.Repeat("\x00", 8)), "\xff\xff\xff\xff\xff\xff\xff\xff"...),
	} {
		if _, err := gvdb.Parse(content); !errors.Is(err, gvdb.ErrFormat) {
			t.Errorf("%q: %v", content, err)
		}
	}
	for _, name := range []string{"dconf", "gschemas.compiled"} {
		whole := load(t, name)
		for i := range whole {
			walkFile(whole[:i])
			flipped := slices.Clone(whole)
			flipped[i] ^= 0xff
			walkFile(flipped)
		}
	}
}

func TestAnItemThatIsItsOwnParentHasNoKey(t *testing.T) {
	file := slices.Clone(load(t, "dconf"))
	start := binary.LittleEndian.Uint32(file[16:])
	blooms := binary.LittleEndian.Uint32(file[start:]) & (1<<27 - 1)
	buckets := binary.LittleEndian.Uint32(file[start+4:])
	items := file[start+8+4*(blooms+buckets) : binary.LittleEndian.Uint32(file[20:])]
	for i := 0; i < len(items); i += 24 {
		binary.LittleEndian.PutUint32(items[i+4:], uint32(i/24))
	}
	root, err := gvdb.Parse(file)
	if err != nil {
		t.Fatal(err)
	}
	for key := range root.Values() {
		t.Errorf("%q has a key", key)
	}
}

func TestVariantsInVariantsWithoutEndHaveNoText(t *testing.T) {
	deep := gvdb.Variant{Type: "v", Data: []byte("\x01\x00b" + strings.Repeat("\x00v", 1<<20))}
	if text, ok := deep.Text(); ok {
		t.Errorf("it has a text of %d bytes", len(text))
	}
}

func TestTypesAreSplitAfterTheFirst(t *testing.T) {
	for _, c := range []struct{ in, one, rest string }{
		{"s", "s", ""},
		{"asi", "as", "i"},
		{"a{s(ib)}u", "a{s(ib)}", "u"},
		{"((b)())x", "((b)())", "x"},
		{"mmay", "mmay", ""},
	} {
		if one, rest, ok := gvdb.FirstType(c.in); !ok || one != c.one || rest != c.rest {
			t.Errorf("%q: %q, %q, %v", c.in, one, rest, ok)
		}
	}
	for _, in := range []string{"", "a", "(", "(s", "{s}", "a{}", "a{vs}", "z", "a{sss}", strings.Repeat("a", 100) + "s"} {
		if one, _, ok := gvdb.FirstType(in); ok {
			t.Errorf("%q has the type %q", in, one)
		}
	}
}

// walkFile reads everything in a file.
func walkFile(content []byte) {
	root, err := gvdb.Parse(content)
	if err != nil {
		return
	}
	walk(root)
	for _, inner := range root.Tables() {
		walk(inner)
	}
}

func walk(table gvdb.Table) {
	for _, value := range table.Values() {
		value.Text()
	}
}

func FuzzParse(f *testing.F) {
	f.Add(load(f, "dconf"))
	f.Add(load(f, "gschemas.compiled"))
	f.Add([]byte("GVariant"))
	f.Fuzz(func(_ *testing.T, content []byte) {
		if len(content) < 1<<13 {
			walkFile(content)
		}
	})
}

func FuzzText(f *testing.F) {
	f.Add("as", []byte("a\x00b\x00\x02\x04"))
	f.Add("(sasu)", []byte("hello\x00a\x00\x02\x00\x00\x00\x01\x02\x03\x04\x09\x06"))
	f.Add("a{sv}", []byte{})
	f.Add("mms", []byte("x\x00\x00\x00"))
	f.Add("(i(y(ii)))", []byte{100, 0, 0, 0, 'r', 0, 0, 0, 0, 0, 0, 0, 100, 0, 0, 0})
	f.Fuzz(func(t *testing.T, typ string, data []byte) {
		text, ok := gvdb.Variant{Type: typ, Data: data}.Text()
		if !ok && text != "" {
			t.Errorf("%q is no text of %q", text, typ)
		}
	})
}
