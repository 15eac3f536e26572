package policy

import (
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
)

// A nameRule says which names the reader of a directory does not pass over.
type nameRule struct {
	dir   string // a pattern of path.Match
	reads *regexp.Regexp
	skips *regexp.Regexp // nil: nothing that reads matches
	why   string         // what the reader passes over, and where that is written
}

var (
	endsInConf  = regexp.MustCompile(`\.conf$`)
	endsInRules = regexp.MustCompile(`\.rules$`)
	endsInJSON  = regexp.MustCompile(`\.json$`)
	plainName   = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)
	anyName     = regexp.MustCompile(``)
	unitFile    = regexp.MustCompile(`\.(service|socket|timer|path|target|mount|automount|slice|swap|device|scope)$`)

	nameRules = []nameRule{
		{"/etc/sudoers.d", anyName, regexp.MustCompile(`\.|~$`), "sudo skips files whose name has a dot or ends in ~ (sudoers(5))"},
		{"/etc/sysctl.d", endsInConf, nil, "sysctl reads only names that end in .conf (sysctl.d(5))"},
		{"/etc/modprobe.d", endsInConf, nil, "modprobe reads only names that end in .conf (modprobe.d(5))"},
		{"/etc/modules-load.d", endsInConf, nil, "systemd reads only names that end in .conf (modules-load.d(5))"},
		{"/etc/tmpfiles.d", endsInConf, nil, "systemd-tmpfiles reads only names that end in .conf (tmpfiles.d(5))"},
		{"/etc/sysusers.d", endsInConf, nil, "systemd-sysusers reads only names that end in .conf (sysusers.d(5))"},
		{"/etc/security/limits.d", endsInConf, nil, "pam_limits reads only names that end in .conf (limits.conf(5))"},
		{"/etc/rsyslog.d", endsInConf, nil, "rsyslog includes only names that end in .conf"},
		{"/etc/ssh/sshd_config.d", endsInConf, nil, "sshd includes only names that end in .conf"},
		{"/etc/ld.so.conf.d", endsInConf, nil, "ldconfig includes only names that end in .conf"},
		{"/etc/environment.d", endsInConf, nil, "systemd reads only names that end in .conf (environment.d(5))"},
		{"/etc/systemd/*.conf.d", endsInConf, nil, "systemd reads only names that end in .conf"},
		{"/etc/systemd/system/*.d", endsInConf, nil, "systemd reads only names that end in .conf (systemd.unit(5))"},
		{"/etc/systemd/system", unitFile, nil, "it is not the name of a unit (systemd.unit(5))"},
		{"/etc/profile.d", regexp.MustCompile(`\.(sh|csh)$`), nil, "shells read only names that end in .sh or .csh"},
		{
			"/etc/cron.d", anyName, regexp.MustCompile(`^#|~$|\.(rpmsave|rpmorig|rpmnew)$`),
			"cron skips names that begin with # or end in ~, .rpmsave, .rpmorig or .rpmnew (cron(8))",
		},
		{
			"/etc/cron.*ly", anyName, regexp.MustCompile(`[~,]$|,v$|\.(rpmsave|rpmorig|rpmnew|swp|cfsaved)$`),
			"run-parts skips names that end in ~ or a comma, and what editors and rpm leave behind (run-parts(4))",
		},
		{"/etc/update-motd.d", plainName, nil, "run-parts skips names with other than letters, digits, - and _ (run-parts(8))"},
		{
			"/etc/logrotate.d", anyName,
			regexp.MustCompile(`(~|,v|\.(rpmsave|rpmorig|rpmnew|disabled|dpkg-(old|dist|new)|cfsaved|ucf-(old|dist|new)|swp)|\.rhn-cfg-tmp-.*)$`),
			"logrotate skips names with such an ending (logrotate(8), tabooext)",
		},
		{"/etc/yum.repos.d", regexp.MustCompile(`\.repo$`), nil, "yum and dnf read only names that end in .repo (yum.conf(5))"},
		{"/etc/yum/pluginconf.d", endsInConf, nil, "yum reads only names that end in .conf"},
		{"/etc/yum/protected.d", endsInConf, nil, "yum reads only names that end in .conf"},
		{"/etc/chrony.d", endsInConf, nil, "chronyd includes only names that end in .conf"},
		{"/etc/chrony/conf.d", endsInConf, nil, "chronyd includes only names that end in .conf"},
		{"/etc/udev/rules.d", endsInRules, nil, "udev reads only names that end in .rules (udev(7))"},
		{"/etc/audit/rules.d", endsInRules, nil, "augenrules reads only names that end in .rules (augenrules(8))"},
		{"/etc/polkit-1/rules.d", endsInRules, nil, "polkit reads only names that end in .rules (polkit(8))"},
		{"/etc/xdg/autostart", regexp.MustCompile(`\.desktop$`), nil, "sessions start only what ends in .desktop"},
		{"/etc/firefox/policies", regexp.MustCompile(`^policies\.json$`), nil, "Firefox reads only policies.json"},
		{"/etc/opt/*/policies/managed", endsInJSON, nil, "the browser reads only names that end in .json"},
		{"/etc/chromium/policies/managed", endsInJSON, nil, "the browser reads only names that end in .json"},
		{"/etc/pki/ca-trust/source/anchors", regexp.MustCompile(`\.(crt|pem)$`), nil, "a certificate ends in .crt or .pem"},
		{"/usr/local/share/ca-certificates", regexp.MustCompile(`\.crt$`), nil, "update-ca-certificates reads only names that end in .crt"},
	}
)

// passedOver says why the reader of a drop-in would silently pass over it, or ""
// when it would not, or nothing is known of its reader.
func passedOver(file string) string {
	dir, base := path.Dir(file), path.Base(file)
	for _, rule := range nameRules {
		if matched, _ := path.Match(rule.dir, dir); !matched {
			continue
		}
		if !rule.reads.MatchString(base) || rule.skips != nil && rule.skips.MatchString(base) {
			return rule.why
		}
		return ""
	}
	return ""
}

// A modeRule says with which modes the reader of a directory passes over a file.
type modeRule struct {
	dir               string // a pattern of path.Match
	forbidden, needed fs.FileMode
	why               string
}

func modeRules() []modeRule {
	return []modeRule{
		{"/etc/cron.d", 0o133, 0o400, "cron passes over files that are executable, or that others than their owner may write (cron(8))"},
		{"/etc/cron.*ly", 0, 0o100, "run-parts passes over files that are not executable"},
		{"/etc/update-motd.d", 0, 0o100, "run-parts passes over files that are not executable"},
		{"/etc/sudoers.d", 0o022, 0o400, "sudo passes over files that others than their owner may write (sudoers(5))"},
		{"/etc/logrotate.d", 0o022, 0o400, "logrotate passes over files that others than their owner may write"},
	}
}

// ForbiddenDropin says why no drop-in may stand at a path, though the path is not
// protected, or "" when one may.
func ForbiddenDropin(file string) string {
	for _, place := range []struct{ dir, why string }{
		{"/etc/dconf/db/", "say it in [dconf], which keeps the whole database"},
		{"/etc/dconf/profile/", "say it in [dconf], which sees to the profile"},
		{"/etc/krb5.conf.d/", "people log in by it, and WorkSpaces sees to it"},
		{"/etc/firewalld/", "a mistake cuts the streaming session off"},
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
	return strings.HasSuffix(dir, ".d") || isSkeleton(dir) || slices.Contains(dropinPlaces(), dir)
}

// dropinPlaces are the directories that hold drop-ins and are not called so.
func dropinPlaces() []string {
	return []string{
		"/etc/cron.hourly", "/etc/cron.daily", "/etc/cron.weekly", "/etc/cron.monthly", "/etc/dconf/profile",
		"/etc/firefox/policies", "/etc/opt/chrome/policies/managed", "/etc/opt/edge/policies/managed",
		"/etc/chromium/policies/managed", "/etc/pki/ca-trust/source/anchors", "/etc/pki/rpm-gpg",
		"/etc/systemd/system", "/etc/xdg/autostart", "/etc/yum/vars", "/etc/dnf/vars",
		"/usr/local/share/ca-certificates", "/usr/share/applications", "/usr/share/backgrounds",
	}
}

// whereSecretsGo ends every refusal of a secret.
const whereSecretsGo = "only the content of a drop-in can hold one, in a directory of which root or a service alone is the reader"

// noPlaceForSecrets says why a drop-in can hold no secret, or "" when it can: most often
// because everybody sees what it holds, or must for it to be of use. Its mode would
// either let the secret out or keep its readers from it.
func noPlaceForSecrets(file string) string {
	dir := path.Dir(file)
	for _, place := range []struct{ dir, why string }{
		{"/etc/profile.d", "the shells of all people read it"},
		{"/etc/environment.d", "the sessions of all people read it"},
		{"/etc/X11/xinit/xinitrc.d", "the sessions of all people read it"},
		{"/etc/xdg/autostart", "the sessions of all people read it"},
		{"/etc/skel", "everybody gets a copy of it"},
		{"/usr/share/applications", "the desktops of all people read it"},
		{"/usr/share/backgrounds", "the desktops of all people read it"},
		{"/etc/firefox/policies", "the browsers of all people read it"},
		{"/etc/opt/*/policies/managed", "the browsers of all people read it"},
		{"/etc/chromium/policies/managed", "the browsers of all people read it"},
		{"/etc/ssh/ssh_config.d", "the ssh of all people reads it"},
		{"/etc/ssh/sshd_config.d", "a mistake in it keeps people out, so all of it is checked, and no secret is shown to a checker"},
		{"/etc/pam.d", "the screen lockers of all people read it"},
		{"/etc/sysctl.d", "the kernel shows its settings to everybody (proc(5))"},
		{"/etc/modprobe.d", "the kernel shows the parameters of its modules to everybody, and so does modprobe"},
		{"/etc/modules-load.d", "the kernel shows its modules to everybody"},
		{"/etc/udev/rules.d", "udev shows what it knows of devices to everybody"},
		{"/etc/systemd/system", "systemd shows its units to everybody over D-Bus; have EnvironmentFile= name a drop-in elsewhere"},
		{"/etc/systemd/system/*.d", "systemd shows its units to everybody over D-Bus; have EnvironmentFile= name a drop-in elsewhere"},
		{"/etc/systemd/*.conf.d", "systemd shows its settings to everybody over D-Bus"},
		{"/etc/cron.d", "cron writes the commands that it runs into the log"},
		{"/etc/sudoers.d", "sudo shows its rules to those whom they concern"},
		{"/etc/polkit-1/rules.d", "polkit, which is not root, reads it"},
		{"/etc/ld.so.conf.d", "it is for programs of all people"},
		{"/etc/pki/ca-trust/source/anchors", "certificates are for everybody"},
		{"/usr/local/share/ca-certificates", "certificates are for everybody"},
		{"/etc/pki/rpm-gpg", "keys of packages are for everybody"},
	} {
		if matched, _ := path.Match(place.dir, dir); matched {
			return place.why
		}
	}
	return ""
}
