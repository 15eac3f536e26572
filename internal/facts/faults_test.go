package facts_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/system"
)

// The agent discards state that belongs to another machine.
func TestALookThatFailsMakesOfAMachineNoOther(t *testing.T) {
	root := t.TempDir()
	for name, content := range map[string]string{
		"etc/machine-id": "0123\n", "proc/sys/kernel/hostname": "A-1\n", "etc/hostname": "image\n", "proc/sys/kernel/random/boot_id": "b\n",
		"usr/lib/os-release": "ID=debian\n", "etc/os-release": "ID=amzn\n", "var/lib/amazon/ssm/registration": `{"ManagedInstanceID":"mi-1","Region":"eu-west-1"}`,
		"proc/self/mountinfo": "1 0 259:1 / / rw - ext4 /dev/nvme0n1p1 rw\n", "sys/devices/nvme0n1/serial": "vol01\n", "sys/devices/nvme0n1/nvme0n1p1/partition": "1\n",
		"etc/locale.conf": "LANG=de_DE.UTF-8\n", "etc/default/locale": "LANG=C\n",
	} {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(root, "sys/dev/block"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../../devices/nvme0n1/nvme0n1p1", filepath.Join(root, "sys/dev/block/259:1")); err != nil {
		t.Fatal(err)
	}
	gather := func(look system.Looker) (facts.Facts, error) {
		s, err := system.Open(system.Options{Root: root, Look: look})
		if err != nil {
			t.Fatal(err)
		}
		return facts.Gather(t.Context(), s)
	}
	truth, err := gather(nil)
	if err != nil || truth.Disk != "vol01" || truth.Hostname != "A-1" || truth.ManagedNode != "mi-1" {
		t.Fatalf("%+v, %v", truth, err)
	}
	for _, fault := range []error{syscall.EIO, syscall.EMFILE, syscall.ENOMEM, syscall.EACCES} {
		for n, failed := 1, true; failed; n++ {
			failed = false
			gate := system.FailNthLook(n, fault)
			got, err := gather(func(l system.Look) error {
				err := gate(l)
				failed = failed || err != nil
				return err
			})
			if err == nil && !truth.Identity().Same(got.Identity()) {
				t.Errorf("with %v at look %d it is taken for another machine: %+v", fault, n, got)
			}
			for _, name := range facts.Names() {
				want, _ := truth.Lookup(name)
				if value, _ := got.Lookup(name); value != want && value != "" {
					t.Errorf("with %v at look %d %s is %q, and really %q", fault, n, name, value, want)
				}
			}
		}
	}
}
