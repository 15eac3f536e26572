package policy

import (
	"path"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/own"
	"github.com/soe-agent/soe-agent/internal/protected"
)

// A forbidding is a prefix of paths that a section must not touch, and the reason.
type forbidding struct{ begins, why string }

const (
	waysIn   = "it decides who gets in, and a mistake locks everybody out"
	sudoSays = "say in [sudo] who may administer the machine"
)

// forbiddenFiles returns the paths that [files] must not touch, in addition to protected paths and
// those where there must be no drop-in.
func forbiddenFiles() []forbidding {
	return []forbidding{
		{"/etc/subgid", waysIn},
		{"/etc/subuid", waysIn},
		{"/etc/pam", waysIn}, // includes pam.conf
		{"/etc/sudo", sudoSays},
		{"/etc/polkit-1", sudoSays},
		{"/etc/soe-agent", "it is the agent's own"},
		{"/etc/pcoip-agent/", "say it in [pcoip], which keeps the file"},
		{"/etc/selinux", "a mistake keeps the machine from starting; say it in [system]"},
	}
}

// ForbiddenFile returns why [files] must not touch a path, or "" if it may.
func ForbiddenFile(file string) string {
	if _, is := lookupAttrFile(file); is || decidesLogins(file) {
		return ""
	}
	if why := protected.Path(file); why != "" {
		return "it is protected, " + why
	}
	if why := forbiddenPlace(file); why != "" {
		return why
	}
	for _, p := range forbiddenFiles() {
		if strings.HasPrefix(file, p.begins) {
			return p.why
		}
	}
	if _, temporary := own.IsTemporary(path.Base(file)); temporary {
		return "the agent's own temporary files have such names"
	}
	for _, begins := range []string{"/etc/", "/opt/", "/srv/", "/usr/local/", "/var/log/", "/var/spool/"} {
		if strings.HasPrefix(file, begins) {
			return ""
		}
	}
	return "it is not below /etc, /opt, /srv, /usr/local, /var/log or /var/spool; elsewhere the system itself needs files as they are"
}

// isEverybodys reports whether people's sessions, or programs that do not run as root and that
// sessions need, read a file. If they could not, nobody could log in or get a desktop.
func isEverybodys(file string) bool {
	if file == "/etc/security/opasswd" {
		return false // only root reads it
	}
	return slices.ContainsFunc([]string{
		"/etc/X11/", "/etc/alsa", "/etc/alternatives/", "/etc/asound.conf", "/etc/bash", "/etc/csh.", "/etc/dbus-1/", "/etc/default/keyboard",
		"/etc/default/locale", "/etc/environment", "/etc/fonts/", "/etc/gai.conf", "/etc/gtk-", "/etc/host.conf", "/etc/inputrc", "/etc/ld.so.",
		"/etc/locale.", "/etc/localtime", "/etc/login.defs", "/etc/machine-id", "/etc/pango/", "/etc/profile", "/etc/protocols", "/etc/pulse/", "/etc/resolv.conf",
		"/etc/security/", "/etc/services", "/etc/ssh/ssh_config", "/etc/systemd/", "/etc/terminfo", "/etc/timezone", "/etc/vconsole.conf", "/etc/xdg/", "/etc/zsh",
	}, func(begins string) bool { return strings.HasPrefix(file, begins) })
}

// IsRootsDirectory reports whether only root needs a directory, so that others may be kept out of
// it.
func IsRootsDirectory(dir string) bool {
	return slices.Contains([]string{
		"/etc/audit", "/etc/audit/rules.d", "/etc/cron.d", "/etc/cron.daily", "/etc/cron.hourly", "/etc/cron.monthly", "/etc/cron.weekly",
		"/var/log/audit", "/var/spool/cron",
	}, dir)
}
