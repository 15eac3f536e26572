package docs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

var (
	link      = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	inlineURL = regexp.MustCompile(`^[a-z]+:`)
)

// documents are all that people read, from here.
func documents(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, pattern := range []string{"../*.md", "*.md", "../test/bench/*.md"} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, names...)
	}
	return all
}

// anchors are the fragments by which a document's headings can be reached, made as
// GitHub makes them.
func anchors(content string) map[string]bool {
	found := map[string]bool{}
	fenced := false
	for line := range strings.Lines(content) {
		if strings.HasPrefix(line, "```") {
			fenced = !fenced
		}
		title, isHeading := strings.CutPrefix(strings.TrimLeft(line, "#"), " ")
		if fenced || !strings.HasPrefix(line, "#") || !isHeading {
			continue
		}
		anchor := strings.Map(func(r rune) rune {
			switch {
			case unicode.IsLetter(r) || unicode.IsDigit(r) || r == '-' || r == '_':
				return unicode.ToLower(r)
			case r == ' ':
				return '-'
			}
			return -1
		}, strings.TrimSpace(title))
		found[anchor] = true
	}
	return found
}

func TestEveryLinkLeadsSomewhere(t *testing.T) {
	links := 0
	for _, name := range documents(t) {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for number, line := range strings.Split(string(content), "\n") {
			for _, match := range link.FindAllStringSubmatch(line, -1) {
				if inlineURL.MatchString(match[1]) {
					continue // another site's
				}
				links++
				file, fragment, _ := strings.Cut(match[1], "#")
				target := name
				if file != "" {
					target = filepath.Join(filepath.Dir(name), file)
				}
				info, err := os.Stat(target)
				if err != nil {
					t.Errorf("%s:%d: %v", name, number+1, err)
					continue
				}
				if fragment == "" || info.IsDir() {
					continue
				}
				there, err := os.ReadFile(target)
				if err != nil {
					t.Fatal(err)
				}
				if !anchors(string(there))[fragment] {
					t.Errorf("%s:%d: %s has no heading #%s", name, number+1, target, fragment)
				}
			}
		}
	}
	if links < 20 {
		t.Errorf("%d links found", links)
	}
}
