package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/test/box"
)

func TestWithoutInotifyUnitsAreFollowedStatusSaysSoAndFilesAreWatchedAsSoonAsTheKernelAllowsIt(t *testing.T) {
	t.Parallel()
	const file = "/etc/modprobe.d/soe-watched.conf"
	w := alone(t, "[dropins.\""+file+"\"]\ncontent = \"# soe\\n\"\n[services.\"soe-probe.service\"]\nrunning = true\n")
	w.MustExec(t, "sh", "-c", "rm -f /usr/share/soe-agent/policy.d/*")
	w.MustWriteFile(t, "/etc/systemd/system/soe-probe.service", box.File{Content: "[Service]\nExecStart=/bin/sleep infinity\n"})
	// In a user namespace of its own the agent may have a limit of its own: the kernel's are
	// the user's, and root is the same in all machines here.
	w.MustWriteFile(t, "/usr/local/sbin/limited", box.File{Mode: 0o755, Content: `#!/bin/sh -e
until [ -e /root/limited ]; do sleep 0.05; done
exec /usr/bin/soe-agent run
`})
	w.MustWriteFile(t, "/etc/systemd/system/soe-agent.service.d/50-limit.conf", box.File{
		Content: "[Service]\nExecStart=\nExecStart=/usr/bin/unshare --user --map-root-user /usr/local/sbin/limited\n",
	})
	w.boot(t)
	own, host := "", ""
	w.until(t, "the agent is about to start in a user namespace of its own", func() bool {
		host, _ = os.Readlink(fmt.Sprintf("/proc/%d/ns/user", w.Leader()))
		own, _ = os.Readlink(w.userNamespace(t))
		return own != "" && own != host
	})
	w.limit(t, 0)
	w.MustWriteFile(t, "/root/limited", box.File{})
	w.until(t, "status says that files are not watched, and what that means", func() bool {
		result, err := w.Exec(t.Context(), "soe-agent", "status")
		return err == nil && strings.Contains(result.Stdout, "not watched  all files (") && strings.Contains(result.Stdout, "by the periodic verify alone, every 30m0s")
	})
	w.until(t, "all is in line", func() bool { s, code := w.status(t); return code == 0 && s.Phase == "keeping" })

	w.MustExec(t, "systemctl", "stop", "soe-probe.service")
	w.until(t, "a unit that has stopped is started again", func() bool { return !w.fails(t, "systemctl", "is-active", "soe-probe.service") })

	w.MustWriteFile(t, file, box.File{Content: "# drift\n"})
	s, _ := w.status(t)
	w.limit(t, 100)
	w.until(t, "files are watched, and what has drifted meanwhile is mended", func() bool {
		now, _ := w.status(t)
		// What belongs to others root may not watch from such a namespace.
		return now.PID == s.PID && !strings.Contains(now.Unwatched, "all files") && w.report(t).resource("dropin"+file).State == converge.Corrected
	})
	w.MustWriteFile(t, file, box.File{Content: "# drift again\n"})
	w.until(t, "what drifts then is mended at once", func() bool { return w.MustReadFile(t, file) == "# soe\n" })
}

// userNamespace is that of the agent, seen from here.
func (w *workspace) userNamespace(t *testing.T) string {
	t.Helper()
	pid := strings.TrimSpace(w.MustExec(t, "systemctl", "show", "--property=MainPID", "--value", "soe-agent"))
	return fmt.Sprintf("/proc/%d/root/proc/%s/ns/user", w.Leader(), pid)
}

// limit says how many inotify instances there may be in the agent's user namespace.
func (w *workspace) limit(t *testing.T, instances int) {
	t.Helper()
	script := fmt.Sprintf("echo %d >/proc/sys/user/max_inotify_instances", instances)
	if out, err := exec.Command("nsenter", "--user="+w.userNamespace(t), "sh", "-c", script).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}
