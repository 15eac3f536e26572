package e2e

import (
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/test/awsfake"
	"github.com/soe-agent/soe-agent/test/box"
)

const oneShotFile = "/etc/profile.d/soe-one-shot.sh"

// oneShot is what a command of one walk has printed, without the daemon.
func (w *workspace) oneShot(t *testing.T, args ...string) outcome {
	t.Helper()
	d := desktop{Box: w.Box}
	return d.command(t, args...)
}

func TestAnAppliedPolicyThatWasPublishedIsTheLastGoodOneWithoutTheDaemonToo(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t)
	w.MustExec(t, "systemctl", "disable", "soe-agent")
	w.activate(t)
	w.boot(t)
	fragment := "schema = 1\n[dropins.\"" + oneShotFile + "\"]\ncontent = \"true\\n\"\n[checks.holds]\nrun = [\"/bin/true\"]\n"

	// Nothing was ever had: that is said, whatever the seed makes of the machine.
	w.aws.FailAlways("GetParameters", awsfake.Hang)
	for _, command := range []string{"plan", "apply"} {
		o := w.oneShot(t, command)
		if o.Code != 1 || !strings.Contains(o.Stderr, "cannot get the published policy, and this machine has never had one") || o.Compliant {
			t.Errorf("%s without any published policy exits %d, compliant: %v: %s", command, o.Code, o.Compliant, o.Stderr)
		}
	}
	if r := w.report(t); r.Compliant || len(r.Awaited) == 0 {
		t.Errorf("the report of the seed alone calls the machine compliant: %v %v", r.Compliant, r.Awaited)
	}

	w.aws.Heal()
	w.publish(t, 7, map[string]string{"10-base": fragment})
	if o := w.oneShot(t, "plan"); o.Code != 2 || o.Policy.Serial != 7 {
		t.Errorf("plan exits %d by serial %d: %s", o.Code, o.Policy.Serial, o.Stderr)
	}
	w.aws.FailAlways("GetParameters", awsfake.Hang)
	if o := w.oneShot(t, "plan"); o.Code != 1 {
		t.Errorf("a plan has made the policy the last good one: it exits %d", o.Code)
	}
	w.aws.Heal()
	if o := w.oneShot(t, "apply"); o.Policy.Serial != 7 || o.resource("dropin"+oneShotFile).State != converge.Corrected {
		t.Fatalf("apply exits %d by serial %d: %s", o.Code, o.Policy.Serial, o.Stderr)
	}

	w.aws.FailAlways("GetParameters", awsfake.Hang)
	w.MustWriteFile(t, oneShotFile, box.File{Content: "false\n"})
	o := w.oneShot(t, "apply")
	if o.Policy.Serial != 7 || o.resource("dropin"+oneShotFile).State != converge.Corrected || !strings.Contains(o.Stderr, "cannot get the published policy; enforcing the last good policy") {
		t.Errorf("without AWS apply exits %d by serial %d: %s", o.Code, o.Policy.Serial, o.Stderr)
	}
	w.leavesAReport(t, o)

	// One that an author tries out is applied and reported, and nothing for the next time.
	w.MustWriteFile(t, policyDir+"/50-test.toml", box.File{Content: "schema = 1\n[checks.tried]\nrun = [\"/bin/true\"]\n"})
	tried := w.oneShot(t, "apply", "--policy", policyDir)
	w.leavesAReport(t, tried)
	if o := w.oneShot(t, "plan"); o.Policy.Serial != 7 {
		t.Errorf("after another policy was tried the last good one is serial %d: %s", o.Policy.Serial, o.Stderr)
	}

	// What was not looked at is not compliant.
	only := w.oneShot(t, "apply", "--only", "check")
	if only.Code != 0 {
		t.Errorf("all checks hold, and a walk over them alone exits with %d", only.Code)
	}
	only.Code = 2 // that of the machine
	w.leavesAReport(t, only)
	r := w.report(t)
	if r.Code != 2 || r.resource("dropin"+oneShotFile).State != converge.Unknown || r.resource("check/holds").State != converge.Compliant {
		t.Errorf("after a walk over checks alone the report says %v, exit code %d", r.Summary, r.Code)
	}

	// The daemon, when it comes, goes on with the same.
	w.MustExec(t, "systemctl", "start", "soe-agent")
	w.until(t, "the daemon keeps the last good policy", func() bool {
		s, _ := w.status(t)
		return s.Serial == 7 && !w.fails(t, "busctl", "status", "org.soeagent.Agent1")
	})
	if o := w.oneShot(t, "apply", "--only", "dropin"); o.Policy.Serial != 7 {
		t.Errorf("the daemon applies serial %d: %s", o.Policy.Serial, o.Stderr)
	}
}

// leavesAReport fails the test unless there is a report in every format that says what a
// walk has said.
func (w *workspace) leavesAReport(t *testing.T, of outcome) {
	t.Helper()
	r := w.report(t)
	if r.Code != of.Code || r.Policy.Digest != of.Policy.Digest || len(r.Resources) != len(of.Resources) || r.Public {
		t.Errorf("the report is of %s with %d resources, exit code %d: %s", r.Policy.Digest, len(r.Resources), r.Code, r.Stderr)
	}
	for format, begins := range map[string]string{"text": "", "json": "{", "html": "<!DOCTYPE html>", "junit": "<?xml"} {
		file := "/root/report." + format
		result, err := w.Exec(t.Context(), "soe-agent", "report", "--format", format, "-o", file)
		if err != nil || result.Code != of.Code {
			t.Errorf("report --format %s exits %d: %v %s", format, result.Code, err, result.Stderr)
			continue
		}
		if content := w.MustReadFile(t, file); !strings.HasPrefix(content, begins) || content == "" {
			t.Errorf("the report as %s is %.80q", format, content)
		}
	}
}
