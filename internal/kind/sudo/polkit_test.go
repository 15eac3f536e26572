package sudo

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/soe-agent/soe-agent/internal/converge"
)

// polkit 0.105 knows no rules: Ubuntu 22.04 has it.
func TestEntriesOfTheLocalAuthorityThatMakeAdministratorsBecomeComments(t *testing.T) {
	const name = "/etc/polkit-1/localauthority/50-local.d/x.pkla"
	entry := func(identity, action, result string) string {
		return "[x]\nIdentity=" + identity + "\nAction=" + action + "\nResultAny=no\nResultActive=" + result + "\n"
	}
	for what, test := range map[string]struct {
		entry string
		stays bool
	}{
		"everything":                      {entry("unix-user:bob", "*", "yes"), false},
		"everything, by the own password": {entry("unix-user:bob", "*", "auth_self_keep"), false},
		"the actions of systemd":          {entry("unix-user:bob", "org.freedesktop.systemd1.*", "yes"), false},
		"for a group":                     {entry("unix-group:wheel", "org.freedesktop.policykit.exec", "yes"), false},
		"for anybody":                     {entry("unix-user:*", "*", "yes"), false},
		"for one who is not and one":      {entry("unix-user:alice;unix-user:bob", "*", "yes"), false},
		"for a uid":                       {entry("unix-user:1000", "*", "yes"), false},
		"for the allowed":                 {entry("unix-group:admins;unix-user:alice;unix-user:1001;", "*", "yes"), true},
		"with an administrator":           {entry("unix-user:bob", "*", "auth_admin"), true},
		"something else":                  {entry("unix-user:bob", "org.freedesktop.NetworkManager.*", "yes"), true},
		"a comment":                       {"# Identity=unix-user:bob\n# Action=*\n# ResultActive=yes\n", true},
	} {
		root := machine(t, map[string]string{
			"/etc/polkit-1/localauthority.conf.d/50-x.conf": "[Configuration]\nAdminIdentities=unix-user:bob\n",
			name: "[first]\nAction=org.example.x\n\n" + test.entry,
		})
		_, polkit := pass(t, root, []string{"%admins"}, nil)
		if polkit.State != converge.Corrected {
			t.Errorf("%s: it is %s: %s", what, polkit.State, polkit.Reason)
		}
		got := read(t, root, name)
		if stays := strings.HasSuffix(got, test.entry); stays != test.stays || !strings.HasPrefix(got, "[first]\nAction=org.example.x\n\n") {
			t.Errorf("%s: it holds\n%s", what, got)
		}
		if _, polkit := pass(t, root, []string{"%admins"}, nil); polkit.State != converge.Compliant {
			t.Errorf("%s: the second time it is %s: %s %v", what, polkit.State, polkit.Reason, polkit.Diff)
		}
	}
}

func TestFilesThatNameAdministratorsBeforeTheAgentsOwnBecomeComments(t *testing.T) {
	const (
		early    = "/etc/polkit-1/rules.d/00-a.rules"
		late     = "/etc/polkit-1/localauthority.conf.d/99-z.conf"
		indented = "/etc/polkit-1/localauthority.conf.d/99-zz.conf"
	)
	root := machine(t, map[string]string{
		early:    "polkit.addAdminRule(function(a, s) {\n  return [\"unix-user:bob\"];\n});\n",
		late:     "[Configuration]\nAdminIdentities=unix-user:bob",
		indented: "[Configuration]\n\t AdminIdentities = unix-user:bob\n",
	})
	if _, polkit := pass(t, root, []string{"%admins"}, nil); polkit.State != converge.Corrected {
		t.Errorf("it is %s: %s", polkit.State, polkit.Reason)
	}
	for name, mark := range map[string]string{early: string(comment), late: string(pklaMark), indented: string(pklaMark)} {
		for line := range strings.Lines(read(t, root, name)) {
			if !strings.HasPrefix(line, mark) {
				t.Errorf("%s: a line is in force: %s", name, line)
			}
		}
	}
	if _, polkit := pass(t, root, []string{"%admins"}, nil); polkit.State != converge.Compliant {
		t.Errorf("the second time it is %s: %s %v", polkit.State, polkit.Reason, polkit.Diff)
	}
}

// polkitd is not root: a file that only root can read is none to it.
func TestAPolkitFileThatOnlyRootCanReadIsMended(t *testing.T) {
	root := machine(t, map[string]string{"/etc/polkit-1/localauthority.conf.d/50-x.conf": ""})
	pass(t, root, []string{"%admins"}, nil)
	for _, name := range []string{rulesPath, authority} {
		file := filepath.Join(root, name)
		if err := errors.Join(os.Chmod(file, 0o600), os.Chown(file, 1000, 1000)); err != nil {
			t.Fatal(err)
		}
		if _, polkit := pass(t, root, []string{"%admins"}, nil); polkit.State != converge.Corrected {
			t.Errorf("%s: it is %s: %s", name, polkit.State, polkit.Reason)
		}
		info, err := os.Stat(file)
		if err != nil || info.Mode() != 0o644 || info.Sys().(*syscall.Stat_t).Uid != 0 {
			t.Errorf("%s: %v %v", name, info.Mode(), err)
		}
	}
}

func TestTheRuleThatExplainsMostIsTakenForTheReason(t *testing.T) {
	all := []granted{{actions: adminActions()[:3]}}
	everything := ruleFile{"everything", []byte(`addRule(YES)`)}
	family := ruleFile{"family", []byte(`addRule(a.id.indexOf("org.freedesktop.systemd1.") YES)`)}
	one := ruleFile{"one", []byte(`addRule(a.id == "org.freedesktop.systemd1.manage-units" YES)`)}
	other := ruleFile{"other", []byte(`addRule(a.id == "org.example.print" YES)`)}
	for _, test := range []struct {
		suspects []ruleFile
		want     string
	}{
		{[]ruleFile{one, family, everything, other}, "everything"},
		{[]ruleFile{one, family, other}, "family"},
		{[]ruleFile{one, other}, "one"},
		{[]ruleFile{other}, ""},
	} {
		got := ""
		for _, f := range test.suspects {
			if _, is := likely(f, test.suspects, all); is {
				got += f.path
			}
		}
		if got != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
	}
}
