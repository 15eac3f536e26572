package watch_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/system"
	"github.com/soe-agent/soe-agent/internal/watch"
)

// turning does something after a stat of a directory, once it is enabled.
type turning struct {
	system.FileReader
	dir   string
	armed *atomic.Bool
	turn  func()
}

func (t turning) Stat(name string) (system.Info, error) {
	info, err := t.FileReader.Stat(name)
	if name == t.dir && t.armed.CompareAndSwap(true, false) {
		t.turn()
	}
	return info, err
}

// exchange swaps two names atomically, as whoever owns their directory may do.
func exchange(t *testing.T, one, other string) {
	t.Helper()
	if err := unix.Renameat2(unix.AT_FDCWD, one, unix.AT_FDCWD, other, unix.RENAME_EXCHANGE); err != nil {
		t.Error(err)
	}
}

// Whoever owns the directory above a watched one may replace it by a link at any moment, also between the
// stat and the watch. No other directory may lose its watch by that.
func TestALinkInPlaceOfADirectoryTakesTheWatchFromNoOther(t *testing.T) {
	root := t.TempDir()
	quiet, dir, other, link := filepath.Join(root, "quiet"), filepath.Join(root, "theirs", "conf.d"), filepath.Join(root, "theirs", "other"), filepath.Join(root, "theirs", "link")
	for _, d := range []string{quiet, dir, other} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(quiet, link); err != nil {
		t.Fatal(err)
	}
	s, err := system.Open(system.Options{})
	if err != nil {
		t.Fatal(err)
	}
	files := s.FS
	var armed atomic.Bool
	files.FileReader = turning{s.FS.FileReader, dir, &armed, func() { exchange(t, dir, link) }}
	b := &board{dirty: map[string]int{}}
	runOn(t, files, slog.New(slog.DiscardHandler), b.mark, kind{"sudo", []string{quiet}}, kind{"dropin", []string{dir}})
	told := func(kind string) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); b.take()[kind] == 0; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s is not told", kind)
			}
		}
	}
	for i := range 20 {
		armed.Store(true)
		exchange(t, dir, other)
		told("dropin")
		for deadline := time.Now().Add(10 * time.Second); armed.Load(); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("the directory is not looked at again")
			}
		}
		b.take()
		write(t, filepath.Join(quiet, "x"), fmt.Sprint(i))
		told("sudo")
		exchange(t, dir, link)
		told("dropin")
		write(t, filepath.Join(quiet, "x"), fmt.Sprint("again ", i))
		told("sudo")
	}
}

// trusting follows links on the way as if only root could change them.
type trusting struct{ system.FileReader }

func (t trusting) Stat(name string) (system.Info, error) {
	dir, err := filepath.EvalSymlinks(filepath.Dir(name))
	if err != nil {
		return system.Info{}, err
	}
	return t.FileReader.Stat(filepath.Join(dir, filepath.Base(name)))
}

// A directory that has two names is followed by both; when one name goes, by the other.
func TestADirectoryWithTwoNamesIsFollowedByBoth(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "real", "conf.d")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("real", filepath.Join(root, "linked")); err != nil {
		t.Fatal(err)
	}
	s, err := system.Open(system.Options{})
	if err != nil {
		t.Fatal(err)
	}
	files := s.FS
	files.FileReader = trusting{s.FS.FileReader}
	b := &board{dirty: map[string]int{}}
	plain, linked := kind{"dropin", []string{dir}}, kind{"service", []string{filepath.Join(root, "linked", "conf.d")}}
	w := runOn(t, files, slog.New(slog.DiscardHandler), b.mark, plain, linked)
	b.take()
	write(t, filepath.Join(dir, "x"), "x")
	w.CatchUp(t.Context(), nil)
	if told := b.take(); told["dropin"] == 0 || told["service"] == 0 {
		t.Errorf("told of %v", told)
	}
	if err := os.Remove(filepath.Join(root, "linked")); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); slices.Contains(w.Watched(), linked.dirs[0]); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("watched are %q", w.Watched())
		}
	}
	w.CatchUp(t.Context(), nil)
	b.take()
	write(t, filepath.Join(dir, "x"), "y")
	w.CatchUp(t.Context(), nil)
	if told := b.take(); told["dropin"] == 0 {
		t.Errorf("without the link it is told of %v", told)
	}
}

// A link stands in the directory's place only while the watch is placed, and is gone before the next stat.
func TestADirectoryThatIsAwayWhileItIsToBeWatchedIsWatchedOnceItIsBack(t *testing.T) {
	root := t.TempDir()
	dir, link := filepath.Join(root, "conf.d"), filepath.Join(root, "link")
	if err := errors.Join(os.Mkdir(dir, 0o755), os.Symlink(t.TempDir(), link)); err != nil {
		t.Fatal(err)
	}
	s, err := system.Open(system.Options{})
	if err != nil {
		t.Fatal(err)
	}
	files := s.FS
	looks := 0
	files.FileReader = around{s.FS.FileReader, func(name string) {
		if name == dir {
			if looks++; looks == 2 {
				exchange(t, dir, link)
			}
		}
	}, func(name string) {
		if name == dir && looks == 1 {
			exchange(t, dir, link)
		}
	}}
	w := watch.New(files, slog.New(slog.DiscardHandler), func(string) {})
	w.Follow([]converge.Kind{kind{"dropin", []string{dir}}}, filepath.Join(root, "policy.d"), filepath.Join(root, "agent.toml"))
	if !slices.Contains(w.Watched(), dir) || looks < 3 {
		t.Errorf("after %d looks are watched %q", looks, w.Watched())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w.Run(ctx)
}

// Whoever owns the directory above a watched one may move it as often as they like. Only the kinds that
// follow it are checked again for that, and changes elsewhere are reported meanwhile.
func TestADirectoryThatIsMovedAllTheTimeHoldsUpNoOther(t *testing.T) {
	root := t.TempDir()
	quiet, dir, other := filepath.Join(root, "quiet"), filepath.Join(root, "theirs", "conf.d"), filepath.Join(root, "theirs", "other")
	if err := errors.Join(os.Mkdir(quiet, 0o755), os.MkdirAll(dir, 0o755), os.Mkdir(other, 0o755)); err != nil {
		t.Fatal(err)
	}
	s, err := system.Open(system.Options{})
	if err != nil {
		t.Fatal(err)
	}
	files := s.FS
	var looks atomic.Int64
	files.FileReader = around{s.FS.FileReader, func(string) {}, func(name string) {
		if name == quiet {
			looks.Add(1)
		}
	}}
	b := &board{dirty: map[string]int{}}
	w := runOn(t, files, slog.New(slog.DiscardHandler), b.mark, kind{"sudo", []string{quiet}}, kind{"dropin", []string{dir}})
	w.CatchUp(t.Context(), nil)
	looks.Store(0)
	b.take()
	start := time.Now()
	const moves = 1000 // fewer events than the kernel queues
	for range moves {
		exchange(t, dir, other)
	}
	w.CatchUp(t.Context(), nil)
	if told := b.take(); told["dropin"] == 0 || told["sudo"] > 0 {
		t.Errorf("told of %v", told)
	}
	const each = 11 // rounds of placing, until directories stand still
	if n, most := looks.Load(), each*(2+int64(time.Since(start)/(50*time.Millisecond))); n > most {
		t.Errorf("after %d moves in %s the others are looked at %d times", moves, time.Since(start), n)
	}
	write(t, filepath.Join(quiet, "x"), "x")
	w.CatchUp(t.Context(), nil)
	if told := b.take(); told["sudo"] == 0 {
		t.Errorf("told of %v", told)
	}
	write(t, filepath.Join(dir, "x"), "x")
	wait(t, "what stands there in the end is followed", func() bool {
		write(t, filepath.Join(dir, "x"), "y")
		w.CatchUp(t.Context(), nil)
		return b.take()["dropin"] > 0
	})
}

// around does something before and after each stat.
type around struct {
	system.FileReader
	before, after func(name string)
}

func (a around) Stat(name string) (system.Info, error) {
	a.before(name)
	defer a.after(name)
	return a.FileReader.Stat(name)
}

// A watcher that cannot go on ends the agent, and systemd restarts it. An agent that lives on without
// seeing anything would be taken for one that watches.
func TestAWatcherThatPanicsIsNotKeptAlive(t *testing.T) {
	s, err := system.Open(system.Options{})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	w := watch.New(s.FS, slog.New(slog.DiscardHandler), func(kind string) {
		if kind == "dropin" {
			panic("as a mistake would")
		}
	})
	w.Follow([]converge.Kind{kind{"dropin", []string{dir}}}, filepath.Join(t.TempDir(), "policy.d"), filepath.Join(t.TempDir(), "agent.toml"))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	panicked := make(chan any, 1)
	go func() {
		defer func() { panicked <- recover() }()
		w.Run(ctx)
	}()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		write(t, filepath.Join(dir, "x"), time.Now().String())
		select {
		case what := <-panicked:
			if what == nil {
				t.Error("it ended as if nothing were wrong")
			}
			return
		default:
			if time.Now().After(deadline) {
				t.Fatal("it lives on and sees nothing")
			}
		}
	}
}
