package e2e

import (
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/test/box"
)

// What everybody may fill is full of a user's: the agent and what it runs do without.
func TestWhatEverybodyMayFillHoldsUpNoKind(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	for _, dir := range []string{"/tmp", "/dev/shm", "/run/lock"} {
		d.MustExec(t, "mkdir", "-p", dir)
		d.MustExec(t, "mount", "-t", "tmpfs", "-o", "size=128k,mode=1777", "tmpfs", dir)
		d.MustExecAs(t, box.DesktopUser, "sh", "-c", "cat /dev/zero >"+dir+"/full 2>/dev/null; true")
		if !d.fails(t.Context(), "sh", "-c", "echo some >"+dir+"/more") {
			t.Fatalf("there is room in %s, and this test shows nothing", dir)
		}
	}
	// And the log, and what systemd is told by, never rest.
	keeps(t, d.Box, box.DesktopUser, "echo ready; yes storm | nice -n 19 logger -t storm & exec nice -n 19 python3 -c '"+`
import socket, time
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
while True:
    try:
        s.sendto(b"STATUS=flood", "/run/systemd/notify")
    except OSError:
        time.sleep(0.01)
'`)
	begun := time.Now()
	d.apply(t, d.repository()+onlyDomainAdmins+`
[groups]
soe-here = { gid = 5101 }
[users]
soe-scan = { uid = 5102, group = "soe-here", system = true }
[packages]
soe-pkg-01 = "present"
[dropins."/etc/modprobe.d/soe.conf"]
content = "# managed\n"
[dropins."/etc/profile.d/soe.sh"]
content = "umask 027\n"
[pcoip]
maximum_frame_rate = 30
[dconf."org/mate/screensaver"]
lock-enabled = { value = true, lock = true }
[checks.holds]
run = ["/bin/true"]
`).wants(t, map[policy.ID]converge.State{
		"sudo/allow": converge.Corrected, "group/soe-here": converge.Corrected, "user/soe-scan": converge.Corrected, "package/soe-pkg-01": converge.Corrected,
		"dropin/etc/profile.d/soe.sh": converge.Corrected, "pcoip/maximum_frame_rate": converge.Corrected, "dconf/org/mate/screensaver/lock-enabled": converge.Corrected, "check/holds": converge.Compliant,
	})
	d.converged(t)
	t.Logf("it took %s", time.Since(begun))
}
