package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/test/box"
)

const (
	sshdConfig = "file/etc/ssh/sshd_config"
	loginDefs  = "file/etc/login.defs"
	keysOfSSHD = "[files.\"/etc/ssh/sshd_config\"]\nkeys = "
)

// logsIn says whether somebody gets in by ssh now.
func (d *desktop) logsIn(t *testing.T, user string) bool {
	t.Helper()
	result, err := d.Exec(t.Context(), "ssh", "-i", "/root/id", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", user+"@127.0.0.1", "true")
	if err != nil {
		t.Fatal(err)
	}
	return result.Code == 0
}

// serveSSH starts sshd, which lets root and the desktop's user in by a key, and a session of the latter.
func (d *desktop) serveSSH(t *testing.T) (lives func() bool) {
	t.Helper()
	d.sh(t, `ssh-keygen -q -A; ssh-keygen -q -t ed25519 -N "" -f /root/id
for user in root `+box.DesktopUser+`; do
	home=$(getent passwd $user | cut -d: -f6)
	install -d -m 700 -o $user $home/.ssh
	install -m 600 -o $user /root/id.pub $home/.ssh/authorized_keys
done
systemctl start ssh.service`)
	if !d.logsIn(t, "root") || !d.logsIn(t, box.DesktopUser) {
		t.Fatal("nobody gets in at first")
	}
	d.sh(t, `setsid ssh -i /root/id -o BatchMode=yes -o StrictHostKeyChecking=no `+box.DesktopUser+`@127.0.0.1 'echo $$ >/tmp/lives; exec sleep 1000' </dev/null >/dev/null 2>&1 &
until [ -s /tmp/lives ]; do sleep 0.1; done`)
	return func() bool { return strings.TrimSpace(d.sh(t, "ps -o comm= -p $(cat /tmp/lives); true")) == "sleep" }
}

// refusesPart has a drop-in of sshd refused.
func (d *desktop) refusesPart(t *testing.T, content, reason string) {
	t.Helper()
	const part = "/etc/ssh/sshd_config.d/50-soe.conf"
	o := d.apply(t, fmt.Sprintf("[dropins.%q]\ncontent = %q\n", part, content))
	o.wants(t, map[policy.ID]converge.State{"dropin" + part: converge.Failed})
	if got := o.resource("dropin" + part).Reason; !strings.Contains(got, reason) {
		t.Errorf("of the drop-in %q it is said %q, and should be %q", content, got, reason)
	}
	d.sh(t, "[ ! -e "+part+" ]")
}

func TestFilesThatDecideWhoGetsInAreKeptByKeysAndNobodyIsLockedOut(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	d.refusesPart(t, "AllowUsers nobody\n", "would lock somebody out") // of an sshd that was never started
	lives := d.serveSSH(t)
	daemon := d.sh(t, "systemctl show -p MainPID -p ActiveEnterTimestampMonotonic ssh.service")
	before := d.sh(t, "cat /etc/ssh/sshd_config /etc/login.defs; stat -c %a:%U:%G /etc/ssh/sshd_config /etc/login.defs")
	getIn := func(users ...string) {
		t.Helper()
		for _, user := range []string{"root", box.DesktopUser} {
			if got, want := d.logsIn(t, user), strings.Contains(strings.Join(users, " "), user); got != want {
				t.Errorf("%s gets in: %v, and should: %v", user, got, want)
			}
		}
		if !lives() || d.sh(t, "systemctl show -p MainPID -p ActiveEnterTimestampMonotonic ssh.service") != daemon {
			t.Error("a session has ended, or sshd has been started anew")
		}
	}
	wants := func(toml string, state converge.State, reason string) {
		t.Helper()
		o := d.apply(t, toml)
		o.wants(t, map[policy.ID]converge.State{sshdConfig: state})
		if r := o.resource(sshdConfig); !strings.Contains(r.Reason, reason) {
			t.Errorf("the reason is %q, and should have %q", r.Reason, reason)
		}
	}
	wants(keysOfSSHD+`{ MaxAuthTries = 4, X11Forwarding = "no", Banner = "/etc/issue.net", LoginGraceTime = 60, AllowUsers = "root dadmin `+box.DesktopUser+`", Ciphers = "aes256-ctr,aes128-ctr" }
absent = ["PrintMotd"]
mode = "0600"
[files."/etc/login.defs"]
keys = { PASS_MAX_DAYS = 365, PASS_MIN_DAYS = 1, UMASK = "027", ENCRYPT_METHOD = "SHA512" }
`, converge.Corrected, "")
	for _, line := range []string{"maxauthtries 4", "x11forwarding no", "banner /etc/issue.net", "logingracetime 60", "allowusers root", "printmotd yes", "ciphers aes256-ctr,aes128-ctr"} {
		if got := d.sh(t, "sshd -T"); !strings.Contains(got, line+"\n") {
			t.Errorf("sshd -T does not say %s", line)
		}
	}
	if got := d.sh(t, "useradd fresh; chage -l fresh; stat -c %a /etc/ssh/sshd_config"); !strings.Contains(got, ": 365\n") || !strings.Contains(got, "\n600\n") {
		t.Errorf("of a new account it is said %s", got)
	}
	getIn("root", box.DesktopUser)
	for keys, reason := range map[string]string{
		`{ AllowUsers = "nobody" }`:                     "would lock somebody out: " + box.DesktopUser + " could log in from this machine by publickey",
		`{ PubkeyAuthentication = "no" }`:               "would lock somebody out: root could log in from this machine by publickey",
		`{ StrictModes = "yes", Ciphers = "3des-cbc" }`: "none that all clients have",
		`{ LogLevel = "SHOUT" }`:                        "sshd refuses its configuration",
	} {
		wants(keysOfSSHD+keys+"\n", converge.Failed, reason)
		getIn("root", box.DesktopUser)
	}
	d.sh(t, "echo LoginGraceTime 1 >/etc/ssh/hidden")
	for content, reason := range map[string]string{
		"AllowUsers nobody\n":                                      "would lock somebody out",
		"Include /etc/ssh/hidden\n":                                "logingracetime would become 1",
		"\"AuthorizedKeysFile\" none\n":                            "with another authorizedkeysfile nobody can tell",
		"Match User " + box.DesktopUser + "\nForceCommand false\n": "forcecommand would become false",
		"Port 2222\n":                                              "who come to port 22",
	} {
		d.refusesPart(t, content, reason)
		getIn("root", box.DesktopUser)
	}
	for _, gone := range []string{"mv /usr/sbin/sshd /usr/sbin/sshd.away", "chmod 000 /usr/sbin/sshd"} {
		d.sh(t, gone)
		wants(keysOfSSHD+"{ MaxAuthTries = 3 }\n", converge.Failed, "install")
		d.refusesPart(t, "MaxAuthTries 3\n", "install")
		d.sh(t, "[ ! -e /usr/sbin/sshd.away ] || mv /usr/sbin/sshd.away /usr/sbin/sshd; chmod 755 /usr/sbin/sshd; ! grep -r 'MaxAuthTries 3' /etc/ssh")
		getIn("root", box.DesktopUser)
	}
	wants(keysOfSSHD+"{ PermitRootLogin = \"no\" }\n", converge.Corrected, "")
	getIn(box.DesktopUser)
	d.sh(t, "echo MaxAuthTries 9 >/etc/ssh/sshd_config.d/x.conf")
	wants(keysOfSSHD+"{ MaxAuthTries = 4 }\n", converge.Failed, `sshd -T says "maxauthtries 9" and not "maxauthtries 4"`)
	d.sh(t, `rm /etc/ssh/sshd_config.d/x.conf; printf 'Match User root\nX11Forwarding yes\n' >>/etc/ssh/sshd_config`)
	wants(keysOfSSHD+"{ X11Forwarding = \"no\" }\n", converge.Failed, `sshd -T -C user=root says "x11forwarding yes"`)
	d.sh(t, `sed -i '/^Match User root/,$d' /etc/ssh/sshd_config; printf '"Match" user root\nX11Forwarding no\n' >>/etc/ssh/sshd_config`)
	wants(keysOfSSHD+"{ X11Forwarding = \"no\", MaxSessions = 8 }\n", converge.Corrected, "")
	if got := d.sh(t, "sshd -T"); !strings.Contains(got, "maxsessions 8\n") {
		t.Error("what is written below a Match in quotes holds for root alone")
	}
	d.sh(t, `sed -i '/^"Match" user root/,$d' /etc/ssh/sshd_config`)
	wants(keysOfSSHD+"{ X11Forwarding = \"no\" }\n", converge.Corrected, "") // MaxSessions goes
	if result, err := d.Exec(t.Context(), "soe-agent", "purge", "--yes"); err != nil || result.Code != 0 {
		t.Fatalf("%v, exit code %d: %s%s", err, result.Code, result.Stdout, result.Stderr)
	}
	if after := d.sh(t, "cat /etc/ssh/sshd_config /etc/login.defs; stat -c %a:%U:%G /etc/ssh/sshd_config /etc/login.defs"); after != before {
		t.Errorf("it is not as it was: %s", firstDifference(before, after)+"; and the other way round "+firstDifference(after, before))
	}
	getIn("root", box.DesktopUser)
}
