// Package protected knows what on a WorkSpace nobody but AWS may change: files,
// accounts, packages and units without which a person cannot reach the desktop.
//
// The files are those of the WorkSpaces Administration Guide, "Required
// configuration and service components for WorkSpaces Linux", for Amazon Linux
// 2, Ubuntu, Rocky and Red Hat: do not delete, change, block or quarantine them.
// The rest follows from what those components need: the directory join, name
// resolution, the network interfaces, the way in.
package protected

import (
	"path"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/own"
)

// Path says why a path must not be written or removed, or "" when it may be.
// A protected directory protects all below it.
func Path(name string) string {
	name = merged(path.Clean(name))
	if name == "/etc/pcoip-agent/pcoip-agent.conf" || name == "/etc/pcoip-agent" {
		return "" // the one file there that its owner may change, and the way to it
	}
	if under(name, required()) {
		return "it belongs to WorkSpaces: the desktop may become unreachable"
	}
	if under(name, access()) {
		return "it decides who can log in and how the machine is reached"
	}
	if matched, _ := path.Match("/etc/udev/rules.d/*net*", name); matched {
		return "it names the network interfaces"
	}
	if unit := unitOf(name); unit != "" {
		return Unit(unit)
	}
	return ""
}

// merged is the name of a file below /usr where it is known by an older one.
func merged(name string) string {
	for _, dir := range []string{"/bin", "/lib", "/lib64", "/sbin"} {
		if name == dir || strings.HasPrefix(name, dir+"/") {
			return "/usr" + name
		}
	}
	if below, ok := strings.CutPrefix(name, "/var/run/"); ok {
		return "/run/" + below
	}
	return name
}

// unitOf is the unit that a file defines, or adds to from a ".d" directory.
func unitOf(name string) string {
	for _, dir := range []string{"/etc/systemd/system/", "/run/systemd/system/", "/usr/lib/systemd/system/", "/usr/local/lib/systemd/system/"} {
		if below, ok := strings.CutPrefix(name, dir); ok {
			first, _, _ := strings.Cut(below, "/")
			return strings.TrimSuffix(first, ".d")
		}
	}
	return ""
}

func under(name string, roots []string) bool {
	return slices.ContainsFunc(roots, func(root string) bool {
		below, found := strings.CutPrefix(name, root)
		return found && (below == "" || below[0] == '/')
	})
}

func required() []string {
	return []string{
		"/etc/X11/default-display-manager",
		"/etc/dcv",
		"/etc/default/grub.d/zz-hibernation.cfg",
		"/etc/dhcp/dhclient.conf",
		"/etc/logrotate.d/pcoip-agent",
		"/etc/logrotate.d/pcoip-server",
		"/etc/netplan",
		"/etc/os-release",
		"/etc/pam.d",
		"/etc/pcoip-agent",
		"/etc/profile.d/system-restart-check.sh",
		"/etc/systemd/system/euc-analytic-agent.service",
		"/etc/wsp",
		"/etc/yum/pluginconf.d/halt_os_update_check.conf",
		"/usr/lib/systemd/system/pcoip-agent.service",
		"/usr/lib64/security/pam_self.so",
		"/usr/bin/euc-analytics-agent",
		"/usr/bin/pcoip-fne-view-license",
		"/usr/bin/pcoip-list-licenses",
		"/usr/bin/pcoip-validate-license",
		"/usr/lib/firewalld/services/pcoip-agent.xml",
		"/usr/lib/modules-load.d/usb-vhci.conf",
		"/usr/lib/pcoip-agent",
		"/usr/lib/skylight",
		"/usr/lib/systemd/system/dcvserver.service",
		"/usr/lib/systemd/system/dcvsessionlauncher.service",
		"/usr/lib/systemd/system/pcoip.service",
		"/usr/lib/systemd/system/pcoip.service.d",
		"/usr/lib/systemd/system/skylight-agent.service",
		"/usr/lib/systemd/system/wspdcvhostadapter.service",
		"/usr/lib/systemd/system/xdcv-console-update.service",
		"/usr/lib/systemd/system/xdcv-console.path",
		"/usr/lib/systemd/system/xdcv-console.service",
		"/usr/lib/tmpfiles.d/pcoip-agent.conf",
		"/usr/lib/yum-plugins/halt_os_update_check.py",
		"/usr/sbin/pcoip-agent",
		"/usr/sbin/pcoip-register-host",
		"/usr/sbin/pcoip-support-bundler",
		"/usr/share/X11",
		"/usr/share/doc/pcoip-agent",
		"/usr/share/pcoip-agent",
		"/usr/share/selinux/packages/pcoip-agent.pp",
		"/var/crash/pcoip-agent",
		"/var/lib/pcoip-agent",
		"/var/lib/skylight",
		"/var/log/AmazonWorkSpaces",
		"/var/log/eucanalytics",
		"/var/log/pcoip-agent",
		"/var/log/skylight",
		"/var/logs/wsp",
	}
}

func access() []string {
	return []string{
		"/etc/NetworkManager",
		"/etc/authselect", // on Enterprise Linux /etc/pam.d and nsswitch.conf are links into it
		"/etc/cloud",
		"/etc/fstab",
		"/etc/group",
		"/etc/gshadow",
		"/etc/hostname",
		"/etc/hosts",
		"/etc/krb5.conf",
		"/etc/krb5.keytab",
		"/etc/nsswitch.conf",
		"/etc/passwd",
		"/etc/samba",
		"/etc/security/access.conf",
		"/etc/shadow",
		"/etc/ssh/sshd_config",
		"/etc/sssd",
		"/etc/sudoers",
		"/etc/sysconfig/network-scripts",
		"/usr/etc/pam.d",
		"/usr/lib/pam.d",
		"/usr/lib/security",
		"/usr/lib/x86_64-linux-gnu/security",
		"/usr/lib64/security",
		"/usr/share/authselect",
		"/usr/share/pam-configs",
		"/var/lib/amazon/ssm",
		"/var/lib/authselect",
		own.StateDir,
	}
}

// Mount says why a policy has no say in how something is mounted at a path, or "" when it has.
func Mount(point string) string {
	point = merged(path.Clean(point))
	switch {
	case point == "/" || under(point, []string{"/usr", "/etc"}):
		return "the machine does not work without what is on it"
	case under(point, []string{"/snap"}):
		return "snapd mounts its packages there, AWS's agent among them"
	case under(point, []string{"/home"}):
		return "AWS mounts the volume of the user there"
	case point != "/dev/shm" && under(point, []string{"/dev", "/proc", "/sys", "/run"}):
		return "the kernel, or systemd, mounts it as it has to be"
	}
	return Path(point)
}

// Programs says why programs have to go on running that are on what is mounted at a path, or "".
func Programs(point string) string {
	switch point = merged(path.Clean(point)); {
	case point == "/opt" || under("/var/lib/amazon/ssm", []string{point}):
		return "AWS runs programs from there"
	case under(point, []string{"/var/lib", "/opt", "/root"}):
		return "programs may be installed there"
	}
	return ""
}

// Account says why a local account must not be created, changed or removed, or
// "" when it may be.
func Account(name string) string {
	switch name {
	case "root":
		return "it is the administrator of last resort"
	case "pcoip", "dcv", "dcvsmagent":
		return "it belongs to the streaming agent"
	case "ec2-user", "ssm-user":
		return "AWS reaches the machine through it"
	}
	return ""
}

// Package says why a package must not be removed, or "" when it may be.
func Package(name string) string {
	switch {
	case name == "soe-agent":
		return "it is this agent"
	case slices.Contains([]string{"systemd", "dbus", "sudo", "polkit", "rpm", "yum", "dnf", "glibc", "bash", "kernel", "kernel-core", "kernel-modules", "kernel-modules-core"}, name):
		return "the machine does not work without it"
	}
	if begins(name, desktopPackages()) || begins(name, []string{
		"samba", "sssd", "krb5", "cloud-init", "dhclient", "ec2-net-utils", "NetworkManager", "amazon-ssm-agent",
	}) {
		return "the desktop cannot be reached without it"
	}
	return ""
}

// PackageCarries says whose sessions may end or be disturbed when another version of
// a package is installed: its scripts restart what the sessions run on.
func PackageCarries(name string) Load {
	switch {
	case name == "soe-agent" || Package(name) == "":
		return Nobody
	case begins(name, desktopPackages()):
		return Desktops
	}
	return Everybody
}

func desktopPackages() []string {
	return []string{
		"pcoip-agent", "skylight", "workspaces", "nice-dcv", "xorg-x11", "lightdm", "gdm",
		"mate-session-manager", "mate-panel", "marco", "caja",
	}
}

func begins(name string, families []string) bool {
	return slices.ContainsFunc(families, func(family string) bool { return strings.HasPrefix(name, family) })
}

// Unit says why a unit must not be stopped, restarted, disabled or masked by a
// policy, or "" when it may be.
func Unit(name string) string {
	switch name {
	case "-.mount", "home.mount", "-.slice", "system.slice":
		return "the machine does not work without it"
	}
	switch stem(name) {
	case "pcoip", "pcoip-agent", "dcvserver", "dcvsessionlauncher", "wspdcvhostadapter", "skylight-agent",
		"euc-analytic-agent", "xdcv-console", "xdcv-console-update":
		return "it carries the streaming session"
	case "winbind", "sssd", "cloud-init", "cloud-init-local", "cloud-config", "cloud-final", "ws-migrate-phase2",
		"systemd-user-sessions":
		return "WorkSpaces needs it to let people log in"
	case "soe-agent":
		return "it is this agent"
	}
	return ""
}

// Service says why a unit must not be stopped, disabled or masked by a policy, or
// "" when it may be: what Unit protects, and what nobody could log in without,
// though drop-ins may set how it works. sshd is not among them: a WorkSpace is
// reached without it.
func Service(name string) string {
	if why := Unit(name); why != "" {
		return why
	}
	switch name {
	case "basic.target", "default.target", "graphical.target", "local-fs.target", "multi-user.target", "sysinit.target", "user.slice":
		return "the machine does not work without it"
	}
	switch stem(name) {
	case "display-manager", "lightdm", "gdm", "gdm3", "sddm", "systemd-logind", "dbus", "dbus-broker", "polkit",
		"dbus-org.freedesktop.login1", "messagebus":
		return "nobody could log in without it"
	case "NetworkManager", "network", "networking", "systemd-networkd", "dhclient",
		"dbus-org.freedesktop.NetworkManager", "dbus-org.freedesktop.network1":
		return "the machine could not be reached without it"
	case "amazon-ssm-agent", "snap.amazon-ssm-agent.amazon-ssm-agent":
		return "AWS reaches the machine through it"
	case "soe-firewall":
		return "it loads the rules of [firewall] before there is a network"
	case "systemd-journald", "systemd-udevd":
		return "the machine does not work without it"
	}
	return ""
}

// EndsAll says whether to start a unit is to end all that runs.
func EndsAll(unit string) bool {
	return slices.Contains([]string{
		"emergency", "exit", "halt", "hibernate", "hybrid-sleep", "kexec", "poweroff", "reboot", "rescue", "shutdown",
		"sleep", "suspend", "suspend-then-hibernate", "umount",
	}, strings.TrimPrefix(stem(unit), "systemd-"))
}

// A Load is whose sessions a unit carries.
type Load int

// The loads.
const (
	Nobody    Load = iota
	Desktops       // those at the desktop, and not those of ssh
	Everybody      // all, or much else
)

// Carries says whose sessions would end or be disturbed if a unit stopped.
func Carries(unit string) Load {
	switch path.Ext(unit) {
	case ".slice", ".target", ".mount":
		return Everybody // much may end with it
	case ".scope":
		if strings.HasPrefix(unit, "session-") {
			return Everybody
		}
	}
	switch stem(unit) {
	case "pcoip", "pcoip-agent", "dcvserver", "dcvsessionlauncher", "wspdcvhostadapter", "skylight-agent",
		"euc-analytic-agent", "xdcv-console", "xdcv-console-update",
		"display-manager", "lightdm", "gdm", "gdm3", "sddm", "accounts-daemon":
		return Desktops
	case "systemd-logind", "dbus", "dbus-broker", "polkit", "user", "session",
		"dbus-org.freedesktop.login1", "messagebus",
		"NetworkManager", "network", "networking", "systemd-networkd", "dhclient",
		"dbus-org.freedesktop.NetworkManager", "dbus-org.freedesktop.network1":
		return Everybody
	}
	if Unit(unit) != "" {
		return Everybody
	}
	return Nobody
}

// Disruptive says whether stopping or restarting a unit ends or disturbs a live
// session, so that it must wait until nobody is logged in.
func Disruptive(unit string) bool { return Carries(unit) != Nobody }

// stem is a unit's name without instance and type: a service and the socket that
// starts it go together.
func stem(unit string) string {
	base, _, _ := strings.Cut(strings.TrimSuffix(unit, path.Ext(unit)), "@")
	return base
}
