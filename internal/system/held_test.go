package system_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/soe-agent/soe-agent/internal/system"
)

// flag sets attributes of a file, and takes them away at the end of the test.
func flag(t *testing.T, name string, flags int) {
	t.Helper()
	set := func(flags int) error {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		return unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags)
	}
	if err := set(flags); err != nil {
		t.Fatalf("the file system of the test has no attributes: %v", err)
	}
	t.Cleanup(func() { _ = set(0) })
}

func TestWhatRootItselfCannotChangeIsNamedAndChangedForRights(t *testing.T) {
	for name, flags := range map[string]int{"immutable": 0x10, "append only": 0x20} {
		for _, held := range []string{"/etc/sudoers.d/x", "/etc/sudoers.d"} {
			root := t.TempDir()
			s, err := system.Open(system.Options{Root: root})
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Rights.WriteFile("/etc/sudoers.d/x", []byte("before\n"), system.Attr{Mode: 0o440}); err != nil {
				t.Fatal(err)
			}
			flag(t, filepath.Join(root, held), flags)
			for what, change := range map[string]func() error{
				"write":  func() error { return s.FS.WriteFile("/etc/sudoers.d/x", []byte("after\n"), system.Attr{Mode: 0o440}) },
				"remove": func() error { return s.FS.Remove("/etc/sudoers.d/x") },
				"chmod":  func() error { return s.FS.SetAttr("/etc/sudoers.d/x", system.Attr{Mode: 0o400}) },
			} {
				if err := change(); err == nil || !strings.Contains(err.Error(), "chattr -i -a "+held) {
					t.Errorf("%s %s, %s: %v", name, held, what, err)
				}
			}
			if err := s.Rights.WriteFile("/etc/sudoers.d/x", []byte("after\n"), system.Attr{Mode: 0o440}); err != nil {
				t.Errorf("%s %s: %v", name, held, err)
			}
			if got, _ := os.ReadFile(filepath.Join(root, "etc/sudoers.d/x")); string(got) != "after\n" {
				t.Errorf("%s %s: it holds %q", name, held, got)
			}
		}
	}
}

func TestWhatIsMountedOverAFileIsNamedAndUnmountedOnlyFromSudosFiles(t *testing.T) {
	root := t.TempDir()
	s, err := system.Open(system.Options{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"/etc/sudoers.d/x", "/etc/motd.d/m", "/evil"} {
		if err := s.Rights.WriteFile(name, []byte(name), system.Attr{Mode: 0o440}); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"/etc/sudoers.d/x", "/etc/motd.d/m"} {
		over := filepath.Join(root, name)
		if err := unix.Mount(filepath.Join(root, "evil"), over, "", unix.MS_BIND, ""); err != nil {
			t.Fatalf("this test mounts, which only root may: %v", err)
		}
		t.Cleanup(func() { _ = unix.Unmount(over, unix.MNT_DETACH) })
		if err := s.FS.WriteFile(name, nil, system.Attr{Mode: 0o440}); err == nil || !strings.Contains(err.Error(), "umount "+name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := s.Rights.Uncover("/etc/motd.d/m"); err == nil {
		t.Error("it unmounts what is none of sudo's files")
	}
	if err := s.Rights.Uncover("/etc/sudoers.d/x"); err != nil {
		t.Error(err)
	}
	if got, _ := os.ReadFile(filepath.Join(root, "etc/sudoers.d/x")); string(got) != "/etc/sudoers.d/x" {
		t.Errorf("it holds %q", got)
	}
}
