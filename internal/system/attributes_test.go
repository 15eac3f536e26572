package system_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/soe-agent/soe-agent/internal/system"
)

// keeper is a BackupStore that keeps nothing and records the calls.
type keeper struct{ asked []string }

func (k *keeper) Backup(name string, _ *system.Original) error {
	k.asked = append(k.asked, name)
	return nil
}

func TestOfAFileThatSomebodyElseKeepsOnlyTheAttributesAreLookedAtAndChanged(t *testing.T) {
	root := t.TempDir()
	put(t, root, "/var/log/large", "")
	at := filepath.Join(root, "var/log/large")
	if err := errors.Join(os.Truncate(at, 1<<40), os.Chmod(at, 0o644)); err != nil { // more than is ever read
		t.Fatal(err)
	}
	kept := &keeper{}
	files := open(t, root, nil, kept)
	info, err := files.Describe("/var/log/large")
	if err != nil || info.Mode != 0o644 || info.Size != 1<<40 {
		t.Fatalf("%+v, %v", info, err)
	}
	if err := files.ChangeAttr("/var/log/large", info, owned(0o600)); err != nil {
		t.Fatal(err)
	}
	if now, err := files.Describe("/var/log/large"); err != nil || now.Mode != 0o600 || len(kept.asked) > 0 {
		t.Errorf("%+v, %v; kept is %v", now, err, kept.asked)
	}
	if err := files.ChangeAttr("/var/log/large", info, owned(0o640)); err == nil {
		t.Error("what is no longer as described is changed")
	}
}

func TestTheAttributesOfWhatIsProtectedOrHasAnotherNameOrIsALinkAreNotChanged(t *testing.T) {
	root := t.TempDir()
	put(t, root, "/etc/shadow", "secret")
	put(t, root, "/etc/pam.d/su", "auth")
	put(t, root, "/opt/x", "")
	link(t, root, "../etc/pam.d", "/opt/pam")
	link(t, root, "x", "/opt/link")
	for from, to := range map[string]string{"etc/shadow": "opt/hard", "opt/x": "opt/y"} {
		if err := os.Link(filepath.Join(root, from), filepath.Join(root, to)); err != nil {
			t.Fatal(err)
		}
	}
	var recorder system.Recorder
	files := open(t, root, recorder.Gate, nil)
	for _, name := range []string{"/etc/shadow", "/etc/pam.d/su", "/opt/pam/su", "/opt/hard", "/opt/y", "/opt/link", "opt/x", "/opt/../opt/x"} {
		info, _ := files.Describe(name)
		err := files.ChangeAttr(name, info, owned(0o666))
		if hard := name == "/opt/hard" || name == "/opt/y"; err == nil || hard && !errors.Is(err, system.ErrNames) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"etc/shadow", "etc/pam.d/su", "opt/x"} {
		if info, err := os.Stat(filepath.Join(root, name)); err != nil || info.Mode().Perm() != 0o644 {
			t.Errorf("%s is %v, %v", name, info, err)
		}
	}
}
