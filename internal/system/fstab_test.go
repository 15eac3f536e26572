package system_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/soe-agent/soe-agent/internal/system"
)

func TestOfFstabNothingIsWrittenButOptionsThatTakeRightsAway(t *testing.T) {
	const before, safe = "/dev/a / ext4 defaults 1 1\n/dev/b /var xfs usrquota 0 2\n", "tmpfs /dev/shm tmpfs nodev 0 0\n/dev/a / ext4 defaults 1 1\n/dev/b /var xfs usrquota,nosuid 0 2\n"
	root := t.TempDir()
	name := filepath.Join(root, "etc/fstab")
	s, err := system.Open(system.Options{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.FS.WriteFile("/etc/fstab", []byte(safe), system.Attr{Mode: 0o644}); err == nil {
		t.Error("it is made where there is none")
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(before), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, files := range []system.FS{s.FS, s.Rights.FS} {
		for _, content := range []string{"", "tmpfs /dev/shm tmpfs nodev 0 0\n", "x\n", before + "/dev/c /srv xfs nodev 0 0\n", "/dev/a / ext4 ro 1 1\n/dev/b /var xfs usrquota 0 2\n"} {
			if err := files.WriteFile("/etc/fstab", []byte(content), system.Attr{Mode: 0o644}); err == nil {
				t.Errorf("%q is written", content)
			}
		}
		if err := files.Remove("/etc/fstab"); err == nil {
			t.Error("it is removed")
		}
	}
	if got, err := os.ReadFile(name); err != nil || string(got) != before {
		t.Errorf("%v: it holds %q", err, got)
	}
	if err := s.FS.WriteFile("/etc/fstab", []byte(safe), system.Attr{Mode: 0o644}); err != nil {
		t.Error(err)
	}
	if got, err := os.ReadFile(name); err != nil || string(got) != safe {
		t.Errorf("%v: it holds %q", err, got)
	}
}

func TestAFstabIsMadeAndRemovedWhereItSaysNothingElseThanItsAbsence(t *testing.T) {
	root := t.TempDir()
	s, err := system.Open(system.Options{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	for _, content := range []string{"/dev/a / ext4 defaults 1 1\n", "tmpfs /dev/shm tmpfs nodev,size=1k 0 0\n", "# mine\n"} {
		if err := s.FS.WriteFile("/etc/fstab", []byte(content), system.Attr{Mode: 0o644}); err == nil {
			t.Errorf("%q is written where there was none", content)
		}
	}
	const line = "tmpfs /dev/shm tmpfs nodev,noexec 0 0\n"
	if err := s.FS.WriteFile("/etc/fstab", []byte(line), system.Attr{Mode: 0o644}); err != nil {
		t.Error(err)
	}
	name := filepath.Join(root, "etc/fstab")
	for _, content := range []string{line + "# mine\n", "/dev/a / ext4 defaults 1 1\n"} {
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := s.FS.Remove("/etc/fstab"); err == nil {
			t.Errorf("%q is removed", content)
		}
	}
	if err := os.WriteFile(name, []byte(line), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := s.FS.Remove("/etc/fstab"); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(name); !os.IsNotExist(err) {
		t.Errorf("it is there still: %v", err)
	}
}
