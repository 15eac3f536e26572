package protected

// Package says why a package must not be removed, or "" when it may be.
func Package(name string) string {
	why, _ := lookup(packages(), name)
	return why
}

// PackageCarries says whose sessions may end or be disturbed when another version of
// a package is installed: its scripts restart what the sessions run on.
func PackageCarries(name string) Load {
	_, carries := lookup(packages(), name)
	return carries
}

// packages are those at the end of the chains of dependencies: what one of them needs is protected by that,
// for nothing is removed that a protected package needs. So libraries are not listed, whose names change
// with their versions; nor are packages without which the system only does less.
func packages() []component {
	return []component{
		{entry{"soe-agent", every, isThisAgent, system}, Nobody},

		// What a session, or the machine, runs on: their scripts restart services of everybody.
		{entry{"systemd systemd-resolved systemd-networkd dbus dbus-broker dbus-daemon sudo bash", every, noMachine, system}, Everybody},
		{entry{`systemd-libs systemd-udev systemd-pam dbus-common dbus-libs polkit polkit-libs rpm rpm-libs yum dnf glibc
			kernel kernel-core kernel-modules kernel-modules-core`, amzn | rhel, noMachine, system}, Everybody},
		{entry{`systemd-sysv libpam-systemd udev dbus-bin dbus-system-bus-common dbus-session-bus-common dbus-user-session polkitd policykit-1
			libc6 linux-image-* linux-modules-* linux-aws*`, debian, noMachine, system}, Everybody},

		// The stream, and AWS's own agents: of those of skylight, wsp and euc no list is published.
		{entry{"pcoip-agent*", amzn, noDesktop, components}, Desktops},
		{entry{"skylight* workspaces* wsp wsp-* wspdcvhostadapter* euc-*", every, noDesktop, dependence}, Desktops},
		{entry{"nice-dcv* nice-xdcv*", rhel | debian, noDesktop, dcvGuide}, Desktops},
		{entry{"amazon-ssm-agent*", every, noDesktop, ssmGuide}, Everybody},
		{entry{"snapd", debian, "with it goes every snap, AWS's agent among them where it is one", ssmGuide}, Nobody},

		// The desktop.
		{entry{"lightdm* mate-session-manager* mate-settings-daemon* mate-panel* marco* caja*", amzn, noDesktop, dependence}, Desktops},
		{entry{"xorg-x11* gdm*", amzn | rhel, noDesktop, dcvGuide}, Desktops},
		{entry{"gnome-shell gnome-session gnome-session-xsession gnome-settings-daemon mutter gjs accountsservice", rhel | debian, noDesktop, dependence}, Desktops},
		{entry{`gdm3 xserver-xorg xserver-xorg-core xserver-xorg-video-* xserver-xorg-input-* xserver-common`, debian, noDesktop, dcvGuide}, Desktops},
		{entry{`ubuntu-session gnome-session-bin gnome-session-common gnome-shell-common gnome-settings-daemon-common mutter-common
			x11-common x11-xkb-utils xauth xkb-data`, debian, noDesktop, dependence}, Desktops},
		{entry{"dconf mesa-dri-drivers", amzn | rhel, noDesktop, dependence}, Nobody},
		{entry{"gsettings-desktop-schemas", every, noDesktop, dependence}, Nobody},
		{entry{"dconf-cli dconf-service dconf-gsettings-backend libgl1-mesa-dri", debian, noDesktop, dependence}, Nobody},

		// Who logs in: the directory, PAM, smart cards.
		{entry{"samba* sssd* krb5*", every, noDesktop, dependence}, Everybody},
		{entry{"libsss_* python3-sss*", rhel, noDesktop, dependence}, Everybody},
		{entry{"libsss-* libnss-sss libpam-sss winbind libnss-winbind libpam-winbind libpam-krb5", debian, noDesktop, dependence}, Everybody},
		{entry{"oddjob* realmd adcli", every, noDesktop, dependence}, Nobody},
		{entry{"pam authconfig authselect* cyrus-sasl-gssapi pcsc-lite pam_pkcs11", amzn | rhel, noDesktop, dependence}, Nobody},
		{entry{"libpam0g libpam-modules libpam-modules-bin libpam-runtime libsasl2-modules-gssapi-* pcscd libpam-pkcs11", debian, noDesktop, dependence}, Nobody},
		{entry{"opensc", rhel | debian, noDesktop, smartCards}, Nobody},

		// The network, and what sets the machine up.
		{entry{"NetworkManager* dhclient* dhcp-client ec2-net-utils* amazon-ec2-net-utils* network-scripts", amzn | rhel, noDesktop, dependence}, Everybody},
		{entry{"network-manager netplan.io netplan-generator ifupdown isc-dhcp-client", debian, noDesktop, dependence}, Everybody},
		{entry{"cloud-init*", every, noDesktop, "WorkSpaces Administration Guide, Create a custom WorkSpaces image and bundle"}, Everybody},
		{entry{"iproute iproute2 ca-certificates ec2-hibinit-agent", every, noDesktop, dependence}, Nobody},

		// What the system is, starts by and is updated with.
		{entry{`system-release* redhat-release* rocky-release* rocky-repos rocky-gpg-keys rh-amazon-rhui-client* dnf-data
			crypto-policies* selinux-policy selinux-policy-targeted grub2* grubby shim-* dracut initscripts xfsprogs e2fsprogs
			basesystem filesystem setup shadow-utils glibc-common coreutils* util-linux util-linux-core`, amzn | rhel, noMachine, system}, Nobody},
		{entry{`apt dpkg debconf gpgv debian-archive-keyring ubuntu-keyring
			grub-common grub2-common grub-pc grub-pc-bin grub-efi-* shim-signed initramfs-tools initramfs-tools-core linux-base e2fsprogs
			base-files base-passwd bsdutils coreutils dash debianutils diffutils findutils grep gzip hostname init init-system-helpers libc-bin login mount
			ncurses-base ncurses-bin passwd perl-base sed sysvinit-utils tar util-linux`, debian, noMachine, system}, Nobody},
	}
}
