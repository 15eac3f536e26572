package policy

import (
	"fmt"
	"strings"
	"testing"
)

// What a policy may not say in [files], [dropins] and [directories] it may not have systemd-tmpfiles do either.
func TestALineOfTmpfilesDoesNothingThatNoSectionMay(t *testing.T) {
	for kind, lines := range map[string]string{
		"a name that is read otherwise": `f+ /etc/sudoe\rs.d/zz 0440 root root - user ALL=(ALL) NOPASSWD: ALL
f /etc/p\x61m.d/x
f /etc/\160am.d/x
\x66 /etc/pam.d/x
L+ /srv/x - - - - /\x65tc
f "/run/a" 0600` + "\r" + `f /etc/pam.d/x
f /etc/pam%W.d/x
f /%M/etc/pam.d/x
f /etc/p%v.d/x
f /srv/a/../../etc/pam.d/x`,
		"who gets in": `f /run/nologin 0644 root root - closed
f /var/run/nologin
f /etc/nologin
F /run/nologin.x
w /etc/login.defs - - - - x
z /etc/shells 0000
z /etc/passwd 0600
r /etc/shells
L+ /etc/login.defs - - - - /dev/null
r /etc/n*
f /run/sudo/ts/user
d /run/user 0700
z /run/dbus/system_bus_socket 0600
z /var/empty/sshd 0777
d /var/lib/sss 0700
r /var/lib/sss/db/x
R /var/lib/rpm
f /var/spool/cron/root - - - - * * * * * /x`,
		"the system's directories": `z / 0700 root root
z /etc 0700
z /usr 0700
z /var 0700
d /var/lib 0700
d /run 0700
z /run/systemd 0700
z /opt 0700
d /home 0700
d /root 0755
z /boot 0777
d /tmp 0700
d /tmp 1777 user root
z /var/tmp 0755
R /tmp
d /tmp 1777 root root 1s
e /var/tmp - - - 5min
z /*/ssh 0700
z /u* 0700
z /e*c/pam.d 0700
z /etc/ssh 0700
z /etc/profile.d 0700
z /etc/systemd 0700
z /usr/local 0700
z /usr/local/bin 0777
h /etc/sudoers +i`,
		"the system's programs and libraries": `z /usr/bin/sh 0700
z /bin/sh 0700
L+ /usr/bin/bash - - - - /bin/false
r /usr/bin/sudo
z /usr/bin/sudo 0755
z /usr/bin/bash 4755 root root
z /usr/bin/soe-agent 0777
f /usr/local/bin/sudo 0755
L /usr/local/sbin/su - - - - /srv/x
d /usr/local/bin 0755 user
f /etc/ld.so.preload - - - - /home/user/x.so
C /usr/lib/x - - - - /srv/x
t /opt/app/x - - - - security.capability=0sAQAAAgAgAAAAAAAAAAAAAAAAAAA=
z /opt/app/x 4755
z /srv/x 2755
f /usr/local/share/ca-certificates/x.crt
z /lib64/ld-linux-x86-64.so.2 0644`,
		"people's files": `R /home
e /home - - - 1s
d /home/user 0777
Z /home 0777
r /home/*/.bashrc
e /var - - - 1d
R /var/mail
r /tmp/.X11-unix
R /tmp/*
r /tmp/ssh-*`,
		"what root does": `z /etc/cron.d 0777
z /etc/cron.d 0770 root users
z /etc/cron.d 0755 user
z /etc/crontab 0660 root users
z /etc/crontab 0644 user
a+ /etc/crontab - - - - u:user:rw
d /etc/systemd/system 0777
f /etc/systemd/system/x.service
f /run/systemd/system/x.service
f /run/udev/rules.d/x.rules
f /run/tmpfiles.d/x.conf
f /run/sysctl.d/x.conf
f /etc/sysctl.d/x.conf
r /etc/sudoers.d/x
R /etc/cron.d
r /etc/cron.d/*
e /etc/cron.daily - - - 1d
f /etc/rc.local 0755
w /etc/*.conf - - - - x
z /run/docker.sock 0666
d /etc/app 0777
d /srv/app 0777`,
		"devices and the kernel": `c /srv/mem 0666 - - - 1:1
b+ /run/x/disk 0666 root root - 259:0
z /dev/sda 0666
w /proc/sys/kernel/core_pattern - - - - x
w /proc/sysrq-trigger - - - - b
w /sys/power/state - - - - mem
w /sys/class/net/eth0/device/remove - - - - 1
z /sys/kernel/mm/x/y 0666`,
		"AWS's": `R /opt/aws
Z /opt 0755
Z /opt/a* 0777
d /opt/amazon/ssm 0700
f /run/dcv/x
d /var/log/amazon/ssm 0777
e /var/log - - - 1d
d /var/lib/amazon/ssm 0700
R /var/lib/s*`,
	} {
		for line := range strings.SplitSeq(lines, "\n") {
			if got := Written("/etc/tmpfiles.d/a.conf", "d /run/app 0755 app app\n"+line+"\n"); !strings.HasPrefix(got, "line 2") {
				t.Errorf("%s: %q is taken: %q", kind, line, got)
			}
		}
	}
}

func TestALineOfTmpfilesMayDoWhatAPolicyMayDo(t *testing.T) {
	const lines = `d /run/app 0755 app app -
D! /run/app/cache 0700 app app
d /var/lib/app 2775 app app
q /var/lib/app-1.0 0750
d /var/cache/app 0755 - - 30d
e /var/log/app 0750 app adm 4w
f /var/log/app.log 0640 app app
z /var/log/app/*.log 0640
d /srv/share 1777
d /data/app 0750 app app 10d
d /opt/app/tmp 0755
d /mnt/share
L+ /opt/app/current - - - - /opt/app/1.2
L /srv/www - - - - /var/www
d /tmp 1777 root root 10d
q /var/tmp 1777 root root 30d
e /tmp - - - 12h
d /tmp/app 0700 app
r! /tmp/app.lock
R! /tmp/*
x /tmp/app-*
w /sys/kernel/mm/transparent_hugepage/enabled - - - - never
w /sys/block/nvme0n1/queue/scheduler - - - - none
d /etc/app 0750 root app
f /etc/app/app.conf 0640 root app - "a = \x62"
C /etc/app/templates - - - - /usr/share/app/templates
r /etc/app.rpmsave
r /etc/app/*.bak
z /etc/cron.d 0700 root root
z /etc/motd 0644 root root
d /usr/local/share/app 0755
d /run/users-app 0755
d /run/logger 0755
d /var/spool/app 0700 app app
a+ /var/log/app - - - - u:app:rwX
p /run/app/fifo 0600`
	for line := range strings.SplitSeq(lines, "\n") {
		if why := Written("/etc/tmpfiles.d/a.conf", line+"\n"); why != "" {
			t.Errorf("%q is refused: %s", line, why)
		}
	}
}

func TestALinkOfOneFileOfTmpfilesLeadsAnotherNowhereElse(t *testing.T) {
	for _, test := range []struct {
		one, other string
		good       bool
	}{
		{"L+ /srv/x - - - - /etc", "f /srv/x/pam.d/evil 0644", false},
		{"f /srv/x/pam.d/evil 0644", "L+ /srv/x - - - - ../etc", false},
		{"L+ /srv/x - - - - /srv/y\nL+ /srv/y - - - - /etc", "z /srv/x/ssh 0700", false},
		{"L+ /srv/x - - - - /etc/passwd", "z /srv/x 0600", false},
		{"L+ /srv/x - - - - /etc", "z /srv/*/pam.d 0700", false},
		{"L+ /srv/x - - - - /", "Z /srv/x 0700", false},
		{"L+ /srv/x - - - - /opt/app", "L+ /srv/x - - - - /etc", false},
		{"L+ /srv/x - - - - /etc", "r /srv/x", true},
		{"L+ /srv/x - - - - /opt/app", "d /srv/x/tmp 0700", true},
		{"L+ /srv/x - - - - /opt/app", "z /srv/y/*/tmp 0700", true},
	} {
		_, err := mergedOrNot(t, "[dropins.\"/etc/tmpfiles.d/a.conf\"]\ncontent = '''"+test.one+"\n'''\n[dropins.\"/etc/tmpfiles.d/b.conf\"]\ncontent = '''"+test.other+"\n'''\n")
		if (err == nil) != test.good {
			t.Errorf("%q and %q: %v", test.one, test.other, err)
		}
	}
}

func mergedOrNot(t *testing.T, toml string) (*Policy, error) {
	t.Helper()
	fragment, err := Parse(Source{Name: "a.toml", Text: "schema = 1\n" + toml})
	if err != nil {
		return nil, err
	}
	return Merge([]Fragment{fragment}, nil, nil)
}

func TestALineOfSysusersGivesNobodyRights(t *testing.T) {
	const refused = `u hacker 0
u hacker 0:0
u hacker 0x0 - /root /bin/bash
u hacker 00 - /root /bin/bash
u hacker 0000000000
u hacker 0b0
u hacker 0o0
u hacker 900:0
u hacker 900:0x0
u hacker 900:10
u hacker 900:012
u hacker 900:root
u hacker -:wheel
u hacker 900:docker
u! hacker 900:sudo
u hacker /etc/passwd
u hacker /root
g hackers 0x0
g hackers 00
g hackers /etc/shadow
m user wheel
m user libvirt
m user lxd
m user whe%Wel
m user whe\x65l
u root 0
u r\x6fot 0
u ec2-user 500
g pcoip -
m root users`
	for line := range strings.SplitSeq(refused, "\n") {
		if got := Written("/etc/sysusers.d/a.conf", line+"\n"); !strings.HasPrefix(got, "line 1 ") {
			t.Errorf("%q is taken: %q", line, got)
		}
	}
	const free = "u app - \"The app\" /var/lib/app\ng app 480\nm app video\nr - 500-900\nu app2 480:480\nu app3 -:app\nu! app4 - - - -\nu app5 100\n"
	for line := range strings.Lines(free) {
		if why := Written("/etc/sysusers.d/a.conf", line); why != "" {
			t.Errorf("%q is refused: %s", line, why)
		}
	}
}

func TestSysusersPutsNobodyIntoAGroupOfWhichSudoDecides(t *testing.T) {
	for line, good := range map[string]bool{
		"m user soe-admins": false, "m user vboxusers": false, "u user 900:soe-admins": false, "u user -:vboxusers": false,
		"m user video": true, "u user 900:staff": true,
	} {
		_, err := mergedOrNot(t, "[sudo]\nallow = [\"root\", \"%soe-admins\"]\nroot_groups = [\"vboxusers\"]\n"+
			fmt.Sprintf("[dropins.\"/etc/sysusers.d/x.conf\"]\ncontent = \"%s\\n\"\n", line))
		if (err == nil) != good {
			t.Errorf("%q: %v", line, err)
		}
	}
}
