package e2e

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/test/box"
)

func TestTheRunningDaemonMendsDriftOfEveryKindAndCallsItCorrective(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t)
	fragments := w.fleetPolicy()
	fragments["40-files"] = "schema = 1\n[files.\"/etc/crontab\"]\nowner = \"root\"\nmode = \"at most 0600\"\n[files.\"/etc/motd\"]\ncontent = \"ours\\n\"\n[files.\"/etc/cron.deny\"]\nensure = \"absent\"\n[files.\"/etc/shells\"]\nabsent_lines = [\"/usr/sbin/nologin\"]\n"
	fragments["50-mounts"] = "schema = 1\n[mounts.\"/dev/shm\"]\noptions = [\"nodev\", \"noexec\"]\n"
	fragments["60-ageing"] = "schema = 1\n[ageing.people]\nmax_days = 365\n"
	w.bootWith(t, 1, fragments)
	for _, drift := range []struct {
		name  string
		harm  string // breaks it
		check string // holds when it is mended
		id    policy.ID
	}{
		{
			"the content of a drop-in", "echo x > /etc/modprobe.d/soe-01.conf",
			"grep -qx '# managed, number 1' /etc/modprobe.d/soe-01.conf", "dropin/etc/modprobe.d/soe-01.conf",
		},
		{
			"its mode", "chmod 666 /etc/modprobe.d/soe-04.conf",
			"[ $(stat -c %a /etc/modprobe.d/soe-04.conf) = 644 ]", "dropin/etc/modprobe.d/soe-04.conf",
		},
		{
			"its owner", "chown user /etc/modprobe.d/soe-07.conf",
			"[ $(stat -c %U /etc/modprobe.d/soe-07.conf) = root ]", "dropin/etc/modprobe.d/soe-07.conf",
		},
		{
			"deletion", "rm /etc/profile.d/soe-00.sh",
			"[ -f /etc/profile.d/soe-00.sh ]", "dropin/etc/profile.d/soe-00.sh",
		},
		{
			"a rename over it", "echo evil > /etc/profile.d/.tmp && mv /etc/profile.d/.tmp /etc/profile.d/soe-03.sh",
			"grep -qx '# managed, number 3' /etc/profile.d/soe-03.sh", "dropin/etc/profile.d/soe-03.sh",
		},
		{
			"the mode of a file that a package has brought", "chmod 666 /etc/crontab",
			"[ $(stat -c %a /etc/crontab) = 600 ]", "file/etc/crontab",
		},
		{
			"its owner, and another file under its name", "cp /etc/crontab /etc/crontab.new; chown user /etc/crontab.new; mv /etc/crontab.new /etc/crontab",
			"[ \"$(stat -c '%a %U' /etc/crontab)\" = '600 root' ]", "file/etc/crontab",
		},
		{
			"the content of a file that is no drop-in", "echo theirs > /etc/motd", "grep -qx ours /etc/motd", "file/etc/motd",
		},
		{
			"a link in its place", "ln -sf /etc/passwd /etc/motd", "[ ! -L /etc/motd ] && grep -qx ours /etc/motd", "file/etc/motd",
		},
		{
			"a file that is not to be there", "echo ann > /etc/cron.deny", "[ ! -e /etc/cron.deny ]", "file/etc/cron.deny",
		},
		{
			"a line that is not to be there", "echo /usr/sbin/nologin >> /etc/shells", "! grep -q nologin /etc/shells", "file/etc/shells",
		},
		{
			"a mount that is remounted", "mount -o remount,exec /dev/shm", "findmnt -no OPTIONS /dev/shm | grep -w noexec", "mount/dev/shm",
		},
		{
			"its line of fstab", "sed -i s/noexec/exec/ /etc/fstab", "grep -q '/dev/shm.*,noexec' /etc/fstab", "mount/dev/shm",
		},
		{
			"a stray sudoers file that sorts last", "echo 'user ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/zzzz; chmod 440 /etc/sudoers.d/zzzz",
			"! sudo -l -U user /usr/bin/id", "sudo/allow",
		},
		{
			"a removed package", "rpm -e soe-pkg-05",
			"rpm -q soe-pkg-05", "package/soe-pkg-05",
		},
		{
			"a changed dconf database", "printf '[org/mate/screensaver]\\nlock-enabled=false\\n' > /etc/dconf/db/soe.d/99-mine && dconf update",
			"[ $(runuser -u user -- gsettings get org.mate.screensaver lock-enabled) = true ]", "dconf/database",
		},
		{
			"a sudo file that grants again", "echo '#1000 ALL=(ALL:ALL) ALL' > /etc/sudoers.d/01-ws-admin-user",
			"! sudo -l -U user /usr/bin/id && ! grep -q '^#1000' /etc/sudoers.d/01-ws-admin-user", "sudo/allow",
		},
		{
			// The agent may be faster than systemctl, which then says that its job was cancelled.
			"a stopped service", "systemctl stop soe-service || true",
			"systemctl is-active soe-service", "service/soe-service.service",
		},
		{
			"a stopped service, the bus restarted", "systemctl kill --signal=KILL dbus.service; systemctl stop soe-service || true",
			"systemctl is-active soe-service", "service/soe-service.service",
		},
		{
			"a time zone set over the bus", "timedatectl set-timezone Asia/Tokyo",
			"[ $(readlink -f /etc/localtime) = /usr/share/zoneinfo/Europe/Berlin ]", "system/timezone",
		},
		{
			"a PCoIP setting", "sed -i 's/server_clipboard_state = 0/server_clipboard_state = 1/' " + box.PCoIPConf,
			"grep -qx 'pcoip.server_clipboard_state = 0' " + box.PCoIPConf, "pcoip/server_clipboard_state",
		},
		{
			"a password that lasts for ever", "useradd lasting && echo lasting:x | chpasswd",
			"[ $(getent shadow lasting | cut -d: -f5) = 365 ]", "ageing/people",
		},
		{
			"an account that somebody removed", "userdel soe-scan",
			"[ $(id -u soe-scan) = 510 ]", "user/soe-scan",
		},
	} {
		t.Run(drift.name, func(t *testing.T) {
			before := time.Now()
			w.MustExec(t, "sh", "-c", drift.harm)
			r := w.mended(t, drift.id, before)
			if w.fails(t, "sh", "-c", drift.check) {
				t.Errorf("the report says that it is mended, and it is not: %+v", r)
			}
			if r.Cause != converge.Corrective {
				t.Errorf("it is called %s drift", r.Cause)
			}
		})
	}
	t.Run("at once", func(t *testing.T) {
		var took []time.Duration
		for i := 9; i < 36; i += 3 {
			name := fmt.Sprintf("/etc/profile.d/soe-%02d.sh", i)
			start := time.Now()
			w.MustWriteFile(t, name, box.File{Content: "x"})
			w.until(t, name+" is mended", func() bool {
				content, err := w.ReadFile(name)
				return err == nil && content == fmt.Sprintf("# managed, number %d\n", i)
			})
			took = append(took, time.Since(start))
		}
		if slices.Max(took) > soon {
			t.Errorf("it took %v", took)
		}
	})
}

// What a package brings is held to the policy at once.
func TestAPackageThatBringsASudoersFileGrantsNobodyAnything(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t)
	fragments := w.fleetPolicy()
	w.bootWith(t, 1, fragments)
	fragments["30-more"] = "schema = 1\n[packages]\nsoe-sudoers = \"present\"\n"
	w.publish(t, 2, fragments)
	w.converged(t, 2)
	w.MustExec(t, "rpm", "-q", "soe-sudoers")
	if !w.fails(t, "sudo", "-l", "-U", box.DesktopUser, "/usr/bin/id") {
		t.Error("the desktop user has sudo")
	}
}
