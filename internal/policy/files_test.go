package policy

import (
	"strings"
	"testing"
)

func fileProblemsOf(toml string) string {
	f, err := Parse(Source{Name: "test.toml", Text: "schema = 1\n" + toml})
	if err == nil {
		_, err = Merge([]Fragment{f}, nil)
	}
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestAFileThatLetsPeopleInOrThatSessionsNeedIsRefusedWithTheReason(t *testing.T) {
	for _, c := range []struct{ file, says, want string }{
		{"/etc/crontab", `mode = "at most 0600"`, ""},
		{"/etc/cron.d", "owner = \"root\"\nmode = \"0700\"", ""},
		{"/etc/shadow-", `mode = "0000"`, ""},
		{"/etc/security/opasswd", `mode = "0600"`, ""},
		{"/var/log/audit/audit.log", `mode = "at most 0600"`, ""},
		{"/etc/profile.d/x.sh", `mode = "at most 0755"`, ""},
		{"/etc/ssh/sshd_config", "owner = \"root\"\ngroup = \"root\"\nmode = \"0600\"", ""},
		{"/etc/ssh/sshd_config", `mode = "0664"`, "only root may"},
		{"/etc/ssh/sshd_config", `owner = "ann"`, "must belong to root"},
		{"/etc/ssh/sshd_config.d/x.conf", `mode = "0600"`, ""},
		{"/etc/shadow", `mode = "0000"`, "it decides who can log in"},
		{"/etc/pam.d/su", `mode = "0644"`, "protected"},
		{"/etc/pam.conf", `mode = "0644"`, "decides who gets in"},
		{"/etc/security/access.conf", `mode = "0644"`, "it decides who can log in"},
		{"/etc/login.defs", `mode = "0644"`, ""},
		{"/etc/login.defs", `mode = "0600"`, "would keep people from reading"},
		{"/etc/shells", `mode = "0644"`, "decides who gets in"},
		{"/etc/securetty", `mode = "0600"`, "decides who gets in"},
		{"/etc/sudoers", `mode = "0440"`, "it decides who can log in"},
		{"/etc/sudoers.d/x", `mode = "0440"`, "[sudo]"},
		{"/etc/ssh/ssh_host_rsa_key", `mode = "0600"`, "keys of this one machine"},
		{"/etc/default/grub", `mode = "0600"`, "hibernated"},
		{"/etc/pcoip-agent/pcoip-agent.conf", `mode = "0600"`, "[pcoip]"},
		{"/usr/bin/sudo", `mode = "0755"`, "it is not below /etc"},
		{"/home/ann/x", `mode = "0600"`, "it is not below /etc"},
		{"/etc", `mode = "0700"`, "it is not below /etc"},
		{"/tmp/x", `mode = "0600"`, "it is not below /etc"},
		{"/var/lib/rpm/Packages", `mode = "0600"`, "it is not below /etc"},
		{"/etc/../usr/bin/su", `mode = "0755"`, "not a clean absolute path"},
		{"/etc/machine-id", `mode = "0400"`, "would keep people from reading"},
		{"/etc/profile", `mode = "at most 0640"`, "would keep people from reading"},
		{"/etc/dbus-1/system.conf", `mode = "0600"`, "would keep people from reading"},
		{"/etc/profile.d/x.sh", `owner = "ann"`, "must belong to root"},
		{"/etc/audit", `owner = "ann"`, "must belong to root"},
		{"/etc/audit", `mode = "0600"`, "keep its owner out"},
		{"/etc/cron.d/job", `owner = "ann"`, "ignores files that do not belong to root"},
		{"/etc/cron.d/job", `mode = "0755"`, "cron(8)"},
		{"/etc/cron.daily/job", `mode = "at most 0600"`, "run-parts"},
		{"/etc/crontab", `mode = "4755"`, "setuid"},
		{"/etc/crontab", `mode = "at most 0666"`, "lets everybody write"},
		{"/etc/crontab", `mode = "most 0600"`, "not a file mode"},
		{"/etc/crontab", `mode = "0888"`, "not a file mode"},
		{"/etc/crontab", `owner = "a:b"`, "not the name of an account"},
		{"/etc/crontab", `if_exists = true`, "it says nothing of it"},
		{"/etc/crontab", `content = "x"`, "unknown key"},
		{"/etc/security/pwquality.conf", `keys = { minlen = 14, enforce_for_root = "" }`, ""},
		{"/etc/yum.conf", `keys = { "main/gpgcheck" = "1" }`, ""},
		{"/etc/default/useradd", `keys = { INACTIVE = "{{resolve:ssm:/x}}" }`, ""},
		{"/etc/default/useradd", `keys = { INACTIVE = "{{resolve:ssm-secure:/x}}" }`, "is a secret"},
		{"/etc/default/useradd", `keys = { INACTIVE = "30 # days" }`, "would not be read as it is"},
		{"/etc/default/useradd", `keys = { INACTIVE = "$(id)" }`, "needs quotes"},
		{"/etc/default/useradd", `keys = { "IN ACTIVE" = 30 }`, "not the name of a variable"},
		{"/etc/default/useradd", `keys = { INACTIVE = true }`, "it wants a string or a whole number"},
		{"/etc/yum.conf", `keys = { gpgcheck = 1 }`, "a section and a key"},
		{"/etc/yum.conf", `keys = { "main/plugins" = 0 }`, "need it as it is"},
		{"/etc/dnf/dnf.conf", `absent = ["main/reposdir"]`, "need it as it is"},
		{"/etc/audit/auditd.conf", `keys = { disk_full_action = "HALT" }`, "would end all sessions"},
		{"/etc/audit/auditd.conf", `keys = { disk_full_action = "syslog", num_logs = 5 }`, ""},
		{"/etc/security/pwquality.conf", "keys = { minlen = 14 }\nabsent = [\"MinLen\"]", "is given twice"},
		{"/etc/security/pwquality.conf", `keys = { minlen = "14\nx" }`, "would not be read as it is"},
		{"/etc/login.defs", `keys = { UMASK = "027", PASS_MAX_DAYS = 365, PASS_MIN_DAYS = 1, PASS_WARN_AGE = 7, ENCRYPT_METHOD = "SHA512", HOME_MODE = "0700" }`, ""},
		{"/etc/login.defs", `keys = { PASS_MAX_DAYS = "{{resolve:ssm:/x}}" }`, ""},
		{"/etc/login.defs", `keys = { PASS_MAX_DAYS = 0 }`, "not a number from 1 to 99999"},
		{"/etc/login.defs", `keys = { UMASK = "777" }`, "could not use their own files"},
		{"/etc/login.defs", `keys = { UMASK = "0" }`, "everybody could write"},
		{"/etc/login.defs", `keys = { HOME_MODE = "0077" }`, "could not use their own files"},
		{"/etc/login.defs", `keys = { ENCRYPT_METHOD = "DES" }`, "as good as no password"},
		{"/etc/login.defs", `keys = { UMASK = "" }`, "has no value"},
		{"/etc/login.defs", `absent = ["UID_MIN"]`, "give ids by it"},
		{"/etc/login.defs", `keys = { ENV_PATH = "PATH=/tmp" }`, "programs are found by it"},
		{"/etc/login.defs", `keys = { NOLOGINS_FILE = "/etc/passwd" }`, "is not known"},
		{"/etc/login.defs", `keys = { DEFAULT_HOME = "no" }`, "is not known"},
		{"/etc/ssh/sshd_config", `keys = { MaxAuthTries = 4, PermitRootLogin = "no", AllowGroups = "wheel soe-admins", Banner = "/etc/issue.net", MaxStartups = "10:30:60", UsePAM = "yes" }`, ""},
		{"/etc/chrony.conf", `keys = { maxdistance = "3.5", rtcsync = "" }`, ""},
		{"/etc/chrony/chrony.conf", `keys = { Server = "169.254.169.123" }`, "several lines that all count"},
		{"/etc/ssh/sshd_config", `absent = ["X11Forwarding"]`, ""},
		{"/etc/ssh/sshd_config", `keys = { MaxAuthTries = 0 }`, "less than 2"},
		{"/etc/ssh/sshd_config", `keys = { PerSourceMaxStartups = 0 }`, "less than 2"},
		{"/etc/ssh/sshd_config", `keys = { PerSourceMaxStartups = "none", PermitRootLogin = "without-password", HostbasedAuthentication = "no" }`, ""},
		{"/etc/ssh/sshd_config", `keys = { Ciphers = "-*" }`, "give the whole list"},
		{"/etc/ssh/sshd_config", `keys = { KexAlgorithms = "^curve25519-sha256" }`, "give the whole list"},
		{"/etc/ssh/sshd_config", `keys = { PermitRootLogin = "forced-commands-only" }`, "none of yes, no and prohibit-password"},
		{"/etc/ssh/sshd_config", `keys = { HostbasedAuthentication = "yes" }`, "vouches for"},
		{"/etc/ssh/sshd_config", `keys = { LoginGraceTime = "1s" }`, "too short to type"},
		{"/etc/ssh/sshd_config", `keys = { maxsessions = "0" }`, "less than 1"},
		{"/etc/ssh/sshd_config", `keys = { LoginGraceTime = 1 }`, "too short to type"},
		{"/etc/ssh/sshd_config", `keys = { LoginGraceTime = "1m" }`, ""},
		{"/etc/ssh/sshd_config", `keys = { UsePAM = "no" }`, "log in through PAM"},
		{"/etc/ssh/sshd_config", `keys = { Port = 2222 }`, "where they expect it"},
		{"/etc/ssh/sshd_config", `absent = ["HostKey"]`, "might not start"},
		{"/etc/ssh/sshd_config", `keys = { AuthorizedKeysFile = "none" }`, "whose keys"},
		{"/etc/ssh/sshd_config", `keys = { ForceCommand = "/bin/false" }`, "how sessions start"},
		{"/etc/ssh/sshd_config", `keys = { Match = "all" }`, "other lines depend on it"},
		{"/etc/ssh/sshd_config", `keys = { Nonsense = 1 }`, "is not known"},
		{"/etc/ssh/sshd_config", `keys = { Banner = "" }`, "has no value"},
		{"/etc/ssh/sshd_config", `keys = { Banner = "/etc/issue\nPort 1" }`, "would not be read as it is"},
		{"/etc/ssh/sshd_config", `keys = { Banner = "none", banner = "/x" }`, "is given twice"},
		{"/etc/crontab", `keys = { SHELL = "/bin/sh" }`, "does not know how it is read; it keeps keys of /etc/audit/auditd.conf"},
	} {
		got := fileProblemsOf("[files.\"" + c.file + "\"]\n" + c.says + "\n")
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s with %s: %q", c.file, c.says, got)
		}
	}
}

func TestAFileIsOfOneSectionAlone(t *testing.T) {
	const file = "[files.\"/etc/cron.d/job\"]\nmode = \"0600\"\n"
	if got := fileProblemsOf(file + "[dropins.\"/etc/cron.d/job\"]\ncontent = \"# x\\n\"\n"); !strings.Contains(got, "say its owner, group and mode there") {
		t.Errorf("with a drop-in: %q", got)
	}
	if got := fileProblemsOf(file + "[dropins.\"/etc/cron.d/other\"]\ncontent = \"# x\\n\"\n[directories.\"/etc/modprobe.d\"]\npurge = true\n"); got != "" {
		t.Errorf("beside others: %q", got)
	}
}
