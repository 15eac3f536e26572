package policy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/BurntSushi/toml"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

const published = "../../docs/policy.schema.json"

func schemaText(t *testing.T) []byte {
	t.Helper()
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(Schema()); err != nil {
		t.Fatal(err)
	}
	return text.Bytes()
}

func TestTheSchemaAndTheManualInTheDocumentsAreThoseOfTheParser(t *testing.T) {
	golden(t, published, string(schemaText(t)))
	golden(t, "../../docs/policy-reference.md", Manual())
}

// schemaValidator returns the schema in a validator of another project.
func schemaValidator(t *testing.T) *jsonschema.Schema {
	t.Helper()
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(schemaText(t)))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("policy.schema.json", document); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("policy.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// valid returns the schema's error for a document, as an editor that reads TOML would show it.
func valid(t *testing.T, schema *jsonschema.Schema, document string) error {
	t.Helper()
	var values map[string]any
	if _, err := toml.Decode(document, &values); err != nil {
		t.Fatalf("%v\n%s", err, document)
	}
	return schema.Validate(likeJSON(values))
}

// likeJSON converts types of TOML that JSON does not have as an editor does.
func likeJSON(value any) any {
	switch v := value.(type) {
	case map[string]any:
		object := map[string]any{}
		for key, element := range v {
			object[key] = likeJSON(element)
		}
		return object
	case []map[string]any:
		array := make([]any, len(v))
		for i, element := range v {
			array[i] = likeJSON(element)
		}
		return array
	case []any:
		array := make([]any, len(v))
		for i, element := range v {
			array[i] = likeJSON(element)
		}
		return array
	case time.Time:
		return v.Format(time.DateOnly)
	}
	return value
}

func TestTheSchemaAcceptsWhatTheParserAccepts(t *testing.T) {
	schema := schemaValidator(t)
	files, _ := filepath.Glob("../../policies/*/*.toml")
	if len(files) < 5 {
		t.Fatalf("the examples are %v", files)
	}
	for _, file := range append(files, "testdata/design.toml") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		mustParse(t, file, string(text))
		if err := valid(t, schema, string(text)); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
	if err := valid(t, schema, everything); err != nil {
		t.Errorf("everything: %v", err)
	}
	for _, document := range []string{
		"[packages]\nx = \"{{resolve:ssm:/a}}\"\n", "[system]\nselinux = \"{{fact:os.id}}\"\n", "[pcoip]\nenable_audio = true\nserver_clipboard_state = \"2\"\n",
		"[dconf.\"org/x\"]\na = [[1, 2], [3]]\n", "[repositories.x]\nensure = \"absent\"\n", "[[rules]]\nmatch = [\"*\", \"p*\", \"s*d\"]\n",
	} {
		document = "schema = 1\n" + document
		mustParse(t, "f", document)
		if err := valid(t, schema, document); err != nil {
			t.Errorf("%s: %v", document, err)
		}
	}
}

func TestTheSchemaRefusesMostOfWhatTheParserRefuses(t *testing.T) {
	schema := schemaValidator(t)
	// Only the parser checks what needs more than one key, or a machine.
	beyond := []string{"syntax.toml", "twice.toml", "no-administrator.toml"}
	files, _ := filepath.Glob("testdata/problems/*.toml")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if slices.Contains(beyond, filepath.Base(file)) {
			continue
		}
		if valid(t, schema, string(text)) == nil {
			t.Errorf("it accepts %s", file)
		}
	}
	for _, document := range []string{
		"colour = 1", "[users.x]\nuuid = 5", "[pcoip]\nserver_clipboard_state = 7", "[pcoip]\nserver_clipboard_stat = 1", "[pcoip]\ntcpport = 1",
		"[packages]\ngit = \"newest\"", "[packages]\ngit = { version = \"1\" }", "[[rules]]\nmatch = [\"pakage/*\"]", "[[rules]]\nseverity = \"low\"",
		"[[rules]]\nmatch = [\"*\"]\nuntil = \"soon\"", "[services.\"x.service\"]", "[services.x]\nrunning = true", "[system]\nhostname = \"x\"",
		"[dropins.\"/etc/x.d/y\"]\nmode = \"0644\"", "[sudo]", "[checks.x]\nrun = \"/bin/true\"", "[dconf.\"org/x\"]\na = { lock = true }",
	} {
		if document = "schema = 1\n" + document + "\n"; valid(t, schema, document) == nil {
			t.Errorf("it accepts\n%s", document)
		}
	}
	if valid(t, schema, "[packages]\ngit = \"latest\"\n") == nil {
		t.Error("it accepts a fragment without a schema")
	}
}

// A place is one where a key may be.
type place struct {
	path []string // path of the key, with names that an author might have chosen
	form *form
}

// places returns the places of all keys of the language.
func places(path []string, f *form) []place {
	var all []place
	if f.items != nil && f.items.table() != nil {
		path, f = append(slices.Clone(path), element(0)), f.items
	}
	table := f.table()
	if table == nil {
		return nil
	}
	for _, k := range table.keys {
		if k.refused == "" {
			below := append(slices.Clone(path), k.name)
			all = append(append(all, place{below, k.form}), places(below, k.form)...)
		}
	}
	if table.each != nil {
		name := map[string]string{"dropins": "/etc/profile.d/a.sh", "directories": "/etc/modprobe.d", "dconf": "org/x", "services": "a.service"}[path[len(path)-1]]
		if name == "" {
			name = "name"
		}
		below := append(slices.Clone(path), name)
		all = append(append(all, place{below, table.each}), places(below, table.each)...)
	}
	return all
}

// with returns a document with a value, as it is written, at a place.
func (p place) with(value string) string {
	var header []string
	text := ""
	for i, part := range p.path[:len(p.path)-1] {
		if isElement(part) {
			text = "[[" + strings.Join(header, ".") + "]]\n"
			if i == len(p.path)-2 {
				header = nil
			}
			continue
		}
		header = append(header, keyText(part))
	}
	last := p.path[len(p.path)-1]
	if len(header) > 0 {
		text += "[" + strings.Join(header, ".") + "]\n"
	}
	return text + fmt.Sprintf("%s = %s\n", keyText(last), value)
}

// A key in the schema that the parser did not read would be silently ignored by both.
func TestTheParserReadsEachKeyOfTheSchema(t *testing.T) {
	schema := schemaValidator(t)
	all := places(nil, language())
	if len(all) < 120 {
		t.Fatalf("only %d places were found", len(all))
	}
	for _, p := range all {
		wrong := "{ no = { such = 1 } }"
		if p.form.table() != nil || p.form.items != nil {
			wrong = "1979-05-27T07:32:00Z"
		}
		document := p.with(wrong)
		if p.path[0] != "schema" {
			document = "schema = 1\n" + document
		}
		_, err := Parse(Source{Name: "f", Text: document})
		told := slices.ContainsFunc(AsProblems(err), func(problem Problem) bool {
			return !strings.Contains(problem.Message, "unknown key") || strings.Contains(problem.Message, ".no: ")
		})
		if !told {
			t.Errorf("the parser does not read %q: %v", p.path, err)
		}
		// For JSON a date is a string, which is valid in a few places.
		if wrong == "{ no = { such = 1 } }" && valid(t, schema, document) == nil {
			t.Errorf("the schema accepts\n%s", document)
		}
	}
}

func TestNoKeyIsKnownToTheParserButThoseOfTheSchema(t *testing.T) {
	schema := schemaValidator(t)
	for _, p := range append(places(nil, language()), place{nil, language()}) {
		table := p.form
		if table.items != nil {
			table, p.path = table.items, append(p.path, element(0))
		}
		if table = table.table(); table == nil || table.each != nil {
			continue
		}
		at := place{path: append(slices.Clone(p.path), "nonesuch")}
		document := "schema = 1\n" + at.with("1")
		if len(p.path) > 0 && p.path[0] == "dconf" { // a table there may also be a path without its quotes
			document += "gvariant = \"1\"\n"
		}
		if p.path == nil {
			document = "schema = 1\nnonesuch = 1\n"
		}
		_, err := Parse(Source{Name: "f", Text: document})
		if err == nil || !strings.Contains(err.Error(), "nonesuch: unknown key") {
			t.Errorf("the parser has nothing against\n%s%v", document, err)
		}
		if valid(t, schema, document) == nil {
			t.Errorf("the schema has nothing against\n%s", document)
		}
	}
}

func TestEachKeyIsExplainedToThoseWhoWriteIt(t *testing.T) {
	for _, p := range places(nil, language()) {
		last := p.path[len(p.path)-1]
		chosen := last == "name" && p.path[0] != "repositories" || strings.ContainsAny(last, "/.")
		if p.form.doc == "" && len(p.form.either) == 0 && !chosen {
			t.Errorf("nothing is said of %q", p.path)
		}
	}
}
