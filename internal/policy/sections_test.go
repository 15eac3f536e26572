package policy

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func typeName(spec Spec) string { return reflect.TypeOf(spec).Name() }

// The compiler checks that a section has everything. This test checks that it is meant.
func TestEachSectionStandsInAFileOfItsNameAndShowsAllThatItMayBeReadAs(t *testing.T) {
	schema := schemaValidator(t)
	for _, section := range sections() {
		t.Run(section.name, func(t *testing.T) {
			source, err := os.ReadFile(section.name + ".go")
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(source), "func "+section.name+"Section() section {") {
				t.Errorf("%s.go does not describe the section", section.name)
			}
			text := "schema = 1\n" + section.example
			f := mustParse(t, "example", text)
			if err := valid(t, schema, text); err != nil {
				t.Errorf("an editor refuses the example: %v", err)
			}
			for _, spec := range section.specs {
				if !slices.ContainsFunc(f.Settings, func(s Setting) bool { return typeName(s.Spec) == typeName(spec) && s.ID.Kind() == spec.Kind() }) {
					t.Errorf("the example shows no %s of kind %s:\n%s", typeName(spec), spec.Kind(), section.example)
				}
			}
			for _, s := range f.Settings {
				if !slices.ContainsFunc(section.specs, func(spec Spec) bool { return typeName(s.Spec) == typeName(spec) && s.ID.Kind() == spec.Kind() }) {
					t.Errorf("it is read as %T %s, which it does not say", s.Spec, s.ID)
				}
			}
			for _, warning := range Advise([]Fragment{f}, time.Unix(0, 0)) {
				t.Errorf("the example is one to be warned of: %v", warning)
			}
			readAgain(t, mustMerge(t, nil, f))
		})
	}
}

// declared returns the types of the package that have an Expand method: the specs.
func declared(t *testing.T) []string {
	t.Helper()
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, file := range files {
		if !strings.HasSuffix(file.Name(), ".go") || strings.HasSuffix(file.Name(), "_test.go") {
			continue
		}
		syntax, err := parser.ParseFile(token.NewFileSet(), file.Name(), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range syntax.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv != nil && f.Name.Name == "Expand" {
				if name, ok := f.Recv.List[0].Type.(*ast.Ident); ok {
					names[name.Name] = true
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(names))
}

func TestEachSpecIsOfASection(t *testing.T) {
	listed := map[string]bool{}
	for _, section := range sections() {
		for _, spec := range section.specs {
			listed[typeName(spec)] = true
		}
	}
	if all := declared(t); !slices.Equal(all, slices.Sorted(maps.Keys(listed))) {
		t.Errorf("specs are %v; of a section are %v", all, slices.Sorted(maps.Keys(listed)))
	}
}

func TestWhatMayBeAbsentIsKnownToBe(t *testing.T) {
	for _, section := range sections() {
		for _, spec := range section.specs {
			_, has := reflect.TypeOf(spec).FieldByName("Ensure")
			if _, is := spec.(removable); is != has {
				t.Errorf("%T: it has an Ensure: %v; it says when it is absent: %v", spec, has, is)
			}
		}
	}
}

func TestWhatHoldsSecretsIsNotWrittenOut(t *testing.T) {
	for _, section := range sections() {
		for _, s := range mustParse(t, "example", "schema = 1\n"+section.example).Settings {
			c, is := s.Spec.(Confidential)
			if !is {
				continue
			}
			written, err := json.Marshal(s.Spec)
			if err != nil {
				t.Fatal(err)
			}
			if text, file := c.Confidential(s.ID); text == "" || strings.Contains(string(written), strings.TrimSpace(text)) || !strings.HasPrefix(file, "/") {
				t.Errorf("%s: the confidential %q of %s is in %s", s.ID, text, file, written)
			}
		}
	}
}
