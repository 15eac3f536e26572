package watch_test

import (
	"bytes"
	"fmt"
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
	"github.com/soe-agent/soe-agent/internal/system"
	"github.com/soe-agent/soe-agent/internal/watch"
)

// board records which kinds a watcher calls dirty.
type board struct {
	mu    sync.Mutex
	dirty map[string]int
}

func (b *board) mark(kind string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.dirty[kind]++
}

// take returns what is on the board and clears it.
func (b *board) take() map[string]int {
	b.mu.Lock()
	defer b.mu.Unlock()
	dirty := b.dirty
	b.dirty = map[string]int{}
	return dirty
}

func TestALookAnswersAllThatHasChangedBeforeItAndNothingThatChangesLater(t *testing.T) {
	dir := t.TempDir()
	b := &board{dirty: map[string]int{}}
	w := run(t, slog.New(slog.DiscardHandler), b.mark, kind{"dropin", []string{dir}})
	for i := range 200 {
		write(t, filepath.Join(dir, fmt.Sprint("a", i%7)), "x")
		w.CatchUp(t.Context(), []string{"dropin"})
		if b.take()["dropin"] == 0 {
			t.Fatalf("at %d: what was written before is not told of", i)
		}
		write(t, filepath.Join(dir, "b"), fmt.Sprint(i))
		for deadline := time.Now().Add(10 * time.Second); b.take()["dropin"] == 0; {
			if time.Now().After(deadline) {
				t.Fatalf("at %d: what was written afterwards is lost", i)
			}
		}
		w.CatchUp(t.Context(), []string{"dropin"})
		b.take()
		if got := b.take()["dropin"]; got != 0 {
			t.Fatalf("at %d: all was told, and told again", i)
		}
	}
}

func TestALookWaitsOnlySoLongForAWatcherThatIsBehind(t *testing.T) {
	s, err := system.Open(system.Options{})
	if err != nil {
		t.Fatal(err)
	}
	w := watch.New(s.FS, slog.New(slog.DiscardHandler), func(string) {}) // it does not run
	if err := w.MarkWith(filepath.Join(t.TempDir(), "mark")); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	w.CatchUp(t.Context(), nil)
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
}

func TestOnlyTheNamesThatMatterMakeAKindLookAgain(t *testing.T) {
	dir := t.TempDir()
	b := &board{dirty: map[string]int{}}
	w := run(t, slog.New(slog.DiscardHandler), b.mark,
		watching{kind{name: "user"}, []converge.Watch{{Dir: dir, Names: []string{"passwd", "group"}}}})
	for name, matters := range map[string]bool{"resolv.conf": false, "passwd-": false, "passwd": true, "group": true} {
		write(t, filepath.Join(dir, ".new"), "x")
		if err := os.Rename(filepath.Join(dir, ".new"), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		w.CatchUp(t.Context(), nil)
		if told := b.take()["user"] > 0; told != matters {
			t.Errorf("%s: told %t", name, told)
		}
	}
}

func TestATransactionIsOneChangeAndTheFirstChangeOfAFileIsToldAtOnce(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	b := &board{dirty: map[string]int{}}
	settle := 100 * time.Millisecond
	w := run(t, slog.New(slog.DiscardHandler), b.mark,
		watching{kind{name: "package"}, []converge.Watch{{Dir: dir, Settle: settle}}}, kind{"dropin", []string{other}})
	last := time.Now() // when the file was written
	for i := range 50 {
		now := time.Now()
		write(t, filepath.Join(dir, "rpmdb.sqlite"), fmt.Sprint(i))
		write(t, filepath.Join(other, "a.conf"), fmt.Sprint(i))
		w.CatchUp(t.Context(), nil)
		told, goesOn := b.take(), time.Since(last) < settle // on a busy machine the writes may be far apart
		last = now
		if told["dropin"] == 0 || goesOn && told["package"] > 0 {
			t.Fatalf("write %d: told of %v", i, told)
		}
	}
	written := time.Now()
	for told := b.take(); told["package"] != 1; told = b.take() {
		if time.Since(written) > 10*time.Second || told["package"] > 1 {
			t.Fatalf("after the last write: told of %v", told)
		}
	}
	if took := time.Since(written); took < settle/2 {
		t.Errorf("it has not waited for the end, %s", took)
	}
	write(t, filepath.Join(dir, "rpmdb.sqlite"), "own")
	w.CatchUp(t.Context(), []string{"package"}) // before a check
	time.Sleep(2 * settle)                      // what waited to settle would have been reported by now
	if told := b.take(); len(told) > 0 {
		t.Errorf("a look does not answer what waits to settle: %v", told)
	}
}

// followed says whether this process has a watch on a directory (proc(5), fdinfo).
func followed(t *testing.T, dir string) bool {
	t.Helper()
	info, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	mark := fmt.Sprintf(" ino:%x ", info.Sys().(*syscall.Stat_t).Ino)
	files, err := filepath.Glob("/proc/self/fdinfo/*")
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(files, func(name string) bool {
		content, _ := os.ReadFile(name) // it may be closed by now
		return strings.Contains(string(content), mark)
	})
}

func TestADirectoryMovedAwayWithTheOneAboveItIsFollowedWhenAnotherIsMovedIn(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "etc", "dconf", "db")
	for _, d := range []string{dir, filepath.Join(root, "new", "db")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	dirty := following(t, kind{"dconf", []string{dir}})
	for _, move := range [][2]string{{"etc/dconf", "old"}, {"new", "etc/dconf"}} {
		if err := os.Rename(filepath.Join(root, move[0]), filepath.Join(root, move[1])); err != nil {
			t.Fatal(err)
		}
		wants(t, dirty, "dconf")
		drain(dirty)
	}
	for deadline := time.Now().Add(10 * time.Second); followed(t, filepath.Join(root, "old", "db")); {
		if time.Now().After(deadline) {
			t.Fatal("the directory that was moved away is followed still")
		}
		time.Sleep(time.Millisecond)
	}
	drain(dirty)
	write(t, filepath.Join(dir, "x"), "x")
	wants(t, dirty, "dconf")
}

// meddling does something right after the first stat of a directory.
type meddling struct {
	system.FileReader
	dir    string
	meddle func()
}

func (m meddling) Stat(name string) (system.Info, error) {
	info, err := m.FileReader.Stat(name)
	if name == m.dir {
		m.meddle()
	}
	return info, err
}

func TestADirectoryThatComesOrIsReplacedWhileWatchesArePlacedIsFollowed(t *testing.T) {
	for name, before := range map[string]string{"it comes": "etc", "it comes with the one above it": "", "another is in its place": "etc/dconf/db"} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			dir := filepath.Join(root, "etc", "dconf", "db")
			for _, d := range []string{filepath.Join(root, before), filepath.Join(root, "new", "dconf", "db")} {
				if err := os.MkdirAll(d, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			s, err := system.Open(system.Options{})
			if err != nil {
				t.Fatal(err)
			}
			files := s.FS
			files.FileReader = meddling{s.FS.FileReader, dir, sync.OnceFunc(func() {
				_ = os.Rename(filepath.Join(root, "etc"), filepath.Join(root, "old"))
				if err := os.Rename(filepath.Join(root, "new"), filepath.Join(root, "etc")); err != nil {
					t.Error(err)
				}
			})}
			dirty := make(chan string, 1000)
			runOn(t, files, slog.New(slog.DiscardHandler), func(kind string) { dirty <- kind }, kind{"dconf", []string{dir}})
			write(t, filepath.Join(dir, "x"), "x")
			wants(t, dirty, "dconf")
		})
	}
}

// The kernel drops events when nobody reads them. The test makes sure that nobody does for a while; the
// kernel does the rest.
func TestWhenTheKernelDropsEventsAllIsLookedAt(t *testing.T) {
	limit, err := os.ReadFile("/proc/sys/fs/inotify/max_queued_events")
	if err != nil {
		t.Fatal(err)
	}
	var queued int
	if _, err := fmt.Sscan(string(limit), &queued); err != nil {
		t.Fatal(err)
	}
	storm, quiet := t.TempDir(), t.TempDir()
	reading, read := make(chan struct{}, 1), make(chan struct{})
	var log logged
	b := &board{dirty: map[string]int{}}
	hold := sync.OnceFunc(func() {
		reading <- struct{}{}
		<-read
	})
	run(t, slog.New(slog.NewTextHandler(&log, nil)), func(kind string) {
		hold()
		b.mark(kind)
	}, kind{"dropin", []string{storm}}, kind{"sudo", []string{quiet}})
	write(t, filepath.Join(storm, "first"), "x")
	<-reading
	for i := range queued + 10_000 { // some events are in the watcher's own buffer
		// Two files in turn: the kernel merges equal events that follow each other.
		if err := os.Chmod(filepath.Join(storm, "first"), 0o600+os.FileMode(i%2)<<2); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(storm, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	close(read)
	for deadline := time.Now().Add(20 * time.Second); b.take()["sudo"] == 0; {
		if time.Now().After(deadline) {
			t.Fatalf("nobody looks at the directory of which events may have been lost:\n%s", log.String())
		}
	}
	if n := strings.Count(log.String(), "inotify lost events"); n != 1 {
		t.Errorf("it is said %d times:\n%s", n, log.String())
	}
	b.take()
	write(t, filepath.Join(quiet, "x"), "x")
	for deadline := time.Now().Add(10 * time.Second); b.take()["sudo"] == 0; {
		if time.Now().After(deadline) {
			t.Fatal("nothing is followed any more")
		}
	}
}

// logged is a log that several goroutines may write and read.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// fewWatches tells the test below that it runs in the user namespace.
const fewWatches = "SOE_TEST_FEW_WATCHES"

// The limit is lowered in a user namespace of the test's own.
func TestWhatCannotBeWatchedIsSaidOnceAndTheRestIsFollowed(t *testing.T) {
	if os.Getenv(fewWatches) == "" {
		again := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		again.Env = append(os.Environ(), fewWatches+"=1")
		again.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
		}
		if out, err := again.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS")) {
			t.Fatalf("in a user namespace: %v\n%s", err, out)
		}
		return
	}
	if err := os.WriteFile("/proc/sys/user/max_inotify_watches", []byte("3"), 0); err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	var dirs []string
	for _, name := range []string{"a", "b", "c", "d"} {
		dirs = append(dirs, filepath.Join(root, name))
		if err := os.Mkdir(dirs[len(dirs)-1], 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var log logged
	b := &board{dirty: map[string]int{}}
	kinds := []converge.Kind{kind{"dropin", dirs}}
	w := run(t, slog.New(slog.NewTextHandler(&log, nil)), b.mark)
	for range 3 {
		w.Follow(kinds, root, filepath.Join(root, "agent.toml"))
	}
	if n := strings.Count(log.String(), dirs[3]); n != 1 {
		t.Errorf("it is said %d times:\n%s", n, log.String())
	}
	watched := w.Watched()
	if !slices.Contains(watched, dirs[0]) {
		t.Errorf("watched are %q", watched)
	}
	b.take()
	write(t, filepath.Join(dirs[0], "x"), "x")
	for deadline := time.Now().Add(10 * time.Second); b.take()["dropin"] == 0; {
		if time.Now().After(deadline) {
			t.Fatal("what could be watched is not followed")
		}
	}
}
