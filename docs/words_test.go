package docs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/soe-agent/soe-agent/internal/image"
	"github.com/soe-agent/soe-agent/internal/protected"
	"github.com/soe-agent/soe-agent/internal/system"
)

func read(t *testing.T, file string) string {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// section is what a document says under a heading, up to the next of its rank or a
// higher one.
func section(t *testing.T, file, heading string) string {
	t.Helper()
	text := read(t, file)
	at := regexp.MustCompile(`(?m)^(#+) ` + regexp.QuoteMeta(heading) + `$`).FindStringSubmatchIndex(text)
	if at == nil {
		t.Fatalf("%s has no heading %q", file, heading)
	}
	text = text[at[1]:]
	if next := regexp.MustCompile(`(?m)^#{1,` + string('0'+rune(at[3]-at[2])) + `} `).FindStringIndex(text); next != nil {
		text = text[:next[0]]
	}
	return text
}

// cells are a column of the tables in a text, without their heads.
func cells(text string, column int) []string {
	var all []string
	inTable := false
	for line := range strings.Lines(text) {
		row := strings.Split(line, "|")
		if len(row) < 3 {
			inTable = false
			continue
		}
		if inTable && !strings.HasPrefix(row[1], "---") {
			all = append(all, strings.TrimSpace(row[column+1]))
		}
		inTable = true
	}
	return all
}

var inBackticks = regexp.MustCompile("`([^`]+)`")

func words(cells []string) []string {
	var all []string
	for _, cell := range cells {
		for _, match := range inBackticks.FindAllStringSubmatch(cell, -1) {
			all = append(all, match[1])
		}
	}
	return all
}

// constants are the values that a pattern finds in a file of the program.
func constants(t *testing.T, file, pattern string) []string {
	t.Helper()
	var all []string
	for _, match := range regexp.MustCompile(pattern).FindAllStringSubmatch(read(t, file), -1) {
		all = append(all, match[1])
	}
	return all
}

// same holds two lists to each other, whatever their order.
func same(t *testing.T, what string, program, document []string) {
	t.Helper()
	slices.Sort(program)
	slices.Sort(document)
	if diff := cmp.Diff(program, document); diff != "" {
		t.Errorf("%s, - of the program, + of the document:\n%s", what, diff)
	}
}

func TestTheDocumentsHaveTheWordsOfTheProgram(t *testing.T) {
	names := cells(section(t, "operations.md", "What people see while AWS is away"), 0)
	for i, name := range names {
		names[i], _, _ = strings.Cut(name, ":")
	}
	same(t, "troubles", constants(t, "../internal/source/trouble.go", `(?m)^\t[A-Z]\w+ += "([^"]+)"`), names)

	states := constants(t, "../internal/converge/resource.go", `State += "([^"]+)"`)
	same(t, "states", states, words(cells(section(t, "operations.md", "States"), 0)))

	events := constants(t, "../internal/converge/change.go", `Event = "([^"]+)"`)
	for _, state := range states {
		if !slices.Contains(append(events, "compliant", "unknown"), state) {
			events = append(events, state)
		}
	}
	same(t, "events", events, words(cells(section(t, "operations.md", "What was changed, and when"), 0)[:6]))
}

func TestTheDocumentsHaveTheChecksOfAnAudit(t *testing.T) {
	s, err := system.Open(system.Options{Root: t.TempDir(), Gate: system.ReadOnly})
	if err != nil {
		t.Fatal(err)
	}
	audit := image.Run(t.Context(), image.Options{
		System: s, ConfigFile: "/etc/soe-agent/agent.toml", LocalDir: "/l", SeedDir: "/s", StateDir: "/v", RunDir: "/r",
	})
	checks := audit.Fine
	for _, finding := range audit.Findings {
		checks = append(checks, finding.Check)
	}
	for _, doubt := range append(audit.Unknown, audit.Skipped...) {
		checks = append(checks, doubt.Check)
	}
	slices.Sort(checks)
	same(t, "checks", slices.Compact(checks), words(cells(section(t, "images.md", "Before it is captured"), 0)))
}

// Whoever searches a document for what the program has said finds it.
func TestWhatTroubleshootingQuotesTheProgramSays(t *testing.T) {
	var program strings.Builder
	for _, pattern := range []string{"../internal/*/*.go", "../internal/kind/*/*.go", "../cmd/soe-agent/*.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			program.WriteString(read(t, file))
		}
	}
	quotes := append(words(cells(section(t, "troubleshooting.md", "Of the agent"), 0)), words(cells(section(t, "troubleshooting.md", "Of a resource"), 0))...)
	if len(quotes) < 20 {
		t.Errorf("%d quotes found", len(quotes))
	}
	for _, quote := range quotes {
		for part := range strings.SplitSeq(quote, "…") {
			if part = strings.Trim(part, " /"); !strings.Contains(program.String(), part) {
				t.Errorf("the program never says %q", part)
			}
		}
	}
}

func TestWhatTheDocumentsCallProtectedIs(t *testing.T) {
	rows := cells(section(t, "security.md", "What is protected"), 1)
	if len(rows) != 5 {
		t.Fatalf("there are %d rows", len(rows))
	}
	for row, why := range []func(string) string{protected.Path, protected.Path, protected.Service, protected.Package, protected.Account} {
		for _, name := range words(rows[row : row+1]) {
			if strings.HasSuffix(name, "/") {
				name += "any"
			}
			if free := name == "pcoip-agent.conf"; !free && why(name) == "" {
				t.Errorf("%s is not protected", name)
			}
		}
	}
}

func TestEveryPictureIsShownAndDescribed(t *testing.T) {
	var all strings.Builder
	for _, name := range documents(t) {
		all.WriteString(read(t, name))
	}
	pictures, err := filepath.Glob("*.png")
	if err != nil || len(pictures) == 0 {
		t.Fatal(pictures, err)
	}
	for _, picture := range pictures {
		shown := regexp.MustCompile(`!\[[^\]]{20,}\]\((docs/)?` + regexp.QuoteMeta(picture) + `\)`)
		if !shown.MatchString(all.String()) {
			t.Errorf("nothing shows %s, with words for who cannot see it", picture)
		}
	}
}

func TestTheReadmeLeadsToEveryDocument(t *testing.T) {
	readme := read(t, "../README.md")
	names, err := filepath.Glob("*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if !strings.Contains(readme, "](docs/"+name+")") {
			t.Errorf("README.md does not lead to %s", name)
		}
	}
}

func TestTheDocumentsNameAllThatStaysOpen(t *testing.T) {
	text := section(t, "security.md", "What stays open")
	for _, p := range protected.Ports() {
		name := fmt.Sprintf("%s %d", p.Protocol, p.Low)
		if p.High != p.Low {
			name += fmt.Sprintf("-%d", p.High)
		}
		if !regexp.MustCompile(regexp.QuoteMeta(name)+`\b`).MatchString(text) || p.Peer.IsValid() && !strings.Contains(text, p.Peer.Addr().String()) {
			t.Errorf("nothing is said of %s %s: %s", p.Direction, name, p.Why)
		}
		if p.Why == "" || p.Source == "" {
			t.Errorf("of %s %s nobody says why, or who says so", p.Direction, name)
		}
	}
}
