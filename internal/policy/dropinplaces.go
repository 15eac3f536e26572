package policy

import (
	"path"
	"strings"

	"github.com/soe-agent/soe-agent/internal/dropindir"
)

// passedOver returns why the reader of a drop-in would silently ignore it, or "" if it would not,
// or its reader is not known.
func passedOver(file string) string {
	dir, base := path.Split(file)
	names := dropindir.Of(path.Clean(dir)).Names
	if names.Reads != nil && (!names.Reads.MatchString(base) || names.Skips != nil && names.Skips.MatchString(base)) {
		return names.Why
	}
	return ""
}

// ForbiddenDropin returns why there must be no drop-in at a path, although the path is not
// protected, or "" if there may be one.
func ForbiddenDropin(file string) string {
	for _, p := range decidingPlaces() {
		if strings.HasPrefix(file, p.begins) {
			return p.why
		}
	}
	return forbiddenPlace(file)
}

// decidingPlaces are files of /etc/sysconfig and /etc/default that decide who gets in, or whether the
// machine can be reached. Their owner and mode may be kept all the same.
func decidingPlaces() []forbidding {
	const (
		overrules = "sshd's command line overrules what is proved of sshd_config: say it there, in [files]"
		cutsOff   = "a mistake cuts the streaming session off: say it in [firewall]"
		isOffline = "a mistake keeps the machine from its network"
		isWayIn   = "people log in by what it says"
	)
	return []forbidding{
		{"/etc/sysconfig/sshd", overrules},
		{"/etc/default/ssh", overrules},
		{"/etc/sysconfig/authconfig", isWayIn},
		{"/etc/sysconfig/sssd", isWayIn},
		{"/etc/default/sssd", isWayIn},
		{"/etc/sysconfig/winbind", isWayIn},
		{"/etc/default/winbind", isWayIn},
		{"/etc/sysconfig/network", isOffline},
		{"/etc/default/networking", isOffline},
		{"/etc/sysconfig/iptables", cutsOff},
		{"/etc/sysconfig/ip6tables", cutsOff},
		{"/etc/sysconfig/nftables", cutsOff},
		{"/etc/sysconfig/firewalld", cutsOff},
		{"/etc/default/ufw", cutsOff},
		{"/etc/sysconfig/selinux", "a mistake keeps the machine from starting; say it in [system]"},
	}
}

// forbiddenPlace returns why neither drop-ins nor [files] may change anything at a path, or "".
func forbiddenPlace(file string) string {
	for _, place := range []struct{ dir, why string }{
		{"/etc/dconf/db/", "say it in [dconf], which keeps the whole database"},
		{"/etc/dconf/profile/", "say it in [dconf], which sees to the profile"},
		{"/etc/krb5.conf.d/", "people log in by it, and WorkSpaces sees to it"},
		{"/etc/firewalld/", "a mistake cuts the streaming session off"},
		{"/etc/systemd/system/" + FirewallUnit, "it loads the rules of [firewall] at boot, and is the agent's own"},
		{"/etc/dracut.conf.d/", "what resumes a hibernated machine lies there"},
		{"/etc/default/grub", "what resumes a hibernated machine lies there"},
		{"/etc/selinux/", "a mistake keeps the machine from starting; say it in [system]"},
		{"/etc/ssh/ssh_host_", "they are the keys of this one machine"},
		{"/etc/X11/xorg.conf", "the streaming agent makes the configuration of X, and a mistake ends the session"},
		{"/etc/gdm/", "the session of everybody begins there"},
		{"/etc/gdm3/", "the session of everybody begins there"},
		{"/etc/lightdm/", "the session of everybody begins there"},
	} {
		if strings.HasPrefix(file, place.dir) {
			return place.why
		}
	}
	return ""
}

// skipsDots reports whether the reader of a directory ignores names that begin with a dot. useradd
// copies all of /etc/skel, and nothing is known about other readers.
func skipsDots(dir string) bool { return isDropinDirectory(dir) && !isSkeleton(dir) }

func isSkeleton(dir string) bool { return dir == "/etc/skel" || strings.HasPrefix(dir, "/etc/skel/") }

// lastingPlaces are the directories below which programs have directories of their own.
func lastingPlaces() []string {
	return []string{"/etc/", "/opt/", "/srv/", "/usr/local/", "/usr/share/", "/var/lib/"}
}

// isDropinDirectory reports whether a directory is known to hold drop-ins.
func isDropinDirectory(dir string) bool {
	return strings.HasSuffix(dir, ".d") || isSkeleton(dir) || dropindir.Of(dir).Holds
}

// whereSecretsGo is the end of every message that refuses a secret.
const whereSecretsGo = "only the content of a drop-in can hold one, in a directory of which root or a service alone is the reader"

// noPlaceForSecrets returns why a drop-in cannot hold a secret, or "" if it can. Usually the reason
// is that everybody sees its content, or must be able to read it. Its mode would either expose the
// secret or keep its readers out.
func noPlaceForSecrets(file string) string { return dropindir.Of(path.Dir(file)).Seen }
