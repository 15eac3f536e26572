package system

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// walked goes through a root, as often as that takes when each Walk ends after so many entries.
func walked(t *testing.T, root string, each int) (names []string, unseen []Unseen) {
	t.Helper()
	d, err := openDisk(root, nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	from := Place{}
	for {
		ctx, cancel := context.WithCancel(t.Context())
		seen := 0
		found, err := d.Walk(ctx, Walk{From: from, Each: func(dir, entry string, _ Info) {
			names = append(names, filepath.Join(dir, entry))
			if seen++; seen == each {
				cancel()
			}
		}})
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		unseen = append(unseen, found.Unseen...)
		if from = found.Next; from.IsStart() {
			return names, unseen
		}
	}
}

func rooted(t *testing.T, names ...string) string {
	t.Helper()
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		full := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestAWalkThatIsResumedSeesEachEntryOnce(t *testing.T) {
	root := rooted(t, "a/x", "a/y", "a b/c", "a.b/c/d/e", "b", "b!/x\ny", "b-/\xff\xfe", "z2/1")
	all, unseen := walked(t, root, -1)
	want := []string{"/a", "/a/x", "/a/y", "/a b", "/a b/c", "/a.b", "/a.b/c", "/a.b/c/d", "/a.b/c/d/e", "/b", "/b!", "/b!/x\ny", "/b-", "/b-/\xff\xfe", "/z2", "/z2/1"}
	sorted := slices.Sorted(slices.Values(all))
	slices.Sort(want)
	if !slices.Equal(sorted, want) || len(unseen) > 0 {
		t.Fatalf("got %q\nwant %q\nunseen %v", sorted, want, unseen)
	}
	for each := 1; each < len(all); each++ {
		if again, _ := walked(t, root, each); !slices.Equal(again, all) {
			t.Errorf("%d at a time: %q\nand at once %q", each, again, all)
		}
	}
}

func TestAWalkKeepsFewNamesOfAHugeDirectoryAndSeesAll(t *testing.T) {
	root := rooted(t)
	v := &searcher{root: root, held: maxHeld}
	dir, err := os.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	want := map[string]bool{}
	for i := range 3000 {
		name := fmt.Sprintf("f%d", i*7919%100000)
		want["/"+name] = true
		if err := os.WriteFile(filepath.Join(root, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	names, more, err := v.list(t.Context(), dir, "/", "", nil)
	if err != nil || len(names) != minHeld || !more || !slices.IsSorted(names) {
		t.Errorf("%d names, more: %v, %v", len(names), more, err)
	}
	last := ""
	for more := true; more; {
		names, more, err = v.list(t.Context(), dir, "/", last, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if !want["/"+name] {
				t.Fatalf("%s is not there, or was seen before", name)
			}
			delete(want, "/"+name)
			last = name
		}
	}
	if len(want) > 0 {
		t.Errorf("%d were not seen", len(want))
	}
}

func TestAWalkFollowsNoLinkOpensNoFileAndEndsWhereDirectoriesLieTooDeep(t *testing.T) {
	root := rooted(t, "dir/file")
	if err := errors.Join(os.Symlink("/etc", filepath.Join(root, "link")), unix.Mkfifo(filepath.Join(root, "fifo"), 0o600), os.Symlink(".", filepath.Join(root, "dir/loop"))); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(root, unix.O_PATH, 0)
	if err != nil {
		t.Fatal(err)
	}
	for range maxDepth + 100 {
		if err := unix.Mkdirat(fd, "deep", 0o700); err != nil {
			t.Fatal(err)
		}
		next, err := unix.Openat(fd, "deep", unix.O_PATH, 0)
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(fd)
		fd = next
	}
	unix.Close(fd)
	names, unseen := walked(t, root, -1)
	deep := 0
	names = slices.DeleteFunc(names, func(name string) bool {
		is := strings.Contains(name, "deep")
		if is {
			deep++
		}
		return is
	})
	if want := []string{"/dir", "/dir/file", "/dir/loop", "/fifo", "/link"}; !slices.Equal(slices.Sorted(slices.Values(names)), want) {
		t.Errorf("got %q", names)
	}
	if deep < maxDepth || len(unseen) != 1 || !strings.Contains(unseen[0].Why, "too deep") {
		t.Errorf("%d deep, unseen %v", deep, unseen)
	}
}

// A file system that a user's program serves may never answer. What is mounted while the walk goes on
// is not entered either.
func TestAWalkEntersLocalFileSystemsOnceAndNothingThatIsMountedMeanwhile(t *testing.T) {
	root := rooted(t, "disk/hidden", "again/hidden", "part/hidden", "mem/hidden", "proc/hidden", "src/in/x", "zz/hidden", "gone/file")
	mount := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("mount", args...).CombinedOutput(); err != nil {
			t.Fatalf("mount %q: %v: %s", args, err, out)
		}
		point := args[len(args)-1]
		t.Cleanup(func() { unix.Unmount(point, unix.MNT_DETACH) })
	}
	at := func(name string) string { return filepath.Join(root, name) }
	mount("-t", "tmpfs", "disk", at("disk"))
	if err := os.MkdirAll(at("disk/sub/file"), 0o755); err != nil {
		t.Fatal(err)
	}
	mount("--bind", at("disk"), at("again"))
	mount("--bind", at("disk/sub"), at("part"))
	mount("--bind", at("src"), at("mem")) // of the root's own file system
	mount("-t", "proc", "proc", at("proc"))
	if err := errors.Join(os.WriteFile(at("disk/file"), nil, 0o600), os.WriteFile(at("zz/point"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	mount("-t", "tmpfs", "other", at("zz"))
	if err := errors.Join(os.MkdirAll(at("zz/late/hidden"), 0o755), os.WriteFile(at("zz/point"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	mount("-t", "tmpfs", "gone", at("gone"))
	if err := os.WriteFile(at("gone/file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	mount("--bind", at("gone/file"), at("zz/point"))
	if err := unix.Unmount(at("gone"), 0); err != nil {
		t.Fatal(err)
	}
	d, err := openDisk(root, nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	_, err = d.Walk(t.Context(), Walk{Each: func(dir, entry string, _ Info) {
		if names = append(names, filepath.Join(dir, entry)); len(names) == 1 {
			mounted := make(chan struct{})
			go func() { // in another thread, which has the machine's mounts
				defer close(mounted)
				mount("-t", "proc", "proc", at("zz/late"))
			}()
			<-mounted
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	want := []string{"/disk/file", "/disk/sub", "/disk/sub/file", "/gone", "/gone/file", "/src", "/src/in", "/src/in/x", "/zz/late", "/zz/late/hidden", "/zz/point"}
	if !slices.Equal(names, want) {
		t.Errorf("got  %q\nwant %q", names, want)
	}
	if content, err := os.ReadFile("/proc/self/mountinfo"); err != nil || strings.Count(string(content), root) != 9 {
		t.Errorf("%v: the machine has\n%s", err, content)
	}
}

// A disk that hangs is given up, and no second thread joins the one that hangs.
func TestAWalkThatHangsIsGivenUpAndNotBegunTwice(t *testing.T) {
	root := rooted(t, "a", "b")
	hangs := make(chan struct{})
	d, err := openDisk(root, nil, nil, func(l Look) error {
		if l == (Look{"stat", "/b"}) {
			<-hangs
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	late := false
	from := Place{Volume: []byte("/"), Entry: []byte("/a")}
	found, err := d.Walk(ctx, Walk{From: from, Each: func(_, entry string, _ Info) { late = entry == "b" }})
	if !errors.Is(err, ErrHangs) || string(found.Next.Entry) != "/a" {
		t.Errorf("%+v %v", found, err)
	}
	if _, err := d.Walk(t.Context(), Walk{Each: func(string, string, Info) { t.Error("a second one looks") }}); !errors.Is(err, ErrWalking) {
		t.Errorf("the second: %v", err)
	}
	close(hangs)
	for {
		if _, err := d.Walk(t.Context(), Walk{Each: func(string, string, Info) {}}); err == nil {
			break
		} else if !errors.Is(err, ErrWalking) {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond) // the other thread has a lower priority
	}
	if late {
		t.Error("the caller was called after it had gone")
	}
}

func TestAWalkThatCannotLookSaysAtWhat(t *testing.T) {
	root := rooted(t, "a/x", "b/y")
	for look, want := range map[Look]string{
		{"list", "/a"}:   "/a",
		{"stat", "/b/y"}: "/b/y",
		{"list", "/"}:    "/",
	} {
		d, err := openDisk(root, nil, nil, func(l Look) error {
			if l == look {
				return unix.EIO
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		found, err := d.Walk(t.Context(), Walk{Each: func(string, string, Info) {}})
		if err != nil || found.Missed != 1 || found.Unseen[0].Name != want {
			t.Errorf("%s: %+v %v", look, found, err)
		}
	}
}
