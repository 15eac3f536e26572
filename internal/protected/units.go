package protected

import (
	"path"
	"slices"
	"strings"
)

// Unit says why a unit must not be stopped, restarted, disabled or masked by a
// policy, nor have a drop-in, or "" when it may be.
func Unit(name string) string {
	why, _ := lookupUnit(name, theirs())
	return why
}

// Service says why a unit must not be stopped, disabled or masked by a policy, or
// "" when it may be: what Unit protects, and what nobody could log in without,
// though drop-ins may set how it works. sshd is not among them: a WorkSpace is
// reached without it.
func Service(name string) string {
	if why := Unit(name); why != "" {
		return why
	}
	if why, _ := lookupUnit(name, needed()); why != "" {
		return why
	}
	return ofSystem(name)
}

// ServiceHere is Service on a machine of which there says whether a file exists: a few units are
// protected only where something hangs on them.
func ServiceHere(name string, there func(file string) bool) string {
	if why := Service(name); why != "" {
		return why
	}
	if stem := stem(name); (stem == "snapd" || strings.HasPrefix(stem, "snapd.")) && there("/snap/amazon-ssm-agent") {
		return "AWS's agent is a snap here, and " + wayIn
	}
	return ""
}

// lookupUnit finds a unit by its name without instance and type, for a service and the socket that starts it
// go together; and by its whole name, where an entry has that.
func lookupUnit(name string, table []component) (why string, carries Load) {
	return lookup(table, stem(name), name)
}

// theirs are the units that only AWS changes.
func theirs() []component {
	return []component{
		{entry{"-.mount home.mount -.slice system.slice", every, noMachine, system}, Everybody},
		{entry{"pcoip pcoip-agent", amzn, carriesStream, components}, Desktops},
		{entry{"skylight-agent euc-analytic-agent", every, carriesStream, components}, Desktops},
		{entry{"dcvd dcvserver dcvsessionlauncher wspdcvhostadapter", rhel | debian, carriesStream, components}, Desktops},
		{entry{"xdcv-console*", rhel, carriesStream, components}, Desktops},
		{entry{"dcv-session-manager-agent", rhel | debian, carriesStream, dcvGuide}, Desktops},
		{entry{"winbind", amzn, lettingIn, dependence}, Everybody},
		{entry{"sssd sssd-*", rhel | debian, lettingIn, dependence}, Everybody},
		{entry{"cloud-init cloud-init-local cloud-init-main cloud-init-network cloud-config cloud-final", every, lettingIn, dependence}, Everybody},
		{entry{"ws-migrate-*", rhel | debian, lettingIn, migration}, Everybody},
		{entry{"systemd-user-sessions", every, lettingIn, system}, Everybody},
		{entry{"soe-agent", every, isThisAgent, system}, Everybody},
	}
}

// needed are the units whose settings a policy may change, but which it may not take away.
func needed() []component {
	return []component{
		{entry{`basic.target default.target graphical.target local-fs.target local-fs-pre.target multi-user.target sysinit.target
			sockets.target timers.target paths.target slices.target user.slice`, every, noMachine, system}, Everybody},
		{entry{"usr.mount var.mount var-lib.mount home-*.mount home.automount run-user-*.mount", every, noMachine, system}, Everybody},
		{entry{"systemd-journald systemd-journald-dev-log systemd-udevd systemd-udevd-* systemd-udev-* systemd-remount-fs", every, noMachine, system}, Nobody},
		{entry{"systemd-tmpfiles-setup systemd-tmpfiles-setup-*", every, noMachine, system}, Nobody},

		{entry{"display-manager", every, noLogin, system}, Desktops},
		{entry{"lightdm", amzn, noLogin, system}, Desktops},
		{entry{"sddm", every, noLogin, system}, Desktops},
		{entry{"gdm", rhel, noLogin, dcvGuide}, Desktops},
		{entry{"gdm3", debian, noLogin, dcvGuide}, Desktops},
		{entry{"systemd-logind dbus-org.freedesktop.login1 systemd-logind-varlink dbus dbus-broker messagebus polkit user user-runtime-dir", every, noLogin, system}, Everybody},
		{entry{"realmd oddjobd", rhel | debian, noLogin, dependence}, Nobody},
		{entry{"pcscd", rhel | debian, "people log in by it with smart cards", dependence}, Nobody},

		{entry{"NetworkManager network-manager dbus-org.freedesktop.NetworkManager", every, noNetwork, dependence}, Everybody},
		{entry{"network dhclient", amzn | rhel, noNetwork, dependence}, Everybody},
		{entry{"networking", debian, noNetwork, dependence}, Everybody},
		{entry{"systemd-networkd dbus-org.freedesktop.network1", rhel | debian, noNetwork, dependence}, Everybody},
		{entry{"systemd-networkd-varlink* netplan-configure ifup", debian, noNetwork, dependence}, Everybody},
		{entry{"ec2net-ifup elastic-network-interfaces policy-routes refresh-policy-routes", amzn, noNetwork, dependence}, Everybody},
		{entry{"network.target network-pre.target network-online.target nss-lookup.target nss-user-lookup.target", every, noNetwork, system}, Everybody},
		{entry{"systemd-resolved systemd-resolved-* dbus-org.freedesktop.resolve1", rhel | debian, "the machine finds nothing by its name without it, the directory neither", dependence}, Nobody},

		{entry{"amazon-ssm-agent", every, wayIn, ssmGuide}, Nobody},
		{entry{"snap.amazon-ssm-agent.*", debian, wayIn, ssmGuide}, Nobody},
		{entry{"snap.mount snap-*.mount", debian, "snapd mounts its packages there, AWS's agent among them", ssmGuide}, Everybody},
		{entry{"hibinit-agent", every, "a desktop that is stopped when nobody uses it is resumed by it", dependence}, Nobody},
		{entry{"soe-firewall", every, "it loads the rules of [firewall] before there is a network", system}, Nobody},
	}
}

// sessionUnits are units of each person's own manager, which a desktop begins with.
func sessionUnits() []entry {
	return []entry{
		{"basic.target default.target graphical-session* sockets.target timers.target paths.target session.slice app.slice background.slice dbus dbus-broker", every, noDesktop, system},
		{"gnome-session* gnome-shell* org.gnome.Shell*", rhel | debian, noDesktop, system},
		{"dcv*", rhel | debian, carriesStream, dcvGuide},
	}
}

// unitFile says why a file must not be written by which a unit is defined, added to or started.
func unitFile(name string) string {
	for _, dir := range unitDirs() {
		below, ok := strings.CutPrefix(name, dir)
		if !ok {
			continue
		}
		user := strings.HasSuffix(dir, "/user/")
		first, rest, inside := strings.Cut(below, "/")
		switch kind := path.Ext(first); {
		case kind == ".d":
			return dropinOf(strings.TrimSuffix(first, ".d"), user)
		case kind != ".wants" && kind != ".requires" && kind != ".upholds":
			return unitAs(first, user)
		case inside:
			return unitAs(rest, user)
		}
	}
	return ""
}

func unitDirs() []string {
	return []string{
		"/etc/systemd/system/", "/etc/systemd/system.control/", "/etc/systemd/system.attached/", "/run/systemd/system/", "/run/systemd/system.control/",
		"/run/systemd/transient/", "/usr/lib/systemd/system/", "/usr/local/lib/systemd/system/",
		"/etc/systemd/user/", "/run/systemd/user/", "/usr/lib/systemd/user/", "/usr/local/lib/systemd/user/",
	}
}

// unitAs says why the file of a unit, or the link that starts it, must not be written. The agent itself writes
// that of soe-firewall.service.
func unitAs(unit string, user bool) string {
	switch {
	case user:
		return sessionUnit(unit)
	case stem(unit) == "soe-firewall":
		return ""
	}
	return Service(unit)
}

// dropinOf says why a unit must not be added to: itself, or with all that begin as it does ("cloud-.service").
// What is added to all units of a type ("service") is nobody's in particular. See systemd.unit(5).
func dropinOf(unit string, user bool) string {
	if !strings.Contains(unit, ".") {
		return ""
	}
	if user {
		return reaches(unit, sessionUnits())
	}
	var entries []entry
	for _, c := range theirs() {
		entries = append(entries, c.entry)
	}
	return reaches(unit, entries)
}

func sessionUnit(unit string) string {
	stem := stem(unit)
	for _, e := range sessionUnits() {
		if e.covers(stem) || e.covers(unit) {
			return e.why
		}
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
	case "accounts-daemon": // it comes back when it is asked for
		return Desktops
	case "session":
		return Everybody
	}
	for _, table := range [][]component{theirs(), needed()} {
		if why, carries := lookupUnit(unit, table); why != "" {
			return carries
		}
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
