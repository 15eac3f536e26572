package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/test/box"
)

// hostile sends a signal to every process of the user's, as soon as it sees one.
const hostile = `
import os, sys
while True:
    for name in os.listdir("/proc"):
        try:
            if name.isdigit() and int(name) != os.getpid() and os.stat("/proc/" + name).st_uid == os.getuid():
                os.kill(int(name), int(sys.argv[1]))
        except OSError:
            pass
`

// grant gives the user sudo, and says how long that lasts.
func (w *workspace) grant(t *testing.T) time.Duration {
	t.Helper()
	start := time.Now()
	w.MustExec(t, "sh", "-c", `echo 'user ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/zzzz; chmod 440 /etc/sudoers.d/zzzz
for i in $(seq 3000); do sudo -l -U user /usr/bin/id >/dev/null 2>&1 || exit 0; sleep 0.01; done; exit 1`)
	return time.Since(start)
}

func oneFragment(toml string) map[string]string {
	return map[string]string{"base": "schema = 1\n" + toml}
}

const quickly = 15 * time.Second // on a machine whose cores are busy; a quarter of a second on one that does little else

func TestWhatRunsAsAPersonIsThatPersonsWordAndHoldsUpNobody(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t)
	w.MustWriteFile(t, "/usr/local/bin/hostile", box.File{Content: hostile, Mode: 0o755})
	// A rule that gives nothing.
	w.MustWriteFile(t, "/etc/polkit-1/rules.d/50-one.rules", box.File{
		Content: "polkit.addRule(function(action, subject) { if (action.id == \"org.example.nothing\") return polkit.Result.YES; });\n",
	})
	w.publish(t, 1, oneFragment("[sudo]\nallow = [\"root\", \"%domain-admins\"]\n[checks.theirs]\nrun = [\"/bin/sh\", \"-c\", \"sleep 1; echo $(id -u) $(cut -d: -f3 /proc/self/cgroup)\"]\nuser = \"user\"\nstdout = '^1000 .*/soeagent-'\ntimeout = \"4s\"\n"))
	w.activate(t)
	w.boot(t)
	is := func(id string, state converge.State, reason string) func() bool {
		return func() bool {
			r := w.report(t).resource("check/theirs")
			if id == "sudo/polkit" {
				r = w.report(t).resource("sudo/polkit")
			}
			return (r.State == state || state == converge.Compliant && r.State.InLine()) && strings.Contains(r.Reason, reason)
		}
	}
	w.until(t, "the check is right", is("check/theirs", converge.Compliant, ""))
	w.until(t, "polkit is right", is("sudo/polkit", converge.Compliant, ""))
	for signal, said := range map[int]string{19: "did not end within 4s", 9: "killed"} {
		unit := fmt.Sprintf("hostile-%d", signal)
		w.MustExec(t, "systemd-run", "--quiet", "--unit="+unit, "--uid=1000", "python3", "/usr/local/bin/hostile", fmt.Sprint(signal))
		w.MustExec(t, "sh", "-c", "echo 'polkit.addRule(function(action, subject) { if (action.id == \"org.example.other\") return polkit.Result.YES; });' >/etc/polkit-1/rules.d/51-"+unit+".rules")
		w.MustExec(t, "sh", "-c", "timeout 60 soe-agent apply >/dev/null 2>&1; [ $? != 124 ]")
		w.until(t, "the check is unknown", is("check/theirs", converge.Unknown, said))
		w.until(t, "polkit is as it was: nothing of the person's is asked", is("sudo/polkit", converge.Compliant, ""))
		if took := w.grant(t); took > quickly {
			t.Errorf("signal %d: a grant lived for %s", signal, took)
		}
		w.MustExec(t, "systemctl", "stop", unit)
	}
	w.until(t, "the check is right again", func() bool {
		w.MustExec(t, "sh", "-c", "soe-agent apply >/dev/null 2>&1; :")
		return is("check/theirs", converge.Compliant, "")() && is("sudo/polkit", converge.Compliant, "")()
	})
	if left := w.MustExec(t, "systemctl", "list-units", "--all", "--no-legend", "soeagent-*"); strings.TrimSpace(left) != "" {
		t.Errorf("scopes are left: %s", left)
	}
	if text := w.MustReadFile(t, "/etc/polkit-1/rules.d/50-one.rules"); strings.HasPrefix(text, "//") {
		t.Errorf("a rule was taken out of force by nobody's word: %s", text)
	}
}

func TestAGrantIsGoneWhileAChecksSleepsAndAUnitStartsSlowly(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t)
	w.MustWriteFile(t, "/etc/systemd/system/slow.service", box.File{Content: "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/root/slow\n[Install]\nWantedBy=multi-user.target\n"})
	w.MustWriteFile(t, "/root/slow", box.File{Mode: 0o755, Content: "#!/bin/sh\nuntil [ -e /run/go-on ]; do sleep 0.1; done\n"})
	w.bootWith(t, 1, oneFragment("[sudo]\nallow = [\"root\", \"%domain-admins\"]\n"))
	w.publish(t, 2, oneFragment("[sudo]\nallow = [\"root\", \"%domain-admins\"]\n[checks.slow]\nrun = [\"/root/slow\"]\ntimeout = \"5m\"\n"+
		"[services.\"slow.service\"]\nenabled = true\nrunning = true\n"+
		"[dropins.\"/etc/modprobe.d/soe-x.conf\"]\ncontent = \"# x\\n\"\nactivate = [\"/root/slow\"]\n"))
	w.until(t, "all three are under way", func() bool {
		s, _ := w.status(t)
		return strings.Contains(strings.Join(s.Busy, " "), "check") && strings.Contains(strings.Join(s.Busy, " "), "dropin")
	})
	for range 6 {
		if took := w.grant(t); took > quickly {
			t.Errorf("a grant lived for %s", took)
		}
	}
	if s, _ := w.status(t); !strings.Contains(strings.Join(s.Busy, " "), "check") {
		t.Errorf("nothing that takes long was under way: %v", s.Busy)
	}
	w.MustWriteFile(t, "/run/go-on", box.File{})
	w.until(t, "all is right", func() bool {
		r := w.report(t)
		return r.resource("check/slow").State == converge.Compliant && r.resource("service/slow.service").State.InLine() && r.resource("dropin/etc/modprobe.d/soe-x.conf").State.InLine()
	})
}
