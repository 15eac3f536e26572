// Package reown_test tests how the door gives files to others. It is not with the
// other tests of the door, for it takes a root who may do so: that of a user
// namespace may not.
package reown_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/soe-agent/soe-agent/internal/system"
)

// owned makes files below a new root; their owners are uid and gid of the value.
func owned(t *testing.T, owners map[string]int) string {
	t.Helper()
	root := t.TempDir()
	for name, id := range owners {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		switch {
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(file, 0o755)
		case strings.HasSuffix(name, ".link"):
			err = os.Symlink("/etc/shadow", file)
		default:
			err = os.WriteFile(file, []byte("x"), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Lchown(file, id, id); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func open(t *testing.T, root string, gate system.Gate) system.FS {
	t.Helper()
	s, err := system.Open(system.Options{Root: root, Gate: gate})
	if err != nil {
		t.Fatal(err)
	}
	return s.FS
}

func ownerOf(t *testing.T, name string) (uid, gid int) {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(name, &st); err != nil {
		t.Fatal(err)
	}
	return int(st.Uid), int(st.Gid)
}

func TestOnlyWhatBelongsToTheOldIdIsGivenToTheNew(t *testing.T) {
	root := owned(t, map[string]int{
		"etc/shadow": 0, "srv/hers": 1001, "srv/his": 1002, "srv/dir/": 1001, "srv/dir/deep": 1001, "srv/to.link": 1001, "var/skipped/x": 1001,
	})
	if err := os.Link(filepath.Join(root, "etc/shadow"), filepath.Join(root, "srv/dir/hardlink")); err != nil {
		t.Fatal(err)
	}
	got, err := open(t, root, nil).Reown(t.Context(), system.Reown{
		Dir: "/", IDs: map[int]int{1001: 5200, 7: 8}, Skip: []string{"/var/skipped"}, Limit: 1000,
	})
	if err != nil || got.Changed != 4 || got.Next != "" || len(got.Failed) > 0 {
		t.Errorf("%+v, %v", got, err)
	}
	for name, want := range map[string]int{
		"etc/shadow": 0, "srv/hers": 5200, "srv/his": 1002, "srv/dir": 5200, "srv/dir/deep": 5200, "srv/to.link": 5200, "var/skipped/x": 1001,
	} {
		uid, gid := ownerOf(t, filepath.Join(root, name))
		if uid != want || gid == 5200 {
			t.Errorf("%s belongs to %d:%d and not to %d", name, uid, gid, want)
		}
	}
}

func TestAGroupsFilesKeepTheirOwner(t *testing.T) {
	root := owned(t, map[string]int{"srv/ours": 372, "srv/dir/": 372})
	if err := os.Chmod(filepath.Join(root, "srv/dir"), 0o2775|os.ModeSetgid); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, root, nil).Reown(t.Context(), system.Reown{Dir: "/srv", Group: true, IDs: map[int]int{372: 5200}, Limit: 10}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"srv/ours", "srv/dir"} {
		if uid, gid := ownerOf(t, filepath.Join(root, name)); uid != 372 || gid != 5200 {
			t.Errorf("%s belongs to %d:%d", name, uid, gid)
		}
	}
	if info, err := os.Stat(filepath.Join(root, "srv/dir")); err != nil || info.Mode()&os.ModeSetgid == 0 {
		t.Errorf("the directory no longer hands its group on: %v, %v", info.Mode(), err)
	}
}

// What the kernel takes away is not given back: somebody who may write the file
// could have changed it in between.
func TestAFileThatChangesHandsIsNoLongerSetUid(t *testing.T) {
	root := owned(t, map[string]int{"usr/bin/tool": 1001})
	tool := filepath.Join(root, "usr/bin/tool")
	if err := os.Chmod(tool, 0o755|os.ModeSetuid); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, root, nil).Reown(t.Context(), system.Reown{Dir: "/", IDs: map[int]int{1001: 5200}, Limit: 10}); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(tool)
	if uid, _ := ownerOf(t, tool); err != nil || uid != 5200 || info.Mode() != 0o755 {
		t.Errorf("uid %d, %v, %v", uid, info.Mode(), err)
	}
}

func TestAWalkGoesOnWhereItStopped(t *testing.T) {
	owners := map[string]int{}
	for i := range 20 {
		owners[fmt.Sprintf("srv/%d/sub/file", i)] = 1001
		owners[fmt.Sprintf("srv/%d.d/file", i)] = 1001 // sorts between 1 and 10 by name, and not by path
	}
	for limit := range 7 {
		root := owned(t, owners)
		files := open(t, root, nil)
		r := system.Reown{Dir: "/srv", IDs: map[int]int{1001: 5200}, Limit: limit + 1}
		changed, seen, calls := 0, 0, 0
		for calls = range 200 {
			got, err := files.Reown(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			changed, seen = changed+got.Changed, seen+got.Seen
			if r.After = got.Next; r.After == "" {
				break
			}
		}
		if changed != 40 || seen != 100 {
			t.Errorf("with a limit of %d, %d calls saw %d and changed %d", limit+1, calls, seen, changed)
		}
	}
}

func TestAWalkEndsWithItsContextAndSaysWhere(t *testing.T) {
	root := owned(t, map[string]int{"a/x": 1001, "b/x": 1001, "c/x": 1001})
	ctx, cancel := context.WithCancel(t.Context())
	files := open(t, root, func(c system.Change) error {
		if c.Target == "/b/x" {
			cancel()
		}
		return nil
	})
	r := system.Reown{Dir: "/", IDs: map[int]int{1001: 5200}, Limit: 1000}
	got, err := files.Reown(ctx, r)
	if err == nil || got.Next != "c" || got.Changed != 2 {
		t.Errorf("%+v, %v", got, err)
	}
	r.After = got.Next
	if got, err := files.Reown(t.Context(), r); err != nil || got.Changed != 1 || got.Next != "" {
		t.Errorf("%+v, %v", got, err)
	}
}

// A person who swaps a file of her own for a link, or for somebody else's file,
// between two steps of the walk must not be given that.
func TestWhoeverSwapsAFileWhileItIsLookedAtWinsNothing(t *testing.T) {
	root := owned(t, map[string]int{"etc/shadow": 0, "etc/other/file": 1001, "srv/a": 1001, "srv/b": 1001, "srv/c/": 1001, "srv/c/file": 1001})
	at := func(name string) string { return filepath.Join(root, name) }
	swap := func(c system.Change) error {
		if c.Target != "/srv/a" { // the entries after it have been listed by now
			return nil
		}
		for _, err := range []error{
			os.Remove(at("srv/b")), os.Link(at("etc/shadow"), at("srv/b")),
			os.Rename(at("srv/c"), at("was-c")), os.Symlink("../etc/other", at("srv/c")),
		} {
			if err != nil {
				t.Error(err)
			}
		}
		return nil
	}
	got, err := open(t, root, swap).Reown(t.Context(), system.Reown{Dir: "/srv", IDs: map[int]int{1001: 5200}, Limit: 1000})
	if err != nil || got.Changed != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	for name, want := range map[string]int{"etc/shadow": 0, "etc/other/file": 1001, "srv/a": 5200} {
		if uid, _ := ownerOf(t, at(name)); uid != want {
			t.Errorf("%s belongs to %d and not to %d", name, uid, want)
		}
	}
}

func TestWhatCannotChangeHandsIsNamedAndHoldsUpNothing(t *testing.T) {
	root := owned(t, map[string]int{"a": 1001, "b": 1001, "c": 1001})
	refuse := func(c system.Change) error {
		if c.Target == "/b" {
			return system.ErrInjected
		}
		return nil
	}
	got, err := open(t, root, refuse).Reown(t.Context(), system.Reown{Dir: "/", IDs: map[int]int{1001: 5200}, Limit: 1000})
	if err != nil || got.Changed != 2 || len(got.Failed) != 1 || got.Failed[0].ID != 1001 {
		t.Fatalf("%+v, %v", got, err)
	}
	if diff := cmp.Diff("cannot change the owner of /b: injected fault", got.Failed[0].Err.Error()); diff != "" {
		t.Error(diff)
	}
}

func TestOtherFileSystemsAreNotEntered(t *testing.T) {
	root := owned(t, map[string]int{"mnt/": 1001, "srv/x": 1001})
	mnt := filepath.Join(root, "mnt")
	if err := unix.Mount("tmpfs", mnt, "tmpfs", 0, "uid=1001"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(mnt, 0)
	if err := os.WriteFile(filepath.Join(mnt, "file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(filepath.Join(mnt, "file"), 1001, 1001); err != nil {
		t.Fatal(err)
	}
	if got, err := open(t, root, nil).Reown(t.Context(), system.Reown{Dir: "/", IDs: map[int]int{1001: 5200}, Limit: 1000}); err != nil || got.Changed != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	for _, name := range []string{"mnt", "mnt/file"} {
		if uid, _ := ownerOf(t, filepath.Join(root, name)); uid != 1001 {
			t.Errorf("%s belongs to %d", name, uid)
		}
	}
}

func TestAReadOnlyRunGivesNothingAway(t *testing.T) {
	root := owned(t, map[string]int{"a": 1001})
	got, err := open(t, root, system.ReadOnly).Reown(t.Context(), system.Reown{Dir: "/", IDs: map[int]int{1001: 5200}, Limit: 1000})
	if err != nil || got.Changed > 0 || !slices.ContainsFunc(got.Failed, func(f system.ReownFailure) bool { return f.ID == 1001 }) {
		t.Errorf("%+v, %v", got, err)
	}
}
