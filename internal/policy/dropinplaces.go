package policy

import (
	"path"
	"strings"

	"github.com/soe-agent/soe-agent/internal/dropindir"
)

// passedOver says why the reader of a drop-in would silently pass over it, or ""
// when it would not, or nothing is known of its reader.
func passedOver(file string) string {
	dir, base := path.Split(file)
	names := dropindir.Of(path.Clean(dir)).Names
	if names.Reads != nil && (!names.Reads.MatchString(base) || names.Skips != nil && names.Skips.MatchString(base)) {
		return names.Why
	}
	return ""
}

// ForbiddenDropin says why no drop-in may stand at a path, though the path is not
// protected, or "" when one may.
func ForbiddenDropin(file string) string {
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

// skipsDots says whether the reader of a directory passes over names that begin with a
// dot. useradd copies all of /etc/skel, and of others nothing is known.
func skipsDots(dir string) bool { return isDropinDirectory(dir) && !isSkeleton(dir) }

func isSkeleton(dir string) bool { return dir == "/etc/skel" || strings.HasPrefix(dir, "/etc/skel/") }

// lastingPlaces are those below which programs have directories of their own.
func lastingPlaces() []string {
	return []string{"/etc/", "/opt/", "/srv/", "/usr/local/", "/usr/share/", "/var/lib/"}
}

// isDropinDirectory says whether a directory is known to hold drop-ins.
func isDropinDirectory(dir string) bool {
	return strings.HasSuffix(dir, ".d") || isSkeleton(dir) || dropindir.Of(dir).Holds
}

// whereSecretsGo ends every refusal of a secret.
const whereSecretsGo = "only the content of a drop-in can hold one, in a directory of which root or a service alone is the reader"

// noPlaceForSecrets says why a drop-in can hold no secret, or "" when it can: most often
// because everybody sees what it holds, or must for it to be of use. Its mode would
// either let the secret out or keep its readers from it.
func noPlaceForSecrets(file string) string { return dropindir.Of(path.Dir(file)).Seen }
