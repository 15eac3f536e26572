package docs_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A term is a row of the glossary.
type term struct {
	words []string // one, or several that belong together
	not   []string // words that are not used for it
}

// glossary are the rows of a text in the form of glossary.md.
func glossary(text string) (terms []term) {
	for line := range strings.Lines(text) {
		row := strings.Split(strings.TrimSpace(line), "|")
		if len(row) != 5 || strings.HasPrefix(row[1], "---") || strings.TrimSpace(row[1]) == "word" {
			continue
		}
		terms = append(terms, term{listed(strings.ReplaceAll(row[1], "`", "")), listed(row[3])})
	}
	return terms
}

// listed are the words between commas.
func listed(cell string) (all []string) {
	for word := range strings.SplitSeq(cell, ",") {
		if word = strings.TrimSpace(word); word != "" {
			all = append(all, word)
		}
	}
	return all
}

// ofWord finds a word in its usual forms, whatever its case, over the end of a line too.
func ofWord(word string) *regexp.Regexp {
	return regexp.MustCompile(`(?i)\b` + strings.ReplaceAll(regexp.QuoteMeta(word), " ", `\s+`) + `(s|es|ed|ing)?\b`)
}

// ofCode are names of tests, as the tables of pitfalls have, and of the program's functions.
var ofCode = regexp.MustCompile("\\b(Test|Fuzz)[A-Z]\\w+|`\\w+\\.[A-Z]\\w*`")

// proseOf are the documents by their names: those of the project, the manual's
// pages, the schemas, and what the package brings.
func proseOf(t *testing.T) map[string]string {
	t.Helper()
	var pages []string
	for _, pattern := range []string{"../packaging/*/*", "../systemd/*.*", "../policies/*/*.toml", "*.schema.json"} {
		names, err := filepath.Glob(pattern)
		if err != nil || len(names) == 0 {
			t.Fatalf("nothing is at %s: %v", pattern, err)
		}
		pages = append(pages, names...)
	}
	pages = slices.DeleteFunc(pages, func(name string) bool {
		return strings.HasSuffix(name, ".go") || filepath.Ext(name) == ".d"
	})
	texts := map[string]string{}
	for _, name := range append(documents(t), pages...) {
		if base := filepath.Base(name); base != "glossary.md" && base != "CHANGELOG.md" {
			texts[name] = ofCode.ReplaceAllString(read(t, name), "")
		}
	}
	return texts
}

// saidBy are the texts of the program by their files: string literals with a blank in them,
// which are help, log lines, reasons and errors.
func saidBy(t *testing.T, tops ...string) map[string]string {
	t.Helper()
	texts := map[string]string{}
	for _, top := range tops {
		err := filepath.WalkDir(top, func(name string, entry fs.DirEntry, err error) error {
			if err == nil && entry.IsDir() && entry.Name() == "testdata" {
				return filepath.SkipDir
			}
			if err != nil || entry.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			var said strings.Builder
			ast.Inspect(file, func(n ast.Node) bool {
				if literal, is := n.(*ast.BasicLit); is && literal.Kind == token.STRING {
					if text, err := strconv.Unquote(literal.Value); err == nil && strings.Contains(text, " ") {
						said.WriteString(text + "\n")
					}
				}
				return true
			})
			texts[name] = said.String()
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return texts
}

func TestTheGlossaryHasTheWordsOfTheDocumentsAndTheHelp(t *testing.T) {
	terms := glossary(read(t, "glossary.md"))
	if len(terms) < 25 {
		t.Fatalf("the glossary has %d words", len(terms))
	}
	if !slices.IsSortedFunc(terms, func(a, b term) int { return strings.Compare(a.words[0], b.words[0]) }) {
		t.Error("the glossary is not in the order of the alphabet")
	}
	prose, help := proseOf(t), saidBy(t, "../cmd/soe-agent")
	for _, term := range terms {
		for _, word := range term.words {
			if !appears(ofWord(word), prose) && !appears(ofWord(word), help) {
				t.Errorf("the glossary explains %q, which no document and no help has", word)
			}
		}
	}
}

func appears(word *regexp.Regexp, texts map[string]string) bool {
	for _, text := range texts {
		if word.MatchString(text) {
			return true
		}
	}
	return false
}

func TestNobodySaysWhatTheGlossaryHasAnotherWordFor(t *testing.T) {
	texts := proseOf(t)
	for name, text := range saidBy(t, "../cmd", "../internal") {
		texts[name] = text
	}
	for name, text := range texts {
		for _, wrong := range wrongWords(glossary(read(t, "glossary.md")), text) {
			t.Errorf("%s: %s", name, wrong)
		}
	}
}

// wrongWords are the words of a text for which the glossary has others.
func wrongWords(terms []term, text string) (wrong []string) {
	for _, term := range terms {
		for _, not := range term.not {
			if found := ofWord(not).FindString(text); found != "" {
				wrong = append(wrong, strconv.Quote(found)+" is not the word: say "+strconv.Quote(term.words[0]))
			}
		}
	}
	return wrong
}

func TestAWordThatTheGlossaryReplacesIsFound(t *testing.T) {
	terms := glossary("| word | means | not |\n|---|---|---|\n| pass | … | walk, full scan |\n| `a`, b | … | |\n")
	if len(terms) != 2 || !slices.Equal(terms[1].words, []string{"a", "b"}) || len(terms[1].not) != 0 {
		t.Fatalf("it is read as %+v", terms)
	}
	for text, wrong := range map[string]int{
		"after the Walks": 1, "a full\nscan": 1, "walked, with a full scan": 2, "a pass over sidewalks": 0,
	} {
		if got := wrongWords(terms, text); len(got) != wrong {
			t.Errorf("in %q there are %q, and not %d", text, got, wrong)
		}
	}
}
