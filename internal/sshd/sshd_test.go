package sshd_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/sshd"
	"github.com/soe-agent/soe-agent/internal/system"
)

// world returns a machine with sshd where ann has a key, bob a password, and carl both; dora can
// log in with neither, and root with a key.
func world(t *testing.T, files map[string]string) (*system.System, *kindtest.SSHD) {
	t.Helper()
	all := map[string]string{
		"/etc/passwd": "root:x:0:0::/root:/bin/sh\nann:x:1001:1001::/home/ann:/bin/sh\nbob:x:1002:1002::/home/bob:/bin/sh\ncarl:x:1003:1003::/home/carl:/bin/sh\n" +
			"dora:x:1004:1004::/home/dora:/bin/sh\nscan:x:1005:1005::/:/usr/sbin/nologin\n",
		"/etc/shadow":                      "root:*:1::::::\nann:!:1::::::\nbob:$6$x:1::::::\ncarl:$6$x:1::::::\ndora:!!:1::::::\nscan:$6$x:1::::::\n",
		"/etc/nsswitch.conf":               "passwd: files systemd\n",
		"/root/.ssh/authorized_keys":       "ssh-ed25519 A\n",
		"/home/ann/.ssh/authorized_keys":   "ssh-ed25519 A\n",
		"/home/carl/.ssh/authorized_keys":  "ssh-ed25519 A\n",
		"/home/dora/.ssh/authorized_keys2": "ssh-ed25519 A\n",
	}
	for name, content := range files {
		all[name] = content
	}
	root := kindtest.Root(t, all)
	for uid, name := range map[int]string{1001: "ann", 1003: "carl"} {
		if err := os.Chown(filepath.Join(root, "home", name, ".ssh/authorized_keys"), uid, uid); err != nil {
			t.Fatal(err)
		}
	}
	fake := &kindtest.SSHD{Root: root, Groups: map[string]string{"ann": "staff", "bob": "staff admins", "carl": "admins", "root": "root"}}
	s := kindtest.Open(t, system.Options{Root: root})
	s.Runner, s.Units.UnitStates, s.Units.UnitJobs = fake, fake, fake
	return s, fake
}

func TestNobodyWhoCanLogInIsKeptFromIt(t *testing.T) {
	const pam = "UsePAM yes\n"
	for _, c := range []struct{ before, after, root, want string }{
		{pam, pam + "MaxAuthTries 3\nBanner /etc/issue.net\n", "", ""},
		{pam, pam + "AllowUsers root ann bob carl\n", "", ""},
		{pam, pam + "AllowUsers r* a?n bob@* carl\n", "", ""},
		{pam, pam + "AllowUsers root ann bob@10.0.0.1 carl\n", "", "bob could log in from this machine by password"},
		{pam, pam + "AllowUsers root bob carl\n", "", "ann could log in from this machine by publickey"},
		{pam + "DenyUsers ann\n", pam + "AllowUsers root bob carl\n", "", ""},
		{pam + "DenyUsers ann@10.0.0.1\n", pam + "AllowUsers root bob carl\n", "", "ann could"},
		{pam, pam + "DenyUsers carl\n", "", "carl could"},
		{pam, pam + "DenyUsers *@10.0.0.1\n", "", "ann could"},
		{pam, pam + "AllowGroups staff admins root\n", "", ""},
		{pam, pam + "AllowGroups staff root\n", "", "carl could"},
		{pam, pam + "AllowGroups staff admins\n", "", "root could log in from this machine by publickey"},
		{pam, pam + "AllowGroups staff admins\n", "no", ""},
		{pam, pam + "DenyGroups adm*\n", "", "bob could"},
		{pam, pam + "AllowUsers root dora\n", "no", "ann could"},
		{pam, pam + "PasswordAuthentication no\n", "", "bob could log in from this machine by password"},
		{pam, pam + "PasswordAuthentication no\nKbdInteractiveAuthentication yes\n", "", ""},
		{pam + "DenyUsers bob\n", pam + "DenyUsers bob\nPasswordAuthentication no\n", "", ""},
		{pam, pam + "PubkeyAuthentication no\n", "", "ann could log in from this machine by publickey"},
		{pam, pam + "AuthenticationMethods publickey,password\n", "", "ann could"},
		{pam + "AllowUsers carl\n", pam + "AllowUsers carl\nAuthenticationMethods publickey,password publickey,keyboard-interactive:pam\n", "", ""},
		{pam + "AllowUsers carl\nAuthenticationMethods publickey,password\n", pam + "AllowUsers carl\nAuthenticationMethods password\n", "", ""},
		{pam, pam + "PermitRootLogin no\n", "no", ""},
		{pam, pam + "PermitRootLogin no\n", "", "root could"},
		{pam, pam + "PermitRootLogin prohibit-password\n", "prohibit-password", ""},
		{pam + "AllowUsers root\n", pam + "AllowUsers root\nPermitRootLogin no\n", "no", "amazon-ssm-agent does not run"},
		{pam, pam + "Match User ann\nPubkeyAuthentication no\n", "", "ann could"},
		{pam + "Match User bob\nPasswordAuthentication yes\n", pam + "PasswordAuthentication no\nMatch User bob\nPasswordAuthentication yes\n", "", ""},
		{pam, "UsePAM no\n", "", "usepam would become no"},
		{pam + "StrictModes no\n", pam + "StrictModes yes\n", "", "strictmodes would become yes"},
		{pam, pam + "Ciphers 3des-cbc\n", "", "ciphers would leave none"},
		{pam, pam + "MACs hmac-sha2-512\nKexAlgorithms ecdh-sha2-nistp256\n", "", ""},
		{pam + "Ciphers 3des-cbc\n", pam + "Ciphers 3des-cbc\nMaxAuthTries 3\n", "", ""},
		{pam + "AllowUsers ann\n", pam, "", ""},
		// What an include or a Match hides from who reads the policy is seen all the same.
		{pam, pam + "PerSourceMaxStartups 0\n", "", "persourcemaxstartups would become 0: it is less than 2"},
		{pam, pam + "logingracetime=1\n", "", "logingracetime would become 1"},
		{pam, pam + "HostbasedAuthentication yes\n", "", "hostbasedauthentication would become yes"},
		{pam + "PerSourceMaxStartups 0\n", pam + "PerSourceMaxStartups 0\nMaxAuthTries 3\n", "", ""},
		{pam, pam + "\"Match\" User ann\nMaxAuthTries 1\n", "", "for ann maxauthtries would become 1"},
		{pam, pam + "Match User root\n\"PermitRootLogin\" forced-commands-only\n", "", "for root permitrootlogin would become forced-commands-only"},
		{pam, pam + "Match User dora\nMaxAuthTries 1\n", "", ""},
		{pam, pam + "ForceCommand /bin/false\n", "", "forcecommand would become /bin/false"},
		{pam, pam + "Match User bob\nChrootDirectory /srv\n", "", "for bob chrootdirectory would become /srv"},
		{pam, pam + "Match User scan\nForceCommand internal-sftp\n", "", ""},
		{pam + "Port 22\n", pam + "Port 2222\n", "", "who come to port 22"},
		{pam + "ListenAddress 0.0.0.0:22\n", pam + "ListenAddress 127.0.0.1:22\n", "", "who come to the address 0.0.0.0:22"},
		{pam + "HostKey /a\n", pam + "HostKey /b\n", "", "who know it by its key /a"},
		{pam, pam + "HostKeyAlgorithms ssh-dss\n", "", "hostkeyalgorithms would leave none"},
		{pam, pam + "AuthorizedKeysFile none\n", "", "with another authorizedkeysfile nobody can tell"},
		{pam, pam + "AuthorizedKeysFile .ssh/authorized_keys /etc/ssh/keys/%u\n", "", ""},
		{pam, pam + "AuthorizedKeysCommand /usr/bin/x\n", "", ""},
		{pam, pam + "RevokedKeys /etc/x\n", "", "with another revokedkeys nobody can tell"},
		{pam + "PubkeyAcceptedAlgorithms ssh-ed25519,ssh-rsa\n", pam + "PubkeyAcceptedAlgorithms ssh-rsa\n", "", "with another pubkeyacceptedalgorithms nobody can tell"},
		{pam + "PubkeyAcceptedAlgorithms ssh-ed25519,ssh-rsa\n", pam + "PubkeyAcceptedAlgorithms ssh-ed25519\n", "", ""},
		{pam + "AllowUsers carl\n", pam + "AllowUsers carl\nAuthorizedKeysFile none\n", "", ""},
	} {
		s, fake := world(t, map[string]string{sshd.Main: c.before})
		got, err := sshd.LocksOut(t.Context(), s, sshd.Change{After: system.Staged{sshd.Main: []byte(c.after)}, Root: c.root})
		if err != nil || c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("of %q after %q it is said %q, and should be %q: %v", c.after, c.before, got, c.want, err)
		}
		if c.want == "amazon-ssm-agent does not run" {
			fake.Runs = []string{"amazon-ssm-agent.service"}
			if got, err := sshd.LocksOut(t.Context(), s, sshd.Change{After: system.Staged{sshd.Main: []byte(c.after)}, Root: c.root}); got != "" || err != nil {
				t.Errorf("with Session Manager it is said %q: %v", got, err)
			}
		}
	}
}

func TestWhoOfTheDirectoryIsNotKnownYetIsNotLockedOut(t *testing.T) {
	for after, want := range map[string]string{
		"MaxAuthTries 3\n":             "",
		"PermitRootLogin no\n":         "",
		"AllowUsers root ann bob carl": "the directory's user of this desktop",
		"PasswordAuthentication no\n":  "the directory's user of this desktop",
	} {
		s, _ := world(t, map[string]string{sshd.Main: "UsePAM yes\n", "/etc/nsswitch.conf": "passwd: files winbind\n", "/etc/shadow": "root:*:1::::::\n"})
		got, err := sshd.LocksOut(t.Context(), s, sshd.Change{After: system.Staged{sshd.Main: []byte("UsePAM yes\n" + after)}, Root: "no"})
		if err != nil || want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("of %q it is said %q, and should be %q: %v", after, got, want, err)
		}
	}
}

func TestAnSSHDThatSaysNothingProvesNothing(t *testing.T) {
	for _, mute := range []string{"sshd: no hostkeys available -- exiting.", "Missing privilege separation directory: /run/sshd", "line 3: Bad configuration option: x", ""} {
		s, fake := world(t, map[string]string{sshd.Main: "UsePAM yes\n"})
		fake.Mute = mute
		if mute == "" {
			if err := os.Remove(filepath.Join(fake.Root, "etc/shadow")); err != nil {
				t.Fatal(err)
			}
		}
		if why, err := sshd.LocksOut(t.Context(), s, sshd.Change{After: system.Staged{sshd.Main: []byte("UsePAM yes\nX 1\n")}}); err == nil {
			t.Errorf("after %q it is said %q", mute, why)
		}
	}
}

func TestAValueThatSomethingElseOverrulesIsFound(t *testing.T) {
	keys := map[string]string{"MaxAuthTries": "4", "AllowUsers": "ann bob", "PermitRootLogin": "prohibit-password"}
	const ours = "MaxAuthTries 4\nAllowUsers ann bob\nPermitRootLogin prohibit-password\n"
	for _, c := range []struct {
		name, want string
		files      map[string]string
	}{
		{"nothing", "", map[string]string{sshd.Main: ours}},
		{"an include", `sshd -T says "maxauthtries 9" and not "maxauthtries 4"`, map[string]string{sshd.Main: "Include /etc/ssh/x.d/*.conf\n" + ours, "/etc/ssh/x.d/a.conf": "MaxAuthTries 9\n"}},
		{"an include behind", "", map[string]string{sshd.Main: ours + "Include /etc/ssh/x.d/*.conf\n", "/etc/ssh/x.d/a.conf": "MaxAuthTries 9\n"}},
		{"another who is allowed", `sshd -T says "allowusers ann bob carl"`, map[string]string{sshd.Main: ours + "Include /etc/ssh/x.d/*.conf\n", "/etc/ssh/x.d/a.conf": "AllowUsers carl\n"}},
		{"an option", "an option of its command line", map[string]string{sshd.Main: ours, "/etc/sysconfig/sshd": "# x\nOPTIONS=\"-u0 -o MaxAuthTries=9\"\n"}},
		{"the policy of cryptography", "maxauthtries 9", map[string]string{sshd.Main: ours, "/etc/crypto-policies/back-ends/opensshserver.config": "CRYPTO_POLICY='-oMaxAuthTries=9 -oX=y'\n"}},
		{"a match of all", `sshd -T -C user=root says "maxauthtries 9"`, map[string]string{sshd.Main: ours + "Match all\nMaxAuthTries 9\n"}},
		{"a match of somebody", "sshd -T -C user=ann", map[string]string{sshd.Main: ours + "Match User ann\nMaxAuthTries 9\n"}},
		{"a match in quotes", "sshd -T -C user=root", map[string]string{sshd.Main: ours + "\"Match\" all\nMaxAuthTries=9\n"}},
		{"a match of something else", "", map[string]string{sshd.Main: ours + "Match User ann\nX11Forwarding yes\n"}},
	} {
		s, _ := world(t, c.files)
		got, err := sshd.Overruled(t.Context(), s, keys)
		if err != nil || c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("with %s it is said %q, and should be %q: %v", c.name, got, c.want, err)
		}
	}
	s, _ := world(t, map[string]string{sshd.Main: "Old 1\n"})
	if _, err := sshd.Overruled(t.Context(), s, map[string]string{"Nonsense": "1"}); err == nil {
		t.Error("of what sshd does not take nothing is said")
	}
}

// In an image nobody can ask sshd, and a key of which the files say otherwise is not called in line.
func TestAValueThatTheFilesOfAnImageOverruleIsFound(t *testing.T) {
	keys := map[string]string{"MaxAuthTries": "4", "AllowUsers": "ann bob", "PermitRootLogin": "prohibit-password"}
	const ours = "MaxAuthTries 4\nAllowUsers ann bob\nPermitRootLogin prohibit-password\n"
	for _, c := range []struct {
		name, want string
		files      map[string]string
	}{
		{"nothing", "", map[string]string{sshd.Main: ours}},
		{"no file", "", nil},
		{"an include", `/etc/ssh/x.d/a.conf says "MaxAuthTries 9" before`, map[string]string{sshd.Main: "Include x.d/*.conf\n" + ours, "/etc/ssh/x.d/a.conf": "maxauthtries=9\n"}},
		{"the same in an include", "", map[string]string{sshd.Main: "Include x.d/*.conf\n" + ours, "/etc/ssh/x.d/a.conf": "MaxAuthTries \"4\"\nPermitRootLogin Prohibit-Password\n"}},
		{"an include behind", "", map[string]string{sshd.Main: ours + "Include /etc/ssh/x.d/*.conf\n", "/etc/ssh/x.d/a.conf": "MaxAuthTries 9\n"}},
		{"another who is allowed", `"AllowUsers carl"`, map[string]string{sshd.Main: ours + "Include /etc/ssh/x.d/*.conf\n", "/etc/ssh/x.d/a.conf": "AllowUsers carl\n"}},
		{"a match of all", `below a Match of all`, map[string]string{sshd.Main: ours + "Match all\nMaxAuthTries 9\n"}},
		{"a match in quotes", `below a Match of all`, map[string]string{sshd.Main: ours + "\"Match\" All\nMaxAuthTries=9\n"}},
		{"a match of all behind one of somebody", `below a Match of all`, map[string]string{sshd.Main: ours + "Match User ann\nMaxAuthTries 8\nMatch all\nMaxAuthTries 9\n"}},
		{"a match of all in an include below one of somebody", "", map[string]string{sshd.Main: ours + "Match User ann\nInclude x.d/*.conf\n", "/etc/ssh/x.d/a.conf": "Match all\nMaxAuthTries 9\n"}},
		{"a match that ends with its file", "", map[string]string{sshd.Main: "Include x.d/*.conf\n" + ours, "/etc/ssh/x.d/a.conf": "Match all\nX11Forwarding no\n"}},
		{"a match of all in an include", `/etc/ssh/x.d/a.conf says`, map[string]string{sshd.Main: "Include x.d/*.conf\n" + ours, "/etc/ssh/x.d/a.conf": "Match all\nMaxAuthTries 9\n"}},
		{"a match of somebody", "", map[string]string{sshd.Main: ours + "Match User ann\nMaxAuthTries 9\n"}},
	} {
		s, _ := world(t, c.files)
		got, err := sshd.OverruledByText(s, keys)
		if err != nil || c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("with %s it is said %q, and should be %q: %v", c.name, got, c.want, err)
		}
	}
}

func TestAllThatSSHDReadsIsRead(t *testing.T) {
	s, fake := world(t, map[string]string{sshd.Main: "Include \"/etc/ssh/x.d/*.conf\" y\n", "/etc/ssh/x.d/a.conf": "A 1\n", "/etc/ssh/y": " include=/etc/ssh/z\n", "/etc/ssh/z": "Z 1\n"})
	read, err := sshd.Inputs(t.Context(), s)
	if err != nil || strings.Contains(string(read), `"ann"`) || !strings.Contains(string(read), "A 1") || !strings.Contains(string(read), "Z 1") {
		t.Errorf("%q, %v", read, err)
	}
	for _, match := range []string{"\tmATCH=all\n", "\"Match\" user root\r\n", "A 1\nMa\"tch\" all"} {
		kindtest.Put(t, fake.Root, "/etc/ssh/z", match)
		if again, err := sshd.Inputs(t.Context(), s); err != nil || !strings.Contains(string(again), `"ann"`) {
			t.Errorf("with %q: %q, %v", match, again, err)
		}
	}
}

func TestSSHDIsToldToReadItsFilesAgainOnlyWhereItRunsAndTakesThem(t *testing.T) {
	s, fake := world(t, map[string]string{sshd.Main: "UsePAM yes\n"})
	if err := sshd.Reload(t.Context(), s); err != nil || len(fake.Calls) > 0 {
		t.Errorf("where it does not run: %v, %q", err, fake.Calls)
	}
	fake.Runs = []string{"ssh.service"}
	kindtest.Put(t, fake.Root, sshd.Main, "Nonsense 1\n")
	if err := sshd.Reload(t.Context(), s); err == nil || len(fake.Calls) > 0 {
		t.Errorf("where it would end: %v, %q", err, fake.Calls)
	}
	kindtest.Put(t, fake.Root, sshd.Main, "UsePAM yes\n")
	if err := sshd.Reload(t.Context(), s); err != nil || len(fake.Calls) != 1 || fake.Calls[0] != "reload ssh.service" {
		t.Errorf("%v, %q", err, fake.Calls)
	}
}

func TestAnSSHDThatCannotBeRunIsNotOneThatIsNotInstalled(t *testing.T) {
	for _, c := range []struct {
		gone          error
		put, runs     string
		installed     bool
		says, content string
	}{
		{gone: system.ErrNotInstalled},
		{gone: system.ErrNotExecutable, installed: true, says: "chmod 755"},
		{gone: system.ErrNotInstalled, installed: true, runs: "sshd.service", says: "sshd.service runs: put it back"},
		{gone: system.ErrNotInstalled, installed: true, runs: "ssh.socket", says: "ssh.socket runs"},
		{gone: system.ErrNotInstalled, installed: true, put: "/usr/lib/systemd/system/ssh.service", says: "there is its unit /usr/lib/systemd/system/ssh.service"},
		{gone: system.ErrNotInstalled, installed: true, put: "/proc/7/comm", content: "sshd\n", says: "process 7 is called so"},
		{gone: system.ErrNotInstalled, put: "/proc/7/comm", content: "ssh-agent\n"},
	} {
		s, fake := world(t, map[string]string{sshd.Main: "UsePAM yes\n"})
		fake.Gone = c.gone
		if c.put != "" {
			kindtest.Put(t, fake.Root, c.put, c.content)
		}
		if c.runs != "" {
			fake.Runs = []string{c.runs}
		}
		s.Root = "/" // it runs
		_, err := sshd.Ask(t.Context(), s, nil, nil)
		if errors.Is(err, system.ErrNotInstalled) == c.installed || err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("with %+v it is said %v", c, err)
		}
	}
}

func TestAnSSHDThatWasNeverStartedIsLentWhatItLacks(t *testing.T) {
	s, fake := world(t, map[string]string{sshd.Main: "UsePAM yes\n"})
	fake.Lacks = true
	got, err := sshd.Ask(t.Context(), s, nil, nil)
	if err != nil || len(got["usepam"]) != 1 || got["usepam"][0] != "yes" {
		t.Errorf("%v, %v", got, err)
	}
	why, err := sshd.LocksOut(t.Context(), s, sshd.Change{After: system.Staged{sshd.Main: []byte("UsePAM yes\nAllowUsers nobody\n")}})
	if err != nil || !strings.Contains(why, "ann could") {
		t.Errorf("%q, %v", why, err)
	}
}
