package policy

import (
	"strings"
	"testing"
)

func TestWhatIsAddedToANeededUnitCanNeitherKeepItFromStartingNorEndIt(t *testing.T) {
	const stops = "[Service]\nExecStart=\nExecStart=/bin/false\n"
	for file, content := range map[string]string{
		"/etc/systemd/system/pcoip-.service.d/x.conf":                  stops,
		"/etc/systemd/system/amazon-ssm-.service.d/x.conf":             stops,
		"/etc/systemd/system/amazon-.service.d/x.conf":                 stops,
		"/etc/systemd/system/amazon-ssm-agent.service.d/x.conf":        stops,
		"/etc/systemd/system/systemd-.service.d/x.conf":                stops,
		"/etc/systemd/system/systemd-.socket.d/x.conf":                 "[Socket]\nListenStream=\n",
		"/etc/systemd/system/service.d/x.conf":                         "[Service]\nExecStartPre=/bin/false\n",
		"/etc/systemd/system/target.d/x.conf":                          "[Unit]\nConditionPathExists=/none\n",
		"/etc/systemd/system/mount.d/x.conf":                           "[Mount]\nOptions=ro\n",
		"/etc/systemd/system/scope.d/x.conf":                           "[Scope]\nRuntimeMaxSec=1\n",
		"/etc/systemd/system/slice.d/x.conf":                           "[Slice]\nMemoryMax=1M\n",
		"/etc/systemd/system/session-.scope.d/x.conf":                  "[Scope]\nRuntimeMaxSec=1\n",
		"/etc/systemd/system/session-3.scope.d/x.conf":                 "[Scope]\nRuntimeMaxSec=1\n",
		"/etc/systemd/system/user-.slice.d/x.conf":                     "[Slice]\nTasksMax=1\n",
		"/etc/systemd/system/user-1000.slice.d/x.conf":                 "[Slice]\nCPUQuota=1%\n",
		"/etc/systemd/system/user.slice.d/x.conf":                      "[Slice]\nMemoryMax=100M\n",
		"/etc/systemd/system/system.slice.d/x.conf":                    "[Slice]\nMemoryMax=100M\n",
		"/etc/systemd/system/-.slice.d/x.conf":                         "[Slice]\nMemoryMax=100M\n",
		"/etc/systemd/system/display-manager.service.d/x.conf":         stops,
		"/etc/systemd/system/gdm.service.d/x.conf":                     "[Unit]\nConditionPathExists=/none\n",
		"/etc/systemd/system/lightdm.service.d/x.conf":                 "[Service]\nEnvironment=LD_PRELOAD=/srv/x.so\n",
		"/etc/systemd/system/user@.service.d/x.conf":                   stops,
		"/etc/systemd/system/user@1000.service.d/x.conf":               stops,
		"/etc/systemd/system/user-runtime-dir@.service.d/x.conf":       stops,
		"/etc/systemd/system/user-.service.d/x.conf":                   stops,
		"/etc/systemd/system/dbus.service.d/x.conf":                    "[Service]\nMemoryMax=1K\n",
		"/etc/systemd/system/dbus.socket.d/x.conf":                     "[Socket]\nListenStream=\n",
		"/etc/systemd/system/systemd-logind.service.d/x.conf":          "[Service]\nRuntimeMaxSec=5\n",
		"/etc/systemd/system/NetworkManager.service.d/x.conf":          "[Service]\nUser=nobody\n",
		"/etc/systemd/system/network-manager.service.d/x.conf":         stops,
		"/etc/systemd/system/systemd-remount-fs.service.d/x.conf":      stops,
		"/etc/systemd/system/systemd-sysctl.service.d/x.conf":          stops,
		"/etc/systemd/system/local-fs.target.d/x.conf":                 "[Unit]\nRequires=none.service\n",
		"/etc/systemd/system/multi-user.target.d/x.conf":               "[Unit]\nRequires=none.service\n",
		"/etc/systemd/system/home-.mount.d/x.conf":                     "[Mount]\nOptions=noexec\n",
		"/etc/systemd/system/snap-.mount.d/x.conf":                     "[Mount]\nOptions=noexec\n",
		"/etc/systemd/system.control/pcoip-agent.service.d/x.conf":     stops,
		"/etc/systemd/system.control/user-1000.slice.d/x.conf":         "[Slice]\nTasksMax=1\n",
		"/etc/systemd/system.attached/sssd.service.d/x.conf":           stops,
		"/etc/systemd/system.attached/service.d/x.conf":                stops,
		"/run/systemd/transient/session-.scope.d/x.conf":               "[Scope]\nRuntimeMaxSec=1\n",
		"/usr/local/lib/systemd/system/xdcv-.service.d/x.conf":         stops,
		"/usr/local/lib/systemd/system/polkit.service.d/x.conf":        stops,
		"/etc/systemd/user/gnome-.service.d/x.conf":                    stops,
		"/etc/systemd/user/gnome-session-.target.d/x.conf":             stops,
		"/etc/systemd/user/service.d/x.conf":                           stops,
		"/etc/systemd/user/dbus.service.d/x.conf":                      stops,
		"/etc/systemd/system/polkit.service.d/continued.conf":          "[Service]\nEnvironment=TZ=UTC \\\nLD_PRELOAD=/x\n",
		"/etc/systemd/system/polkit.service.d/blank.conf":              "[Service]\nEnvironment=\n",
		"/etc/systemd/system/polkit.service.d/return.conf":             "[Service]\nNice=1\rExecStart=/bin/false\n",
		"/etc/systemd/system/polkit.service.d/no-section.conf":         "ExecStart=/bin/false\n",
		"/etc/systemd/system/systemd-journald.service.d/60-store.conf": "[Service]\nExecStart=/bin/true\n",
	} {
		if got := validate(NewID("dropin", file), Dropin{Ensure: Present, Content: content, Activate: []string{}}, true); len(got) == 0 {
			t.Errorf("%s is taken with %q", file, content)
		}
	}
}

func TestWhatStopsNothingMayBeAddedToManyUnits(t *testing.T) {
	for file, content := range map[string]string{
		"/etc/systemd/system/amazon-ssm-agent.service.d/proxy.conf": "[Service]\nEnvironment=\"http_proxy=http://p:3128\" \"HTTPS_PROXY=http://p:3128\"\nEnvironment=no_proxy=169.254.169.254\n",
		"/etc/systemd/system/service.d/x.conf":                      "[Unit]\nOnFailure=tell@%n.service\n[Service]\nIOAccounting=yes\n",
		"/etc/systemd/system/user-.slice.d/x.conf":                  "[Slice]\nMemoryMax=80%\nTasksMax=10000\nCPUQuota=200%\n",
		"/etc/systemd/system/user@.service.d/x.conf":                "# more files\n[Service]\nLimitNOFILE=1048576\nTasksMax=infinity\n",
		"/etc/systemd/system/gdm.service.d/x.conf":                  "[Service]\nRestart=always\nRestartSec=5s\nOOMScoreAdjust=-900\n",
		"/etc/systemd/system/rescue.service.d/x.conf":               "[Service]\nExecStart=\nExecStart=-/usr/sbin/sulogin\n",
		"/etc/systemd/system/cups.service.d/x.conf":                 "[Service]\nExecStart=\nExecStart=/bin/false\n",
		"/etc/systemd/system/app-.service.d/x.conf":                 "[Service]\nRuntimeMaxSec=1\n",
		"/etc/systemd/system/app@.service.d/x.conf":                 "[Service]\nRuntimeMaxSec=1\n",
		"/etc/systemd/system/systemd-timesyncd.service.d/x.conf":    "[Service]\nExecStartPre=/bin/true\n",
		"/etc/systemd/system/app.service":                           "[Unit]\nConflicts=shutdown.target sendmail.service\nWants=network-online.target\n[Install]\nWantedBy=multi-user.target\nAlias=theapp.service\n",
	} {
		if got := validate(NewID("dropin", file), Dropin{Ensure: Present, Content: content}, true); len(got) > 0 {
			t.Errorf("%s is refused with %q: %q", file, content, got)
		}
	}
}

func TestAUnitTakesNothingAwayFromOneThatIsNeeded(t *testing.T) {
	for _, line := range []string{
		"[Unit]\nConflicts=pcoip.service", "[Unit]\nConflicts=a.service \\\n graphical.target", "[Unit]\nPropagatesStopTo=dbus.service",
		"[Install]\nAlias=display-manager.service", "[Install]\nAlias=sssd.service", "[Install]\nRequiredBy=sysinit.target",
		"[Unit]\nWants=poweroff.target", "[Unit]\nOnFailure=reboot.target", "[Unit]\nOnSuccess=runlevel6.target", "[Unit]\nRequires=rescue.target",
		"[Unit]\nFailureAction=reboot", "[Unit]\nSuccessAction=poweroff-force", "[Unit]\nOnFailureJobMode=isolate", "[Timer]\nUnit=reboot.target",
	} {
		for _, file := range []string{"/etc/systemd/system/app.service", "/etc/systemd/system/app.service.d/x.conf"} {
			if got := Written(file, line+"\n"); !strings.HasPrefix(got, "line ") {
				t.Errorf("%s may say %q", file, line)
			}
		}
	}
}

func TestWhatTheMachineStartsByIsNotMasked(t *testing.T) {
	yes, no := true, false
	for unit := range strings.FieldsSeq(`systemd-remount-fs.service user@.service user@1000.service user-runtime-dir@.service user-runtime-dir@1000.service systemd-tmpfiles-setup.service
		systemd-tmpfiles-setup-dev.service sockets.target local-fs-pre.target systemd-udev-trigger.service systemd-udev-settle.service sssd-pam.socket sssd-nss.socket dcvd.service
		run.mount var-log.mount boot.mount boot-efi.mount home.mount usr-share.mount dev.mount sysinit.target basic.target swap.target remote-fs.target reboot.target poweroff.target
		shutdown.target systemd-reboot.service systemd-poweroff.service kmod-static-nodes.service systemd-sysctl.service systemd-sysusers.service systemd-modules-load.service
		systemd-fsck@.service systemd-fsck-root.service systemd-journal-flush.service systemd-journald-dev-log.socket systemd-logind.service systemd-userwork.service
		udev.service user-1000.slice user-.slice system-getty.slice dbus.socket timers.target paths.target cloud-init.target modprobe@.service emergency.target`) {
		for _, spec := range []Service{{Masked: &yes}, {Enabled: &no}} {
			if got := validate(NewID("service", unit), spec, true); len(got) == 0 {
				t.Errorf("%s may be taken away: %+v", unit, spec)
			}
		}
	}
	for unit := range strings.FieldsSeq(`ctrl-alt-del.target sleep.target suspend.target bluetooth.target printer.target debug-shell.service systemd-coredump.socket tmp.mount dev-hugepages.mount
		systemd-timesyncd.service systemd-journal-remote.socket systemd-rfkill.service rpcbind.socket autofs.service data.mount srv-share.mount getty@tty2.service app.slice app.target`) {
		if got := validate(NewID("service", unit), Service{Masked: &yes}, true); len(got) > 0 {
			t.Errorf("%s: %q", unit, got)
		}
	}
}

func TestAHomeIsNowhereWhereTheSystemSudoOrAWSHasItsOwn(t *testing.T) {
	for home := range strings.FieldsSeq(`/opt/amazon/ssm /opt/amazon /opt/aws/x /opt/aws /opt/pcoip/x /opt/nice-dcv/x /var/lib/sudo/x /var/lib/sudo /var/lib/dpkg/x /var/lib/sss/x
		/var/lib/rpm/x /var/lib/snapd/x /var/lib/amazon /var/lib/systemd/x /var/lib/gdm3/x /var/lib/NetworkManager/x /var/lib/dnf/x /var/spool/cron/x /var/spool/cron
		/var/empty/x /var/mail/x /snap/x /efi/x /lost+found/x / /etc/x /run/x /var/log/x`) {
		if got := validate(NewID("user", "h"), User{Ensure: Present, Home: home}, true); len(got) == 0 {
			t.Errorf("%s may be a home", home)
		}
	}
	for home := range strings.FieldsSeq("/home/h /srv/h /opt/h /var/lib/backup /var/lib/sudoku /var/lib/app/h /var/spool/app /data/h /var/www/h /mnt/h") {
		if got := validate(NewID("user", "h"), User{Ensure: Present, Home: home}, true); len(got) > 0 {
			t.Errorf("%s: %q", home, got)
		}
	}
}
