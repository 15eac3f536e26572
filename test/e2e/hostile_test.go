package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/test/box"
)

// What somebody with a shell on the desktop can try against a process of root.
func TestTheDesktopUserCannotStopSignalOrTraceTheAgent(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t)
	const motd = "/etc/motd.d/soe"
	w.publishOnly(t, 1, map[string]string{"10-base": "schema = 1\n" + onlyDomainAdmins + "[dropins.\"" + motd + "\"]\ncontent = \"kept\\n\"\n"})
	w.activate(t)
	w.boot(t)
	w.converged(t, 1)
	life := func() string {
		return w.MustExec(t, "systemctl", "show", "-p", "MainPID,ActiveState,NRestarts,ExecMainStartTimestampMonotonic", "soe-agent")
	}
	before := life()
	pid := strings.TrimSpace(w.MustExec(t, "systemctl", "show", "-p", "MainPID", "--value", "soe-agent"))
	const manager = "busctl call org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager "
	for _, attack := range []string{
		"kill -TERM PID", "kill -KILL PID", "kill -STOP PID", "kill -ABRT PID",
		"systemctl --no-ask-password stop soe-agent", "systemctl --no-ask-password kill soe-agent", "systemctl --no-ask-password mask --runtime soe-agent",
		manager + "StopUnit ss soe-agent.service replace", manager + "KillUnit ssi soe-agent.service all 9", manager + "Reload",
		manager + "'SetUnitProperties' 'sba(sv)' soe-agent.service true 1 TasksMax t 1",
		"renice -n 19 -p PID", "prlimit --pid PID --nofile=3", "taskset -p 1 PID", "chrt -i -p 0 PID", "ionice -c 3 -p PID",
		"echo 1000 >/proc/PID/oom_score_adj", "cat /proc/PID/environ", "cat /proc/PID/mem", "cat /proc/PID/maps", "ls /proc/PID/fd/", "ls /proc/PID/root/",
		"ls /var/lib/soe-agent/", "echo >/sys/fs/cgroup/system.slice/soe-agent.service/cgroup.procs", "echo 1 >/sys/fs/cgroup/system.slice/soe-agent.service/cgroup.freeze",
	} {
		command := strings.ReplaceAll(attack, "PID", pid)
		if result, err := w.ExecAs(t.Context(), box.DesktopUser, "sh", "-c", command); err != nil || result.Code == 0 {
			t.Errorf("%s works: %v, %+v", command, err, result)
		} else if result.Code == 127 {
			t.Errorf("%s was not tried: %s", command, result.Stderr)
		}
	}
	if after := life(); after != before {
		t.Errorf("the agent was\n%sand is\n%s", before, after)
	}
	since := time.Now()
	w.MustWriteFile(t, motd, box.File{Content: "drift\n"})
	w.mended(t, "dropin"+motd, since)
}
