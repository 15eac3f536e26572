package watch_test

import (
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/watch"
)

// limited runs a test again in a user namespace of its own, where it may lower the kernel's limits without
// affecting anybody else. It returns true in that run, and false in the other one.
func limited(t *testing.T) bool {
	t.Helper()
	const here = "SOE_OWN_LIMITS"
	if os.Getenv(here) != "" {
		return true
	}
	c := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	c.Env = append(os.Environ(), here+"=1")
	c.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	out, err := c.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("%v\n%s", err, out)
	}
	return false
}

// limit sets one of the kernel's limits in this user namespace.
func limit(t *testing.T, name, value string) {
	t.Helper()
	if err := os.WriteFile("/proc/sys/user/"+name, []byte(value), 0); err != nil {
		t.Fatal(err)
	}
}

// heard collects what a watcher calls dirty.
type heard struct {
	mu    sync.Mutex
	kinds []string
}

func (h *heard) dirty(kind string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.kinds = append(h.kinds, kind)
}

// count returns how often a kind was called dirty.
func (h *heard) count(kind string) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, k := range h.kinds {
		if k == kind {
			n++
		}
	}
	return n
}

func (h *heard) forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.kinds = nil
}

func wait(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

func TestWhereTheKernelHasNoInotifyInstanceLeftFilesAreWatchedAsSoonAsItHasOne(t *testing.T) {
	if !limited(t) {
		return
	}
	limit(t, "max_inotify_instances", "0")
	dir := t.TempDir()
	var h heard
	w := run(t, slog.New(slog.DiscardHandler), h.dirty, kind{"dropin", []string{dir}})
	if got := w.Unwatched(); !strings.Contains(got, "all files (") || !strings.Contains(got, "max_user_instances") {
		t.Errorf("it says %q", got)
	}
	if h.count(watch.WatchesChanged) == 0 {
		t.Error("nobody is told")
	}
	w.CatchUp(t.Context(), []string{"dropin"}) // it does not wait
	h.forget()
	limit(t, "max_inotify_instances", "100")
	wait(t, "files are watched", func() bool { return !strings.Contains(w.Unwatched(), "files") })
	wait(t, "what happened meanwhile is looked at, and people are told", func() bool {
		return h.count("dropin") > 0 && h.count(watch.WatchesChanged) > 0
	})
	if !slices.Contains(w.Watched(), dir) {
		t.Errorf("watched: %q", w.Watched())
	}
	w.CatchUp(t.Context(), []string{"dropin"})
	h.forget()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	wait(t, "a change is noticed", func() bool { return h.count("dropin") > 0 })
}

func TestDirectoriesForWhichThereIsNoWatchLeftAreNamedAndWatchedAsSoonAsThereIs(t *testing.T) {
	if !limited(t) {
		return
	}
	var dirs []string
	for range 20 {
		dirs = append(dirs, t.TempDir())
	}
	limit(t, "max_inotify_watches", "10")
	var h heard
	w := run(t, slog.New(slog.DiscardHandler), h.dirty, kind{"dropin", dirs})
	if got := w.Unwatched(); !strings.Contains(got, "more (") || !strings.Contains(got, "max_user_watches") {
		t.Errorf("it says %q", got)
	}
	h.forget()
	limit(t, "max_inotify_watches", "1000")
	wait(t, "all is watched", func() bool { return !strings.Contains(w.Unwatched(), "max_user_watches") })
	wait(t, "what happened meanwhile is looked at", func() bool { return h.count("dropin") > 0 })
	for _, dir := range dirs {
		if !slices.Contains(w.Watched(), dir) {
			t.Errorf("%s is not watched", dir)
		}
	}
}

func TestAPolicyThatFollowsWhenFilesCanBeWatchedAgainIsFollowedAtOnce(t *testing.T) {
	if !limited(t) {
		return
	}
	limit(t, "max_inotify_instances", "0")
	var h heard
	w := run(t, slog.New(slog.DiscardHandler), h.dirty)
	limit(t, "max_inotify_instances", "100")
	dir := t.TempDir()
	w.Follow([]converge.Kind{kind{"dropin", []string{dir}}}, t.TempDir(), filepath.Join(t.TempDir(), "agent.toml"))
	h.forget()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	wait(t, "a change is noticed", func() bool { return h.count("dropin") > 0 })
}
