package system

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// Linux before 5.6 has no openat2(2).
func TestAnOlderKernelIsReadTheSameWay(t *testing.T) {
	root := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(filepath.Join(root, "usr/lib/systemd"), 0o755))
	must(os.WriteFile(filepath.Join(root, "usr/lib/systemd/a"), []byte("a"), 0o640))
	must(os.Symlink("/usr/lib", filepath.Join(root, "lib")))
	must(os.Symlink("../usr/lib/systemd", filepath.Join(root, "usr/relative")))
	must(os.Symlink("../../../../../../usr/lib", filepath.Join(root, "usr/up")))
	must(os.Symlink("loop", filepath.Join(root, "loop")))
	must(os.Symlink("/none", filepath.Join(root, "dangling")))
	must(unix.Mkfifo(filepath.Join(root, "fifo"), 0o600))
	must(unix.Mknod(filepath.Join(root, "socket"), unix.S_IFSOCK|0o600, 0))
	now, err := openDisk(root, nil, nil, nil)
	must(err)
	if !now.oneStep {
		t.Fatal("this kernel is older than 5.6, or what confines the test is")
	}
	older := &disk{top: top{dir: now.dir, owner: now.owner}}
	for _, name := range []string{
		"/", "/usr/lib/systemd/a", "/lib/systemd/a", "/lib", "/usr/relative", "/usr/relative/a",
		"/usr/lib/systemd/a/below", "/loop", "/loop/a", "/dangling", "/none", "/lib/none/a", "/fifo", "/socket",
	} {
		content, err := now.ReadFile(name)
		contentThen, errThen := older.ReadFile(name)
		if string(content) != string(contentThen) || !alike(err, errThen) {
			t.Errorf("content of %s: %q, %v and then %q, %v", name, content, err, contentThen, errThen)
		}
		info, err := now.Stat(name)
		infoThen, errThen := older.Stat(name)
		if info != infoThen || !alike(err, errThen) {
			t.Errorf("what %s is: %+v, %v and then %+v, %v", name, info, err, infoThen, errThen)
		}
		content, info, err = now.Inspect(name)
		contentThen, infoThen, errThen = older.Inspect(name)
		if string(content) != string(contentThen) || info != infoThen || !alike(err, errThen) {
			t.Errorf("%s: %q, %+v, %v and then %q, %+v, %v", name, content, info, err, contentThen, infoThen, errThen)
		}
		entries, err := now.ReadDir(name)
		entriesThen, errThen := older.ReadDir(name)
		if len(entries) != len(entriesThen) || !alike(err, errThen) {
			t.Errorf("entries of %s: %q, %v and then %q, %v", name, entries, err, entriesThen, errThen)
		}
	}
	// Going up too far leads to the root, as in a chroot, or fails.
	if content, err := now.ReadFile("/usr/up/systemd/a"); err != nil || string(content) != "a" {
		t.Errorf("%q, %v", content, err)
	}
}

func alike(a, b error) bool {
	return (a == nil) == (b == nil) && errors.Is(a, fs.ErrNotExist) == errors.Is(b, fs.ErrNotExist)
}
