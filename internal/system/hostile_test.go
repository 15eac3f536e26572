package system_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/soe-agent/soe-agent/internal/system"
)

// hostile is a uid that is not root's.
const hostile = 1000

// give changes the owner of files below root.
func give(t *testing.T, uid int, root string, names ...string) {
	t.Helper()
	for _, name := range names {
		if err := os.Lchown(filepath.Join(root, name), uid, uid); err != nil {
			t.Fatal(err)
		}
	}
}

// operations calls everything that takes a name, below a directory with the entries "there" and
// "dir".
func operations(t *testing.T, files system.FS, dir string) map[string]error {
	_, read := files.ReadFile(dir + "/there")
	_, stat := files.Stat(dir + "/there")
	_, _, inspect := files.Inspect(dir + "/there")
	_, list := files.ReadDir(dir)
	_, entries := files.Entries(dir)
	_, readlink := files.Readlink(dir + "/link")
	_, reown := files.Reown(t.Context(), system.Reown{Dir: dir + "/dir", Limit: 1})
	t.Helper()
	return map[string]error{
		"read": read, "stat": stat, "inspect": inspect, "list": list, "entries": entries, "readlink": readlink, "reown": reown,
		"write":  files.WriteFile(dir+"/new", []byte("x"), owned(0o644)),
		"over":   files.WriteFile(dir+"/there", []byte("x"), owned(0o644)),
		"below":  files.WriteFile(dir+"/dir/new/er", []byte("x"), owned(0o644)),
		"attr":   files.SetAttr(dir+"/there", owned(0o666)),
		"chmod":  files.SetAttr(dir+"/dir", owned(0o777)),
		"link":   files.Symlink("x", dir+"/symlink"),
		"mkdir":  files.MkdirAll(dir+"/made/deep", 0o755),
		"move":   files.MoveDir(dir+"/made", dir+"/moved"),
		"remove": files.Remove(dir + "/there"),
		"rmdir":  files.Remove(dir + "/dir"),
		"absent": files.Remove(dir + "/none"),
	}
}

func TestNoLinkIsFollowedThatOthersThanRootMayTurn(t *testing.T) {
	for what, links := range map[string]map[string]string{
		"relative":                  {"/srv/app/conf.d": "../../etc/cron.d"},
		"absolute":                  {"/srv/app/conf.d": "/etc/cron.d"},
		"to a link of root's":       {"/srv/app/conf.d": "/etc/periodic"},
		"of a directory on the way": {"/srv/app": "../home/u/app"},
	} {
		for _, scene := range []struct {
			name  string
			spoil func(t *testing.T, root string)
		}{
			{"the user's link and directory", func(t *testing.T, root string) { give(t, hostile, root, "/srv", "/srv/app", "/srv/app/conf.d") }},
			{"root's link in the user's directory", func(t *testing.T, root string) { give(t, hostile, root, "/srv", "/srv/app") }},
			{"the user's link in root's directory", func(t *testing.T, root string) { give(t, hostile, root, "/srv/app", "/srv/app/conf.d") }},
			{"root's link where everybody may write", func(t *testing.T, root string) { wide(t, 0o1777, root, "/srv", "/srv/app") }},
			{"root's link where a group may write", func(t *testing.T, root string) { wide(t, 0o775, root, "/srv", "/srv/app") }},
			{"root's directory and link in a directory of the user's", func(t *testing.T, root string) { give(t, hostile, root, "/srv") }},
		} {
			t.Run(what+", "+scene.name, func(t *testing.T) {
				root := t.TempDir()
				files := open(t, root, nil, nil)
				link(t, root, "cron.d", "/etc/periodic")
				put(t, root, "/etc/cron.d/there", "root's")
				link(t, root, "x", "/etc/cron.d/link")
				put(t, root, "/etc/cron.d/dir/inside/x", "")
				link(t, root, "../../etc/cron.d", "/home/u/app/conf.d")
				for name, target := range links {
					link(t, root, target, name)
				}
				scene.spoil(t, root)
				before := tree(t, root)
				for operation, err := range operations(t, files, "/srv/app/conf.d") {
					if !errors.Is(err, system.ErrLink) {
						t.Errorf("%s: %v", operation, err)
					}
				}
				if after := tree(t, root); len(after) != len(before) || after["/etc/cron.d/there"] != "root's" {
					t.Errorf("now there is %v", after)
				}
				if info, err := os.Stat(filepath.Join(root, "/etc/cron.d/there")); err != nil || info.Mode() != 0o644 {
					t.Errorf("the file has become %v, %v", info, err)
				}
			})
		}
	}
}

// wide lets others write to the directories.
func wide(t *testing.T, mode uint32, root string, names ...string) {
	t.Helper()
	for _, name := range names {
		file := filepath.Join(root, name)
		info, err := os.Lstat(file)
		if err == nil && info.IsDir() {
			err = unix.Chmod(file, mode)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// Administrators move directories to other disks.
func TestLinksThatRootHasMadeWhereOnlyRootMayWriteAreFollowedByEveryOperation(t *testing.T) {
	for name, target := range map[string]string{
		"absolute": "/data/cron.d", "relative": "../data/cron.d", "up and down": "/etc/../data/./cron.d/", "chained": "/data/other",
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			link(t, root, target, "/etc/cron.d")
			link(t, root, "../../../../data/cron.d", "/data/other")
			put(t, root, "/data/cron.d/there", "before")
			link(t, root, "x", "/data/cron.d/link")
			put(t, root, "/data/cron.d/dir/.keep", "")
			var recorder system.Recorder
			files := open(t, root, recorder.Gate, nil)
			for operation, err := range operations(t, files, "/etc/cron.d") {
				if err != nil && operation != "rmdir" { // it is not empty
					t.Errorf("%s: %v", operation, err)
				}
			}
			found := tree(t, root)
			if found["/data/cron.d/new"] != "x" || found["/data/cron.d/dir/new/er"] != "x" {
				t.Errorf("found %v", found)
			}
			if _, there := found["/data/cron.d/there"]; there {
				t.Error("what was removed is there")
			}
			if target, err := os.Readlink(filepath.Join(root, "etc/cron.d")); err != nil || target == "" {
				t.Errorf("the link itself is gone: %v", err)
			}
		})
	}
}

func TestWhatATrustedLinkLeadsToIsProtectedUnderItsResolvedName(t *testing.T) {
	for _, target := range []string{"/etc/pam.d", "../../etc/pam.d", "/etc/alternatives.d/pam"} {
		root := t.TempDir()
		put(t, root, "/etc/pam.d/there", "auth")
		link(t, root, "../pam.d", "/etc/alternatives.d/pam")
		put(t, root, "/etc/pam.d/dir/.keep", "")
		put(t, root, "/etc/passwd", "root:")
		link(t, root, target, "/opt/app/conf.d")
		link(t, root, "/var/lib", "/opt/app/state")
		link(t, root, "/", "/opt/app/all")
		before := tree(t, root)
		files := open(t, root, nil, nil)
		for operation, err := range operations(t, files, "/opt/app/conf.d") {
			switch operation {
			case "read", "stat", "inspect", "list", "entries", "readlink", "reown", "absent":
				continue
			}
			if err == nil || !strings.Contains(err.Error(), "/etc/pam.d") || errors.Is(err, system.ErrLink) {
				t.Errorf("%s by way of %s: %v", operation, target, err)
			}
		}
		for _, name := range []string{"/opt/app/all/etc/passwd", "/opt/app/state/soe-agent/ledger.jsonl", "/opt/app/all/etc/sudoers", "/opt/app/all/usr/lib/skylight/x/y"} {
			if err := files.WriteFile(name, nil, owned(0o644)); err == nil {
				t.Errorf("%s was written", name)
			}
		}
		if after := tree(t, root); len(after) != len(before) {
			t.Errorf("now there is %v", after)
		}
	}
}

func TestTheModeOfAFileWithAnotherNameIsNotChangedWhereOthersMayHaveMadeThatName(t *testing.T) {
	root := t.TempDir()
	put(t, root, "/etc/shadow", "secret")
	put(t, root, "/srv/app/x", "")
	put(t, root, "/opt/a", "")
	for was, is := range map[string]string{"/etc/shadow": "/srv/app/hard", "/opt/a": "/opt/b"} {
		if err := os.Link(filepath.Join(root, was), filepath.Join(root, is)); err != nil {
			t.Fatal(err)
		}
	}
	give(t, hostile, root, "/srv/app")
	files := open(t, root, nil, nil)
	if err := files.SetAttr("/srv/app/hard", owned(0o666)); !errors.Is(err, system.ErrNames) {
		t.Errorf("a user's hard link: %v", err)
	}
	if info, err := os.Stat(filepath.Join(root, "/etc/shadow")); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("/etc/shadow is %v, %v", info, err)
	}
	if err := files.SetAttr("/opt/b", owned(0o600)); err != nil {
		t.Errorf("root's own: %v", err)
	}
	if err := files.WriteFile("/srv/app/hard", []byte("new"), owned(0o666)); err != nil {
		t.Error(err)
	}
	if found := tree(t, root); found["/etc/shadow"] != "secret" || found["/srv/app/hard"] != "new" {
		t.Errorf("found %v", found)
	}
}

// A bind mount has no link on the way.
func TestWhatIsMountedElsewhereTooIsProtectedThereAsWell(t *testing.T) {
	root := t.TempDir()
	put(t, root, "/etc/pam.d/sudo", "auth")
	put(t, root, "/etc/cron.d/x", "")
	for source, target := range map[string]string{"/etc/pam.d": "/srv/pam", "/etc": "/srv/etc", "/etc/cron.d": "/srv/cron"} {
		at := filepath.Join(root, target)
		if err := os.MkdirAll(at, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount(filepath.Join(root, source), at, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
				t.Error(err)
			}
		})
	}
	files := open(t, root, nil, nil)
	for _, name := range []string{"/srv/pam/sudo", "/srv/pam/new", "/srv/etc/pam.d/sudo", "/srv/etc/passwd", "/srv/etc/sssd/x/y"} {
		if err := files.WriteFile(name, []byte("x"), owned(0o644)); err == nil || !strings.Contains(err.Error(), "it is /etc/") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := files.WriteFile("/srv/cron/x", []byte("x"), owned(0o644)); err != nil {
		t.Error(err)
	}
	if content, err := os.ReadFile(filepath.Join(root, "etc/pam.d/sudo")); err != nil || string(content) != "auth" {
		t.Errorf("%q, %v", content, err)
	}
}
