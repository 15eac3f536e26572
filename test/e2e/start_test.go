package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/test/awsfake"
	"github.com/soe-agent/soe-agent/test/box"
	"github.com/soe-agent/soe-agent/test/rpmrepo"
)

// A step of the guide is one of its blocks: where it is done, and what is typed.
type step struct{ where, script string }

// stepsOf are the blocks of a document whose fence says where they are done.
func stepsOf(t *testing.T, name string) []step {
	t.Helper()
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var steps []step
	inside := false
	for line := range strings.Lines(string(content)) {
		where, opens := strings.CutPrefix(strings.TrimSpace(line), "```sh ")
		switch {
		case opens:
			inside = true
			steps = append(steps, step{where: where})
		case strings.HasPrefix(line, "```"):
			inside = false
		case inside:
			steps[len(steps)-1].script += line
		}
	}
	return steps
}

// Whoever knows nothing but the guide comes from a package and two fragments to a
// desktop that is kept, and out of it again.
func TestTheStartGuideWorksAsItIsWritten(t *testing.T) {
	t.Parallel()
	repo, err := rpmrepo.Open()
	if err != nil {
		t.Fatal(err)
	}
	file, content := agentPackage(t)
	aws := awsfake.New(t)
	publisher := awsfake.PublisherCredentials()
	machine := newBox(t, box.ThinImage(), box.WithBind(repo.Dir, rpmrepo.MountPoint), box.WithFiles(map[string]box.File{
		"/root/" + file: {Content: content},
	}))
	machine.MustExec(t, "ln", "-sf", "dnf", "/usr/bin/yum") // successors have it so
	credentials := awsfake.DefaultCredentials()
	if err := machine.WriteFiles(box.Activation{ // step 4, which takes an account
		NodeID: nodeID, Region: region,
		AccessKeyID: credentials.AccessKeyID, SecretAccessKey: credentials.SecretAccessKey, SessionToken: credentials.SessionToken,
		RetrievedAt: time.Now(), ExpiresAt: time.Now().Add(time.Hour),
	}.Files()); err != nil {
		t.Fatal(err)
	}
	laptop := t.TempDir()
	places := map[string]int{}
	for _, step := range stepsOf(t, "../../docs/start.md") {
		places[step.where]++
		script := "set -euo pipefail\n" + step.script
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		var said string
		switch step.where {
		case "author":
			c := exec.CommandContext(ctx, "bash", "-c", script)
			c.Dir = laptop
			c.Env = append(os.Environ(), "PATH="+filepath.Dir(binary)+":"+os.Getenv("PATH"), "SOE_ENDPOINT="+aws.URL, "HOME="+laptop,
				"AWS_ACCESS_KEY_ID="+publisher.AccessKeyID, "AWS_SECRET_ACCESS_KEY="+publisher.SecretAccessKey, "AWS_SESSION_TOKEN="+publisher.SessionToken)
			var out []byte
			out, err = c.CombinedOutput()
			said = string(out)
		case "desktop":
			var result box.Result
			result, err = machine.Exec(ctx, "env", "-C", "/root", "SOE_ENDPOINT="+aws.URL, "bash", "-c", script)
			said = result.Stdout + result.Stderr
			if err == nil && result.Code != 0 {
				err = fmt.Errorf("exit code %d", result.Code)
			}
		default:
			t.Fatalf("nobody knows where %q is", step.where)
		}
		cancel()
		if err != nil {
			t.Fatalf("on the %s: %v\n%s\n%s", step.where, err, step.script, said)
		}
		t.Logf("on the %s:\n%s%s", step.where, step.script, said)
	}
	if places["author"] < 3 || places["desktop"] < 6 {
		t.Errorf("the guide has lost steps: %v", places)
	}
}
