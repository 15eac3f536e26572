package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/agent"
	"github.com/soe-agent/soe-agent/test/box"
)

// The capture of an image keeps /var/lib and takes /etc/sudoers.d away.
func TestACloneMadeFromAnImageWithStateInItStartsAfresh(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t)
	w.publish(t, 1, w.fleetPolicy())
	w.activate(t)
	w.boot(t)
	w.converged(t, 1)
	if err := w.Off(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.aws.Down()
	w.MustExec(t, "rm", "-r", "/etc/sudoers.d")
	w.MustWriteFile(t, "/etc/machine-id", box.File{Content: "0123456789abcdef0123456789abcdef\n", Mode: 0o444})
	w.boot(t)
	w.until(t, "the clone waits for a policy of its own", func() bool { s, _ := w.status(t); return s.Waiting != "" })
	if s, _ := w.status(t); s.Serial != 0 || s.Phase != agent.Bootstrapping {
		t.Errorf("the clone goes by serial %d, %s", s.Serial, s.Phase)
	}
	if ledger := w.MustReadFile(t, agent.StateDir+"/ledger.jsonl"); !strings.Contains(ledger, "0123456789abcdef0123456789abcdef") {
		t.Error("the ledger is not the clone's own")
	}
	if !w.fails(t, "sudo", "-l", "-U", box.DesktopUser, "/usr/bin/id") {
		t.Error("the desktop user has sudo")
	}
	if err := w.aws.Up(); err != nil {
		t.Fatal(err)
	}
	w.converged(t, 1)
}

// Whatever moment the agent dies in, the next one finds files whole and goes on.
func TestAnAgentThatIsKilledAgainAndAgainConvergesInTheEnd(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t)
	w.publish(t, 1, w.fleetPolicy())
	w.activate(t)
	w.boot(t)
	for moment := range 15 {
		// A little later in its life each time.
		w.MustExec(t, "sh", "-c", fmt.Sprintf(
			"systemctl reset-failed soe-agent; systemctl restart --no-block soe-agent; sleep 0.%02d; systemctl kill -s KILL soe-agent", 3*moment))
	}
	w.MustExec(t, "sh", "-c", "systemctl reset-failed soe-agent; systemctl restart soe-agent")
	w.converged(t, 1)
	w.MustExec(t, "visudo", "-c")
	if left := w.MustExec(t, "sh", "-c", "find /etc /var/lib -name '*.soe.swp'"); left != "" {
		t.Errorf("left behind: %s", left)
	}
	if result, err := w.Exec(t.Context(), "soe-agent", "plan"); err != nil || result.Code != 0 {
		t.Errorf("plan: %v, exit code %d\n%s%s", err, result.Code, result.Stdout, result.Stderr)
	}
}
