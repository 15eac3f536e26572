package converge_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/system"
)

// The original of a file is kept once: whatever fails, the agent's own content must not replace it.
func TestNoLookThatFailsLosesWhatWasThereBeforeTheAgent(t *testing.T) {
	const name = "/etc/sysctl.d/60.conf"
	for n, failed := 1, true; failed; n++ {
		failed = false
		root := t.TempDir()
		if err := os.MkdirAll(filepath.Join(root, "etc/sysctl.d"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, name), []byte("theirs"), 0o644); err != nil {
			t.Fatal(err)
		}
		open := func(look system.Looker) (*converge.Ledger, *system.System) {
			state, err := system.Open(system.Options{Root: root, Look: look})
			if err != nil {
				t.Fatal(err)
			}
			ledger, err := converge.OpenLedger(state.FS, "/var/lib/soe-agent", facts.Identity{MachineID: "machine"})
			if err != nil {
				return nil, nil
			}
			s, err := system.Open(system.Options{Root: root, Backups: ledger})
			if err != nil {
				t.Fatal(err)
			}
			return ledger, s
		}
		_, s := open(nil)
		if err := s.FS.WriteFile(name, []byte("ours"), system.Attr{Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		gate := system.FailNthLook(n, syscall.EIO)
		ledger, s := open(func(l system.Look) error {
			err := gate(l)
			failed = failed || err != nil
			return err
		})
		if ledger == nil {
			continue // it could not be read, so nothing is changed
		}
		_ = s.FS.WriteFile(name, []byte("ours again"), system.Attr{Mode: 0o644}) // an error is fine
		_ = s.FS.Remove(name)
		_ = ledger.Release(name, func(system.Original) error { return nil }, func() error {
			t.Errorf("with a fault at look %d it is taken for the agent's own", n)
			return nil
		})
		after, _ := open(nil)
		if kept, is, err := after.Original(name); err != nil || is && string(kept.Content) != "theirs" {
			t.Errorf("with a fault at look %d what is kept is %q, %v", n, kept.Content, err)
		}
		if after.Made(name) {
			t.Errorf("with a fault at look %d it is noted as the agent's own", n)
		}
	}
}
