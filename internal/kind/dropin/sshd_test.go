package dropin

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/sshd"
	"github.com/soe-agent/soe-agent/internal/system"
)

const sshdMain = sshd.Main

func TestAPartOfSSHDsConfigurationByWhichSomebodyIsLockedOutIsNotWritten(t *testing.T) {
	const name = "/etc/ssh/sshd_config.d/50-soe.conf"
	for content, reason := range map[string]string{
		"AllowUsers nobody\n":                       "it would lock somebody out: bob could log in",
		"PasswordAuthentication no\n":               "it would lock somebody out: bob could log in",
		"MaxAuthTries 3\n":                          "",
		"PermitRootLogin no\n":                      "",
		"Match User ann\nPasswordAuthentication no": "",
	} {
		m := &running{root: machine(t, map[string]string{
			sshdMain: "Include /etc/ssh/sshd_config.d/*.conf\nUsePAM yes\n", "/usr/sbin/sshd": "",
			"/etc/passwd": "root:x:0:0::/root:/bin/sh\nbob:x:1002:1002::/home/bob:/bin/sh\n", "/etc/shadow": "root:*:1::::::\nbob:$6$x:1::::::\n",
			"/etc/group": "root:x:0:\n", "/root/.ssh/authorized_keys": "ssh-ed25519 A\n",
		})}
		m.sshd = &kindtest.SSHD{Root: m.root}
		r := m.pass(t, files(map[string]policy.Dropin{name: {Content: content}}))[policy.NewID("dropin", name)]
		if r.State.InLine() != (reason == "") || !strings.Contains(r.Reason, reason) {
			t.Errorf("with %q it is %s: %s", content, r.State, r.Reason)
		}
		if reason != "" && r.State != converge.Failed {
			t.Errorf("with %q it is %s", content, r.State)
		}
	}
}

func TestAPartOfSSHDsConfigurationIsNotWrittenNorCalledInEffectWhileSSHDCannotBeRun(t *testing.T) {
	const name, content = "/etc/ssh/sshd_config.d/50-soe.conf", "MaxAuthTries 3\n"
	for _, c := range []struct {
		gone    error
		active  []string
		program bool
		there   bool
		want    converge.State
		reason  string
	}{
		{system.ErrNotExecutable, nil, true, false, converge.Failed, "chmod 755"},
		{system.ErrNotInstalled, []string{"ssh.service"}, false, false, converge.Failed, "ssh.service runs"},
		{system.ErrNotExecutable, nil, true, true, converge.Unknown, "chmod 755"},
		{system.ErrNotInstalled, []string{"ssh.service"}, false, true, converge.Unknown, "ssh.service runs"},
		{system.ErrNotInstalled, nil, false, true, converge.Failed, "which is not installed"},
	} {
		m := &running{root: machine(t, map[string]string{sshdMain: "Include /etc/ssh/sshd_config.d/*.conf\nUsePAM yes\n"}), active: c.active}
		m.sshd = &kindtest.SSHD{Root: m.root, Runs: c.active, Gone: c.gone}
		if !c.program {
			if err := os.Remove(filepath.Join(m.root, "usr/sbin/sshd")); err != nil {
				t.Fatal(err)
			}
		}
		if c.there {
			kindtest.Put(t, m.root, name, content)
		}
		r := m.pass(t, files(map[string]policy.Dropin{name: {Content: content}}))[policy.NewID("dropin", name)]
		if r.State != c.want || !strings.Contains(r.Reason, c.reason) {
			t.Errorf("with %+v it is %s: %s", c, r.State, r.Reason)
		}
		if _, err := os.Stat(filepath.Join(m.root, name)); (err == nil) != c.there {
			t.Errorf("with %+v the file is there: %v", c, err)
		}
	}
}

func TestAMatchOfSomebodyElseByWhichAPartIsNotInEffectIsSeen(t *testing.T) {
	const name = "/etc/ssh/sshd_config.d/50-soe.conf"
	for main, reason := range map[string]string{
		"Match all\nX11Forwarding yes\n":                   "sshd -T -C user=root",
		"\"Match\" all\nX11Forwarding=yes\n":               "sshd -T -C user=root",
		"Match User bob\nX11Forwarding yes\n":              "sshd -T -C user=bob",
		"Match User scan\nX11Forwarding yes\n":             "",
		"\"X11Forwarding\" yes\n":                          "",
		"Match all\n\tMaxAuthTries 2\n# X11Forwarding yes": "",
	} {
		m := &running{root: machine(t, map[string]string{
			sshdMain: "\"Include\" \"/etc/ssh/sshd_config.d/*.conf\"\nUsePAM yes\n" + main, name: "X11Forwarding no\nMatch User ann\nX11Forwarding yes\n",
			"/etc/passwd": "root:x:0:0::/root:/bin/sh\nann:x:1001:1001::/home/ann:/bin/sh\nbob:x:1002:1002::/home/bob:/bin/sh\n", "/etc/group": "root:x:0:\n",
		})}
		m.sshd = &kindtest.SSHD{Root: m.root}
		r := m.pass(t, files(map[string]policy.Dropin{name: {Content: "X11Forwarding no\nMatch User ann\nX11Forwarding yes\n"}}))[policy.NewID("dropin", name)]
		if (r.State == converge.Compliant) != (reason == "") || !strings.Contains(r.Reason, reason) {
			t.Errorf("with %q it is %s: %s", main, r.State, r.Reason)
		}
	}
}
