package sudo

import (
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/system"
)

// packagers answers as rpm and dpkg do, or is neither.
type packagers struct{ rpm, dpkg string }

func (p packagers) Run(_ context.Context, c system.Command) (system.Output, error) {
	said := map[string]string{"rpm": p.rpm, "dpkg-query": p.dpkg}[c.Argv[0]]
	if said == "" {
		return system.Output{}, system.ErrNotInstalled
	}
	return system.Output{Stdout: []byte(said)}, nil
}

func TestAnActionThatAFileOfNoPackageOpensIsTakenBackAndAVendorsIsNot(t *testing.T) {
	const dir = "/usr/share/polkit-1/actions/"
	const open = `<policyconfig><action id="com.example.site"/><action id='com.example.two'/></policyconfig>`
	sum := sha256.Sum256([]byte(open))
	root := machine(t, map[string]string{
		dir + "a.policy": open, dir + "b.policy": `<action id="org.freedesktop.login1.reboot"/><action id="com.example.lamp"/>`,
		"/var/lib/dpkg/info/x:amd64.md5sums": "00000000000000000000000000000000  usr/share/other\n6e6bc4e49dd477ebc98ef4046c067b5f  usr/share/polkit-1/actions/a.policy\n",
		"/var/lib/dpkg/info/y.md5sums":       "MD5  usr/share/polkit-1/actions/a.policy\n",
	})
	installed := []system.Action{
		{ID: "com.example.site", Any: 5},
		{ID: "com.example.two", Any: 2, Active: 3},
		{ID: "com.example.closed", Any: 2, Active: 4},
		{ID: "org.freedesktop.login1.reboot", Any: 5},
		{ID: "com.example.lamp", Active: 5, Program: "/usr/libexec/gsd-backlight-helper"},
		{ID: execAction, Any: 5},
	}
	both := []string{"com.example.site", "com.example.two"}
	for what, test := range map[string]struct {
		packagers
		want []string
	}{
		"rpm says it is its own":         {packagers{rpm: dir + "a.policy\t" + hex.EncodeToString(sum[:]) + "\n"}, nil},
		"rpm has another":                {packagers{rpm: dir + "a.policy\t" + strings.Repeat("0", 64) + "\n"}, both},
		"rpm knows of none":              {packagers{rpm: "file " + dir + "a.policy is not owned by any package\n"}, both},
		"dpkg has another":               {packagers{dpkg: "x:amd64: " + dir + "a.policy\n"}, both},
		"dpkg knows of none":             {packagers{dpkg: "\n"}, both},
		"there is no package manager":    {packagers{}, nil},
		"rpm is there, and it is dpkg's": {packagers{rpm: "not owned\n", dpkg: "z, y: " + dir + "a.policy\n"}, nil},
	} {
		s := kindtest.Open(t, system.Options{Root: root})
		md5sum(t, root, "/var/lib/dpkg/info/y.md5sums", open)
		s.Runner = test.packagers
		k := New(nil, s)
		if got, err := k.openedByHand(t.Context(), installed, []string{execAction}); err != nil || !slices.Equal(got, test.want) {
			t.Errorf("%s: %v are open, %v", what, got, err)
		}
	}
}

func TestEveryActionThatMakesRootCountsWhoeverOpensIt(t *testing.T) {
	for _, id := range []string{
		"org.freedesktop.home1.update-home", "com.ubuntu.softwareproperties.applychanges", "org.debian.apt.install-packages-from-new-repo", "org.freedesktop.import1.import", "org.freedesktop.import1.pull",
		"org.freedesktop.portable1.manage-images", "org.freedesktop.portable1.attach-images", "org.freedesktop.udisks2.modify-device-system", "org.freedesktop.udisks2.filesystem-mount-system",
		"org.freedesktop.accounts.user-administration", "org.freedesktop.accounts.set-login-option", "org.fedoraproject.FirewallD1.all", "org.fedoraproject.FirewallD1.config",
	} {
		if all := questions([]system.Action{{ID: id}}, catalogue{}); len(all) == 0 {
			t.Errorf("nobody asks about %s", id)
		}
	}
}

func TestWhatPolkitDecidesByIsRootsToWrite(t *testing.T) {
	for what, test := range map[string]struct {
		spoil func(root string) error
		state converge.State
		says  string
	}{
		"a directory that is a user's":     {func(root string) error { return os.Chown(root+rulesDir, 1000, 1000) }, converge.Corrected, ""},
		"a rules file that is a user's":    {func(root string) error { return os.Chown(root+rulesDir+"/50-x.rules", 1000, 1000) }, converge.Corrected, ""},
		"one that a group may write":       {func(root string) error { return os.Chmod(root+rulesDir+"/50-x.rules", 0o664) }, converge.Corrected, ""},
		"the directory above":              {func(root string) error { return os.Chmod(root+polkitTop, 0o777) }, converge.Corrected, ""},
		"polkit's own directory":           {func(root string) error { return os.Chown(root+rulesDir, 990, 0) }, converge.Compliant, ""},
		"actions that everybody writes":    {func(root string) error { return os.Chmod(root+"/usr/share/polkit-1/actions", 0o777) }, converge.Failed, "/usr/share/polkit-1/actions"},
		"a vendor's rule that is a user's": {func(root string) error { return os.Chown(root+vendorRules+"/50-v.rules", 1000, 1000) }, converge.Failed, "50-v.rules"},
		"a link to a home": {func(root string) error {
			return errors.Join(os.Chown(root+"/home/bob", 1000, 1000), os.Symlink("/home/bob/r.rules", root+rulesDir+"/60-l.rules"))
		}, converge.Failed, "60-l.rules is a link"},
	} {
		root := machine(t, map[string]string{
			"/etc/passwd":            "root:x:0:0::/root:/bin/sh\nalice:x:1001:1001::/home/alice:/bin/sh\nbob:x:1000:1000::/home/bob:/bin/sh\npolkitd:x:990:990::/:/sbin/nologin\n",
			rulesDir + "/50-x.rules": "// mine\n", vendorRules + "/50-v.rules": "// theirs\n", "/usr/share/polkit-1/actions/a.policy": "", "/home/bob/r.rules": "// mine\n",
		})
		pass(t, root, []string{"%admins"}, nil)
		if err := test.spoil(root); err != nil {
			t.Fatal(err)
		}
		_, polkit := pass(t, root, []string{"%admins"}, nil)
		if polkit.State != test.state || !strings.Contains(polkit.Reason, test.says) {
			t.Errorf("%s: it is %s: %s %v", what, polkit.State, polkit.Reason, polkit.Diff)
		}
		if _, polkit = pass(t, root, []string{"%admins"}, nil); test.state == converge.Corrected && polkit.State != converge.Compliant {
			t.Errorf("%s: the second time it is %s: %s %v", what, polkit.State, polkit.Reason, polkit.Diff)
		}
	}
}

func md5sum(t *testing.T, root, list, content string) {
	t.Helper()
	sum := md5.Sum([]byte(content))
	s := hex.EncodeToString(sum[:]) + "  usr/share/polkit-1/actions/a.policy\n"
	if err := os.WriteFile(filepath.Join(root, list), []byte(s), 0o600); err != nil {
		t.Fatal(err)
	}
}
