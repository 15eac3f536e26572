// Package e2e runs the agent on whole machines: a real systemd, D-Bus, logind,
// sudo, dconf, rpm and dnf, booted for one test and thrown away. One file a kind,
// and one for each chapter of the daemon's life.
package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/report"
	"github.com/soe-agent/soe-agent/test/box"
	"github.com/soe-agent/soe-agent/test/rpmrepo"
)

// binary is the agent under test, built once.
var binary string

// watched is who gets into the agent's cgroup, in all boxes.
var watched *strangers

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "soe-agent-e2e")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	binary = filepath.Join(dir, "soe-agent")
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", binary, "../../cmd/soe-agent")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "cannot build the agent: %v\n%s", err, out)
		os.Exit(1)
	}
	if watched, err = watchStrangers(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// newBox is box.New. The test fails if somebody gets into the agent's cgroup meanwhile.
func newBox(t *testing.T, options ...box.Option) *box.Box {
	t.Helper()
	b := box.New(t, options...)
	t.Cleanup(func() { watched.fail(t, b.Name) })
	return b
}

// policyDir is where tests put the policy in a machine.
const policyDir = "/root/policy"

// A desktop is a thin image with the agent's binary in it and the test packages
// at hand in /repo.
type desktop struct {
	*box.Box
	repo     rpmrepo.Repo
	repeated sync.Map // the policies that were applied twice
}

func newDesktop(t *testing.T, options ...box.Option) *desktop {
	t.Helper()
	repo, err := rpmrepo.Open()
	if err != nil {
		t.Fatal(err)
	}
	install := box.WithSetup(func(root string) error {
		content, err := os.ReadFile(binary)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(root, "usr/bin/soe-agent"), content, 0o755)
	})
	options = append([]box.Option{box.ThinImage(), box.WithBind(repo.Dir, rpmrepo.MountPoint), install}, options...)
	return &desktop{Box: newBox(t, options...), repo: repo}
}

// repository is the fragment that declares the test packages' repository.
func (d *desktop) repository() string {
	return fmt.Sprintf("[repositories.soe-test]\nbaseurl = %q\ngpgkey = %q\nfingerprint = %q\n",
		rpmrepo.BaseURL, rpmrepo.KeyURL, d.repo.Fingerprint)
}

// An outcome is what the command line said and did.
type outcome struct {
	report.Report
	Code   int
	Stderr string
}

// apply makes the policy the only one and applies it.
func (d *desktop) apply(t *testing.T, toml string) outcome {
	t.Helper()
	d.setPolicy(t, toml)
	o := d.command(t, "apply", "--policy", policyDir)
	if _, known := d.repeated.LoadOrStore(toml, true); !known && o.Code == 0 {
		d.again(t, o)
	}
	return o
}

// plan looks at the machine as apply would, with the policy set last.
func (d *desktop) plan(t *testing.T) outcome {
	t.Helper()
	return d.command(t, "plan", "--policy", policyDir)
}

func (d *desktop) setPolicy(t *testing.T, toml string) {
	t.Helper()
	if strings.Contains(toml, "[firewall") && d.Addr.IsLoopback() {
		t.Fatal("this machine has the host's network: its firewall would be the host's; make it with box.WithNetwork")
	}
	d.MustWriteFile(t, policyDir+"/50-test.toml", box.File{Content: "schema = 1\n" + toml})
}

func (d *desktop) command(t *testing.T, args ...string) outcome {
	t.Helper()
	result, err := d.Exec(t.Context(), append([]string{"soe-agent", "--json"}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	return outcomeOf(t, args, result)
}

func outcomeOf(t *testing.T, args []string, result box.Result) outcome {
	t.Helper()
	o := outcome{Code: result.Code, Stderr: result.Stderr}
	if result.Stdout != "" {
		if err := json.Unmarshal([]byte(result.Stdout), &o.Report); err != nil {
			t.Fatalf("soe-agent %s printed no report: %v\n%s\n%s", strings.Join(args, " "), err, result.Stdout, result.Stderr)
		}
		keepsToSchema(t, result.Stdout)
	}
	return o
}

// A listener calls once, as soon as what is written to it contains something.
type listener struct {
	heard bytes.Buffer
	hears string
	once  func()
}

func (l *listener) Write(p []byte) (int, error) {
	n, err := l.heard.Write(p)
	if l.once != nil && strings.Contains(l.heard.String(), l.hears) {
		l.once()
		l.once = nil
	}
	return n, err
}

// applyUntil is apply, and makes a file in the machine as soon as the agent says something.
func (d *desktop) applyUntil(t *testing.T, toml, says, file string) outcome {
	t.Helper()
	d.setPolicy(t, toml)
	args := []string{"apply", "--policy", policyDir}
	cmd := d.Command(t.Context(), append([]string{"soe-agent", "--json"}, args...)...)
	var stdout bytes.Buffer
	stderr := listener{hears: says, once: func() { d.MustWriteFile(t, file, box.File{}) }}
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return outcomeOf(t, args, box.Result{Stdout: stdout.String(), Stderr: stderr.heard.String(), Code: cmd.ProcessState.ExitCode()})
}

// resource is what the report says of one resource.
func (o outcome) resource(id policy.ID) converge.Resource {
	for _, r := range o.Resources {
		if r.ID == id {
			return r
		}
	}
	return converge.Resource{ID: id, Reason: "the report says nothing of it"}
}

// wants fails the test unless each resource is in the state given.
func (o outcome) wants(t *testing.T, states map[policy.ID]converge.State) {
	t.Helper()
	for id, want := range states {
		if r := o.resource(id); r.State != want {
			t.Errorf("%s is %q and not %q: %s %v", id, r.State, want, r.Reason, r.Diff)
		}
	}
	if t.Failed() {
		t.Logf("exit code %d, stderr:\n%s", o.Code, o.Stderr)
	}
}

// converged fails the test unless the agent, asked again, finds nothing to do.
func (d *desktop) converged(t *testing.T) {
	t.Helper()
	if o := d.plan(t); o.Code != 0 {
		for _, r := range o.Resources {
			if !r.State.InLine() {
				t.Errorf("%s is %s: %s %v", r.ID, r.State, r.Reason, r.Diff)
			}
		}
		t.Fatalf("a plan after the apply exits %d: %s", o.Code, o.Stderr)
	}
}

// fails says whether a command in the machine exits with another code than 0.
func (d *desktop) fails(ctx context.Context, args ...string) bool {
	result, err := d.Exec(ctx, args...)
	return err != nil || result.Code != 0
}

// soon is what the agent does at once takes less than, on a machine whose cores are busy too, and what it does
// because a timer has run out takes more: it looks at everything again after many minutes. How long it
// takes on a machine that has nothing else to do is in test/bench/RESULTS.md.
const soon = time.Minute

// await waits until something holds, and says whether it did in time. The time is so long that a machine
// whose cores are busy does not reach it. Each look costs processes in the machine, which what is
// waited for needs more: so the pauses between them grow.
func await(t *testing.T, holds func() bool) bool {
	t.Helper()
	for start := time.Now(); !holds(); {
		waited := time.Since(start)
		if waited > 3*time.Minute {
			return false
		}
		select {
		case <-t.Context().Done():
			return false
		case <-time.After(min(max(waited/10, 20*time.Millisecond), 200*time.Millisecond)):
		}
	}
	return true
}
