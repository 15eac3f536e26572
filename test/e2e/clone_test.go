package e2e

import (
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/agent"
	"github.com/soe-agent/soe-agent/test/box"
)

// The capture of an image keeps /var/lib and /etc/machine-id, and takes
// /etc/sudoers.d away.
func TestACloneMadeFromAnImageWithStateInItStartsAfresh(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t)
	w.bootWith(t, 1, w.fleetPolicy())
	const clonesNode = "mi-0fedcba9876543210"
	activateAgain := func(old, node string) {
		t.Helper()
		w.MustExec(t, "sed", "-i", "s/"+old+"/"+node+"/", "/var/lib/amazon/ssm/registration", "/var/lib/amazon/ssm/runtimeconfig/identity_config.json")
	}
	off := func() {
		t.Helper()
		if err := w.Off(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.aws.Down()
	}

	off()
	w.MustExec(t, "rm", "-r", "/etc/sudoers.d")
	w.MustExec(t, "sh", "-c", "echo A-1CLONE >/etc/hostname; echo 127.0.1.1 A-1CLONE >>/etc/hosts")
	activateAgain(nodeID, clonesNode)
	w.boot(t)
	w.until(t, "the clone waits for a policy of its own", func() bool { s, _ := w.status(t); return s.Waiting != "" })
	if s, _ := w.status(t); s.Serial != 0 || s.Phase != agent.Bootstrapping {
		t.Errorf("the clone goes by serial %d, %s", s.Serial, s.Phase)
	}
	if ledger := w.MustReadFile(t, agent.StateDir+"/ledger.jsonl"); !strings.Contains(ledger, "A-1CLONE") || strings.Contains(ledger, w.Name) {
		t.Error("the ledger is not the clone's own")
	}
	if log := w.journal(t); !strings.Contains(log, "starting afresh") {
		t.Errorf("the journal does not say why:\n%s", log)
	}
	if !w.fails(t, "sudo", "-l", "-U", box.DesktopUser, "/usr/bin/id") {
		t.Error("the desktop user has sudo")
	}
	if err := w.aws.Up(); err != nil {
		t.Fatal(err)
	}
	w.converged(t, 1)
	w.MustExec(t, "visudo", "-c")

	// What is no clone keeps its state.
	off()
	activateAgain(clonesNode, nodeID)
	w.boot(t)
	w.until(t, "the policy is enforced as it was kept", func() bool { s, _ := w.status(t); return s.Serial == 1 })
}

// journal is what the daemon has said since the machine booted.
func (w *workspace) journal(t *testing.T) string {
	t.Helper()
	return w.MustExec(t, "journalctl", "--no-pager", "-b", "-u", "soe-agent", "-o", "cat")
}

// A restore takes the root volume back by some hours.
func TestAMachineThatIsRestoredToAnOlderStateGoesToTheNewestPolicy(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t)
	fragments := w.fleetPolicy()
	w.bootWith(t, 1, fragments)
	const volume = "/var/lib/soe-agent /etc/modprobe.d /etc/sysctl.d /etc/profile.d /etc/sudoers.d"
	w.MustExec(t, "sh", "-c", "systemctl stop soe-agent && tar -cf /root/snapshot.tar "+volume+" && systemctl start soe-agent")

	for name, text := range fragments {
		text = strings.ReplaceAll(text, "# managed, number 1\\n", "# managed, number one\\n")
		text = strings.ReplaceAll(text, "/etc/modprobe.d/soe-34.conf", "/etc/modprobe.d/soe-99.conf")
		fragments[name] = text
	}
	w.publish(t, 2, fragments)
	wanted := func() {
		t.Helper()
		r := w.converged(t, 2)
		for _, resource := range r.Resources {
			if !resource.State.InLine() {
				t.Errorf("%s is %s: %s", resource.ID, resource.State, resource.Reason)
			}
		}
		if got := w.MustReadFile(t, "/etc/modprobe.d/soe-01.conf"); got != "# managed, number one\n" {
			t.Errorf("a drop-in holds %q", got)
		}
		w.MustExec(t, "sh", "-c", "test ! -e /etc/modprobe.d/soe-34.conf -a -e /etc/modprobe.d/soe-99.conf")
	}
	wanted()

	if err := w.Off(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.MustExec(t, "sh", "-c", "rm -r "+volume+" && tar -xf /root/snapshot.tar -C / && test -e /etc/modprobe.d/soe-34.conf")
	w.boot(t)
	wanted()
	if s, _ := w.status(t); len(s.Refused) > 0 {
		t.Errorf("refused: %v", s.Refused)
	}
	if log := w.journal(t); strings.Contains(log, "starting afresh") {
		t.Errorf("the journal says:\n%s", log)
	}
}
