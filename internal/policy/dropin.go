package policy

import (
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/protected"
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

func (v *validator) dropin(d Dropin, secret bool) {
	v.ensure(d.Ensure)
	file := "/" + v.name
	dir, base := path.Split(file)
	v.refuse(path.Clean(file) != file || breaksLine(file), "%q is not a clean absolute path", file)
	v.dropinPlace(file, d.Activate)
	v.refuse(strings.HasPrefix(base, ".") && skipsDots(path.Clean(dir)), "readers of %s skip files that begin with a dot", dir)
	v.refuse(strings.HasPrefix(base, ".") && strings.HasSuffix(base, ".soe.swp"), "the agent's own files for a moment are called so")
	v.refuse(len(base) > 240, "its name is longer than 240 bytes")
	if why := Written(file, d.Content); why != "" && d.Ensure != Absent {
		v.wrong("%s", why)
	}
	for _, dir := range []string{"/etc/cron.d", "/etc/sudoers.d", "/etc/logrotate.d"} {
		v.refuse(path.Dir(file) == dir && d.Owner != "" && d.Owner != "root" && d.Owner != "0", "the reader of %s passes over files of others than root", dir)
	}
	for _, account := range []string{d.Owner, d.Group} {
		v.refuse(strings.Contains(account, ":") || breaksLine(account), "%q is not the name of an account", account)
	}
	if why := passedOver(file); why != "" && d.Ensure != Absent {
		v.wrong("%s", why)
	}
	if why := noPlaceForSecrets(file); why != "" {
		v.refuse(secret, "no secret can be in it: %s; %s", why, whereSecretsGo)
	}
	if d.Mode != nil {
		v.refuse(*d.Mode&0o7000 != 0, "mode %04o has setuid, setgid or the sticky bit, which no drop-in needs", *d.Mode)
		v.refuse(*d.Mode&0o002 != 0, "mode %04o lets everybody write it", *d.Mode)
		for _, rule := range modeRules() {
			if matched, _ := path.Match(rule.dir, path.Dir(file)); matched {
				v.refuse(*d.Mode&rule.forbidden != 0 || *d.Mode&rule.needed != rule.needed, "mode %04o: %s", *d.Mode, rule.why)
			}
		}
		v.refuse(secret && *d.Mode&0o007 != 0, "mode %04o lets everybody see the secret in it", *d.Mode)
	}
	if len(d.Activate) > 0 {
		v.refuse(!path.IsAbs(d.Activate[0]), "activate: %q is not the absolute path of a program", d.Activate[0])
		v.refuse(strings.ContainsRune(strings.Join(d.Activate, ""), 0), "activate: no argument can hold a NUL byte")
		v.activatedUnits(d.Activate)
	}
}

// activatedUnits refuses to have systemctl do what ends or disturbs a session.
func (v *validator) activatedUnits(argv []string) {
	if path.Base(argv[0]) != "systemctl" {
		return
	}
	for _, word := range argv[1:] {
		unit := word
		if path.Ext(unit) == "" {
			unit += ".service"
		}
		v.refuse(protected.Disruptive(unit) || protected.EndsAll(unit), "activate: %s of %s disturbs whoever is logged in", argv[0], word)
	}
}

// dropinPlace says what is wrong with the place of a file. Where the agent does
// not know the reader of a directory, the policy says what activates a change.
func (v *validator) dropinPlace(file string, activate []string) {
	dir := path.Dir(file)
	if why := protected.Path(file); why != "" {
		v.wrong("%s is protected: %s", file, why)
		return // nothing that is said besides would let it stand there
	}
	if why := ForbiddenDropin(file); why != "" {
		v.wrong("%s is no place for a drop-in: %s", file, why)
		return
	}
	switch {
	case isDropinDirectory(dir):
	case !slices.ContainsFunc(lastingPlaces(), func(place string) bool { return strings.HasPrefix(dir, place) }):
		v.wrong("%s is not a place for drop-ins: its directory does not end in .d", file)
	case activate == nil:
		v.wrong("nothing is known of the reader of %s: say with activate which command makes a change take effect, or with activate = [] that none is needed", dir)
	}
	for _, place := range []string{"/dev/", "/home/", "/proc/", "/run/user/", "/sys/", "/tmp/", "/var/tmp/"} {
		v.refuse(strings.HasPrefix(file, place), "%s is no place for what the machine relies on: others write there, or it does not last", place)
	}
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

// directory refuses to have places cleared in which others put what is needed.
func (v *validator) directory() {
	dir := "/" + v.name
	v.refuse(path.Clean(dir) != dir || breaksLine(dir), "%q is not a clean absolute path", dir)
	v.refuse(!isDropinDirectory(dir) || !strings.HasPrefix(dir, "/etc/") && !strings.HasPrefix(dir, "/usr/local/"),
		"%s is not a directory of drop-ins below /etc or /usr/local", dir)
	for _, place := range []struct{ dir, why string }{
		{"/etc/sudoers.d", "say in [sudo] who may administer the machine"},
		{"/etc/polkit-1/rules.d", "say in [sudo] who may administer the machine"},
		{"/etc/polkit-1/localauthority.conf.d", "say in [sudo] who may administer the machine"},
		{"/etc/yum.repos.d", "say in [repositories] which there are"},
		{"/etc/apt/*.d", "say in [repositories] which there are"},
		{"/etc/pki/rpm-gpg", "the keys of repositories lie there"},
		{"/etc/systemd/system", "the links by which units are enabled lie there"},
		{"/etc/systemd/system/*.d", "AWS may add to its units there"},
		{"/etc/init.d", "the machine starts by what lies there"},
		{"/etc/rc*.d", "the machine starts by what lies there"},
		{"/etc/rc.d/*", "the machine starts by what lies there"},
		{"/etc/grub.d", "the machine starts by what lies there"},
		{"/etc/ssh/sshd_config.d", "people log in by it"},
	} {
		if matched, _ := path.Match(place.dir, dir); matched {
			v.wrong("%s cannot be purged: %s", dir, place.why)
		}
	}
	if why := protected.Path(dir); why != "" {
		v.wrong("%s is protected: %s", dir, why)
	}
	if why := ForbiddenDropin(dir + "/"); why != "" {
		v.wrong("%s is no place for drop-ins: %s", dir, why)
	}
}
