package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/agent"
	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/kind/packages"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/test/box"
)

func TestAScopeWithoutAProcessHoldsUpNoPackage(t *testing.T) {
	t.Parallel()
	d := newDesktop(t, box.CgroupV1())
	d.apply(t, d.repository())
	// With the old hierarchy, in a container, nobody tells systemd that the last process has ended.
	d.MustExec(t, "systemd-run", "--quiet", "--unit=maker", "systemd-run", "--scope", "--unit=soe-agent-packages", "sleep", "infinity")
	const there = "for i in $(seq 1000); do systemctl --quiet is-active soe-agent-packages.scope && exit; sleep 0.1; done; exit 1"
	d.MustExec(t, "sh", "-c", there)
	d.MustExec(t, "pkill", "-KILL", "-x", "sleep")
	d.MustExec(t, "sh", "-c", "for i in $(seq 1000); do pgrep -x sleep >/dev/null || exit 0; sleep 0.1; done; exit 1")
	d.MustWriteFile(t, packages.ProgressFile, box.File{Content: `{"phase":"installing","scope":"soe-agent-packages"}`})
	if state := d.MustExec(t, "systemctl", "show", "--property=ActiveState", "soe-agent-packages.scope"); state != "ActiveState=active\n" {
		t.Fatalf("systemd has noticed, and this test shows nothing: %s", state)
	}
	start := time.Now()
	d.apply(t, d.repository()+"[packages]\nsoe-pkg-01 = \"present\"\n").wants(t, map[policy.ID]converge.State{"package/soe-pkg-01": converge.Corrected})
	if took := time.Since(start); took > 3*soon {
		t.Errorf("to install a package takes %s", took)
	}
	d.apply(t, d.repository()+"[packages]\nsoe-pkg-01 = \"absent\"\n").wants(t, map[policy.ID]converge.State{"package/soe-pkg-01": converge.Corrected})
}

// held is how many goroutines and descriptors the agent has.
func (w *workspace) held(t *testing.T) (goroutines uint64, files int) {
	t.Helper()
	status, _ := w.status(t)
	if _, err := fmt.Sscan(w.MustExec(t, "sh", "-c", fmt.Sprintf("ls /proc/%d/fd | wc -l", status.PID)), &files); err != nil {
		t.Fatal(err)
	}
	return status.Upkeep.Goroutines, files
}

func TestABusThatStandsStillHoldsUpNoMendingAndIsListenedToAgainWhenItGoesOn(t *testing.T) {
	t.Parallel()
	w := kept(t, onlyDomainAdmins+`
[dropins."/etc/motd.d/one"]
content = "kept\n"
[dropins."/etc/motd.d/two"]
content = "kept\n"
[services."kept.service"]
running = true
`, box.WithFiles(map[string]box.File{unitDir + "kept.service": unit(stays, wanted)}))
	before, _ := w.status(t)
	goroutines, files := w.held(t)
	bus := strings.TrimSpace(w.MustExec(t, "systemctl", "show", "-p", "MainPID", "--value", "dbus"))
	w.MustExec(t, "kill", "-STOP", bus)
	w.mendsAll(t, 9) // the first who asks finds out
	w.mendsAll(t, 3)
	after, _ := w.status(t)
	if after.PID != before.PID {
		t.Errorf("the agent was process %d and is %d", before.PID, after.PID)
	}
	if g, f := w.held(t); g > goroutines+30 || f > files+15 {
		t.Errorf("there were %d goroutines and %d descriptors, and are %d and %d", goroutines, files, g, f)
	}
	w.MustExec(t, "kill", "-CONT", bus)
	w.until(t, "the agent follows units again", func() bool {
		w.MustExec(t, "sh", "-c", "systemctl stop kept.service || true")
		for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
			if !w.fails(t, "systemctl", "--quiet", "is-active", "kept.service") {
				return true
			}
		}
		return false
	})
	w.mendsAll(t, 1)
	w.until(t, "everything is in line", func() bool {
		_ = w.fails(t, "soe-agent", "apply") // it is tried again by itself, more and more seldom
		s, code := w.status(t)
		return code == 0 && s.Phase == agent.Keeping
	})
	if g, f := w.held(t); g > goroutines+15 || f > files+8 {
		t.Errorf("there were %d goroutines and %d descriptors, and in the end there are %d and %d", goroutines, files, g, f)
	}
}
