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
