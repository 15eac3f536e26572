package check_test

import (
	"strings"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/kind/check"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

// results runs the checks of a policy; a plan may do no more than they do.
func results(t *testing.T, toml string) map[string]converge.Resource {
	t.Helper()
	s, err := system.Open(system.Options{Gate: system.ReadOnly})
	if err != nil {
		t.Fatal(err)
	}
	fragment, err := policy.Parse(policy.Source{Name: "test.toml", Text: "schema = 1\n" + toml})
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.Merge([]policy.Fragment{fragment}, nil)
	if err != nil {
		t.Fatal(err)
	}
	resources, err := check.New(p, s).Check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]converge.Resource{}
	for _, r := range resources {
		found[r.ID.Name()] = r
	}
	return found
}

func TestACheckHoldsWhenExitCodeAndOutputAreAsWanted(t *testing.T) {
	found := results(t, `
[checks]
holds          = { run = ["/bin/true"] }
end-of-output  = { run = ["/bin/echo", "active"], stdout = "^active$" }
other-code     = { run = ["/bin/sh", "-c", "exit 3"], exit = 3 }
fails          = { run = ["/bin/sh", "-c", "echo no such thing >&2; exit 3"] }
other-output   = { run = ["/bin/printf", "in\\033[31mactive"], stdout = "^active$" }
not-there      = { run = ["/usr/bin/no-such-program"] }
never-ends     = { run = ["/bin/sleep", "60"], timeout = "50ms" }
`)
	for name, want := range map[string]struct {
		state  converge.State
		reason string
	}{
		"holds":         {converge.Compliant, ""},
		"end-of-output": {converge.Compliant, ""},
		"other-code":    {converge.Compliant, ""},
		"fails":         {converge.Failed, "the check does not hold: /bin/sh exited with 3: no such thing"},
		"other-output":  {converge.Failed, "the check does not hold: its output is not as wanted"},
		"not-there":     {converge.Unknown, "cannot run /usr/bin/no-such-program: the program is not installed"},
		"never-ends":    {converge.Unknown, "cannot run /bin/sleep: it did not end within 50ms: context deadline exceeded"},
	} {
		if r := found[name]; r.State != want.state || r.Reason != want.reason {
			t.Errorf("%s is %s: %q; want %s: %q", name, r.State, r.Reason, want.state, want.reason)
		}
	}
	if diff := found["other-output"].Diff; len(diff) != 1 || strings.Contains(diff[0].Got, "\x1b") {
		t.Errorf("a terminal would obey %q", diff)
	}
}

func TestWhatAReportShowsOfALongOutputIsBounded(t *testing.T) {
	r := results(t, `checks.long = { run = ["/bin/sh", "-c", "yes | head -c 100000"], stdout = "^no" }`)["long"]
	if len(r.Diff) != 1 || len(r.Diff[0].Got) > 500 {
		t.Errorf("%s %q", r.State, r.Diff)
	}
}

func TestChecksRunAtTheSameTime(t *testing.T) {
	start := time.Now()
	found := results(t, `
[checks]
a = { run = ["/bin/sleep", "1"] }
b = { run = ["/bin/sleep", "1"] }
c = { run = ["/bin/sleep", "1"] }
d = { run = ["/bin/sleep", "1"] }
`)
	if took := time.Since(start); took > 3*time.Second || len(found) != 4 {
		t.Errorf("%d checks of a second each took %s", len(found), took)
	}
}
