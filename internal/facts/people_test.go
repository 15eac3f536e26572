package facts_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/system"
)

// owners is a file system in which some paths belong to other users, as only root could create. The
// one with the large uid is in no local file.
type owners struct {
	system.FileReader
	uids map[string]int
}

func (o owners) Stat(name string) (system.Info, error) {
	info, err := o.FileReader.Stat(name)
	if uid, named := o.uids[name]; named {
		info.UID = uid
	}
	return info, err
}

func TestPersonalUIDsAreThoseThatCanLogInOrHaveAHome(t *testing.T) {
	root := t.TempDir()
	const passwd = `root:x:0:0:root:/root:/bin/bash
daemon:x:1:1::/:/usr/sbin/nologin
nobody:x:65534:65534::/:/bin/sh
kiosk:x:1002:1002::/home/kiosk:/sbin/nologin
user:x:1001:1001::/home/user:/bin/bash
admin:x:1000:1000::/home/admin:/bin/bash
`
	for _, dir := range []string{"etc", "home/user", "home/DOMAIN", "home/lost+found"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "etc/passwd"), []byte(passwd), 0o644); err != nil {
		t.Fatal(err)
	}
	s, err := system.Open(system.Options{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	s.FS.FileReader = owners{s.FS.FileReader, map[string]int{"/home/user": 1001, "/home/DOMAIN": 1285401133, "/home/lost+found": 0}}
	uids, err := facts.PersonalUIDs(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int{1000, 1001, 1285401133}, uids); diff != "" {
		t.Error(diff)
	}
}
