package system_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/soe-agent/soe-agent/internal/system"
)

func TestANewFileIsItsOwnersAloneAndReplacesNothing(t *testing.T) {
	file := filepath.Join(t.TempDir(), "bundle")
	if err := system.WriteNew(file, []byte("one")); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode() != 0o600 {
		t.Errorf("it is %v, %v", info, err)
	}
	if err := system.WriteNew(file, []byte("two")); !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), "name another file") {
		t.Errorf("over a file: %v", err)
	}
	if content, err := os.ReadFile(file); err != nil || string(content) != "one" {
		t.Errorf("it has %q, %v", content, err)
	}
	if err := system.WriteNew(filepath.Join(file, "below"), nil); err == nil {
		t.Error("a file was made below a file")
	}
}

func TestWhatIsReplacedIsNeverWrittenThrough(t *testing.T) {
	top := t.TempDir()
	file, theirs := filepath.Join(top, "report"), filepath.Join(top, "sudoers")
	for range 2 { // first a new file, then a replacement
		if err := system.Replace(file, []byte("one")); err != nil {
			t.Fatal(err)
		}
	}
	if info, err := os.Stat(file); err != nil || info.Mode() != 0o644 {
		t.Errorf("it is %v, %v", info, err)
	}
	if err := os.WriteFile(theirs, []byte("root"), 0o600); err != nil {
		t.Fatal(err)
	}
	link, hard, fifo := filepath.Join(top, "link"), filepath.Join(top, "hard"), filepath.Join(top, "fifo")
	if err := errors.Join(os.Symlink(theirs, link), os.Link(theirs, hard), unix.Mkfifo(fifo, 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{link, fifo, top} {
		if err := system.Replace(name, []byte("two")); err == nil || !strings.Contains(err.Error(), "not a regular file") {
			t.Errorf("over %s: %v", name, err)
		}
	}
	if err := system.Replace(hard, []byte("two")); err != nil {
		t.Error(err)
	}
	if content, err := os.ReadFile(theirs); err != nil || string(content) != "root" {
		t.Errorf("%q was written to, %v", content, err)
	}
	if entries, err := os.ReadDir(top); err != nil || len(entries) != 5 {
		t.Errorf("something is left: %v, %v", entries, err)
	}
}

func TestANewFileIsNotMadeThroughALinkThatAHostileUserMayHaveMade(t *testing.T) {
	top := t.TempDir()
	target := filepath.Join(top, "sudoers.d")
	theirs := filepath.Join(top, "theirs")
	for _, dir := range []string{target, theirs} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{
		"dir": target, "file": filepath.Join(target, "grant"), "relative": "../sudoers.d", "loop": "loop",
	} {
		if err := os.Symlink(to, filepath.Join(theirs, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(theirs, 0o777); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"dir/x", "relative/x", "loop/x", "file"} {
		if err := system.WriteNew(filepath.Join(theirs, name), []byte("x")); err == nil {
			t.Errorf("%s was written", name)
		}
	}
	if entries, err := os.ReadDir(target); err != nil || len(entries) != 0 {
		t.Errorf("there is %v, %v", entries, err)
	}

	// The caller's own links are followed, and root's, such as /var/run and /home on many machines.
	if err := os.Chmod(theirs, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"dir/x", "relative/y"} {
		if err := system.WriteNew(filepath.Join(theirs, name), []byte("x")); err != nil {
			t.Error(err)
		}
	}
	if err := system.WriteNew(filepath.Join(theirs, "loop/x"), nil); err == nil {
		t.Error("a link that leads nowhere was followed")
	}
}
