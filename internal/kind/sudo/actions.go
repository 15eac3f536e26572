package sudo

import (
	"maps"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/soe-agent/soe-agent/internal/system"
)

// A question is one thing that polkit is asked: an action, with details or without.
type question struct {
	action  string
	details map[string]string
}

// over is the name of the question in the agent's own rule: the action, and the program if the
// question has one.
func (a question) over() string {
	if program := a.details["program"]; a.action == execAction && program != "" {
		return a.action + " " + program
	}
	return a.action
}

const (
	execAction  = "org.freedesktop.policykit.exec"
	unitsAction = "org.freedesktop.systemd1.manage-units"
)

// rooting are the actions that let the caller become root, each with the reason.
//
// Not listed, because they do not lead to root: login1 and hostname1 (power, names), timedate1,
// NetworkManager (the dispatcher scripts and plugins that it runs as root are root's files), mounting
// removable devices with udisks2 (set-user-ID bits and device files are ignored there), reload-daemon
// of systemd (it reads root's files), updates from sources that are already trusted, and Flatpak (it
// runs as the caller).
var rooting = sync.OnceValue(func() map[string]string {
	return map[string]string{
		execAction:  "pkexec runs any program as root",
		unitsAction: "systemd-run starts any program as root",

		"org.freedesktop.systemd1.manage-unit-files":           "units of one's own are linked and enabled",
		"org.freedesktop.systemd1.set-environment":             "LD_PRELOAD for all services of root",
		"org.freedesktop.portable1.attach-images":              "services of an image of one's own",
		"org.freedesktop.machine1.host-shell":                  "a shell of root",
		"org.freedesktop.machine1.host-login":                  "a login as root",
		"org.freedesktop.machine1.shell":                       "a shell of root in a container, which is root's",
		"org.freedesktop.machine1.login":                       "a login as root in a container",
		"org.freedesktop.machine1.manage-images":               "a container's files are root's to write",
		"org.freedesktop.home1.create-home":                    "an account in any group",
		"org.freedesktop.accounts.user-administration":         "an administrator's account, and anybody's password",
		"org.freedesktop.realmd.configure-realm":               "a directory of one's own says who is in which group",
		"org.freedesktop.udisks2.open-device":                  "the disk is read and written past all rights",
		"org.freedesktop.udisks2.open-device-system":           "the same, of the system's disk",
		"org.freedesktop.udisks2.modify-system-configuration":  "/etc/fstab and /etc/crypttab",
		"org.libvirt.unix.manage":                              "a machine with the host's disk in it",
		"io.snapcraft.snapd.manage":                            "packages whose services and scripts run as root",
		"org.freedesktop.packagekit.package-install":           "packages' scripts run as root",
		"org.freedesktop.packagekit.package-install-untrusted": "and nobody has signed these",
		"org.freedesktop.packagekit.package-reinstall":         "packages' scripts run as root",
		"org.freedesktop.packagekit.package-downgrade":         "to a version with a known hole",
		"org.freedesktop.packagekit.system-trust-signing-key":  "packages of one's own are trusted",
		"org.freedesktop.packagekit.system-sources-configure":  "a source of one's own",
		"org.debian.apt.install-file":                          "a package of one's own",
		"org.debian.apt.install-or-remove-packages":            "packages' scripts run as root",
		"org.debian.apt.change-repository":                     "a source of one's own",
		"org.fedoraproject.FirewallD1.config.direct":           "iptables with arguments of one's own, as root",
		"org.fedoraproject.FirewallD1.config":                  "a helper of the firewall's runs as root, with files of one's own",
		"org.fedoraproject.FirewallD1.all":                     "all that and the arguments of iptables",
		"org.freedesktop.accounts.set-login-option":            "who is logged in without a password",
		"org.freedesktop.home1.update-home":                    "a home's record says in which groups somebody is",
		"org.freedesktop.home1.passwd-home":                    "anybody's password",
		"org.freedesktop.import1.import":                       "an image of one's own in root's place",
		"org.freedesktop.import1.pull":                         "an image of one's own in root's place",
		"org.freedesktop.portable1.manage-images":              "the files of services' images",
		"org.freedesktop.portable1.attach-image":               "services of an image of one's own",
		"org.freedesktop.machine1.manage-machines":             "a container that is root's",
		"org.freedesktop.machine1.open-pty":                    "the console of a container of root's",
		"org.freedesktop.udisks2.modify-device-system":         "the same, of the system's disk",
		"org.freedesktop.udisks2.modify-device-other-seat":     "the same, of others' disks",
		"org.freedesktop.udisks2.filesystem-mount-system":      "the system's own disk in a place of one's own",
		"org.freedesktop.udisks2.filesystem-take-ownership":    "files of root's in one's own hands",
		"org.freedesktop.udisks2.filesystem-fstab":             "/etc/fstab",
		"org.freedesktop.packagekit.package-remove":            "packages' scripts run as root",
		"org.freedesktop.packagekit.repair-system":             "packages' scripts run as root",
		"com.ubuntu.softwareproperties.applychanges":           "a source of one's own",
		"org.debian.apt.install-packages-from-new-repo":        "packages of a source of one's own",
		"org.debian.apt.install-purchased-packages":            "packages of a source of one's own",
		"org.debian.apt.set-proxy":                             "a source of one's own",
		"org.freedesktop.fwupd.install-unsigned":               "firmware of one's own",
		"org.cockpit-project.cockpit-bridge":                   "a shell of root",
		"org.selinux.semanage":                                 "SELinux as one wants it",
	}
})

// harmless reports whether a stock desktop's program may be run as root by whoever sits there: it only
// writes a number to the hardware.
func harmless(program string) bool {
	base := path.Base(program)
	return path.Dir(program) != "/usr/local/bin" && strings.HasPrefix(program, "/usr/") &&
		(strings.HasSuffix(base, "-backlight-helper") || strings.HasSuffix(base, "-led-helper") || strings.HasSuffix(base, "-oled-helper"))
}

// questions returns all that polkit is asked about a person: the installed actions, with the details
// that rules compare.
func questions(installed []system.Action, c catalogue) (all []question) {
	ids := map[string]bool{}
	rooting := rooting()
	for _, a := range installed {
		if _, is := rooting[a.ID]; is || (a.Program != "" && !harmless(a.Program)) {
			ids[a.ID] = true
		}
	}
	for _, a := range installed {
		if slices.ContainsFunc(a.Implies, func(id string) bool { return ids[id] }) {
			ids[a.ID] = true
		}
	}
	for _, id := range slices.Sorted(maps.Keys(ids)) {
		all = append(all, question{action: id})
		switch id {
		case execAction:
			for _, command := range c.commands {
				program, _, _ := strings.Cut(command, " ")
				for _, user := range c.users {
					all = append(all, question{id, map[string]string{"program": program, "command_line": command, "user": user}})
				}
			}
		case unitsAction:
			for _, unit := range c.units {
				for _, verb := range c.verbs {
					all = append(all, question{id, map[string]string{"unit": unit, "verb": verb}})
				}
			}
		case "org.freedesktop.machine1.host-shell":
			all = append(all, question{id, map[string]string{"machine": ".host", "user": "root", "program": "/bin/sh"}})
		}
	}
	return all
}
