// Package docs_test holds the documents to the code.
package docs_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
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

func TestEveryPitfallIsHeldByATestThatIsThere(t *testing.T) {
	content, err := os.ReadFile("kinds.md")
	if err != nil {
		t.Fatal(err)
	}
	known := tests(t)
	for number, line := range strings.Split(string(content), "\n") {
		named := testNamed.FindAllStringSubmatch(line, -1)
		for _, match := range named {
			if !known[match[1]] {
				t.Errorf("kinds.md:%d: there is no %s", number+1, match[1])
			}
		}
		cells := strings.Split(line, "|")
		if len(cells) == 5 && !strings.HasPrefix(cells[1], "---") && strings.TrimSpace(cells[1]) != "pitfall" && len(named) == 0 {
			t.Errorf("kinds.md:%d: no test holds it", number+1)
		}
	}
}
