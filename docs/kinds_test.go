// Package docs_test holds the documents to the code.
package docs_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/policy"
)

var (
	testFunction = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	testNamed    = regexp.MustCompile("`((?:Test|Fuzz)\\w+)`")
)

// tests are the names of all test functions of the project.
func tests(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	err := filepath.WalkDir("..", func(name string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(name, "_test.go") {
			return err
		}
		content, err := os.ReadFile(name)
		for _, match := range testFunction.FindAllStringSubmatch(string(content), -1) {
			names[match[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// unheld are the rows of a document's tables that no test holds, which their last column
// would name, and the tests it names that are not there. A table is passed over if its head
// begins with one of the words of loose.
func unheld(text string, known map[string]bool, loose ...string) (rows int, wrong []string) {
	complain := func(number int, format string, args ...any) {
		wrong = append(wrong, fmt.Sprintf("%d: "+format, append([]any{number + 1}, args...)...))
	}
	var head []string // of the table in which we are
	for number, line := range strings.Split(text, "\n") {
		for _, match := range testNamed.FindAllStringSubmatch(line, -1) {
			if !known[match[1]] {
				complain(number, "there is no %s", match[1])
			}
		}
		row := strings.Split(strings.Trim(strings.TrimSpace(strings.ReplaceAll(line, `\|`, "")), "|"), "|")
		switch {
		case !strings.HasPrefix(line, "|"):
			head = nil
		case head == nil:
			if head = row; !slices.Contains(loose, strings.TrimSpace(head[0])) && strings.TrimSpace(head[len(head)-1]) != "held by" {
				complain(number, "its table does not say by what it is held")
			}
		case strings.HasPrefix(line, "|---") || slices.Contains(loose, strings.TrimSpace(head[0])):
		case len(row) != len(head) || !testNamed.MatchString(row[len(row)-1]):
			complain(number, "no test holds it")
		default:
			rows++
		}
	}
	return rows, wrong
}

func TestEveryPitfallAndEveryPromiseIsHeldByATestThatIsThere(t *testing.T) {
	known := tests(t)
	for file, expected := range map[string]struct {
		rows  int // at least
		loose []string
	}{
		"kinds.md":    {rows: 100},
		"security.md": {rows: 25, loose: []string{""}}, // who is trusted with what is no promise
	} {
		rows, wrong := unheld(read(t, file), known, expected.loose...)
		for _, why := range wrong {
			t.Errorf("%s:%s", file, why)
		}
		if rows < expected.rows {
			t.Errorf("%s: %d rows are held, and there were %d", file, rows, expected.rows)
		}
	}
}

func TestEachKindAndEachSectionHasItsPlaceInTheDocuments(t *testing.T) {
	for _, kind := range policy.Kinds() {
		if !regexp.MustCompile("(?m)^\\|[^|]*`" + kind + "`").MatchString(read(t, "../README.md")) {
			t.Errorf("README.md has no row of %s", kind)
		}
		if !regexp.MustCompile(`(?m)^## .*\b` + kind + `\b`).MatchString(read(t, "kinds.md")) {
			t.Errorf("kinds.md says nothing of %s", kind)
		}
	}
	for _, section := range policy.Sections() {
		if !strings.Contains(read(t, "policy.md"), "\n## `["+section) {
			t.Errorf("policy.md says nothing of [%s]", section)
		}
	}
}

func TestARowThatNoTestHoldsIsFound(t *testing.T) {
	known := map[string]bool{"TestIsThere": true}
	const head = "| what | held by |\n|---|---|\n"
	for text, rows := range map[string]int{
		head + "| a | `TestIsThere` |\n": 1,
		"| | loose |\n|---|---|\n| a | b |\n\n" + head + "| a \\| b | `TestIsThere` |\n": 1,
	} {
		if held, wrong := unheld(text, known, ""); held != rows || len(wrong) > 0 {
			t.Errorf("%q: %d, %v", text, held, wrong)
		}
	}
	for text, why := range map[string]string{
		head + "| a | `TestIsGone` |\n":                                     "3: there is no TestIsGone",
		head + "| a | a test |\n":                                           "3: no test holds it",
		head + "| `TestIsThere` | |\n":                                      "3: no test holds it",
		head + "| `TestIsThere` |\n":                                        "3: no test holds it",
		"| what | why |\n|---|---|\n| a | `TestIsThere` |\n":                "1: its table does not say",
		"| | loose |\n|---|---|\n| a | b |\n\n| what |\n|---|\n| a | b |\n": "5: its table does not say",
	} {
		if _, wrong := unheld(text, known, ""); len(wrong) == 0 || !strings.HasPrefix(wrong[0], why) {
			t.Errorf("%q: %v, and not %q", text, wrong, why)
		}
	}
}
