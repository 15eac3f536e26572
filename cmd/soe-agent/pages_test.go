package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// pages are the manual and the completions as the package has them.
func pages(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "go", "run", "-tags", "pages", "./cmd/soe-agent", dir)
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH=1795219200")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir
}

func TestEveryCommandHasAPageThatIsWellFormedAndShellsCanComplete(t *testing.T) {
	dir := pages(t)
	names := []string{"man5/soe-agent.toml.5", "man5/soe-agent-policy.5"}
	var walk func(*cobra.Command, string)
	walk = func(c *cobra.Command, name string) {
		names = append(names, "man8/"+name+".8")
		for _, sub := range c.Commands() {
			if sub.IsAvailableCommand() {
				walk(sub, name+"-"+sub.Name())
			}
		}
	}
	walk((&app{}).root(), "soe-agent")
	if len(names) < 20 {
		t.Errorf("only %q", names)
	}
	for _, name := range names {
		content, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
			continue
		}
		for _, want := range []string{"Nov 2026", ".SH NAME", "SEE ALSO"} {
			if !bytes.Contains(content, []byte(want)) {
				t.Errorf("%s does not say %q", name, want)
			}
		}
		if out, err := exec.CommandContext(t.Context(), "groff", "-man", "-t", "-ww", "-Kutf8", "-Tutf8", "-z", filepath.Join(dir, name)).CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
	first, err := os.ReadFile(filepath.Join(dir, "man8/soe-agent.8"))
	if err != nil || !strings.Contains(string(first), ".SH EXIT STATUS") || !strings.Contains(string(first), ".SH FILES") {
		t.Errorf("the first page lacks what no command says: %v\n%s", err, first)
	}

	for _, script := range []string{"bash/soe-agent", "zsh/_soe-agent", "fish/soe-agent.fish"} {
		if content, err := os.ReadFile(filepath.Join(dir, script)); err != nil || !bytes.Contains(content, []byte("__complete")) {
			t.Errorf("%s: %v", script, err)
		}
	}
	// The agent itself is asked what there is, so a shell that can read the script has all.
	if out, err := exec.CommandContext(t.Context(), "bash", "-n", filepath.Join(dir, "bash/soe-agent")).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := exec.CommandContext(t.Context(), "diff", "-r", dir, pages(t)).CombinedOutput(); err != nil {
		t.Errorf("made again they are others: %s", out)
	}
}
