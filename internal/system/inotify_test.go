package system

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func notes(t *testing.T) *Inotify {
	t.Helper()
	n, err := OpenInotify()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	return n
}

// names returns the names of events up to one for last.
func names(t *testing.T, n *Inotify, last string) (names []string) {
	t.Helper()
	for {
		select {
		case event := <-n.Events:
			if names = append(names, event.Name); event.Name == last {
				return names
			}
		case err := <-n.Problems:
			t.Fatal(err)
		case <-time.After(10 * time.Second):
			t.Fatalf("nothing is told of %s, but of %q", last, names)
		}
	}
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// A directory has two names if a link, or a bind mount, is on the way to it.
func TestADirectoryIsToldOfByEachNameByWhichItIsWatchedStill(t *testing.T) {
	root := t.TempDir()
	one, other := filepath.Join(root, "real", "dir"), filepath.Join(root, "linked", "dir")
	must(t, os.MkdirAll(one, 0o755), os.Symlink("real", filepath.Join(root, "linked")))
	n := notes(t)
	must(t, n.Add(one), n.Add(other), n.Add(other))
	touch := func(name string) { must(t, os.Mkdir(filepath.Join(one, name), 0o755)) }
	touch("both")
	if got := names(t, n, filepath.Join(other, "both")); !slices.Equal(got, []string{filepath.Join(one, "both"), filepath.Join(other, "both")}) {
		t.Errorf("told of %q", got)
	}
	n.Remove(one)
	touch("x")
	if got := names(t, n, filepath.Join(other, "x")); len(got) != 1 {
		t.Errorf("told of %q", got)
	}
	must(t, n.Add(one))
	n.Remove(other)
	touch("y")
	if got := names(t, n, filepath.Join(one, "y")); len(got) != 1 {
		t.Errorf("told of %q", got)
	}
	n.Remove(one)
	must(t, n.Add(one)) // the same directory with another descriptor
	touch("z")
	names(t, n, filepath.Join(one, "z"))
}

func TestADirectoryThatIsMovedAwayIsWatchedByNoNameAndWhatIsInItsPlaceIsOnceItIsAdded(t *testing.T) {
	root := t.TempDir()
	dir, linked := filepath.Join(root, "real", "dir"), filepath.Join(root, "linked", "dir")
	must(t, os.MkdirAll(dir, 0o755), os.Symlink("real", filepath.Join(root, "linked")))
	n := notes(t)
	must(t, n.Add(dir), n.Add(linked), os.Rename(dir, dir+".old"))
	if got := names(t, n, linked); !slices.Equal(got, []string{dir, linked}) || len(n.Watched()) > 0 {
		t.Errorf("told of %q, watched are %q", got, n.Watched())
	}
	must(t, os.Mkdir(dir, 0o755), n.Add(dir), os.Mkdir(filepath.Join(dir+".old", "x"), 0o755), os.Mkdir(filepath.Join(dir, "y"), 0o755))
	if got := names(t, n, filepath.Join(dir, "y")); len(got) != 1 {
		t.Errorf("told of %q", got)
	}
	must(t, os.RemoveAll(dir))
	names(t, n, dir)
	if got := n.Watched(); len(got) > 0 {
		t.Errorf("watched are %q", got)
	}
}

func TestAnotherDirectoryInPlaceOfOneThatIsWatchedIsWatchedOnceItIsAdded(t *testing.T) {
	root := t.TempDir()
	for _, name := range []string{"one", "two"} {
		must(t, os.MkdirAll(filepath.Join(root, name, "dir"), 0o755))
	}
	link := filepath.Join(root, "link")
	dir := filepath.Join(link, "dir")
	must(t, os.Symlink("one", link))
	n := notes(t)
	must(t, n.Add(dir), os.Remove(link), os.Symlink("two", link), n.Add(dir))
	must(t, os.Mkdir(filepath.Join(root, "one", "dir", "x"), 0o755), os.Mkdir(filepath.Join(root, "two", "dir", "y"), 0o755))
	if got := names(t, n, filepath.Join(dir, "y")); len(got) != 1 {
		t.Errorf("told of %q", got)
	}
}

func TestALinkOrAFileInPlaceOfADirectoryIsNotWatched(t *testing.T) {
	root := t.TempDir()
	dir, quiet := filepath.Join(root, "dir"), t.TempDir()
	n := notes(t)
	for what, put := range map[string]error{
		"a link":         os.Symlink(quiet, filepath.Join(root, "a link")),
		"a link to none": os.Symlink("none", filepath.Join(root, "a link to none")),
		"a file":         os.WriteFile(filepath.Join(root, "a file"), nil, 0o600),
		"nothing":        nil,
	} {
		must(t, put, os.Mkdir(dir, 0o755), n.Add(quiet), n.Add(dir), os.Remove(dir))
		if what != "nothing" {
			must(t, os.Rename(filepath.Join(root, what), dir))
		}
		if err := n.Add(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", what, err)
		}
		if got := n.Watched(); !slices.Equal(got, []string{quiet}) {
			t.Errorf("%s: watched are %q", what, got)
		}
		must(t, os.RemoveAll(dir))
		n.Remove(dir)
	}
	must(t, os.WriteFile(filepath.Join(quiet, "x"), nil, 0o600))
	names(t, n, filepath.Join(quiet, "x"))
}

func TestHostileNamesAreToldOfAsTheyAre(t *testing.T) {
	dir := t.TempDir()
	n := notes(t)
	must(t, n.Add(dir))
	for _, name := range []string{"line\nbreak", "\xff\xfe", " ", strings.Repeat("x", 255), `"'\`} {
		must(t, os.Mkdir(filepath.Join(dir, name), 0o755))
		names(t, n, filepath.Join(dir, name))
	}
}

func TestInotifyIsClosedWhileOthersUseItAndNobodyReads(t *testing.T) {
	dir := t.TempDir()
	n := notes(t)
	must(t, n.Add(dir))
	var wg sync.WaitGroup
	closed := make(chan struct{})
	for i := range 4 {
		name := filepath.Join(dir, fmt.Sprint(i))
		must(t, os.Mkdir(name, 0o755))
		wg.Go(func() {
			for {
				err := n.Add(name)
				if errors.Is(err, os.ErrClosed) {
					return
				}
				if err != nil {
					t.Error(err)
				}
				n.Remove(name)
				select {
				case <-closed:
					if n.Add(name) == nil {
						t.Error("it watches on")
					}
				default:
				}
			}
		})
	}
	n.Close()
	close(closed)
	wg.Wait()
	n.Close()
}

func TestEventsThatCannotBeReadAreComplainedOfOnceASecond(t *testing.T) {
	dir, err := os.Open(t.TempDir()) // reading from it fails
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		n := &Inotify{Problems: make(chan error), file: dir, done: make(chan struct{}), ended: make(chan struct{})}
		go n.read()
		start := time.Now()
		for range 10 {
			<-n.Problems
		}
		if took := time.Since(start); took < 9*time.Second {
			t.Errorf("ten times within %s", took)
		}
		n.Close()
	})
}
