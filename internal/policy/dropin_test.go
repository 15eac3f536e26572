package policy

import (
	"strings"
	"testing"
)

func TestANameThatItsReaderPassesOverIsRefused(t *testing.T) {
	for file, good := range map[string]bool{
		"/etc/sysctl.d/60": false, "/etc/sysctl.d/60.conf": true, "/etc/modprobe.d/a.conf.off": false,
		"/etc/tmpfiles.d/a": false, "/etc/profile.d/a": false, "/etc/profile.d/a.csh": true,
		"/etc/sudoers.d/a.conf": false, "/etc/sudoers.d/a~": false, "/etc/sudoers.d/60-a": true,
		"/etc/cron.d/a.rpmsave": false, "/etc/cron.d/a~": false, "/etc/cron.d/a_b-1": true, "/etc/cron.d/a.cron": true, "/etc/cron.d/#a": false,
		"/etc/cron.daily/a.sh": true, "/etc/cron.daily/a,v": false, "/etc/cron.hourly/a.cfsaved": false,
		"/etc/update-motd.d/a.sh": false, "/etc/logrotate.d/a.rpmnew": false, "/etc/logrotate.d/a.conf": true,
		"/etc/yum.repos.d/a.conf": false, "/etc/udev/rules.d/a.rule": false, "/etc/polkit-1/rules.d/a.rules": true,
		"/etc/audit/rules.d/a.conf": false, "/etc/xdg/autostart/a.sh": false,
		"/etc/firefox/policies/a.json": false, "/etc/opt/chrome/policies/managed/a.txt": false,
		"/etc/pki/ca-trust/source/anchors/a.der": false, "/usr/local/share/ca-certificates/a.pem": false,
		"/etc/systemd/system/a.service": true, "/etc/systemd/system/a": false, "/etc/systemd/system/a.service.d/b": false,
		"/etc/systemd/journald.conf.d/b": false, "/etc/unheard-of.d/a": true,
	} {
		messages := validate(NewID("dropin", file), Dropin{Ensure: Present}, true)
		if (len(messages) == 0) != good {
			t.Errorf("%s: %q", file, messages)
		}
		if messages := validate(NewID("dropin", file), Dropin{Ensure: Absent}, true); len(messages) > 0 {
			t.Errorf("%s cannot be removed: %q", file, messages)
		}
	}
}

func TestAPlaceThatIsNotForDropinsIsRefusedWithTheReason(t *testing.T) {
	for file, want := range map[string]string{
		"/etc/dconf/db/local.d/00-site": "[dconf]", "/etc/dconf/profile/user": "[dconf]",
		"/etc/X11/xorg.conf.d/10.conf": "streaming agent", "/etc/krb5.conf.d/a": "log in",
		"/etc/pam.d/a.d/b": "protected", "/etc/NetworkManager/conf.d/a.conf": "protected",
		"/etc/cloud/cloud.cfg.d/a.cfg": "protected", "/etc/sssd/conf.d/a.conf": "protected",
		"/etc/dracut.conf.d/a.conf": "hibernated", "/etc/default/grub.d/a.cfg": "hibernated",
		"/etc/sysconfig/sshd": "command line", "/etc/sysconfig/sshd-permitrootlogin": "command line", "/etc/default/ssh": "command line",
		"/etc/sysconfig/sssd": "log in", "/etc/sysconfig/network": "its network", "/etc/sysconfig/iptables-config": "[firewall]",
		"/etc/sysconfig/nftables.conf": "[firewall]", "/etc/sysconfig/selinux": "[system]",
	} {
		for _, ensure := range []Ensure{Present, Absent} {
			if got := strings.Join(validate(NewID("dropin", file), Dropin{Ensure: ensure}, true), "\n"); !strings.Contains(got, want) {
				t.Errorf("%s: %q", file, got)
			}
		}
	}
}

func TestADirectoryWhoseReaderIsNotKnownNeedsAnActivation(t *testing.T) {
	for _, test := range []struct {
		file     string
		activate []string
		want     string
	}{
		{"/etc/chrony.conf", nil, "not a place"},
		{"/etc/chrony/sources/a.sources", nil, "activate = []"},
		{"/etc/chrony/sources/a.sources", []string{}, ""},
		{"/etc/chrony/sources/a.sources", []string{"/usr/bin/chronyc", "reload", "sources"}, ""},
		{"/etc/chrony/sources/a.sources", []string{"chronyc"}, "absolute path"},
		{"/opt/app/conf/a.ini", []string{}, ""},
		{"/etc/app.d/a", []string{"/usr/bin/app", "reload"}, ""},
		{"/etc/app.d/a", []string{"/usr/bin/systemctl", "try-restart", "lightdm"}, "logged in"},
		{"/etc/app.d/a", []string{"/usr/bin/systemctl", "isolate", "rescue.target"}, "logged in"},
		{"/etc/app.d/a", []string{"/usr/bin/systemctl", "reboot"}, "logged in"},
		{"/etc/app.d/a", []string{"/usr/bin/app", "reboot.target"}, ""},
		{"/etc/app.d/a", []string{"/usr/bin/systemctl", "try-restart", "app"}, ""},
		{"/etc/app.d/a", nil, ""},
		{"/etc/ld.so.preload", []string{}, "not a place"},
		{"/boot/loader/entries/a.conf", []string{}, "not a place"},
		{"/root/.config/a", []string{}, "not a place"},
		{"/etc/pam.d/sudo", []string{}, "protected"},
		{"/etc/default/grub", []string{}, "hibernated"},
		{"/etc/ssh/ssh_host_rsa_key", []string{}, "keys of this one machine"},
		{"/etc/X11/xorg.conf", []string{}, "streaming agent"},
		{"/etc/selinux/config", []string{}, "starting"},
		{"/etc/gdm/custom.conf", []string{}, "session"},
	} {
		for _, ensure := range []Ensure{Present, Absent} {
			got := validate(NewID("dropin", test.file), Dropin{Ensure: ensure, Activate: test.activate}, true)
			if (len(got) == 0) != (test.want == "") || !strings.Contains(strings.Join(got, "\n"), test.want) {
				t.Errorf("%s with %q: %q", test.file, test.activate, got)
			}
		}
	}
}

func TestAnActivationThatIsLeftOutIsNotAnEmptyOne(t *testing.T) {
	const toml = "schema = 1\n[dropins.\"/etc/app.d/a\"]\ncontent = \"\"\n[dropins.\"/etc/app/a\"]\ncontent = \"\"\nactivate = []\n"
	fragment, err := Parse(Source{Name: "a.toml", Text: toml})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range fragment.Settings {
		if activate := s.Spec.(Dropin).Activate; (activate == nil) != (s.ID == "dropin/etc/app.d/a") {
			t.Errorf("%s: %#v", s.ID, activate)
		}
	}
}

func TestADirectoryThatOthersNeedIsNotPurged(t *testing.T) {
	for dir, want := range map[string]string{
		"/etc/sysctl.d": "", "/etc/xdg/autostart": "", "/etc/cron.daily": "", "/usr/local/etc/app.d": "",
		"/etc": "not a directory of drop-ins", "/etc/pcoip-agent": "not a directory", "/var/spool/x.d": "below /etc", "/etc/x.d/": "clean", "/etc/a\n.d": "clean",
		"/etc/sudoers.d": "[sudo]", "/etc/polkit-1/rules.d": "[sudo]", "/etc/polkit-1/localauthority.conf.d": "[sudo]",
		"/etc/yum.repos.d": "[repositories]", "/etc/apt/sources.list.d": "[repositories]", "/etc/pki/rpm-gpg": "keys",
		"/etc/systemd/system": "enabled", "/etc/systemd/system/a.service.d": "AWS", "/etc/init.d": "starts", "/etc/rc3.d": "starts",
		"/etc/rc.d/rc3.d": "starts", "/etc/grub.d": "starts", "/etc/ssh/sshd_config.d": "log in",
		"/etc/pam.d": "protected", "/etc/dconf/db/local.d": "[dconf]", "/etc/X11/xorg.conf.d": "session", "/etc/dracut.conf.d": "hibernated",
	} {
		got := strings.Join(validate(NewID("dropin", dir), Directory{Purge: true}, true), "\n")
		if (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("%q: %q, want %q", dir, got, want)
		}
	}
}

func TestWhatKeepsEverybodyOutOfSSHIsRefusedInADropinAsInTheFile(t *testing.T) {
	const file = "/etc/ssh/sshd_config.d/50-soe.conf"
	for content, want := range map[string]string{
		"PerSourceMaxStartups 0\n":                              "line 1: the key persourcemaxstartups cannot be so: it is less than 2",
		"X11Forwarding no\n\tciphers = \"-*\"\n":                "line 2: the key ciphers cannot be so",
		"Match Address *\nPermitRootLogin forced-commands-only": "line 2: the key permitrootlogin",
		"\"Match\" all\nKEXALGORITHMS=-*\n":                     "line 2: the key kexalgorithms",
		"HostbasedAuthentication yes\r\n":                       "line 1: the key hostbasedauthentication",
		"LoginGraceTime 1s\n":                                   "too short to type",
		"LoginGraceTime {{resolve:ssm:/x}}\n":                   "",
		"LoginGraceTime 60\nMatch all\nX11Forwarding no\n":      "",
	} {
		got := strings.Join(validate(NewID("dropin", file), Dropin{Ensure: Present, Content: content}, false), "\n")
		if want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("of %q it is said %q", content, got)
		}
		if got := validate(NewID("dropin", file), Dropin{Ensure: Absent, Content: content}, false); len(got) > 0 {
			t.Errorf("%q cannot be removed: %q", content, got)
		}
	}
	if got := validate(NewID("dropin", "/etc/ssh/ssh_config.d/x.conf"), Dropin{Ensure: Present, Content: "Ciphers -*\n"}, false); len(got) > 0 {
		t.Errorf("of what ssh reads it is said %q", got)
	}
}
