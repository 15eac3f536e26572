package protected

import (
	"fmt"
	"net/netip"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
)

func families() map[string]family {
	return map[string]family{"amzn": amzn, "rhel": rhel, "debian": debian}
}

// table are all entries of a kind.
func table(kind string) (all []entry) {
	of := func(cs []component) {
		for _, c := range cs {
			all = append(all, c.entry)
		}
	}
	switch kind {
	case "unit":
		of(theirs())
		of(needed())
	case "package":
		of(packages())
	case "account", "group":
		for _, a := range accounts() {
			all = append(all, a.entry)
		}
	case "file":
		all = files()
	}
	return all
}

// lines are the lines of a file of testdata, in fields.
func lines(t *testing.T, name string, fields int) (all [][]string) {
	t.Helper()
	content, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(content)) {
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		parts := strings.Split(line, " | ")
		if len(parts) != fields {
			t.Fatalf("%s: %q", name, line)
		}
		all = append(all, parts)
	}
	return all
}

func TestWhatEachFamilyNeedsIsProtectedByItsOwnNames(t *testing.T) {
	needs := lines(t, "needed.txt", 3)
	for _, line := range lines(t, "required.txt", 2) {
		needs = append(needs, []string{map[string]string{"Amazon Linux 2": "amzn", "Rocky & RHEL": "rhel", "Ubuntu": "debian"}[line[0]], "file", line[1]})
	}
	seen := map[string]int{}
	why := map[string]func(string) string{"unit": Service, "package": Package, "account": Account, "group": Group, "file": Path}
	for _, need := range needs {
		of, kind, name := need[0], need[1], need[2]
		seen[of+" "+kind]++
		asked := name
		if strings.HasSuffix(name, "/etc/pcoip-agent") {
			asked += "/any"
		}
		if why[kind](asked) == "" {
			t.Errorf("on %s the %s %s is not protected", of, kind, name)
		}
		covered := slices.ContainsFunc(table(kind), func(e entry) bool {
			switch {
			case e.of&families()[of] == 0:
				return false
			case kind == "file":
				return e.holds(merged(path.Clean(asked)))
			case kind == "unit":
				return e.covers(stem(name)) || e.covers(name)
			}
			return e.covers(name)
		})
		if !covered {
			t.Errorf("no entry of %s has the %s %s", of, kind, name)
		}
	}
	for of := range families() {
		for _, kind := range []string{"unit", "package", "account", "group", "file"} {
			if seen[of+" "+kind] == 0 {
				t.Errorf("the list names no %s of %s", kind, of)
			}
		}
	}
}

func TestEveryEntrySaysWhoseItIsAndWhyItIsThere(t *testing.T) {
	var all []entry
	for _, kind := range []string{"unit", "package", "account", "file"} {
		all = append(all, table(kind)...)
	}
	for _, e := range append(all, sessionUnits()...) {
		if e.of == 0 || e.why == "" || e.source == "" || len(strings.Fields(e.names)) == 0 {
			t.Errorf("%+v", e)
		}
		for name := range strings.FieldsSeq(e.names) {
			if _, err := path.Match(name, ""); err != nil || strings.HasPrefix(name, "*") {
				t.Errorf("%q means nothing, or everything", name)
			}
			if strings.HasPrefix(name, "/") && merged(path.Clean(name)) != name {
				t.Errorf("%s is asked for by another name", name)
			}
		}
	}
}

// What a policy may say today it may say tomorrow: names that are near to protected ones, and free.
func TestWhatNobodyNeedsToReachTheDesktopStaysFree(t *testing.T) {
	for kind, free := range map[string]struct {
		why   func(string) string
		names string
	}{
		"package": {Package, `firefox thunderbird gnome-shell-extension-dash-to-dock gnome-session-wayland-session gnome-terminal gnome-software dconf-editor nautilus
			polkit-pkla-compat polkitd-pkla rpm-build yum-cron dnf-automatic unattended-upgrades needrestart apt-listchanges chrony ntp systemd-timesyncd
			systemd-journal-remote systemd-container linux-headers-aws kernel-devel kernel-tools dhcp bind nfs-utils rpcbind postfix telnet avahi bluez
			firewalld ufw mcstrans setroubleshoot selinux-policy-devel openssh-server adsys ubuntu-desktop xserver-xephyr util-linux-user
			network-manager-openvpn xinetd cups samb audit rsyslog docker`},
		"unit": {Service, `sshd.service ssh.service ssh.socket sshd@.service cups.service cups.socket smb.service nmb.service smbd.service firewalld.service ufw.service
			chronyd.service chrony.service systemd-timesyncd.service tmp.mount dev-shm.mount rsyncd.service systemd-journal-remote.socket systemd-journald-audit.socket
			accounts-daemon.service snapd.service snapd.socket snapd.seeded.service unattended-upgrades.service apt-daily.timer packagekit.service
			NetworkManager-wait-online.service systemd-networkd-wait-online.service avahi-daemon.service bluetooth.service rsyslog.service crond.service
			session-agent.service user-sync.service dbus-monitor.service dcvish.service polkit-watch.service sleep.target`},
		"account": {Account, "alice admin docker soe-admins backup www-data postgres mysql apache cwagent wheel sudo video cdrom avahi colord"},
		"group":   {Group, "alice admin docker soe-admins backup staff libvirt lxd netdev plugdev"},
		"file": {Path, `/etc/gdmx/a /etc/skylight.conf.d/a /etc/wspx /usr/bin/Xvfb /usr/bin/Xorgx /etc/alternatives/editor /etc/X11/xinit/xinitrc.d/a.sh
			/etc/systemd/network.conf.d/a.conf /etc/systemd/resolved.conf.d/a.conf /etc/systemd/logind.conf.d/a.conf /etc/netplanx /etc/networks
			/etc/systemd/system/NetworkManager.service.d/a.conf /etc/systemd/system/gdm.service.d/a.conf /etc/systemd/system/amazon-ssm-agent.service.d/proxy.conf
			/etc/systemd/system/systemd-journald.service.d/a.conf /etc/systemd/system/polkit.service.d/a.conf /etc/systemd/system/user@.service.d/a.conf
			/etc/systemd/system/user-.slice.d/a.conf /etc/systemd/system/var.mount.d/a.conf /etc/systemd/system/soe-firewall.service
			/etc/systemd/system/multi-user.target.wants/soe-firewall.service /etc/systemd/system/multi-user.target.wants/backup.service
			/etc/systemd/system/multi-user.target.wants /etc/systemd/system/graphical.target.requires /etc/systemd/user/default.target.wants
			/etc/systemd/system/app-.service.d/a.conf /etc/systemd/user/app.service /etc/systemd/user/org.gnome.SettingsDaemon.Wacom.service
			/etc/systemd/user/service.d/a.conf /etc/systemd/system/service.d/a.conf /etc/dbus-1/system.d/a.conf /etc/apt/apt.conf.d/20x /etc/yum.repos.d/a.repo /var/lib/rpm/__db.001
			/etc/crypto-policies/local.d/a.config /boot/grub2/grub.cfg /etc/resolv.conf /etc/amazon/ssm/amazon-ssm-agent.json`},
	} {
		for name := range strings.FieldsSeq(free.names) {
			if why := free.why(name); why != "" {
				t.Errorf("the %s %s is protected: %s", kind, name, why)
			}
		}
	}
}

// A unit is taken away by what stands in its file's place, by the link that starts it and by what is added to many.
func TestAUnitIsNotTakenAwayByAFile(t *testing.T) {
	for name, want := range map[string]string{
		"/etc/systemd/system/gdm.service":                                       noLogin,
		"/etc/systemd/system/display-manager.service":                           noLogin,
		"/run/systemd/system/dbus-broker.service":                               noLogin,
		"/etc/systemd/system.control/NetworkManager.service":                    noNetwork,
		"/etc/systemd/system/graphical.target.wants/dcvserver.service":          carriesStream,
		"/etc/systemd/system/multi-user.target.requires/sssd.service":           lettingIn,
		"/etc/systemd/system/sockets.target.wants/sssd-kcm.socket":              lettingIn,
		"/etc/systemd/system/multi-user.target.wants/oddjobd.service":           noLogin,
		"/etc/systemd/system/xdcv-console.path.d/a.conf":                        carriesStream,
		"/etc/systemd/system/xdcv-console-.service.d/a.conf":                    carriesStream,
		"/etc/systemd/system/cloud-.service.d/a.conf":                           lettingIn,
		"/etc/systemd/system/ws-.service.d/a.conf":                              lettingIn,
		"/etc/systemd/system/snap.amazon-ssm-agent.amazon-ssm-agent.service":    wayIn,
		"/etc/systemd/user/org.gnome.Shell@x11.service":                         noDesktop,
		"/etc/systemd/user/gnome-session-manager@.service.d/a.conf":             noDesktop,
		"/usr/local/lib/systemd/user/default.target":                            noDesktop,
		"/etc/systemd/user/basic.target.wants/dbus.socket":                      noDesktop,
		"/lib/systemd/system/wspdcvhostadapter.service":                         belongsToAWS,
		"/etc/systemd/system/cloud-init.target.wants/cloud-init-main.service":   lettingIn,
		"/etc/systemd/system/multi-user.target.wants/systemd-networkd.service":  noNetwork,
		"/etc/systemd/system/dbus-org.freedesktop.resolve1.service":             "the machine finds nothing by its name without it, the directory neither",
		"/etc/systemd/system/multi-user.target.wants/amazon-ssm-agent.service":  wayIn,
		"/etc/systemd/system/graphical.target.wants/skylight-agent.service":     carriesStream,
		"/etc/systemd/system/sysinit.target.wants/systemd-udev-trigger.service": noMachine,
	} {
		if why := Path(name); why != want {
			t.Errorf("%s: %q and not %q", name, why, want)
		}
		if why := Pattern(name, false); why != want {
			t.Errorf("%s as a pattern: %q and not %q", name, why, want)
		}
	}
	for _, pattern := range []string{
		"/etc/systemd/system/gd*.service", "/etc/systemd/system/*.wants/sssd*", "/etc/systemd/system/sss*.d/a.conf", "/etc/systemd/*/dcvserver.serv?ce",
		"/run/systemd/system/[dx]bus.socket", "/etc/systemd/user/gnome-sh*", "/etc/gdm*/custom.conf", "/usr/bin/X*",
	} {
		if Pattern(pattern, false) == "" {
			t.Errorf("a pattern may mean a protected unit: %s", pattern)
		}
	}
	for _, pattern := range []string{"/etc/systemd/system/backup*.service", "/etc/systemd/system/gd*.service.d/x", "/etc/systemd/system/*.wants/backup.service", "/etc/systemd/user/mine*"} {
		if why := Pattern(pattern, false); why != "" {
			t.Errorf("%s: %s", pattern, why)
		}
	}
}

func TestSnapdIsProtectedWhereTheAgentOfAWSIsASnap(t *testing.T) {
	is, isNot := func(file string) bool { return file == "/snap/amazon-ssm-agent" }, func(string) bool { return false }
	for _, unit := range []string{"snapd.service", "snapd.socket", "snapd.seeded.service", "snapd.apparmor.service", "snapd.mounts.target"} {
		if ServiceHere(unit, is) == "" || ServiceHere(unit, isNot) != "" {
			t.Errorf("%s: %q, %q", unit, ServiceHere(unit, is), ServiceHere(unit, isNot))
		}
	}
	if ServiceHere("snapdragon.service", is) != "" || ServiceHere("sssd.service", isNot) == "" {
		t.Error("others are taken for snapd")
	}
}

// More is protected than holds up a session: whoever only has to stay is updated and restarted as before.
func TestWhoIsProtectedIsNotThereforeWaitedFor(t *testing.T) {
	for want, names := range map[Load]string{
		Nobody:    "soe-agent pam shadow-utils ca-certificates rocky-release crypto-policies apt dpkg oddjob realmd adcli selinux-policy-targeted firefox snapd dconf",
		Desktops:  "pcoip-agent-standard nice-dcv-server nice-xdcv skylight-agent gnome-shell mutter gdm gdm3 xserver-xorg-core xorg-x11-server-Xorg lightdm marco",
		Everybody: "systemd glibc libc6 dbus dbus-broker sudo polkit polkitd sssd-client samba-winbind krb5-libs NetworkManager network-manager cloud-init amazon-ssm-agent kernel rpm yum",
	} {
		for name := range strings.FieldsSeq(names) {
			if got := PackageCarries(name); got != want {
				t.Errorf("package %s carries %d and not %d", name, got, want)
			}
		}
	}
	for want, names := range map[Load]string{
		Nobody: `oddjobd.service realmd.service systemd-resolved.service systemd-journald.service systemd-udevd.service amazon-ssm-agent.service pcscd.socket
			soe-firewall.service sshd.service chronyd.service`,
		Desktops: `pcoip.service dcvserver.service xdcv-console.path skylight-agent.service gdm.service gdm3.service lightdm.service display-manager.service
			accounts-daemon.service`,
		Everybody: `systemd-logind.service dbus-broker.service polkit.service user@1000.service user-runtime-dir@1000.service session-3.scope NetworkManager.service
			systemd-networkd.service winbind.service sssd.service cloud-init.service network.target soe-agent.service`,
	} {
		for name := range strings.FieldsSeq(names) {
			if got := Carries(name); got != want {
				t.Errorf("unit %s carries %d and not %d", name, got, want)
			}
		}
	}
}

// On another system a person may have the name that an image of this one is made with: no name alone keeps anybody's rights.
func TestTheAccountsOfImagesKeepNoRightsByTheirNames(t *testing.T) {
	for name, keeps := range map[string]bool{
		"root": true, "pcoip": true, "dcv": true, "dcvsmagent": true, "ec2-user": true, "ssm-user": true,
		"ubuntu": false, "rocky": false, "cloud-user": false, "gdm": false, "sssd": false, "wheel": false, "alice": false,
	} {
		if KeepsRights(name) != keeps {
			t.Errorf("%s keeps its rights: %v", name, !keeps)
		}
	}
}

func TestTheIDsOfSoftwareMayBeRegisteredAndNothingElseOfItsAccounts(t *testing.T) {
	for name, is := range map[string]struct{ account, registered, group bool }{
		"ubuntu": {true, true, true}, "rocky": {true, true, true}, "ec2-user": {true, true, true},
		"gdm": {true, false, true}, "sssd": {true, false, true}, "systemd-network": {true, false, true}, "_apt": {true, false, true},
		"sudo": {false, false, true}, "wheel": {false, false, true}, "apache": {false, false, false},
	} {
		if got := (struct{ account, registered, group bool }{Account(name) != "", Registered(name) != "", Group(name) != ""}); got != is {
			t.Errorf("%s: %+v and not %+v", name, got, is)
		}
	}
}

// The ports of the WorkSpaces Administration Guide, which a rule must not close.
func TestEveryPortThatWorkSpacesRequiresStaysOpen(t *testing.T) {
	directions := map[string]Direction{"in": In, "out": Out}
	for _, line := range lines(t, "ports.txt", 4) {
		var low, high uint16
		if n, _ := fmt.Sscanf(strings.ReplaceAll(line[3], "-", " "), "%d %d", &low, &high); n < 2 {
			high = low
		}
		d, known := directions[line[1]]
		if !known || low == 0 {
			t.Fatalf("%q", line)
		}
		for _, port := range []uint16{low, low + (high-low)/2, high} {
			if Closes(d, line[2], port, port, []netip.Prefix{netip.MustParsePrefix("169.254.169.254/32")}) == "" {
				t.Errorf("on %s %s %s %d may be closed", line[0], line[1], line[2], port)
			}
		}
	}
}
