package watch_test

import (
	"log/slog"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/soe-agent/soe-agent/internal/converge"
)

func TestAMountThatIsRemountedIsToldOf(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4k"); err != nil {
		t.Fatalf("this test mounts, which only root may: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	b := &board{dirty: map[string]int{}}
	run(t, slog.New(slog.DiscardHandler), b.mark, watching{kind{name: "mount"}, []converge.Watch{{Mounts: true}}}, kind{"dropin", []string{t.TempDir()}})
	for _, flags := range []uintptr{unix.MS_NOEXEC, 0} {
		if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_BIND|flags, ""); err != nil {
			t.Fatal(err)
		}
		wait(t, "it is told of", func() bool {
			told := b.take()
			if told["dropin"] > 0 {
				t.Errorf("told of %v", told)
			}
			return told["mount"] > 0
		})
	}
}
