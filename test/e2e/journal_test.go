package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/agent"
	"github.com/soe-agent/soe-agent/test/box"
)

// keeper is a machine whose local policy keeps two files and sudo.
func keeper(t *testing.T, options ...box.Option) *workspace {
	t.Helper()
	return kept(t, onlyDomainAdmins+`
[dropins."/etc/motd.d/one"]
content = "kept\n"
[dropins."/etc/motd.d/two"]
content = "kept\n"
`, options...)
}

// The nth drift of one of three files, and what holds when it is mended.
func drift(n int) (harm, mended string) {
	switch n % 3 {
	case 0:
		return "echo drift >/etc/motd.d/one", "grep -qx kept /etc/motd.d/one"
	case 1:
		return "rm /etc/motd.d/two", "grep -qx kept /etc/motd.d/two"
	}
	return "echo 'user ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/zzzz", "! grep -q ^user /etc/sudoers.d/zzzz"
}

// mendsAll makes so many drifts, one after the other, each of which is mended soon.
func (w *workspace) mendsAll(t *testing.T, drifts int) {
	t.Helper()
	for i := range drifts {
		harm, mended := drift(i)
		w.MustExec(t, "sh", "-c", harm)
		start := time.Now()
		w.until(t, fmt.Sprintf("drift %d is mended (%s)", i, harm), func() bool { return !w.fails(t, "sh", "-c", mended) })
		if took := time.Since(start); took > soon {
			t.Errorf("drift %d is mended after %s: %s", i, took, harm)
		}
	}
}

func (w *workspace) agentsCPU(t *testing.T) time.Duration {
	t.Helper()
	var utime, stime int
	stat := w.MustExec(t, "sh", "-c", "cut -d' ' -f14,15 /proc/$(systemctl show -p MainPID --value soe-agent)/stat")
	if _, err := fmt.Sscan(stat, &utime, &stime); err != nil {
		t.Fatal(err)
	}
	return time.Duration(utime+stime) * 10 * time.Millisecond
}

// fillSyslog sends lines to syslog, as everybody may, until there is no room for one more:
// who logs there waits from then on.
const fillSyslog = `
import socket
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.connect("/dev/log")
s.setblocking(False)
try:
    while True: s.send(b"<14>filled")
except BlockingIOError:
    pass
`

func TestAJournalThatHasStoppedHoldsUpNoMendingAndIsToldLater(t *testing.T) {
	t.Parallel()
	w := keeper(t)
	journald := strings.TrimSpace(w.MustExec(t, "systemctl", "show", "-p", "MainPID", "--value", "systemd-journald"))
	w.MustExec(t, "kill", "-STOP", journald)
	w.MustExec(t, "python3", "-c", fillSyslog)
	begun := time.Now()
	w.mendsAll(t, 20)
	status, code := w.status(t)
	if code != 0 || status.Phase != agent.Keeping || status.LastPass.Before(begun) {
		t.Errorf("the status is %d: %+v", code, status)
	}
	before, pause := w.agentsCPU(t), 5*time.Second
	time.Sleep(pause)
	if used := w.agentsCPU(t) - before; used > pause/10 {
		t.Errorf("within %s that nothing happens in the agent takes %s of the processor", pause, used)
	}
	w.MustExec(t, "kill", "-CONT", journald)
	w.until(t, "the journal has all 20 corrections, or how many log lines were lost", func() bool {
		said := w.MustExec(t, "journalctl", "--no-pager", "--output=cat", "-u", "soe-agent")
		all := strings.Count(said, "cause=corrective") >= 20 || strings.Contains(said, "lost ")
		return all && strings.Contains(said, "did not accept them")
	})
	w.mendsAll(t, 1)
}

func TestTheLogOfTheAgentComesBackWithTheJournalAndTheAgentStays(t *testing.T) {
	t.Parallel()
	w := keeper(t)
	before, _ := w.status(t)
	const sockets = "systemd-journald.socket systemd-journald-dev-log.socket systemd-journald-audit.socket"
	w.MustExec(t, "sh", "-c", "systemctl stop "+sockets+" systemd-journald.service; rm -f /run/systemd/journal/socket; ! systemctl is-active systemd-journald")
	w.mendsAll(t, 6)
	w.MustExec(t, "sh", "-c", "systemctl start "+sockets+" systemd-journald.service || systemctl start systemd-journald.service")
	w.until(t, "what was said without a journal is in it", func() bool {
		said := w.MustExec(t, "journalctl", "--no-pager", "--output=cat", "-u", "soe-agent")
		return strings.Count(said, "cause=corrective") >= 6
	})
	w.MustExec(t, "systemctl", "restart", "systemd-journald")
	w.mendsAll(t, 1)
	w.until(t, "the journal has the newest", func() bool {
		said := w.MustExec(t, "journalctl", "--no-pager", "--output=cat", "-u", "soe-agent")
		return strings.Count(said, "cause=corrective") >= 7
	})
	if after, _ := w.status(t); after.PID != before.PID {
		t.Errorf("the agent was process %d and is %d", before.PID, after.PID)
	}
}
