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
		"/etc/cron.d/a.rpmsave": false, "/etc/cron.d/a~": false, "/etc/cron.d/a_b-1": true, "/etc/cron.daily/a.sh": false,
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
		"/etc/dracut.conf.d/a.conf": "hibernated",
	} {
		for _, ensure := range []Ensure{Present, Absent} {
			if got := strings.Join(validate(NewID("dropin", file), Dropin{Ensure: ensure}, true), "\n"); !strings.Contains(got, want) {
				t.Errorf("%s: %q", file, got)
			}
		}
	}
}
