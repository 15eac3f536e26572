package sshdtext

import (
	"slices"
	"testing"
)

func TestALineIsReadAsSSHDReadsIt(t *testing.T) {
	for _, c := range []struct {
		line, key string
		words     []string
	}{
		{"MaxAuthTries 4\n", "maxauthtries", []string{"4"}},
		{" \tmaxauthtries\t4 \r\n", "maxauthtries", []string{"4"}},
		{"MaxAuthTries=4", "maxauthtries", []string{"4"}},
		{"MaxAuthTries = 4", "maxauthtries", []string{"4"}},
		{"MaxAuthTries == 4", "maxauthtries", []string{"=", "4"}},
		{`"Match" user root`, "match", []string{"user", "root"}},
		{`Ma"tch" user root`, "match", []string{"user", "root"}},
		{`"MATCH"all`, "match", []string{"all"}},
		{`"" Match all`, "match", []string{"all"}},
		{"=Match all", "match", []string{"all"}},
		{" =Match all", "match", []string{"all"}},
		{"= = Match all", "", nil},
		{`"Match all`, "", nil},
		{`Banner "/etc/a b" # c`, "banner", []string{"/etc/a b"}},
		{`Banner '/etc/a b'x#y`, "banner", []string{"/etc/a bx#y"}},
		{`Banner a\ b "c\"d"`, "banner", []string{"a b", `c"d`}},
		{"# Match all", "", nil},
		{" #Match all", "", nil},
		{"", "", nil},
		{"\f", "", nil},
		{"Match all\f\r\n", "match", []string{"all"}},
		{"X11Forwarding no\x00\nMatch", "x11forwarding", []string{"no"}},
		{"Match", "match", nil},
	} {
		key, rest := Line(c.line)
		if words := Words(rest); key != c.key || key != "" && !slices.Equal(words, c.words) {
			t.Errorf("%q is %q, %q", c.line, key, words)
		}
	}
	if got := ForEverybody("A 1\r\n# Match\n\t\"MATCH\"=all\nB 1\n"); got != "A 1\r\n# Match\n" {
		t.Errorf("for everybody it says %q", got)
	}
}

func TestWhatKeepsEverybodyOutIsKnownHoweverItIsWritten(t *testing.T) {
	never := func(string) bool { return false }
	for _, line := range []string{
		"PerSourceMaxStartups 0", "maxstartups=1", "MaxStartups \"0:30:100\"", "MAXSESSIONS 0", "MaxAuthTries -1", "MaxAuthTries x", "MaxStartups 4294967296",
		"Ciphers -*", "ciphers=\"-aes*\"", "KexAlgorithms ^x", "MACs +x", "HostKeyAlgorithms -*", "PubkeyAcceptedKeyTypes -ssh-*",
		"PermitRootLogin forced-commands-only", "HostbasedAuthentication YES", "UsePAM no", "StrictModes no", "PermitEmptyPasswords yes", "RefuseConnection yes",
		"LoginGraceTime 1s", "LoginGraceTime 1", "LoginGraceTime 0m9S", "ClientAliveCountMax 0", "clientalivecountmax=00", "ClientAliveCountMax -1", "ChannelTimeout session=1s", "ChannelTimeout *=5m", "ClientAliveInterval 1", "UnusedConnectionTimeout 2s",
	} {
		for _, content := range []string{line, "X11Forwarding no\nMatch User x\n\t" + line + " # c\n"} {
			if wrong, is := KeepsOutIn(content, never); !is || wrong.Why == "" || wrong.Number < 1 {
				t.Errorf("of %q it is said %+v", content, wrong)
			}
			if wrong, is := KeepsOutIn(content, func(string) bool { return true }); is {
				t.Errorf("of %q, which is not known, it is said %+v", content, wrong)
			}
		}
	}
	for _, line := range []string{
		"PerSourceMaxStartups none", "MaxStartups 10:30:100", "MaxSessions 1", "Ciphers aes256-ctr", "PubkeyAcceptedAlgorithms +ssh-rsa", "HostKeyAlgorithms -ssh-rsa",
		"PermitRootLogin Yes", "PermitRootLogin without-password", "HostbasedAuthentication no", "UsePAM YES", "LoginGraceTime 0", "LoginGraceTime 1m", "LoginGraceTime 10",
		"ClientAliveCountMax 3", "ChannelTimeout none", "ClientAliveInterval 0", "ClientAliveInterval 300", "AllowUsers 0", "# PerSourceMaxStartups 0", "MaxSessions", "Nonsense 1",
	} {
		if wrong, is := KeepsOutIn(line, never); is {
			t.Errorf("of %q it is said %+v", line, wrong)
		}
	}
}

func TestAFileThatSSHDMustNotShowOrObeyIsKnownByItsPlace(t *testing.T) {
	for _, line := range []string{
		"Banner /etc/shadow", "banner=/etc/gshadow-", "Banner \"/etc/shadow-\"", "Banner /root/.ssh/id_rsa", "Banner /etc/ssh/../shadow", "Banner etc/issue", "Banner //etc/shadow",
		"Banner /etc/ssh/ssh_host_rsa_key", "Banner /etc/sudoers", "Banner /etc/sudoers.d/x", "Banner /home/user/x", "Banner /proc/1/environ", "Banner /dev/sda", "Banner /tmp/x",
		"Banner /var/log/secure", "Banner /etc/krb5.keytab", "Banner /etc/pki/tls/private/localhost.key", "Banner /etc/security/opasswd", "Banner /etc/sssd/sssd.conf",
		"Banner /var/lib/soe-agent/ledger.json", "Banner /etc/soe-agent/agent.toml", "Include /etc/shadow", "Include ../shadow", "Include /etc/ssh/x.conf /etc/gshadow",
		"TrustedUserCAKeys /home/user/ca.pub", "RevokedKeys /tmp/krl", "AuthorizedKeysCommand /var/tmp/x", "AuthorizedPrincipalsCommand /dev/shm/x", "HostKey /home/user/key",
		"XAuthLocation /home/user/xauth", "Subsystem sftp /home/user/sftp", "ForceCommand /tmp/x", "ModuliFile /tmp/moduli", "PidFile /etc/passwd", "PidFile /run/../etc/passwd", "PidFile x",
	} {
		for _, content := range []string{line, "Match User x\n\t" + line + "\n"} {
			if wrong, is := KeepsOutIn(content, func(string) bool { return false }); !is {
				t.Errorf("%q is let through: %+v", content, wrong)
			}
		}
	}
	for _, line := range []string{
		"Banner none", "Banner None", "Banner /etc/issue.net", "Banner /etc/issue", "Banner /etc/ssh/banner", "Banner /usr/share/corp/banner.txt", "Banner /opt/corp/banner",
		"Include /etc/ssh/sshd_config.d/*.conf", "Include sshd_config.d/*.conf", "TrustedUserCAKeys /etc/ssh/ca.pub", "RevokedKeys none", "HostKey /etc/ssh/ssh_host_rsa_key",
		"AuthorizedKeysCommand /usr/bin/sss_ssh_authorizedkeys", "Subsystem sftp internal-sftp", "Subsystem sftp /usr/libexec/openssh/sftp-server", "ForceCommand internal-sftp -l INFO",
		"PidFile /run/sshd.pid", "PidFile /var/run/sshd.pid", "PidFile none", "Banner",
	} {
		if wrong, is := KeepsOutIn(line, func(string) bool { return false }); is {
			t.Errorf("of %q it is said %+v", line, wrong)
		}
	}
}
