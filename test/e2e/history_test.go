package e2e

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/history"
	"github.com/soe-agent/soe-agent/test/box"
)

// remembered is what the machine remembers of a resource.
func (w *workspace) remembered(t *testing.T, id string) (changes []history.Change) {
	t.Helper()
	var document struct{ Changes []history.Change }
	if err := json.Unmarshal([]byte(w.MustExec(t, "soe-agent", "--json", "history", id)), &document); err != nil {
		t.Fatal(err)
	}
	return document.Changes
}

func TestWhatTheAgentChangedIsKnownAfterItWasKilledAndWithoutIt(t *testing.T) {
	t.Parallel()
	const name = "/etc/modprobe.d/soe-life.conf"
	w := alone(t, lifePolicy)
	w.MustWriteFile(t, name, box.File{Content: "# somebody's\n"})
	w.boot(t)
	w.converged(t, 0)
	tampered := time.Now()
	w.MustExec(t, "sh", "-c", "echo '# tampered' >/root/new && mv /root/new "+name) // at once: half of it would be noticed
	w.until(t, "the change is remembered", func() bool { return len(w.remembered(t, "dropin"+name)) == 2 })
	w.MustExec(t, "systemctl", "kill", "--signal=KILL", "--kill-who=main", "soe-agent")
	w.until(t, "another agent keeps the machine", func() bool { return w.shows(t, "NRestarts") == "1" && w.shows(t, "ActiveState") == "active" })
	w.MustExec(t, "sh", "-c", "rm "+name)
	w.until(t, "that is remembered too", func() bool { return len(w.remembered(t, "dropin"+name)) == 3 })
	w.MustExec(t, "systemctl", "stop", "soe-agent")

	changes := w.remembered(t, "dropin"+name)
	for i, want := range []struct {
		cause converge.Cause
		got   string
	}{{converge.Intentional, "# somebody's\n"}, {converge.Corrective, "# tampered\n"}, {converge.Corrective, ""}} {
		c := changes[i]
		if c.Event != converge.WasCorrected || c.Cause != want.cause || len(c.Diff) == 0 || c.Diff[0].Got != want.got || c.Diff[0].Want != "# managed\n" {
			t.Errorf("change %d: %+v", i, c)
		}
		if c.Policy == "" || c.Origin.Line == 0 || c.Took <= 0 || c.Took > soon {
			t.Errorf("change %d is by %s, from %v, and took %s", i, c.Policy, c.Origin, c.Took)
		}
	}
	if c := changes[1]; c.Unnoticed <= 0 || c.Unnoticed > soon || c.Time.Before(tampered) {
		t.Errorf("it was noticed after %s, and mended %s after it was made", c.Unnoticed, c.Time.Sub(tampered))
	}
	t.Logf("noticed after %s, mended %s later", changes[1].Unnoticed, changes[1].Took)
	if all := w.remembered(t, "*"); len(all) <= len(changes) {
		t.Errorf("of all resources it remembers %d changes", len(all))
	}
}
