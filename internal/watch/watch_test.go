package watch_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/own"
	"github.com/soe-agent/soe-agent/internal/system"
	"github.com/soe-agent/soe-agent/internal/watch"
)

// kind watches directories and does nothing else.
type kind struct {
	name string
	dirs []string
}

// watching watches what the test sets.
type watching struct {
	kind
	watches []converge.Watch
}

func (w watching) Watches() []converge.Watch { return w.watches }

func (k kind) Name() string                                                   { return k.name }
func (k kind) Check(context.Context) ([]converge.Resource, error)             { return nil, nil }
func (k kind) Repair(context.Context, []converge.Resource) []converge.Outcome { return nil }
func (k kind) Watches() (watches []converge.Watch) {
	for _, dir := range k.dirs {
		watches = append(watches, converge.Watch{Dir: dir})
	}
	return watches
}

// following runs a watcher for these kinds and returns the kinds that it calls dirty.
func following(t *testing.T, kinds ...converge.Kind) <-chan string {
	t.Helper()
	dirty := make(chan string, 1000)
	run(t, slog.New(slog.DiscardHandler), func(kind string) {
		if kind != watch.WatchesChanged { // there may be no bus here
			dirty <- kind
		}
	}, kinds...)
	return dirty
}

// run runs a watcher until the test ends.
func run(t *testing.T, log *slog.Logger, dirty func(kind string), kinds ...converge.Kind) *watch.Watcher {
	t.Helper()
	s, err := system.Open(system.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return runOn(t, s.FS, log, dirty, kinds...)
}

// runOn is run with other files.
func runOn(t *testing.T, files system.FS, log *slog.Logger, dirty func(kind string), kinds ...converge.Kind) *watch.Watcher {
	t.Helper()
	w := watch.New(files, log, dirty)
	if err := w.MarkWith(filepath.Join(t.TempDir(), "mark")); err != nil {
		t.Fatal(err)
	}
	w.CatchUpWithin(10 * time.Second)
	w.FollowMounts(system.MountChanges)
	w.Follow(kinds, filepath.Join(t.TempDir(), "policy.d"), filepath.Join(t.TempDir(), "agent.toml"))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		w.Run(ctx)
		close(ended)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return w
}

func wants(t *testing.T, dirty <-chan string, kind string) {
	t.Helper()
	timeout := time.After(10 * time.Second)
	for {
		select {
		case got := <-dirty:
			if got == kind {
				return
			}
		case <-timeout:
			t.Fatalf("nothing says that %s should look again", kind)
		}
	}
}

func drain(dirty <-chan string) {
	for {
		select {
		case <-dirty:
		case <-time.After(100 * time.Millisecond): // by now all events of earlier changes have arrived
			return
		}
	}
}

func write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestAChangeInADirectoryMakesItsKindsLookAgain(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	dirty := following(t, kind{"dropin", []string{dir}}, kind{"sudo", []string{dir}}, kind{"dconf", []string{other}})
	write(t, filepath.Join(dir, "a.conf"), "x")
	wants(t, dirty, "dropin")
	drain(dirty)
	for _, change := range []func() error{
		func() error { return os.Chmod(filepath.Join(dir, "a.conf"), 0o600) },
		func() error { return os.Rename(filepath.Join(dir, "a.conf"), filepath.Join(dir, "b.conf")) },
		func() error { return os.Remove(filepath.Join(dir, "b.conf")) },
	} {
		if err := change(); err != nil {
			t.Fatal(err)
		}
		wants(t, dirty, "sudo")
		drain(dirty)
	}
	write(t, filepath.Join(other, "x"), "x")
	wants(t, dirty, "dconf")
}

// exploring finds out during its check what to watch.
type exploring struct {
	kind
	found *[]converge.Watch
}

func (e exploring) Explores() {}

func (e exploring) Watches() []converge.Watch { return *e.found }

func TestWhatAKindHasFoundToWatchIsFollowedFromThenOn(t *testing.T) {
	dir := t.TempDir()
	found := []converge.Watch{{Dir: filepath.Join(dir, "known")}}
	e := exploring{kind{"sudo", nil}, &found}
	dirty := make(chan string, 1000)
	w := run(t, slog.New(slog.DiscardHandler), func(kind string) {
		if kind != watch.WatchesChanged {
			dirty <- kind
		}
	}, e)
	drain(dirty)
	elsewhere := filepath.Join(dir, "elsewhere")
	if err := os.Mkdir(elsewhere, 0o755); err != nil {
		t.Fatal(err)
	}
	found = append(found, converge.Watch{Dir: elsewhere, Names: []string{"one"}})
	w.FollowAlso(e)
	wants(t, dirty, "sudo") // the change was made before it was followed
	drain(dirty)
	w.FollowAlso(e)
	write(t, filepath.Join(elsewhere, "other"), "x")
	write(t, filepath.Join(elsewhere, "one"), "x")
	wants(t, dirty, "sudo")
}

func TestADirectoryThatComesLaterIsFollowedOnceItIsThere(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "a", "b.d")
	dirty := following(t, kind{"dropin", []string{dir}})
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	wants(t, dirty, "dropin")
	drain(dirty)
	write(t, filepath.Join(dir, "x.conf"), "x")
	wants(t, dirty, "dropin")
}

func TestADirectoryThatIsReplacedIsFollowedOn(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "b.d")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	dirty := following(t, kind{"dropin", []string{dir}})
	for range 3 {
		if err := os.Rename(dir, dir+".old"); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		wants(t, dirty, "dropin")
		drain(dirty)
		write(t, filepath.Join(dir, "x.conf"), "x")
		wants(t, dirty, "dropin")
		drain(dirty)
		if err := os.RemoveAll(dir + ".old"); err != nil {
			t.Fatal(err)
		}
		drain(dirty)
	}
}

func TestAFileThatIsBeingWrittenHereIsNoNews(t *testing.T) {
	dir := t.TempDir()
	dirty := following(t, kind{"dropin", []string{dir}})
	write(t, own.Temporary(filepath.Join(dir, "a.conf")), "half")
	select {
	case got := <-dirty:
		t.Errorf("%s is to look again", got)
	case <-time.After(200 * time.Millisecond): // an event would have arrived
	}
}

func TestAConfigurationIsTakenUpOnceItIsWholeHoweverItIsWritten(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "agent.toml")
	write(t, name, "personas = [\"base\"]\n")
	s, err := system.Open(system.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var seen []string // what the file held each time that it was to be read
	w := watch.New(s.FS, slog.New(slog.DiscardHandler), func(what string) {
		content, err := os.ReadFile(name)
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, fmt.Sprint(what, ": ", string(content), err))
	})
	w.Follow(nil, filepath.Join(dir, "policy.d"), name)
	go w.Run(t.Context())
	for how, change := range map[string]func(content string){
		"in place": func(content string) {
			write(t, name, "")
			time.Sleep(20 * time.Millisecond) // while it is empty it says something else
			write(t, name, content)
		},
		"by an editor": func(content string) {
			if err := errors.Join(os.Rename(name, name+"~"), os.WriteFile(name+".new", []byte(content), 0o600), os.Rename(name+".new", name)); err != nil {
				t.Fatal(err)
			}
		},
	} {
		write(t, filepath.Join(dir, "other.toml"), "")
		start := time.Now()
		change(how)
		quick := time.Since(start) < 250*time.Millisecond // false on a machine that is too busy for the timing to count
		want, empty := "configuration: "+how+"<nil>", "configuration: <nil>"
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
			mu.Lock()
			got := slices.Clone(seen)
			mu.Unlock()
			if quick && slices.Contains(got, empty) {
				t.Errorf("written %s it is read while it is empty", how)
			}
			if slices.Contains(got, want) {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("written %s it is read as %q", how, got)
			}
		}
	}
}

// A directory that is swapped for another, or an editor that moves a fragment away before it writes it
// again, must not look like a policy that wants less.
func TestLocalFragmentsAreReadOnceTheyAreAllThere(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "policy.d")
	name := filepath.Join(dir, "50-here.toml")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, name, "whole")
	s, err := system.Open(system.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var seen []string // what the fragment held each time that it was to be read
	w := watch.New(s.FS, slog.New(slog.DiscardHandler), func(what string) {
		content, err := os.ReadFile(name)
		mu.Lock()
		defer mu.Unlock()
		if what == watch.LocalPolicy {
			seen = append(seen, fmt.Sprint(string(content), err))
		}
	})
	w.Follow(nil, dir, filepath.Join(root, "agent.toml"))
	go w.Run(t.Context())
	for how, change := range map[string]func(content string, pause func()) error{
		"in place": func(content string, pause func()) error {
			err := os.WriteFile(name, nil, 0o644)
			pause()
			return errors.Join(err, os.WriteFile(name, []byte(content), 0o644))
		},
		"by an editor": func(content string, pause func()) error {
			err := os.Rename(name, name+"~")
			pause()
			return errors.Join(err, os.WriteFile(name, []byte(content), 0o644))
		},
		"with its directory": func(content string, pause func()) error {
			err := errors.Join(os.Mkdir(dir+".new", 0o755), os.WriteFile(filepath.Join(dir+".new", "50-here.toml"), []byte(content), 0o644),
				os.RemoveAll(dir+".old"), os.Rename(dir, dir+".old"))
			pause()
			return errors.Join(err, os.Rename(dir+".new", dir))
		},
	} {
		mu.Lock()
		seen = nil
		mu.Unlock()
		start := time.Now()
		if err := change(how, func() { time.Sleep(20 * time.Millisecond) }); err != nil { // while it says something else
			t.Fatal(err)
		}
		quick := time.Since(start) < 250*time.Millisecond // false on a machine that is too busy for the timing to count
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
			mu.Lock()
			got := slices.Clone(seen)
			mu.Unlock()
			if quick && len(got) > 0 && got[0] != how+"<nil>" {
				t.Errorf("written %s it is read as %q", how, got[0])
				break
			}
			if slices.Contains(got, how+"<nil>") {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("written %s it is read as %q", how, got)
			}
		}
	}
}
