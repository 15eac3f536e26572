package e2e

import (
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/agent"
	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/test/box"
)

// shiftTimes is what a clock leaves that was wrong by some days while the agent lived: all times
// that it has noted, and those of all files that it keeps.
const shiftTimes = `
import datetime, os, re, sys
by = datetime.timedelta(days=int(sys.argv[1]))
def moved(match):
    then = datetime.datetime.strptime(match.group(1).decode(), "%Y-%m-%dT%H:%M:%S") + by
    return then.strftime("%Y-%m-%dT%H:%M:%S").encode()
times = 0
for top, dirs, names in os.walk("/var/lib/soe-agent"):
    for name in names:
        path = os.path.join(top, name)
        content = open(path, "rb").read()
        new, n = re.subn(rb"(20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d)", moved, content)
        times += n
        stat = os.stat(path)
        with open(path, "r+b") as f:
            f.write(new)
        os.utime(path, (stat.st_atime + by.total_seconds(), stat.st_mtime + by.total_seconds()))
for path in sys.argv[2:]:
    for top, dirs, names in os.walk(path):
        for name in names + [""]:
            file = os.path.join(top, name)
            stat = os.lstat(file)
            os.utime(file, (stat.st_atime + by.total_seconds(), stat.st_mtime + by.total_seconds()), follow_symlinks=False)
print(times)
`

// No age and no wait goes by a time that has not come yet, nor by one that was never.
func TestTimesOfAClockThatWasDaysAheadOrBehindHoldUpNothing(t *testing.T) {
	t.Parallel()
	w := kept(t, onlyDomainAdmins+`
[system]
timezone = "Europe/Berlin"
[groups]
soe-here = { gid = 5101 }
[dropins."/etc/motd.d/one"]
content = "kept\n"
[dropins."/etc/modprobe.d/soe.conf"]
content = "# managed\n"
[pcoip]
server_clipboard_state = 0
[dconf."org/mate/screensaver"]
lock-enabled = { value = true, lock = true }
[services."kept.service"]
running = true
[checks.holds]
run = ["/bin/true"]
`, box.WithFiles(map[string]box.File{unitDir + "kept.service": unit(stays, wanted), "/root/shift.py": {Content: shiftTimes}}))
	wants := func(clipboard string) {
		t.Helper()
		before, _ := w.status(t)
		w.MustExec(t, "sed", "-i", "s/server_clipboard_state = .*/server_clipboard_state = "+clipboard+"/", localPolicy)
		w.until(t, "another policy is in force", func() bool { now, _ := w.status(t); return now.Digest != before.Digest })
	}
	for _, days := range []string{"3", "-6", "3"} {
		session, err := w.Login(t.Context(), box.DesktopUser, "XDG_SESSION_TYPE=x11")
		if err != nil {
			t.Fatal(err)
		}
		wants("2")
		w.until(t, "a change waits for the end of the session", func() bool {
			return w.report(t).resource("pcoip/server_clipboard_state").State == converge.Pending
		})
		w.MustExec(t, "systemctl", "stop", "soe-agent")
		if n := w.MustExec(t, "python3", "/root/shift.py", days, "/etc/pcoip-agent", "/etc/dconf", "/etc/sudoers.d", "/etc/polkit-1", "/etc/motd.d", "/etc/modprobe.d", "/var/lib/rpm"); n == "0\n" {
			t.Fatal("the agent has noted no time, and this test shows nothing")
		}
		w.MustExec(t, "systemctl", "start", "soe-agent")
		w.until(t, "the agent keeps", func() bool { s, _ := w.status(t); return s.Phase == agent.Keeping })
		if r := w.report(t); !r.Compliant || r.resource("pcoip/server_clipboard_state").State != converge.Pending {
			t.Errorf("by %s days: the verdict is %s, of %+v", days, r.Verdict, r.Resources)
		}
		for _, drift := range []struct{ harm, mended string }{
			{"echo x >/etc/motd.d/one", "grep -q kept /etc/motd.d/one"},
			{"echo 'user ALL=(ALL) ALL' >/etc/sudoers.d/zzz; chmod 440 /etc/sudoers.d/zzz", "! grep -q '^user' /etc/sudoers.d/zzz"},
			{"systemctl stop kept.service", "systemctl -q is-active kept.service"},
			{"rm /etc/dconf/db/soe", "test -e /etc/dconf/db/soe"},
			{"echo x >>/etc/modprobe.d/soe.conf", "! grep -q ^x /etc/modprobe.d/soe.conf"},
		} {
			begun := time.Now()
			w.MustExec(t, "sh", "-c", drift.harm)
			w.until(t, "it is mended: "+drift.harm, func() bool { return !w.fails(t, "sh", "-c", drift.mended) })
			if took := time.Since(begun); took > soon {
				t.Errorf("by %s days: %s is mended after %s", days, drift.harm, took)
			}
		}
		if err := session.Logout(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.until(t, "nothing is pending any more", func() bool {
			r := w.report(t)
			return r.Compliant && r.resource("pcoip/server_clipboard_state").State.InLine() && r.Summary[converge.Pending] == 0
		})
		w.MustExec(t, "rm", "-f", "/etc/sudoers.d/zzz")
		wants("0")
		w.until(t, "all is as at first", func() bool {
			r := w.report(t)
			return r.Compliant && r.resource("pcoip/server_clipboard_state").State.InLine()
		})
	}
}
