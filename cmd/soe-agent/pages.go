//go:build pages

package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/cpuguy83/go-md2man/v2/md2man"
	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// With the tag "pages" the program is another one: it writes the manual and the
// completions for shells into a directory, from the commands as they are and from
// documents. The product has none of what that takes.
//
//	go run -tags pages ./cmd/soe-agent DIR
//
// The date of the pages is SOURCE_DATE_EPOCH: the same sources make the same pages.
func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: pages DIR")
		os.Exit(exitError)
	}
	if err := writePages(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "cannot write the manual:", err)
		os.Exit(exitError)
	}
}

func writePages(dir string) error {
	epoch, err := strconv.ParseInt(cmp.Or(os.Getenv("SOURCE_DATE_EPOCH"), "0"), 10, 64)
	if err != nil {
		return err
	}
	date := time.Unix(epoch, 0).UTC()
	root := (&app{stdout: io.Discard, stderr: io.Discard}).root()
	root.DisableAutoGenTag = true
	root.InitDefaultHelpFlag()
	for _, sub := range []string{"man8", "man5", "bash", "zsh", "fish"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return err
		}
	}
	asMarkdown(root)
	err = errors.Join(
		doc.GenManTree(root, &doc.GenManHeader{Section: "8", Date: &date, Source: "soe-agent " + version, Manual: "soe-agent"}, filepath.Join(dir, "man8")),
		add(filepath.Join(dir, "man8/soe-agent.8"), "packaging/man/soe-agent.8.md"),
		page(filepath.Join(dir, "man5/soe-agent.toml.5"), "soe-agent.toml", "packaging/man/soe-agent.toml.5.md", date),
		page(filepath.Join(dir, "man5/soe-agent-policy.5"), "soe-agent-policy", "docs/policy.md", date),
		root.GenBashCompletionFileV2(filepath.Join(dir, "bash/soe-agent"), true),
		root.GenZshCompletionFile(filepath.Join(dir, "zsh/_soe-agent")),
		root.GenFishCompletionFile(filepath.Join(dir, "fish/soe-agent.fish"), true),
	)
	pages, globErr := filepath.Glob(filepath.Join(dir, "man?/*"))
	for _, page := range pages {
		err = errors.Join(err, ragged(page))
	}
	return errors.Join(err, globErr)
}

// ragged keeps a page from having lines filled up with blanks.
func ragged(file string) error {
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	return os.WriteFile(file, bytes.Replace(content, []byte(".nh\n"), []byte(".nh\n.ad l\n"), 1), 0o644)
}

var markup = regexp.MustCompile("[*_<`\\\\]")

// asMarkdown makes of what the commands say of themselves what the manual's writer takes:
// lines in columns stay lines, and no sign means anything.
func asMarkdown(c *cobra.Command) {
	paragraphs := strings.Split(c.Long, "\n\n")
	for i, paragraph := range paragraphs {
		if strings.Contains(paragraph, "   ") {
			paragraphs[i] = "    " + strings.ReplaceAll(strings.TrimSpace(paragraph), "\n", "\n    ")
		} else {
			paragraphs[i] = markup.ReplaceAllString(paragraph, `\$0`)
		}
	}
	c.Long = strings.Join(paragraphs, "\n\n")
	c.Short = markup.ReplaceAllString(c.Short, `\$0`)
	for _, sub := range c.Commands() {
		asMarkdown(sub)
	}
}

// add adds what no command says of itself to a page, before what to see also.
func add(file, source string) error {
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	more, err := os.ReadFile(source)
	if err != nil {
		return err
	}
	before, after, found := bytes.Cut(content, []byte(".SH SEE ALSO"))
	if !found {
		return fmt.Errorf("%s says nothing of what to see also", file)
	}
	_, text, _ := bytes.Cut(md2man.Render(append([]byte("% \"X\" \"8\"\n\n"), more...)), []byte("\n.SH "))
	after = bytes.Replace(after, []byte("\n"), []byte("\n\\fBsoe-agent.toml(5)\\fP, \\fBsoe-agent-policy(5)\\fP,\n"), 1)
	all := bytes.Join([][]byte{before, []byte(".SH "), text, []byte("\n.SH SEE ALSO"), after}, nil)
	return os.WriteFile(file, all, 0o644)
}

// withoutTables makes lists of tables, which are wider than a terminal: of each row the
// first cell is what the others are about.
func withoutTables(text string) string {
	var plain strings.Builder
	header := true
	for line := range strings.Lines(text) {
		row := strings.TrimSpace(line)
		if !strings.HasPrefix(row, "|") {
			header = true
			plain.WriteString(line)
			continue
		}
		cells := strings.Split(strings.ReplaceAll(strings.Trim(row, "|"), `\|`, "\x00"), "|")
		for i, cell := range cells {
			cells[i] = strings.ReplaceAll(strings.TrimSpace(cell), "\x00", "|")
		}
		switch {
		case header || strings.Trim(row, "|-: ") == "":
			header = false
		case len(cells) > 1:
			fmt.Fprintf(&plain, "%s\n: %s\n\n", cells[0], strings.Join(cells[1:], "; "))
		}
	}
	return plain.String()
}

var (
	title    = regexp.MustCompile(`(?m)\A# .*\n`)
	relative = regexp.MustCompile(`\[([^\]]+)\]\([^)]*\)`)
)

// page makes a page of section 5 of a document.
func page(file, name, source string, date time.Time) error {
	text, err := os.ReadFile(source)
	if err != nil {
		return err
	}
	about := map[string]string{"soe-agent.toml": "configuration of soe-agent", "soe-agent-policy": "what soe-agent makes of a desktop"}[name]
	head := fmt.Sprintf("%% %q \"5\" %q %q \"soe-agent\"\n\n# NAME\n\n%s - %s\n\n# DESCRIPTION\n\n",
		strings.ToUpper(name), date.Format("Jan 2006"), "soe-agent "+version, name, about)
	body := relative.ReplaceAllString(withoutTables(title.ReplaceAllString(string(text), "")), "$1")
	tail := "\n\n# SEE ALSO\n\n**soe-agent(8)**, **soe-agent.toml(5)**, **soe-agent-policy(5)**\n"
	return os.WriteFile(file, md2man.Render([]byte(head+strings.ReplaceAll(body, "\n## ", "\n# ")+tail)), 0o644)
}
