package dropin

import (
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

// By its mode the file is as it should be.
func TestAnACLThatLetsSomebodyIntoAFileIsTakenAway(t *testing.T) {
	const name = "/etc/app.d/token"
	mode := policy.Dropin{Content: "x"}
	permissions := system.Attr{Mode: 0o640}.Mode
	mode.Mode = &permissions
	p := files(map[string]policy.Dropin{name: mode})
	root := machine(t, nil)
	pass(t, p, root, nil)
	acl := "\x02\x00\x00\x00" + "\x01\x00\x06\x00\xff\xff\xff\xff" + "\x02\x00\x04\x00\x67\x12\x00\x00" +
		"\x04\x00\x04\x00\xff\xff\xff\xff" + "\x10\x00\x04\x00\xff\xff\xff\xff" + "\x20\x00\x00\x00\xff\xff\xff\xff"
	if err := unix.Setxattr(filepath.Join(root, name), "system.posix_acl_access", []byte(acl), 0); err != nil {
		t.Fatal(err)
	}
	r := pass(t, p, root, nil)["dropin"+name]
	if r.State != converge.Corrected || len(r.Diff) != 1 || r.Diff[0].Aspect != "acl" {
		t.Errorf("it is %s: %v", r.State, r.Diff)
	}
	if size, err := unix.Getxattr(filepath.Join(root, name), "system.posix_acl_access", nil); err == nil {
		t.Errorf("the list is still there, %d bytes", size)
	}
}
