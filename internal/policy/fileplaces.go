package policy

import (
	"path"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/dropindir"
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
	return slices.ContainsFunc(everybodys(), func(begins string) bool { return strings.HasPrefix(file, begins) })
}

// everybodys are the beginnings of such paths.
func everybodys() []string {
	return []string{
		"/etc/X11/", "/etc/alsa", "/etc/alternatives/", "/etc/asound.conf", "/etc/bash", "/etc/csh.", "/etc/dbus-1/", "/etc/default/keyboard",
		"/etc/default/locale", "/etc/environment", "/etc/fonts/", "/etc/gai.conf", "/etc/gtk-", "/etc/host.conf", "/etc/inputrc", "/etc/ld.so.",
		"/etc/locale.", "/etc/localtime", "/etc/login.defs", "/etc/machine-id", "/etc/pango/", "/etc/profile", "/etc/protocols", "/etc/pulse/", "/etc/resolv.conf",
		"/etc/security/", "/etc/services", "/etc/ssh/ssh_config", "/etc/systemd/", "/etc/terminfo", "/etc/timezone", "/etc/vconsole.conf", "/etc/xdg/", "/etc/zsh",
	}
}

// isReadByAll is isEverybodys, and true for what else programs of all people read, though a mistake in it ends no
// session.
func isReadByAll(file string) bool {
	for _, private := range []string{"/etc/pki/tls/private", "/etc/ssl/private", "/etc/crypto-policies/local.d"} {
		if file == private || strings.HasPrefix(file, private+"/") {
			return false
		}
	}
	return isEverybodys(file) || slices.ContainsFunc([]string{
		"/etc/ca-certificates", "/etc/chromium/", "/etc/crypto-policies", "/etc/cups/client.conf", "/etc/drirc", "/etc/firefox/", "/etc/flatpak/", "/etc/glvnd/",
		"/etc/gnutls/", "/etc/gss", "/etc/ibus", "/etc/java", "/etc/ldap/ldap.conf", "/etc/lsb-release", "/etc/magic", "/etc/mailcap", "/etc/mate", "/etc/mime.types",
		"/etc/nanorc", "/etc/networks", "/etc/openldap/ldap.conf", "/etc/opt/chrome/", "/etc/opt/edge/", "/etc/pipewire/", "/etc/pki/ca-trust", "/etc/pki/java",
		"/etc/pki/nss", "/etc/pki/tls", "/etc/rpc", "/etc/ssl", "/etc/vimrc", "/etc/vim/", "/etc/virc", "/etc/vulkan/", "/etc/wgetrc", "/etc/wireplumber/",
	}, func(begins string) bool { return strings.HasPrefix(file, begins) }) ||
		strings.HasPrefix(file, "/etc/") && strings.HasSuffix(file, "-release")
}

// isHeeded reports whether root runs, or heeds, what a file says, so that whoever writes it can do anything.
func isHeeded(file string) bool {
	return inAny(file, rootsPlaces()) || IsRootsDirectory(file) ||
		strings.HasPrefix(file, "/etc/") && (dropindir.Of(path.Dir(file)).Dir != "" || ForbiddenContent(file) != "")
}

// IsRootsDirectory reports whether only root needs a directory, so that others may be kept out of
// it.
func IsRootsDirectory(dir string) bool {
	return slices.Contains([]string{
		"/etc/audit", "/etc/audit/rules.d", "/etc/cron.d", "/etc/cron.daily", "/etc/cron.hourly", "/etc/cron.monthly", "/etc/cron.weekly",
		"/var/log/audit", "/var/spool/cron",
	}, dir)
}
