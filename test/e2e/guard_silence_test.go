package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/test/box"
)

// guarded is a machine that keeps sudo, with its desktop user at work.
func guarded(t *testing.T) *workspace {
	t.Helper()
	w := alone(t, onlyDomainAdmins+"root_groups = [\"disk2\"]\n[files.\"/srv/theirs/f\"]\nmode = \"0644\"\n")
	w.MustExec(t, "sh", "-c", "mkdir /srv/theirs && touch /srv/theirs/f && chmod 644 /srv/theirs/f")
	w.MustExec(t, "groupadd", "-g", "991", "disk2")
	w.bootAlone(t)
	return w
}

// takesBack gives the desktop user rights by each file that gives some, one a moment after the
// other, does something more, and says how long the last of them lives.
func (w *workspace) takesBack(t *testing.T, meanwhile ...string) time.Duration {
	t.Helper()
	w.MustExec(t, "sh", "-c", "echo 'user ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/zzz-stray; chmod 440 /etc/sudoers.d/zzz-stray; sleep 0.1; sed -i 's/^disk2:.*/disk2:x:991:user/' /etc/group; sleep 0.1; echo '// more' >>/etc/polkit-1/rules.d/00-0soe-admin.rules")
	start := time.Now()
	for _, script := range meanwhile {
		w.MustExec(t, "sh", "-c", script)
	}
	const gone = "! grep -q '^user' /etc/sudoers.d/zzz-stray && ! grep -q '^disk2:.*user' /etc/group && ! grep -q '^// more' /etc/polkit-1/rules.d/00-0soe-admin.rules"
	w.until(t, "the rights are taken back", func() bool { return !w.fails(t, "sh", "-c", gone) })
	return time.Since(start)
}

// silentFiles mounts a file system of which nothing is ever answered: one of a person's own
// program (fuse(4)), or of a server that is gone.
const silentFiles = `
import ctypes, os, signal, stat, sys
if not os.path.exists("/dev/fuse"):
    os.mknod("/dev/fuse", 0o600 | stat.S_IFCHR, os.makedev(10, 229))
fd = os.open("/dev/fuse", os.O_RDWR)
options = "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other" % fd
if ctypes.CDLL(None).mount(b"silent", sys.argv[1].encode(), b"fuse", 0, options.encode()) != 0:
    sys.exit("cannot mount")
print(os.getpid(), flush=True)
signal.pause()
`

func TestAGrantIsTakenBackWithinSecondsWhoeverDoesNotAnswer(t *testing.T) {
	t.Parallel()
	w := guarded(t)
	w.MustWriteFile(t, "/root/silent.py", box.File{Content: silentFiles})
	bus := strings.TrimSpace(w.MustExec(t, "systemctl", "show", "-p", "MainPID", "--value", "dbus"))
	logind := strings.TrimSpace(w.MustExec(t, "systemctl", "show", "-p", "MainPID", "--value", "systemd-logind"))
	const restart = "systemctl restart --no-block soe-agent"
	const hangs = "printf '#!/bin/sh\nexec sleep 3600\n' >/usr/local/sbin/hangs; chmod 755 /usr/local/sbin/hangs; "
	for _, silent := range []struct {
		who, stops, goesOn string
		most               time.Duration // what the machine's own files give needs no word of the bus
	}{
		{"the bus", "kill -STOP " + bus, "kill -CONT " + bus, 15 * time.Second}, // 2 on a machine that does little else
		{"logind", "kill -STOP " + logind, "kill -CONT " + logind, 15 * time.Second},
		{"the file systems of a home and of a file", "for dir in /home/" + box.DesktopUser + " /srv/theirs; do setsid python3 /root/silent.py $dir >/root/silent.pid 2>&1 & until test -s /root/silent.pid; do sleep 0.1; done; cat /root/silent.pid >>/root/silent.pids; rm /root/silent.pid; done", "kill $(cat /root/silent.pids); umount -l /srv/theirs /home/" + box.DesktopUser, 20 * time.Second},
		{"the directory", hangs + "for t in getent id sudo; do cp -p /usr/local/sbin/hangs /usr/local/sbin/$t; done", "rm /usr/local/sbin/getent /usr/local/sbin/id /usr/local/sbin/sudo", 30 * time.Second}, // 9
	} {
		w.MustExec(t, "sh", "-c", silent.stops)
		took := w.takesBack(t)
		again := w.takesBack(t) // while the first look may still wait for an answer
		atStart := w.takesBack(t, restart)
		t.Logf("%s does not answer: rights live for %s, then for %s, and while the agent starts for %s", silent.who, took, again, atStart)
		if max(took, again, atStart) > silent.most {
			t.Errorf("%s does not answer: they live for %s, then for %s, and while the agent starts for %s", silent.who, took, again, atStart)
		}
		w.MustExec(t, "sh", "-c", silent.goesOn)
	}
}
