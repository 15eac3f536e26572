package system_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

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

	// One's own links are good, as /var/run and /home of many machines are.
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
