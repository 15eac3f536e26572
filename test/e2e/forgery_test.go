package e2e

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/agent"
	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/test/box"
)

// withTool puts a program of test/internal in a machine.
func withTool(t *testing.T, name string) box.Option {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	build := exec.Command("go", "build", "-o", file, "../internal/"+name)
	build.Env = append(build.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return box.WithBind(file, "/usr/bin/"+name)
}

// asUser starts a program of the desktop user's that goes on, and ends with the machine.
func asUser(t *testing.T, b *box.Box, unit string, args ...string) {
	t.Helper()
	b.MustExec(t, append([]string{"systemd-run", "--quiet", "--unit=" + unit, "--uid=" + box.DesktopUser}, args...)...)
}

func TestWhatAUserSaysOfAJobOfSystemdsIsNotBelieved(t *testing.T) {
	t.Parallel()
	w := alone(t, "", withTool(t, "forge"))
	w.MustWriteFile(t, "/etc/systemd/system/soe-slow.service", box.File{
		Content: "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sh -c 'while [ ! -e /run/release ]; do sleep 0.1; done'\n",
	})
	w.boot(t)
	w.until(t, "the agent keeps", func() bool { s, _ := w.status(t); return s.Phase == agent.Keeping })
	asUser(t, w.Box, "forger", "/bin/sh", "-c", "forge 0 /org/freedesktop/systemd1/unit/soe_2dslow_2eservice >/tmp/forged 2>&1")
	rounds := func() int { return strings.Count(w.MustExec(t, "sh", "-c", "cat /tmp/forged || true"), "round") }
	w.until(t, "everything is forged", func() bool { return rounds() > 0 })
	w.MustWriteFile(t, localPolicy, box.File{Content: "schema = 1\n[services.\"soe-slow.service\"]\nrunning = true\n"})
	w.until(t, "the unit is being started", func() bool {
		return strings.Contains(w.MustExec(t, "systemctl", "show", "-p", "ActiveState", "soe-slow"), "activating")
	})
	before := rounds()
	w.until(t, "the end of the job is forged", func() bool { return rounds() > before+2 })
	if s, _ := w.status(t); len(s.Busy) == 0 {
		t.Errorf("nothing is waited for: %+v", s)
	}
	w.MustExec(t, "touch", "/run/release")
	w.until(t, "the unit runs, as the report has it", func() bool {
		r := w.report(t).resource("service/soe-slow.service")
		return r.State == converge.Corrected || r.State == converge.Failed
	})
	if r := w.report(t).resource("service/soe-slow.service"); r.State != converge.Corrected {
		t.Errorf("it is %s: %s", r.State, r.Reason)
	}
	if words := w.MustExec(t, "sh", "-c", "cat /run/soe-agent/*.json; journalctl -u soe-agent"); strings.Contains(words, "forged") {
		t.Errorf("what was forged is believed:\n%s", words)
	}
	if exit := w.MustExec(t, "systemctl", "show", "-p", "ActiveState", "forger"); exit != "ActiveState=active\n" {
		t.Errorf("the forger has ended: %s", w.MustExec(t, "cat", "/tmp/forged"))
	}
}
