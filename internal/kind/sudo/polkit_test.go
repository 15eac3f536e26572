package sudo

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
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
		"for a gid":                       {entry("unix-group:10", "*", "yes"), false},
		"for users of a pattern":          {entry("unix-user:alic*", "*", "yes"), false},
		"for groups of a pattern":         {entry("unix-group:[a]dmins", "*", "yes"), false},
		"for a netgroup":                  {entry("unix-netgroup:admins", "*", "yes"), false},
		"for nobody":                      {entry("", "*", "yes"), true},
		"for the allowed by number":       {entry(" unix-group:500 ; unix-user:0", "*", "yes"), true},
		"an action that is no pattern":    {entry("unix-user:bob", "[", "yes"), false},
		"no action":                       {entry("unix-user:bob", "", "yes"), true},
		"another action and all":          {entry("unix-user:bob", "org.example.x; *", "yes"), false},
		"in no session":                   {"[x]\nIdentity=unix-user:bob\nAction=*\nResultAny=yes\n", false},
		"in a session that is not active": {"[x]\nIdentity=unix-user:bob\nAction=*\nResultInactive = yes\n", false},
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
		got := kindtest.Read(t, root, name)
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
		theirs   = "polkit.addAdminRule(function(action, subject) {\n\treturn [\"unix-user:bob\"];\n});\n"
	)
	root := machine(t, map[string]string{
		early:    "polkit.addAdminRule(function(a, s) {\n  return [\"unix-user:bob\"];\n});\n",
		late:     "[Configuration]\nAdminIdentities=unix-user:bob",
		indented: "[Configuration]\n\t AdminIdentities = unix-user:bob\n",
		// It sorts behind the agent's own, does nothing there, and ADsys writes it again all the time.
		adsysRules: theirs,
	})
	if _, polkit := pass(t, root, []string{"%admins"}, nil); polkit.State != converge.Corrected || !strings.Contains(polkit.Reason, "ADsys") {
		t.Errorf("it is %s: %s", polkit.State, polkit.Reason)
	}
	if got := kindtest.Read(t, root, adsysRules); got != theirs {
		t.Errorf("the file of ADsys holds\n%s", got)
	}
	for name, mark := range map[string]string{early: string(comment), late: string(pklaMark), indented: string(pklaMark)} {
		for line := range strings.Lines(kindtest.Read(t, root, name)) {
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
	all := []granted{{what: []question{{action: execAction}, {action: unitsAction}, {action: "org.freedesktop.systemd1.manage-unit-files"}}}}
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

// inService is for a machine that runs, with a stand-in for polkit.
func inService(t *testing.T, root string, authority system.Authority) *Kind {
	t.Helper()
	s := kindtest.Open(t, system.Options{Root: root})
	s.Root = "/"
	runner := people()
	runner.files = s.FS
	s.Runner, s.Sessions, s.Authority, s.Clock = runner, sickSessions{}, authority, hasty{s.Clock}
	p := &policy.Policy{Resources: []policy.Resource{{ID: "sudo/allow", Spec: policy.Sudo{Allow: []string{"%admins"}}}}}
	return New(p, s)
}

// inForce makes a pass over such a machine.
func inForce(t *testing.T, root string, authority system.Authority) converge.Resource {
	t.Helper()
	k := inService(t, root, authority)
	return kindtest.Engine(k.policy, k, kindtest.Ledger(t, root), k.system.Clock).Pass(t.Context()).Resources[1]
}

func TestWhatNoTextExplainsIsTakenBackByTheAgentsOwnRule(t *testing.T) {
	root := machine(t, map[string]string{
		"/proc/1/stat": stat(1), "/proc/77/stat": stat(77),
		vendorRules + "/50-x.rules":                        "polkit.addRule(function(a, s) { if (a.id == \"" + execAction + "\") return polkit.Result.YES; });\n",
		"/usr/share/polkit-1/actions/open.policy":          "/usr/bin/bash\n",
		rulesDir + "/30-active.rules":                      "polkit.addRule(function(a, s) { if (s.active && a.id == \"" + unitsAction + "\") return \"y\"+\"es\"; });\n",
		rulesDir + "/40-shell.rules":                       "polkit.addRule(function(a, s) { if (a.lookup(\"program\") == \"/usr/bin/perl\") return polkit.Result.YES; });\n",
		rulesDir + "/60-other.rules":                       "polkit.addRule(function(a, s) { if (a.id == \"org.example.print\") return polkit.Result.YES; });\n",
		rulesDir + "/00-adsys-privilege-enforcement.rules": "polkit.addAdminRule(function(a, s) { return [\"unix-user:bob\"]; });\n",
		formerRules: "// " + polkitHeader + "polkit.addAdminRule(f);\n",
	})
	if r := inForce(t, root, standIn{root: root}); r.State != converge.Corrected {
		t.Errorf("it is %s: %s %v", r.State, r.Reason, r.Diff)
	}
	own := kindtest.Read(t, root, rulesPath)
	for _, over := range []string{`"` + execAction + `"`, `"org.example.open"`} {
		if !strings.Contains(own, over) {
			t.Errorf("%s is not taken back by\n%s", over, own)
		}
	}
	for name, gone := range map[string]bool{"/30-active.rules": true, "/60-other.rules": false, "/00-adsys-privilege-enforcement.rules": false} {
		if got := strings.HasPrefix(kindtest.Read(t, root, rulesDir+name), string(comment)); got != gone {
			t.Errorf("%s is a comment: %v", name, got)
		}
	}
	if _, err := os.Stat(root + formerRules); !errors.Is(err, os.ErrNotExist) {
		t.Error("the file of the former name is there")
	}
	r := inForce(t, root, standIn{root: root})
	if r.State != converge.Compliant || !strings.Contains(r.Reason, "ADsys") {
		t.Errorf("the second time it is %s: %s %v", r.State, r.Reason, r.Diff)
	}
}

// Of an action that only this machine has no list tells beforehand.
func TestAnEntryByWhichOnesOwnPasswordIsEnoughForAnActionOfThisMachineIsOverruled(t *testing.T) {
	const name = "/etc/polkit-1/localauthority/50-local.d/x.pkla"
	for identity, overruled := range map[string]bool{"unix-user:bob": true, "unix-user:alice": false} {
		root := machine(t, map[string]string{
			"/proc/1/stat": stat(1), "/proc/77/stat": stat(77),
			"/usr/share/polkit-1/actions/asks.policy": "/usr/bin/bash\n",
			name: "[x]\nIdentity=" + identity + "\nAction=org.example.a*\nResultAny=no\nResultInactive=no\nResultActive=auth_self_keep\n",
		})
		inForce(t, root, standIn{root: root})
		if own := kindtest.Read(t, root, rulesPath); strings.Contains(own, `"org.example.asks"`) != overruled {
			t.Errorf("%s: the agent's rule is\n%s", identity, own)
		}
		if r := inForce(t, root, standIn{root: root}); r.State != converge.Compliant {
			t.Errorf("%s: the second time it is %s: %s %v", identity, r.State, r.Reason, r.Diff)
		}
	}
}

// deaf goes by nothing that it is asked about.
type deaf struct{ standIn }

func (deaf) Authorized(_ context.Context, questions []system.Question) ([]bool, error) {
	return make([]bool, len(questions)), nil
}

func TestAPolkitThatCannotBeBelievedIsOverruledAndUnknown(t *testing.T) {
	root := machine(t, map[string]string{"/proc/1/stat": stat(1), "/proc/77/stat": stat(77)})
	inForce(t, root, deaf{standIn{root: root}})
	own := kindtest.Read(t, root, rulesPath)
	for action := range rooting() {
		if !strings.Contains(own, `"`+action+`"`) {
			t.Errorf("%s is not taken back", action)
		}
	}
	if r := inForce(t, root, deaf{standIn{root: root}}); r.State != converge.Unknown || !strings.Contains(r.Reason, "does not let root") {
		t.Errorf("it is %s: %s", r.State, r.Reason)
	}
}

// GLib makes one entry of two that have the same heading.
func TestEntriesOfOneHeadingAreOne(t *testing.T) {
	s := kindtest.Open(t, system.Options{Root: machine(t, nil)})
	s.Runner = people()
	j := newJudge(t.Context(), s, []string{"root", "%admins"}, nil)
	parts := "[x]\nIdentity=unix-user:bob\n[y]\nAction=org.example.*\n[x]\nAction=*\nResultAny=yes\n"
	if got := string(withoutGrants([]byte(parts), j)); strings.Count(got, string(pklaMark)) != 5 || !strings.Contains(got, "\n[y]\n") {
		t.Error(got)
	}
}
