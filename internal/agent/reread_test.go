package agent

import (
	"errors"
	"strings"
	"syscall"
	"testing"

	"github.com/soe-agent/soe-agent/internal/system"
)

// A disk that fails for a moment is no reason to keep an old configuration in force, and to ask somebody to
// correct it, until somebody writes it again.
func TestWhatCouldNotBeReadOnceIsReadAgainThoughNobodyWritesItAndNothingIsPublished(t *testing.T) {
	for what, name := range map[string]string{"the configuration": ConfigFile, "a fragment": LocalDir + "/50-here.toml"} {
		t.Run(what, func(t *testing.T) {
			root := t.TempDir()
			d := newTestDaemon(t, root, "1.0")
			sick := false
			s, err := system.Open(system.Options{Root: root, Look: func(l system.Look) error {
				if sick && strings.HasSuffix(l.String(), name) {
					return syscall.EIO
				}
				return nil
			}})
			if err != nil {
				t.Fatal(err)
			}
			d.System = s
			if err := errors.Join(
				s.FS.WriteFile(ConfigFile, []byte("personas = [\"base\"]\n"), system.Attr{Mode: 0o644}),
				s.FS.WriteFile(LocalDir+"/50-here.toml", []byte("schema = 1\n"), system.Attr{Mode: 0o644}),
				s.FS.WriteFile("/etc/machine-id", []byte("0123456789abcdef0123456789abcdef\n"), system.Attr{Mode: 0o644}),
			); err != nil {
				t.Fatal(err)
			}
			look := func() {
				t.Helper()
				if err := d.look(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			look()
			if pause := d.poll(); pause != 0 || len(d.refusals.all()) > 0 {
				t.Fatalf("it is read again after %s: %v", pause, d.refusals.all())
			}
			sick = true
			look()
			if pause := d.poll(); pause != rereading {
				t.Errorf("with %v refused it is read again after %s", d.refusals.all(), pause)
			}
			sick = false
			look()
			if pause := d.poll(); pause != 0 || len(d.refusals.all()) > 0 {
				t.Errorf("afterwards it is read again after %s: %v", pause, d.refusals.all())
			}
		})
	}
}
