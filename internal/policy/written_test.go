package policy

import (
	"io/fs"
	"strings"
	"testing"
)

func TestWhatAFileHasOthersWriteIsAskedOfTheProtectedList(t *testing.T) {
	for content, want := range map[string]string{
		"d /run/app 0755\n": "", "z /var/log/app 0640\n": "", "x /etc/pam.d\nX /etc/shadow\n": "", "L /run/hosts - - - - /etc/hosts\n": "", "F /etc/motd - - - - hello\n": "", "# F /etc/pam.d/x\n": "",
		"D /run/app\nZ /opt/app 0755 app app\n": "", "q /var/lib/app - - - 10d\n": "", "r /etc/cron.deny\n": "", "r /etc/*.bak\n": "", "C /etc/app - - - - /usr/share/app\n": "",

		"F /etc/pam.d/x - - - - auth sufficient pam_permit.so\n": "/etc/pam.d/x", "f+ /etc/pam.d/x\n": "/etc/pam.d/x", "w /etc/passwd - - - - x\n": "/etc/passwd",
		"r! /etc/shadow\n": "/etc/shadow", "z /etc/passwd 0666\n": "/etc/passwd", "m /etc/passwd 0666\n": "/etc/passwd", "a /etc/shadow - - - - u:a:r\n": "/etc/shadow",
		"d /run/a\n\"F\" \"/etc/pam.d/x y\"\n": "line 2", "L+ /etc/krb5.conf - - - - /srv/x\n": "/etc/krb5.conf", "C /etc/pam.d - - - - /srv/x\n": "/etc/pam.d",
		"r /etc/pam?d/x\n": "/etc/pam?d/x", "R /etc\n": "/etc", "Z /etc 0700\n": "/etc", "d /var/lib - - - 1d\n": "/var/lib", "r /etc/sh*\n": "/etc/sh*", "R /\n": "write /",
		"F %S/soe-agent/x\n": "/var/lib/soe-agent/x", "F /etc/%o/x\n": "/etc/%o/x", "F /var/run/../../etc/shadow\n": "line 1", "F /lib/systemd/system/pcoip.service\n": "pcoip",
		"L /run/p - - - - /etc/pam.d\nF /run/p/x\n": "/etc/pam.d/x", "F /run/p/x\nL /run/p - - - - ../etc/pam.d\n": "/etc/pam.d/x",
		"F /etc/sudoers.d/x - - - - a ALL=(ALL) NOPASSWD: ALL\n": "[dropins]", "F /etc/firewalld/zones/a.xml\n": "streaming session", "F /etc/systemd/system/sssd.service.d/a.conf\n": "log in",
	} {
		for _, file := range []string{"/etc/tmpfiles.d/a.conf", "/run/tmpfiles.d/a.conf"} {
			got := Written(file, content)
			if (got == "") != (want == "") || !strings.Contains(got, want) {
				t.Errorf("%s with %q: %q", file, content, got)
			}
		}
		if got := strings.Join(validate(NewID("dropin", "/etc/tmpfiles.d/a.conf"), Dropin{Ensure: Present, Content: content}, false), "\n"); (got == "") != (want == "") {
			t.Errorf("the policy with %q: %q", content, got)
		}
	}
}

func TestAMountOverWhatIsProtectedIsRefused(t *testing.T) {
	for where, good := range map[string]bool{"/data": true, "/var/log": true, "/etc/pam.d": false, "/etc": false, "/var/lib/skylight": false} {
		for _, file := range []string{"/etc/systemd/system/a.mount", "/etc/systemd/system/a.mount.d/b.conf"} {
			if got := Written(file, "[Mount]\nWhat=/dev/sdb\nWhere = "+where+"\n"); (got == "") != good {
				t.Errorf("%s over %s: %q", file, where, got)
			}
		}
	}
}

func TestAnAuthorIsWarnedOfWhatCronAndSystemdWouldWrite(t *testing.T) {
	for content, want := range map[string]bool{
		"@daily root /usr/bin/true\n": false, "@daily root cat /etc/passwd >/run/copy\n": false, "@daily root cp /etc/hosts /run/x\n": false, "# rm /etc/passwd\n": false, "@daily root rm -f /run/x; cat /etc/passwd\n": false,
		"@daily root echo x >>/etc/hosts\n": true, "@daily root cp /run/x /etc/hosts\n": true, "@daily root rm -rf /etc/pam.d\n": true, "@daily root true && tee /etc/krb5.conf\n": true,
		"@daily root sh -c 'echo x > /etc/shadow'\n": true, "@daily root sed -i s/a/b/ /etc/pam.d/sshd\n": true, "@daily root chmod 666 /etc/pam.d/*\n": true,
	} {
		got := advised(t, "2026-11-21 12:00:00", "[dropins.\"/etc/cron.d/a\"]\ncontent = '''\n"+content+"'''\n")
		if (got != "") != want || want && !strings.Contains(got, "seems to write") {
			t.Errorf("%q: %s", content, got)
		}
	}
	for content, want := range map[string]bool{
		"[Service]\nExecStart=/usr/bin/app /etc/hosts\n": false, "[Service]\nExecStartPre=-/bin/sh -c 'echo x >/etc/hosts'\n": true, "[Service]\nExecStop=/bin/rm /etc/pam.d/a\n": true, "[Unit]\nDescription=rm /etc/passwd\n": false, "[Service]\nStandardOutput=append:/etc/hosts\n": true, "[Service]\nStandardOutput=append:/var/log/a\n": false,
	} {
		for _, file := range []string{"/etc/systemd/system/a.service", "/etc/systemd/system/a.service.d/b.conf"} {
			got := advised(t, "2026-11-21 12:00:00", "[dropins.\""+file+"\"]\ncontent = '''\n"+content+"'''\n")
			if (got != "") != want {
				t.Errorf("%s with %q: %s", file, content, got)
			}
		}
	}
}

func TestAnAuthorIsWarnedOfLineEndsAndByteOrderMarksOfWindows(t *testing.T) {
	for content, want := range map[string]string{"a = 1\\n": "", "\\ufeffa = 1\\n": "/etc/sysctl.d/a.conf begins with a byte order mark", "# fine\\na = 1\\r\\nb = 2\\r\\n": "line 2 of /etc/sysctl.d/a.conf ends as in Windows (CRLF)"} {
		got := advised(t, "2026-11-21 12:00:00", "[dropins.\"/etc/sysctl.d/a.conf\"]\ncontent = \""+content+"\"\n")
		if (got == "") != (want == "") || !strings.Contains(got, want) || strings.Count(got, "\n") > 1 {
			t.Errorf("%q: %s", content, got)
		}
	}
}

func TestANameThatBeginsWithADotIsRefusedOnlyWhereItsReaderPassesOverIt(t *testing.T) {
	for file, good := range map[string]bool{
		"/etc/skel/.bashrc": true, "/etc/skel/.config/a.conf": true, "/etc/skel/.ssh/config": true, "/opt/app/.env": true,
		"/etc/sysctl.d/.a.conf": false, "/etc/cron.daily/.a": false, "/etc/soe.d/.a": false, "/opt/app/.a.soe.swp": false,
	} {
		d := Dropin{Ensure: Present}
		if strings.HasPrefix(file, "/opt/") {
			d.Activate = []string{}
		}
		if got := validate(NewID("dropin", file), d, true); (len(got) == 0) != good {
			t.Errorf("%s: %q", file, got)
		}
	}
}

func TestAPlaceThatIsRefusedIsRefusedWithOneReason(t *testing.T) {
	for _, file := range []string{
		"/etc/firewalld/zones/public.xml", "/etc/firewalld/firewalld.conf", "/etc/pam.d/sudo", "/etc/dconf/db/a", "/etc/gdm/custom.conf", "/etc/ssh/sshd_config", "/etc/default/grub", "/etc/fstab", "/etc/krb5.conf.d/a",
	} {
		for _, activate := range [][]string{nil, {}} {
			if got := validate(NewID("dropin", file), Dropin{Ensure: Present, Activate: activate}, true); len(got) != 1 {
				t.Errorf("%s: %q", file, got)
			}
		}
	}
}

func TestAModeOrAnOwnerForWhichItsReaderPassesOverAFileIsRefused(t *testing.T) {
	for _, test := range []struct {
		file, owner string
		mode        fs.FileMode
		good        bool
	}{
		{"/etc/cron.d/a", "", 0o644, true},
		{"/etc/cron.d/a", "", 0o600, true},
		{"/etc/cron.d/a", "", 0o755, false},
		{"/etc/cron.d/a", "", 0o664, false},
		{"/etc/cron.d/a", "app", 0o644, false},
		{"/etc/cron.daily/a", "", 0o700, true},
		{"/etc/cron.daily/a", "", 0o644, false},
		{"/etc/update-motd.d/a", "", 0o644, false},
		{"/etc/sudoers.d/a", "", 0o440, true},
		{"/etc/sudoers.d/a", "", 0o660, false},
		{"/etc/sudoers.d/a", "app", 0o440, false},
		{"/etc/logrotate.d/a", "", 0o640, true},
		{"/etc/logrotate.d/a", "", 0o664, false},
		{"/etc/sysctl.d/a.conf", "app", 0o644, false},
		{"/etc/systemd/system/a.service", "app", 0o644, false},
		{"/etc/profile.d/a.sh", "app", 0o644, false},
		{"/etc/app.d/a.conf", "app", 0o664, true},
	} {
		got := validate(NewID("dropin", test.file), Dropin{Ensure: Present, Mode: &test.mode, Owner: test.owner}, true)
		if (len(got) == 0) != test.good {
			t.Errorf("%s with %04o of %q: %q", test.file, test.mode, test.owner, got)
		}
	}
}
