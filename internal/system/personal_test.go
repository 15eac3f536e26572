package system

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/soe-agent/soe-agent/internal/mounts"
)

func TestInAHomeNothingIsFollowedOpenedOrWaitedFor(t *testing.T) {
	const name, none = ".config/settings/keyfile", "there is none"
	secret := filepath.Join(t.TempDir(), "shadow")
	if err := os.WriteFile(secret, []byte("s3cr3t"), 0o600); err != nil {
		t.Fatal(err)
	}
	write := func(content string) func(file string) error {
		return func(file string) error { return os.WriteFile(file, []byte(content), 0o600) }
	}
	for what, c := range map[string]struct {
		make func(file string) error
		want string // part of the error; "" for none
	}{
		"a file":  {write("[a]\n"), ""},
		"nothing": {func(string) error { return nil }, none},
		"a file in place of a directory": {func(file string) error {
			dir := filepath.Dir(file)
			return errors.Join(os.Remove(dir), os.WriteFile(dir, nil, 0o600))
		}, none},
		"a link to a secret": {func(file string) error { return os.Symlink(secret, file) }, "it is not followed"},
		"a link into /proc":  {func(file string) error { return os.Symlink("/proc/self/environ", file) }, "it is not followed"},
		"a directory that is a link": {func(file string) error {
			dir := filepath.Dir(file)
			return errors.Join(os.Remove(dir), os.Symlink(filepath.Dir(secret), dir))
		}, "it is not followed"},
		"a FIFO":              {func(file string) error { return unix.Mkfifo(file, 0o600) }, "not a regular file"},
		"a directory":         {func(file string) error { return os.Mkdir(file, 0o700) }, "not a regular file"},
		"a huge file":         {func(file string) error { return errors.Join(write("")(file), os.Truncate(file, 1<<40)) }, "larger than 64 KiB"},
		"a file of another's": {func(file string) error { return errors.Join(write("x")(file), os.Chown(file, 2, 2)) }, "somebody else"},
		"a file with a lease": {func(file string) error {
			if err := write("x")(file); err != nil {
				return err
			}
			f, err := os.OpenFile(file, os.O_RDWR, 0)
			if err != nil {
				return err
			}
			t.Cleanup(func() { f.Close() })
			_, err = unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK)
			return err
		}, "temporarily unavailable"},
	} {
		root := t.TempDir()
		file := filepath.Join(root, "home/u", name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), c.make(file)); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if info, err := os.Lstat(file); err == nil && info.Mode().IsRegular() && what != "a file of another's" {
			if err := os.Chown(file, 1, 1); err != nil {
				t.Fatal(err)
			}
		}
		s, err := Open(Options{Root: root})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		content, err := s.FS.ReadPersonal("/home/u", 1, name)
		switch {
		case time.Since(start) > 5*time.Second:
			t.Errorf("%s holds up the look for %s", what, time.Since(start))
		case c.want == "" && (err != nil || string(content) != "[a]\n"):
			t.Errorf("%s: %q, %v", what, content, err)
		case c.want != "" && c.want != none && (err == nil || !strings.Contains(err.Error(), c.want) || len(content) > 0):
			t.Errorf("%s: %q, %v", what, content, err)
		case errors.Is(err, fs.ErrNotExist) != (c.want == none):
			t.Errorf("%s is taken for nothing: %v", what, err)
		}
	}
}

func TestAHomeOnAServerIsNotLookedAt(t *testing.T) {
	all := mounts.Parse("36 1 8:1 / / rw - ext4 /dev/root rw\n37 36 0:44 / /home/a rw,relatime shared:1 - nfs4 server:/a rw\n38 36 0:45 / /home/b rw - fuse.sshfs x rw\n")
	for file, want := range map[string]string{"/home/a/.config/x": "nfs4", "/home/b/x": "fuse.sshfs", "/home/c/x": "", "/home/ab/x": ""} {
		if got := remote(file, all); got.Kind != want {
			t.Errorf("%s is taken to be on %q", file, got.Kind)
		}
	}
}

func TestAHomeIsDescribedWithoutFollowingALinkOrLookingAtAnotherMachine(t *testing.T) {
	root := t.TempDir()
	at := func(name string) string { return filepath.Join(root, name) }
	if err := errors.Join(
		os.MkdirAll(at("home/a"), 0o700), os.Chown(at("home/a"), 1000, 1000), os.Chmod(at("home/a"), 0o711),
		os.Symlink("a", at("home/link")), os.Symlink("home", at("people")), os.WriteFile(at("home/file"), nil, 0o600), unix.Mkfifo(at("home/fifo"), 0o600),
	); err != nil {
		t.Fatal(err)
	}
	s, err := Open(Options{Root: root, Gate: ReadOnly})
	if err != nil {
		t.Fatal(err)
	}
	info, err := s.FS.DescribeHome("/home/a")
	if err != nil || !info.IsDir() || info.UID != 1000 || info.Mode.Perm() != 0o711 {
		t.Errorf("%+v %v", info, err)
	}
	for _, name := range []string{"/home/link", "/home/file", "/home/fifo"} {
		if info, err := s.FS.DescribeHome(name); err != nil || info.IsDir() {
			t.Errorf("%s: %+v %v", name, info, err)
		}
	}
	for _, name := range []string{"/home/none", "/home/file/below", "/none/at/all"} {
		if _, err := s.FS.DescribeHome(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := s.FS.DescribeHome("/people/a"); err == nil || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "a link is on the way") {
		t.Errorf("by way of a link: %v", err)
	}
	// Nothing is read where it may hang: /proc stands for a server here.
	whole, err := Open(Options{Gate: ReadOnly})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := whole.FS.DescribeHome("/proc/self"); err == nil || !strings.Contains(err.Error(), "file system of kind proc") {
		t.Errorf("on a file system that is not known to be local: %v", err)
	}
}
