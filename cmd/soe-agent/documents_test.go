package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// typed is the agent's command line wherever a document has it: at the beginning of
// a line of code, after a prompt word, or in backticks.
var typed = regexp.MustCompile("(?m)(?:^|[`;|({]|\\bsudo |\\bdo |&& )\\s*soe-agent((?: +[^\\s`|;)&#\\\\]+)*)")

// Whoever types what a document says is never told that there is no such thing.
func TestEveryCommandOfTheDocumentsExists(t *testing.T) {
	var documents []string
	for _, pattern := range []string{"../../*.md", "../../docs/*.md"} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		documents = append(documents, names...)
	}
	found := 0
	for _, name := range documents {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range typed.FindAllStringSubmatchIndex(string(content), -1) {
			args := strings.Fields(string(content)[match[2]:match[3]])
			if len(args) == 0 {
				continue // the name alone
			}
			found++
			if what := unknownIn(args); what != "" {
				line := 1 + strings.Count(string(content[:match[2]]), "\n")
				t.Errorf("%s:%d: soe-agent %s: there is no %s", name, line, strings.Join(args, " "), what)
			}
		}
	}
	if found < 50 {
		t.Errorf("%d commands found", found)
	}
}

// Scripts go by what the table says: it has every command, and a 2 for those alone that
// say of themselves that they exit with 2.
func TestTheTableOfExitCodesHasEveryCommand(t *testing.T) {
	content, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	twos := map[string]bool{}
	_, table, _ := strings.Cut(string(content), "| command | 0 | 1 | 2 |\n")
	table, _, _ = strings.Cut(table, "\n\n")
	for row := range strings.Lines(table) {
		cells := strings.Split(row, "|")
		if len(cells) != 6 {
			t.Fatalf("a row of %d cells: %s", len(cells)-2, row)
		}
		for _, name := range strings.Split(cells[1], ",") {
			twos[strings.Trim(name, " `")] = strings.TrimSpace(cells[4]) != ""
		}
	}
	if table == "" || twos["status --watch"] {
		t.Fatalf("the table has %v", twos)
	}
	for _, c := range leaves((&app{}).root()) {
		name := strings.TrimPrefix(c.CommandPath(), "soe-agent ")
		two, there := twos[name]
		if says := strings.Contains(c.Long, ", 2 "); !there || two != says {
			t.Errorf("%s: in the table: %v, with a 2: %v, and it says so itself: %v", name, there, two, says)
		}
	}
}

// leaves are the commands that do something.
func leaves(c *cobra.Command) []*cobra.Command {
	var all []*cobra.Command
	if c.Runnable() {
		all = append(all, c)
	}
	for _, sub := range c.Commands() {
		all = append(all, leaves(sub)...)
	}
	return all
}

// unknownIn returns the first word of a command line that the program does not know.
func unknownIn(args []string) string {
	command := (&app{}).root()
	command.InitDefaultHelpCmd()
	command.InitDefaultCompletionCmd()
	for len(args) > 0 {
		word := args[0]
		args = args[1:]
		if strings.HasPrefix(word, "-") {
			flag, hasValue := flagOf(command, word)
			if flag == nil {
				return word
			}
			if flag.NoOptDefVal == "" && !hasValue && len(args) > 0 {
				args = args[1:]
			}
			continue
		}
		i := slices.IndexFunc(command.Commands(), func(c *cobra.Command) bool { return c.Name() == word })
		switch {
		case i >= 0:
			command = command.Commands()[i]
		case command.HasSubCommands() && !strings.ContainsAny(word, "….,"):
			return word
		}
	}
	return ""
}

func flagOf(c *cobra.Command, word string) (flag *pflag.Flag, hasValue bool) {
	name, _, hasValue := strings.Cut(strings.TrimLeft(word, "-"), "=")
	for _, set := range []*pflag.FlagSet{c.Flags(), c.PersistentFlags(), c.InheritedFlags()} {
		if strings.HasPrefix(word, "--") {
			flag = set.Lookup(name)
		} else {
			flag = set.ShorthandLookup(name)
		}
		if flag != nil {
			return flag, hasValue
		}
	}
	return nil, hasValue
}
