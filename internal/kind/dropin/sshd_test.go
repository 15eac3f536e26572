package dropin

import (
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/policy"
)

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
