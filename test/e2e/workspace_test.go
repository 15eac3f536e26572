package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/agent"
	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/report"
	"github.com/soe-agent/soe-agent/test/awsfake"
	"github.com/soe-agent/soe-agent/test/box"
	"github.com/soe-agent/soe-agent/test/rpmrepo"
)

// rpm is the agent's package, built once as people are told to build it.
var rpm = sync.OnceValues(func() (string, error) {
	out, err := exec.Command("make", "-C", "../..", "--silent", "rpm").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("cannot build the package: %w\n%s", err, out)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return filepath.Join("../..", lines[len(lines)-1]), nil
})

const (
	region     = "eu-west-1"
	policyPath = "/soe/prod"
	nodeID     = "mi-0123456789abcdef0"
)

// A workspace is a thin image with nothing but the agent's package in it, and an
// AWS endpoint that it can reach.
type workspace struct {
	*box.Box
	aws  *awsfake.Server
	repo rpmrepo.Repo
}

// agentPackage is the name and the content of the agent's package.
func agentPackage(t *testing.T) (name, content string) {
	t.Helper()
	file, err := rpm()
	if err != nil {
		t.Fatal(err)
	}
	bytes, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Base(file), string(bytes)
}

// newWorkspace installs the package in an image that is not yet running, as an
// image's maker does. Boot it when the endpoint holds what it should.
func newWorkspace(t *testing.T, options ...box.Option) *workspace {
	t.Helper()
	repo, err := rpmrepo.Open()
	if err != nil {
		t.Fatal(err)
	}
	_, content := agentPackage(t)
	w := &workspace{aws: awsfake.New(t), repo: repo}
	config := fmt.Sprintf("personas = [\"base\", \"developer\"]\n[aws]\nregion = %q\npath = %q\nendpoint = %q\n[schedule]\npoll = \"1s\"\n",
		region, policyPath, w.aws.URL)
	options = append([]box.Option{
		box.ThinImage(), box.NotBooted(), box.WithBind(repo.Dir, rpmrepo.MountPoint),
		box.WithFiles(map[string]box.File{"/root/soe-agent.rpm": {Content: content}}),
	}, options...)
	w.Box = newBox(t, options...)
	w.MustExec(t, "dnf", "-y", "--nogpgcheck", "--disablerepo=*", "install", "/root/soe-agent.rpm")
	w.MustWriteFile(t, agent.ConfigFile, box.File{Content: config})
	return w
}

// localPolicy is the fragment of the local layer that tests write.
const localPolicy = "/etc/soe-agent/policy.d/50-test.toml"

// alone is a workspace that knows of no AWS, and has a local policy. It is not yet running.
func alone(t *testing.T, toml string, options ...box.Option) *workspace {
	t.Helper()
	w := newWorkspace(t, options...)
	w.MustWriteFile(t, agent.ConfigFile, box.File{Content: "personas = [\"base\"]\n"})
	w.MustWriteFile(t, localPolicy, box.File{Content: "schema = 1\n" + toml})
	return w
}

// kept is a workspace as alone makes it that runs, and is in line with that policy.
func kept(t *testing.T, toml string, options ...box.Option) *workspace {
	t.Helper()
	w := alone(t, toml, options...)
	w.bootAlone(t)
	return w
}

// bootAlone boots the machine and waits until it is in line with the policy that it has.
func (w *workspace) bootAlone(t *testing.T) {
	t.Helper()
	w.boot(t)
	w.until(t, "the agent keeps", func() bool { s, code := w.status(t); return s.Phase == agent.Keeping && code == 0 })
}

// bootWith publishes a policy, makes the machine a managed node and boots it, and waits until it is in line.
func (w *workspace) bootWith(t *testing.T, serial int, fragments map[string]string) report.Report {
	t.Helper()
	w.publish(t, serial, fragments)
	w.activate(t)
	w.boot(t)
	return w.converged(t, int64(serial))
}

// publishOnly publishes a policy. Where it has nothing for the developers that machines
// are for, it says so: a persona that no fragment is for is a doubt.
func (w *workspace) publishOnly(t *testing.T, serial int, fragments map[string]string) {
	t.Helper()
	fragments = maps.Clone(fragments)
	named := func(text string) bool {
		return strings.Contains(text, "personas = [") && strings.Contains(text, "\"developer\"")
	}
	if !slices.ContainsFunc(slices.Collect(maps.Values(fragments)), named) {
		fragments["99-developer"] = "schema = 1\npersonas = [\"developer\"]\n"
	}
	if err := w.aws.PublishPolicy(policyPath, serial, fragments); err != nil {
		t.Fatal(err)
	}
}

// activate makes the machine a managed node, as the activation of
// amazon-ssm-agent does some time after boot.
func (w *workspace) activate(t *testing.T) {
	t.Helper()
	credentials := awsfake.DefaultCredentials()
	now := time.Now()
	files := box.Activation{
		NodeID: nodeID, Region: region,
		AccessKeyID: credentials.AccessKeyID, SecretAccessKey: credentials.SecretAccessKey, SessionToken: credentials.SessionToken,
		RetrievedAt: now, ExpiresAt: now.Add(time.Hour),
	}.Files()
	if err := w.WriteFiles(files); err != nil {
		t.Fatal(err)
	}
}

func (w *workspace) boot(t *testing.T) {
	t.Helper()
	if err := w.Boot(t.Context()); err != nil {
		t.Fatalf("cannot boot: %v\n%s", err, w.Console())
	}
}

// status is what soe-agent status says.
func (w *workspace) status(t *testing.T) (agent.Status, int) {
	t.Helper()
	result, err := w.Exec(t.Context(), "soe-agent", "status", "--json")
	if err != nil {
		t.Fatal(err)
	}
	var s agent.Status
	if result.Stdout != "" {
		if err := json.Unmarshal([]byte(result.Stdout), &s); err != nil {
			t.Fatalf("%v: %s", err, result.Stdout)
		}
	}
	return s, result.Code
}

// report is what soe-agent report says.
func (w *workspace) report(t *testing.T) outcome {
	t.Helper()
	result, err := w.Exec(t.Context(), "soe-agent", "report", "--json")
	if err != nil {
		t.Fatal(err)
	}
	o := outcome{Code: result.Code, Stderr: result.Stderr}
	if result.Stdout == "" {
		return o
	}
	if err := json.Unmarshal([]byte(result.Stdout), &o.Report); err != nil {
		t.Fatalf("%v: %s", err, result.Stdout)
	}
	return o
}

// until waits for something that takes the daemon a moment. It is bounded, and
// says what the daemon said if the time is up.
func (w *workspace) until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	if await(t, holds) {
		return
	}
	status, _ := w.Exec(t.Context(), "soe-agent", "status")
	report, _ := w.Exec(t.Context(), "soe-agent", "report")
	journal, _ := w.Exec(t.Context(), "journalctl", "--no-pager", "-u", "soe-agent", "-n", "60")
	t.Fatalf("waited in vain until %s\n%s\n%s\n%s", what, status.Stdout, report.Stdout, journal.Stdout)
}

// converged waits until the machine is in line with the policy of a serial.
func (w *workspace) converged(t *testing.T, serial int64) report.Report {
	t.Helper()
	var last report.Report
	w.until(t, fmt.Sprintf("the machine is in line with serial %d", serial), func() bool {
		s, code := w.status(t)
		if code != 0 || s.Serial != serial || s.Phase != agent.Keeping {
			return false
		}
		last = w.report(t).Report
		return last.Compliant && last.Policy.Serial == serial
	})
	return last
}

// mended waits until the report says that the resource was corrected after a
// moment, and why it had to be.
func (w *workspace) mended(t *testing.T, id policy.ID, after time.Time) converge.Resource {
	t.Helper()
	var r converge.Resource
	w.until(t, fmt.Sprintf("%s is mended", id), func() bool {
		r = w.report(t).resource(id)
		return r.State == converge.Corrected && r.Since.After(after)
	})
	return r
}
