package e2e

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/agent"
	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/test/box"
)

// keeps has a user run a script in the box that says "ready" and goes on, until the
// test is over.
func keeps(t *testing.T, b *box.Box, user, script string) *exec.Cmd {
	t.Helper()
	c := b.Command(t.Context(), "setpriv", "--reuid="+user, "--regid="+user, "--init-groups", "sh", "-c", script)
	said, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	word := make([]byte, len("ready"))
	if _, err := said.Read(word); err != nil || string(word) != "ready" {
		t.Fatalf("%s said %q, %v", user, word, err)
	}
	return c
}

// takes is a script that takes a lock on each file that it can open, and keeps trying
// for as long as the agent lives.
const takes = `python3 -u - "$@" <<'END'
import fcntl, os, sys, threading
def hold(name):
    while True:
        try:
            fcntl.flock(os.open(name, os.O_RDONLY), fcntl.LOCK_EX)
            threading.Event().wait()
        except OSError:
            pass
        threading.Event().wait(0.01)
for name in ["/run/soe-agent/lock", "/run/soe-agent", "/var/lib/soe-agent", "/etc/soe-agent", "/usr/bin/soe-agent",
             "/etc/soe-agent/agent.toml", "/run/soe-agent/report.json", "/run/soe-agent/status.json"]:
    threading.Thread(target=hold, args=(name,), daemon=True).start()
print("ready")
threading.Event().wait()
END`

func TestWhoeverHoldsEveryFileThatTheyCanOpenDoesNotKeepTheAgentFromStarting(t *testing.T) {
	t.Parallel()
	w := alone(t, lifePolicy)
	w.boot(t)
	w.converged(t, 0)
	keeps(t, w.Box, box.DesktopUser, takes)
	for i := range 12 {
		before, _ := w.status(t)
		if i%2 == 0 {
			w.MustExec(t, "systemctl", "kill", "--signal=KILL", "--kill-who=main", "soe-agent")
			w.MustExec(t, "systemctl", "reset-failed", "soe-agent")
		} else {
			w.MustExec(t, "systemctl", "restart", "soe-agent")
		}
		w.until(t, "another daemon keeps the machine", func() bool {
			s, _ := w.status(t)
			return s.PID != before.PID && (s.Phase == agent.Keeping || s.Phase == agent.SafeMode)
		})
	}
	w.strayIsMended(t)
	if log := w.journal(t); strings.Contains(log, "another soe-agent is at work") {
		t.Errorf("the journal has:\n%s", log)
	}
}

func TestALinkThatAUserMayTurnLeadsTheAgentNowhere(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	const app = "/srv/app"
	d.MustExec(t, "install", "-d", "-o", box.DesktopUser, app, "/usr/local/share/app")
	d.MustExecAs(t, box.DesktopUser, "sh", "-ec", "ln -s ../../etc/pam.d "+app+"/conf.d; ln -s /etc/sysctl.d "+app+"/gone.d; ln -s /etc/cron.d "+app+"/cron.d; ln -s ../../../../etc/cron.d /usr/local/share/app/purged.d")
	d.MustExec(t, "sh", "-ec", "echo gone >/etc/sysctl.d/gone; echo '# stays' >/etc/cron.d/stays; mkdir -p /data/cron.d")
	before := d.MustExec(t, "sh", "-c", "ls -lAR /etc/pam.d /etc/sysctl.d /etc/cron.d")
	o := d.apply(t, fmt.Sprintf(`
[dropins."%[1]s/conf.d/x"]
content = "auth sufficient pam_permit.so\n"
activate = []
[dropins."%[1]s/gone.d/gone"]
ensure = "absent"
activate = []
[dropins."%[1]s/cron.d/job"]
content = "* * * * * root id\n"
activate = []
[dropins."%[1]s/cron.d/deep/er/job"]
content = "x\n"
activate = []
[directories."/usr/local/share/app/purged.d"]
purge = true
[dropins."/etc/modprobe.d/soe.conf"]
content = "# managed\n"
`, app))
	if o.Code != 2 {
		t.Errorf("exit code %d: %s", o.Code, o.Stderr)
	}
	for _, r := range o.Resources {
		if strings.Contains(string(r.ID), "/app/") && (r.State.InLine() || !strings.Contains(r.Reason, "others than root can redirect it")) {
			t.Errorf("%s is %s: %s", r.ID, r.State, r.Reason)
		}
	}
	o.wants(t, map[policy.ID]converge.State{"dropin/etc/modprobe.d/soe.conf": converge.Corrected})
	if after := d.MustExec(t, "sh", "-c", "ls -lAR /etc/pam.d /etc/sysctl.d /etc/cron.d"); after != before {
		t.Errorf("from\n%s\nto\n%s", before, after)
	}
	// What root has linked is where root wants it.
	d.MustExec(t, "sh", "-ec", "rm -r /etc/cron.d; ln -s /data/cron.d /etc/cron.d; mkdir -p /srv/pam /srv/etc; mount --bind /etc/pam.d /srv/pam; ln -s ../etc/pam.d /srv/linked")
	o = d.apply(t, `
[dropins."/etc/cron.d/soe"]
content = "0 4 * * * root true\n"
[dropins."/srv/pam/x"]
content = "x\n"
activate = []
[dropins."/srv/linked/x"]
content = "x\n"
activate = []
`)
	o.wants(t, map[policy.ID]converge.State{"dropin/etc/cron.d/soe": converge.Corrected, "dropin/srv/pam/x": converge.Failed, "dropin/srv/linked/x": converge.Failed})
	if got := d.MustReadFile(t, "/data/cron.d/soe"); got != "0 4 * * * root true\n" {
		t.Errorf("there is %q", got)
	}
	for _, name := range []string{"/srv/pam/x", "/srv/linked/x"} {
		if r := o.resource(policy.ID("dropin" + name)); !strings.Contains(r.Reason, "/etc/pam.d/x") {
			t.Errorf("%s: %s", r.ID, r.Reason)
		}
	}
}
