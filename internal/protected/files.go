package protected

import (
	"strings"

	"github.com/soe-agent/soe-agent/internal/own"
)

// holds reports whether a path is one of those of the entry, or below one.
func (e entry) holds(name string) bool {
	for root := range e.each {
		if below, found := strings.CutPrefix(name, root); found && (below == "" || below[0] == '/') {
			return true
		}
	}
	return false
}

// files are files and directories, by their names below /usr where they have an older one too.
func files() []entry {
	return []entry{
		{`/etc/X11/default-display-manager /etc/dhcp/dhclient.conf /etc/logrotate.d/pcoip-agent /etc/logrotate.d/pcoip-server /etc/os-release
			/etc/pam.d /etc/pcoip-agent /etc/profile.d/system-restart-check.sh /etc/systemd/system/euc-analytic-agent.service
			/etc/yum/pluginconf.d/halt_os_update_check.conf /usr/bin/euc-analytics-agent /usr/bin/pcoip-fne-view-license
			/usr/bin/pcoip-list-licenses /usr/bin/pcoip-validate-license /usr/lib/firewalld/services/pcoip-agent.xml
			/usr/lib/modules-load.d/usb-vhci.conf /usr/lib/pcoip-agent /usr/lib/skylight /usr/lib/systemd/system/pcoip-agent.service
			/usr/lib/systemd/system/pcoip.service /usr/lib/systemd/system/pcoip.service.d /usr/lib/systemd/system/skylight-agent.service
			/usr/lib/tmpfiles.d/pcoip-agent.conf /usr/lib/yum-plugins/halt_os_update_check.py /usr/lib64/security/pam_self.so
			/usr/sbin/pcoip-agent /usr/sbin/pcoip-register-host /usr/sbin/pcoip-support-bundler /usr/share/X11 /usr/share/doc/pcoip-agent
			/usr/share/pcoip-agent /usr/share/selinux/packages/pcoip-agent.pp /var/crash/pcoip-agent /var/lib/pcoip-agent /var/lib/skylight
			/var/log/AmazonWorkSpaces /var/log/eucanalytics /var/log/pcoip-agent /var/log/skylight /var/logs/wsp`, amzn, belongsToAWS, components},
		{`/etc/dcv /etc/os-release /etc/pam.d /etc/systemd/system/euc-analytic-agent.service /etc/wsp /usr/bin/euc-analytics-agent
			/usr/lib/skylight /usr/lib/systemd/system/dcvserver.service /usr/lib/systemd/system/dcvsessionlauncher.service
			/usr/lib/systemd/system/skylight-agent.service /usr/lib/systemd/system/wspdcvhostadapter.service /usr/share/X11
			/var/lib/skylight /var/log/AmazonWorkSpaces /var/log/eucanalytics`, rhel | debian, belongsToAWS, components},
		{`/usr/lib/systemd/system/xdcv-console-update.service /usr/lib/systemd/system/xdcv-console.path
			/usr/lib/systemd/system/xdcv-console.service /var/log/skylight`, rhel, belongsToAWS, components},
		{
			`/etc/X11/default-display-manager /etc/default/grub.d/zz-hibernation.cfg /etc/netplan /etc/sssd/sssd.conf /usr/lib64/security/pam_self.so`,
			debian, belongsToAWS, components,
		},

		{"/etc/skylight.conf", rhel | debian, belongsToAWS, smartCards},
		{"/etc/wspdcvhostadapter", rhel | debian, belongsToAWS, dependence},
		{"/usr/bin/Xdcv /usr/bin/Xdcv-console /var/log/dcv", rhel | debian, belongsToAWS, dcvGuide},
		{"/usr/lib64/dcv /usr/lib/x86_64-linux-gnu/dcv /usr/libexec/dcv /usr/share/dcv", rhel | debian, belongsToAWS, dependence},
		{
			"/usr/bin/Xorg /usr/bin/X /etc/alternatives/X /usr/libexec/Xorg /usr/lib/xorg/Xorg /usr/lib/xorg/Xorg.wrap", rhel | debian,
			"the display of the stream is in its place", dcvGuide,
		},
		{"/etc/gdm /usr/share/gdm /var/lib/gdm", amzn | rhel, startsDesktops, dcvGuide},
		{"/etc/gdm3 /var/lib/gdm3", debian, startsDesktops, dcvGuide},

		{
			`/etc/cloud /etc/fstab /etc/group /etc/gshadow /etc/hostname /etc/hosts /etc/krb5.conf /etc/krb5.keytab /etc/nsswitch.conf /etc/passwd
			/etc/security/access.conf /etc/shadow /etc/ssh/sshd_config /etc/sudoers /usr/lib/security /var/lib/amazon/ssm ` + own.StateDir,
			every, decidesAccess, dependence,
		},
		{"/etc/sssd /etc/realmd.conf /etc/oddjobd.conf /etc/oddjobd.conf.d /etc/pam_pkcs11 /etc/gss", rhel | debian, decidesAccess, dependence},
		{"/etc/samba /etc/NetworkManager", every, decidesAccess, dependence},
		{"/etc/sysconfig/network-scripts /usr/lib64/security", amzn | rhel, decidesAccess, dependence},
		// On Enterprise Linux /etc/pam.d and nsswitch.conf are links into it.
		{"/etc/authselect /usr/share/authselect /var/lib/authselect", rhel, decidesAccess, dependence},
		{"/usr/etc/pam.d /usr/lib/pam.d /usr/lib/x86_64-linux-gnu/security /usr/share/pam-configs", debian, decidesAccess, dependence},

		{"/etc/dhcp /etc/iproute2 /etc/systemd/network", every, makesNetwork, dependence},
		{"/etc/dhcpcd.conf /etc/network /etc/resolvconf", debian, makesNetwork, dependence},
		{"/etc/initramfs-tools", debian, startsMachine, system},
		{"/snap /var/lib/snapd /var/snap/amazon-ssm-agent", debian, "snapd has its packages there, AWS's agent among them", ssmGuide},
		{"/var/lib/dpkg", debian, "it says which packages there are, and which files of theirs are somewhere else", system},
	}
}
