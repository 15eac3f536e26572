package e2e

import (
	"os/exec"
	"strings"
	"testing"
)

func TestThePackageBringsItsManualAndItsCompletions(t *testing.T) {
	t.Parallel()
	file, err := rpm()
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "rpm", "-qlp", file).Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"/usr/share/man/man8/soe-agent.8.gz", "/usr/share/man/man8/soe-agent-image-seal.8.gz", "/usr/share/man/man8/soe-agent-support-bundle.8.gz",
		"/usr/share/man/man5/soe-agent.toml.5.gz", "/usr/share/man/man5/soe-agent-policy.5.gz", "/usr/share/bash-completion/completions/soe-agent",
		"/usr/share/zsh/site-functions/_soe-agent", "/usr/share/fish/vendor_completions.d/soe-agent.fish",
	} {
		if !strings.Contains("\n"+string(out), "\n"+want+"\n") {
			t.Errorf("%s is not in the package:\n%s", want, out)
		}
	}
}
