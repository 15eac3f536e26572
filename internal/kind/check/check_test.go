package check_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/kind/check"
	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

// noLedger keeps what it is told in memory alone.
func noLedger() *converge.Ledger { return converge.LostLedger(errors.New("there is none")) }

// results runs the checks of a policy; a plan may do no more than they do.
func results(t *testing.T, toml string) map[string]converge.Resource {
	t.Helper()
	s := kindtest.Open(t, system.Options{Gate: system.ReadOnly})
	p := kindtest.Policy(t, toml)
	found := map[string]converge.Resource{}
	for _, r := range kindtest.Check(t, check.New(p, s, noLedger())) {
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
		"other-output":  {converge.Failed, `the check does not hold: its stdout is "in�[31mactive"`},
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

// The first process of a namespace gets no signal of its own, and would go on.
func TestACheckThatEndsItselfByASignalDoesNotHold(t *testing.T) {
	found := results(t, `
[checks]
ends-itself = { run = ["/bin/sh", "-c", "kill -TERM $$; exit 0"] }
aborts      = { run = ["/bin/sh", "-c", "kill -ABRT $$; exit 0"] }
is-wanted   = { run = ["/bin/sh", "-c", "kill -TERM $$; exit 0"], exit = 143 }
is-killed   = { run = ["/bin/sh", "-c", "kill -KILL $$; exit 0"] }
words       = { run = ["/bin/echo", "a  b", "$HOME", "'", "-n"], stdout = "^a  b \\$HOME ' -n$" }
`)
	for name, want := range map[string]struct {
		state  converge.State
		reason string
	}{
		"ends-itself": {converge.Failed, "the check does not hold: /bin/sh exited with 143"},
		"aborts":      {converge.Failed, "the check does not hold: /bin/sh exited with 134"},
		"is-wanted":   {converge.Compliant, ""},
		"is-killed":   {converge.Unknown, "/bin/sh was killed"},
		"words":       {converge.Compliant, ""},
	} {
		if r := found[name]; r.State != want.state || !strings.HasPrefix(r.Reason, want.reason) {
			t.Errorf("%s is %s: %q; want %s: %q", name, r.State, r.Reason, want.state, want.reason)
		}
	}
}

func TestWhatAReportShowsOfALongOutputIsBounded(t *testing.T) {
	r := results(t, `checks.long = { run = ["/bin/sh", "-c", "yes | head -c 100000"], stdout = "^no" }`)["long"]
	if len(r.Diff) != 1 || len(r.Diff[0].Got) > 500 {
		t.Errorf("%s %q", r.State, r.Diff)
	}
}

func TestASecretThatACheckPrintsIsNotShownNotEvenAPartOfItNorTheOneBefore(t *testing.T) {
	s := kindtest.Open(t, system.Options{Gate: system.ReadOnly})
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("# of the scanner\ntoken=\"staple&1\" # old\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	run := []string{"/bin/sh", "-c", `printf %150s; echo "correct \"horse\" battery"; cat ` + file + ` >&2`}
	p := &policy.Policy{Resources: []policy.Resource{
		{ID: "check/prints", Spec: policy.Check{Run: run, Stdout: "^no", Stderr: "^no"}},
		{ID: "check/uses", Spec: policy.Check{Run: []string{"/bin/echo", "the scanner said staple&1"}, Stdout: "^no"}},
		{
			ID: policy.NewID("dropin", file), Secrets: []string{`correct "horse" battery`},
			Spec:  policy.Dropin{Content: "# of the scanner\ntoken=\"correct \"horse\" battery\"\n"},
			Shown: policy.Dropin{Content: "# of the scanner\ntoken=\"{{resolve:ssm-secure:/x}}\"\n"},
		},
	}}
	resources, err := check.New(p, s, noLedger()).Check(t.Context())
	if err != nil || len(resources) != 2 {
		t.Fatal(resources, err)
	}
	p.Resources[2] = policy.Resource{
		ID: p.Resources[2].ID, Spec: p.Resources[2].Shown, Missing: []policy.Reference{{Service: "ssm-secure", Name: "/x"}},
	}
	offline := kindtest.Check(t, check.New(p, s, noLedger()))
	for _, r := range append(resources, offline[1]) {
		text := fmt.Sprint(r)
		if r.State != converge.Failed || strings.Contains(text, "corr") || strings.Contains(text, "staple") || !strings.Contains(text, "‹secret") {
			t.Errorf("it shows %s", text)
		}
	}
	if text := fmt.Sprint(resources[0]); !strings.Contains(text, "of the scanner") {
		t.Errorf("what is no secret is not shown: %s", text)
	}
}

func TestChecksRunAtTheSameTime(t *testing.T) {
	start := time.Now()
	found := results(t, `
[checks]
a = { run = ["/bin/sleep", "2"] }
b = { run = ["/bin/sleep", "2"] }
c = { run = ["/bin/sleep", "2"] }
d = { run = ["/bin/sleep", "2"] }
`)
	if took := time.Since(start); took > 7*time.Second || len(found) != 4 {
		t.Errorf("%d checks of two seconds each took %s", len(found), took)
	}
}

func TestACheckThatTriesToWriteCannot(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("as it was"), 0o666); err != nil {
		t.Fatal(err)
	}
	script := func(user, line string) string {
		return fmt.Sprintf("{ run = [\"/bin/sh\", \"-c\", %q], user = %q }\n", "exec 2>&1; "+line, user)
	}
	found := results(t, "[checks]\n"+
		"makes-a-file    = "+script("", "touch "+dir+"/new")+
		"writes-to-one   = "+script("", "echo changed > "+file)+
		"removes-one     = "+script("", "rm -f "+file)+
		"undoes-it       = "+script("", "mount -o remount,rw / && touch "+dir+"/new")+
		"sets-the-kernel = "+script("", "echo 1 > /proc/sys/kernel/panic")+
		"as-nobody       = "+script("nobody", "touch "+dir+"/new"))
	for name, r := range found {
		if r.State != converge.Failed {
			t.Errorf("%s is %s: %s", name, r.State, r.Reason)
		}
	}
	if reason := found["makes-a-file"].Reason; !strings.Contains(reason, "Read-only file system") {
		t.Errorf("the reason shows not what it printed: %s", reason)
	}
	names, _ := filepath.Glob(dir + "/*")
	content, err := os.ReadFile(file)
	if len(names) != 1 || err != nil || string(content) != "as it was" {
		t.Errorf("%q, %q, %v", names, content, err)
	}
	if err := os.WriteFile(file, []byte("by us"), 0o600); err != nil {
		t.Errorf("the agent itself cannot write any more: %v", err)
	}
}

func TestACheckRunsAsItsUserAndGainsNothing(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "shadow")
	if err := errors.Join(os.WriteFile(secret, []byte("root:*:"), 0), os.Chown(secret, 1, 1)); err != nil {
		t.Fatal(err)
	}
	found := results(t, `
[checks]
is-root       = { run = ["/usr/bin/id", "-u"], stdout = "^0$" }
reads-all     = { run = ["/bin/grep", "-q", "^root:", "`+secret+`"] }
is-nobody     = { run = ["/bin/sh", "-c", "echo $(id -un) $USER"], user = "nobody", stdout = "^nobody nobody$" }
gains-nothing = { run = ["/bin/grep", "NoNewPrivs", "/proc/self/status"], user = "nobody", stdout = '\s1$' }
has-little    = { run = ["/bin/grep", "CapEff", "/proc/self/status"], stdout = '^CapEff:\s*0000000400080004$' }
nobody-there  = { run = ["/bin/true"], user = "no-such-user" }
its-errors    = { run = ["/bin/sh", "-c", "echo warning: old >&2"], stderr = "^$" }
writes-to-null = { run = ["/bin/sh", "-c", "echo > /dev/null"] }
`)
	for name, want := range map[string]struct {
		state  converge.State
		reason string
	}{
		"is-root": {converge.Compliant, ""}, "reads-all": {converge.Compliant, ""}, "is-nobody": {converge.Compliant, ""},
		"gains-nothing": {converge.Compliant, ""}, "has-little": {converge.Compliant, ""}, "writes-to-null": {converge.Compliant, ""},
		"nobody-there": {converge.Unknown, "cannot run the check as no-such-user: there is no such user"},
		"its-errors":   {converge.Failed, `the check does not hold: its stderr is "warning: old"`},
	} {
		if r := found[name]; r.State != want.state || r.Reason != want.reason {
			t.Errorf("%s is %s: %q %v", name, r.State, r.Reason, r.Diff)
		}
	}
}

func TestACheckEndsInTimeWithAllThatItStarted(t *testing.T) {
	mark := fmt.Sprintf("soe-agent-test-%d", os.Getpid())
	start := time.Now()
	script := fmt.Sprintf("setsid bash -c 'exec -a %s sleep 300' & setsid sleep 300", mark)
	r := results(t, fmt.Sprintf("checks.forks = { run = [\"/bin/bash\", \"-c\", %q], timeout = \"200ms\" }", script))["forks"]
	if r.State != converge.Unknown || !strings.Contains(r.Reason, "did not end within 200ms") || time.Since(start) > 5*time.Second {
		t.Errorf("after %s: %s %s", time.Since(start), r.State, r.Reason)
	}
	processes, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, process := range processes {
		if line, err := os.ReadFile(process); err == nil && strings.HasPrefix(string(line), mark) {
			t.Errorf("%s goes on: %q", process, line)
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	s := kindtest.Open(b, system.Options{Gate: system.ReadOnly})
	for b.Loop() {
		command := system.Command{Argv: []string{"/bin/true"}, ReadOnly: true, Confined: &system.Confinement{}}
		if _, err := s.Runner.Run(b.Context(), command); err != nil {
			b.Fatal(err)
		}
	}
}
