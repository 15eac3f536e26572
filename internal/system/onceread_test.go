package system_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/soe-agent/soe-agent/internal/system"
)

// settled are directories of the kernel whose contents do not change by themselves.
var settled = []string{"/proc/sys/net/ipv4/conf", "/proc/sys/net/core", "/proc/sys/vm", "/proc/sys/fs/inotify", "/proc/sys/kernel/keys", "/sys/kernel/mm/transparent_hugepage", "/sys/module"}

func TestAFileThatGivesItsContentToOneReadOnlyIsReadWhole(t *testing.T) {
	s, err := system.Open(system.Options{Root: "/"})
	if err != nil {
		t.Fatal(err)
	}
	read := 0
	for _, dir := range settled {
		_ = filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.Type().IsRegular() || strings.HasSuffix(name, "/refcnt") {
				return nil
			}
			want, ok := inOneRead(name)
			if !ok {
				return nil
			}
			read++
			if got, err := s.FS.ReadFile(name); err != nil || !bytes.Equal(got, want) {
				t.Errorf("ReadFile of %s is %q, and not %q: %v", name, got, want, err)
			}
			if got, _, err := s.FS.Inspect(name); err != nil || !bytes.Equal(got, want) {
				t.Errorf("Inspect of %s is %q, and not %q: %v", name, got, want, err)
			}
			return nil
		})
	}
	if read < 50 {
		t.Errorf("only %d files of the kernel could be read", read)
	}
}

// inOneRead returns what one large read returns.
func inOneRead(name string) ([]byte, bool) {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, false
	}
	defer f.Close()
	content := make([]byte, 1<<20)
	n, err := unix.Read(int(f.Fd()), content)
	return content[:max(n, 0)], err == nil
}
