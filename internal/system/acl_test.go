package system_test

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/soe-agent/soe-agent/internal/system"
)

// setACL lets one more user, root, read and write a file through an ACL in the format of acl(5).
// Every user namespace knows root.
func setACL(t *testing.T, name, attribute string) {
	t.Helper()
	acl := binary.LittleEndian.AppendUint32(nil, 2)
	for _, entry := range []struct {
		tag, perm uint16
		id        uint32
	}{{1, 6, ^uint32(0)}, {2, 6, 0}, {4, 4, ^uint32(0)}, {16, 6, ^uint32(0)}, {32, 4, ^uint32(0)}} {
		acl = binary.LittleEndian.AppendUint16(acl, entry.tag)
		acl = binary.LittleEndian.AppendUint16(acl, entry.perm)
		acl = binary.LittleEndian.AppendUint32(acl, entry.id)
	}
	if err := unix.Setxattr(name, attribute, acl, 0); err != nil {
		t.Fatal(err)
	}
}

func TestAnACLIsToldAndTakenAway(t *testing.T) {
	root := t.TempDir()
	put(t, root, dropin, "content")
	files := open(t, root, nil, nil)
	inspect := func() system.Info {
		t.Helper()
		content, info, err := files.Inspect(dropin)
		if err != nil || string(content) != "content" {
			t.Fatalf("%q, %v", content, err)
		}
		return info
	}
	if inspect().ACL {
		t.Error("a file without an ACL is said to have one")
	}
	setACL(t, filepath.Join(root, dropin), "system.posix_acl_access")
	if info := inspect(); !info.ACL || info.Mode != 0o664 {
		t.Errorf("got %+v", info)
	}
	if err := files.SetAttr(dropin, owned(0o640)); err != nil {
		t.Fatal(err)
	}
	if info := inspect(); info.ACL || info.Mode != 0o640 {
		t.Errorf("once mode and owner are set: %+v", info)
	}
}

// A user whom an access control list lets write counts as somebody else, whatever the group bits of
// the mode say.
func TestWhatAnACLLetsOthersWriteIsNotTrusted(t *testing.T) {
	const name = "/etc/soe-agent/policy.d/50-site.toml"
	for _, loose := range []string{name, "/etc/soe-agent/policy.d", "/etc/soe-agent"} {
		root := t.TempDir()
		put(t, root, name, "schema = 1")
		files := open(t, root, nil, nil)
		if _, _, err := system.Trusted(files, name, 0); err != nil {
			t.Fatal(err)
		}
		setACL(t, filepath.Join(root, loose), "system.posix_acl_access")
		if _, _, err := system.Trusted(files, name, 0); !errors.Is(err, system.ErrUnsafe) {
			t.Errorf("with a list on %s: %v", loose, err)
		}
	}
}

func TestAFileTakesNoACLFromItsDirectory(t *testing.T) {
	root := t.TempDir()
	put(t, root, "/etc/sysctl.d/other", "")
	setACL(t, filepath.Join(root, "/etc/sysctl.d"), "system.posix_acl_default")
	files := open(t, root, nil, nil)
	if err := files.WriteFile(dropin, []byte("secret"), owned(0o640)); err != nil {
		t.Fatal(err)
	}
	if _, info, err := files.Inspect(dropin); err != nil || info.ACL || info.Mode != 0o640 {
		t.Errorf("it has %+v: %v", info, err)
	}
}

func TestWhatIsNoRegularFileIsDescribedAndNotRead(t *testing.T) {
	root := t.TempDir()
	put(t, root, "/etc/file", "x")
	link(t, root, "/etc/file", "/etc/link")
	if err := unix.Mkfifo(filepath.Join(root, "/etc/fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	files := open(t, root, nil, nil)
	for name, want := range map[string]os.FileMode{"/etc": os.ModeDir, "/etc/link": os.ModeSymlink, "/etc/fifo": os.ModeNamedPipe, "/etc/file": 0} {
		content, info, err := files.Inspect(name)
		if err != nil || info.Type != want || (want != 0) != (content == nil) {
			t.Errorf("%s: %q, %v, %v", name, content, info.Type, err)
		}
	}
}
