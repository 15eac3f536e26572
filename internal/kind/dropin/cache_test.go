package dropin

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/schedule"
	"github.com/soe-agent/soe-agent/internal/system"
)

// reads counts the files that are read.
type reads struct {
	system.FileReader
	n atomic.Int64
}

func (r *reads) Inspect(name string) ([]byte, system.Info, error) {
	r.n.Add(1)
	return r.FileReader.Inspect(name)
}

// ahead is a clock some time after the kernel's, as if the files had been there longer.
type ahead struct {
	system.Clock
	by time.Duration
}

func (a ahead) Now() time.Time { return a.Clock.Now().Add(a.by) }

func TestAFileThatHasNotChangedIsNotReadAgainUntilAllIsVerified(t *testing.T) {
	root := kindtest.Dir(t)
	s := kindtest.Open(t, system.Options{Root: root})
	counted := &reads{FileReader: s.FS.FileReader}
	clock := &ahead{Clock: s.Clock, by: time.Minute}
	s.FS.FileReader, s.Clock = counted, clock
	ledger := kindtest.Ledger(t, root)
	wants := map[string]policy.Dropin{}
	file := func(i int) string { return fmt.Sprintf("/etc/modprobe.d/%d.conf", i) }
	put := func(i int, content string) { kindtest.Put(t, root, file(i), content) }
	for i := range 10 {
		wants[file(i)] = policy.Dropin{Content: "# wanted\n"}
		put(i, "# wanted\n")
	}
	k := New(files(wants), s, ledger, schedule.Window{})
	drifted := func() []string {
		t.Helper()
		counted.n.Store(0)
		resources, err := k.Check(t.Context())
		if err != nil || len(resources) != len(wants) {
			t.Fatal(resources, err)
		}
		var ids []string
		for _, r := range resources {
			if r.State != converge.Compliant {
				ids = append(ids, string(r.ID))
			}
		}
		return ids
	}
	looks := func(what string, read int64, want ...string) {
		t.Helper()
		got := drifted()
		if strings.Join(got, " ") != strings.Join(want, " ") || counted.n.Load() != read {
			t.Errorf("%s: %v has drifted, and %d files were read", what, got, counted.n.Load())
		}
	}
	looks("at first", 10)
	looks("again", 0)

	// Content of the same length, and the time of the change put back.
	name := filepath.Join(root, file(3))
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	put(3, "# wamted\n")
	if err := os.Chtimes(name, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	looks("of a file that was changed", 1, "dropin"+file(3))
	looks("of one that is not mended", 1, "dropin"+file(3))
	put(3, "# wanted\n")
	looks("of one that is mended", 1)
	looks("after that", 0)

	if err := os.Chmod(filepath.Join(root, file(5)), 0o666); err != nil {
		t.Fatal(err)
	}
	looks("of a mode that was changed", 1, "dropin"+file(5))
	if err := os.Remove(filepath.Join(root, file(6))); err != nil {
		t.Fatal(err)
	}
	looks("of a file that is gone", 2, "dropin"+file(5), "dropin"+file(6))

	k.InvalidateCache()
	looks("of everything", 10, "dropin"+file(5), "dropin"+file(6))

	// What was changed right before it was read may be changed right after, in the same
	// moment as far as the kernel tells.
	clock.by = -time.Hour
	k.InvalidateCache()
	looks("at once", 10, "dropin"+file(5), "dropin"+file(6))
	looks("at once again", 10, "dropin"+file(5), "dropin"+file(6))
}
