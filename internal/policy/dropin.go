package policy

import (
	"path"
	"regexp"
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
		{"/etc/security/limits.d", endsInConf, nil, "pam_limits reads only names that end in .conf (limits.conf(5))"},
		{"/etc/rsyslog.d", endsInConf, nil, "rsyslog includes only names that end in .conf"},
		{"/etc/ssh/sshd_config.d", endsInConf, nil, "sshd includes only names that end in .conf"},
		{"/etc/ld.so.conf.d", endsInConf, nil, "ldconfig includes only names that end in .conf"},
		{"/etc/environment.d", endsInConf, nil, "systemd reads only names that end in .conf (environment.d(5))"},
		{"/etc/systemd/*.conf.d", endsInConf, nil, "systemd reads only names that end in .conf"},
		{"/etc/systemd/system/*.d", endsInConf, nil, "systemd reads only names that end in .conf (systemd.unit(5))"},
		{"/etc/systemd/system", unitFile, nil, "it is not the name of a unit (systemd.unit(5))"},
		{"/etc/profile.d", regexp.MustCompile(`\.(sh|csh)$`), nil, "shells read only names that end in .sh or .csh"},
		{"/etc/cron.*", plainName, nil, "cron and run-parts skip names with other than letters, digits, - and _ (run-parts(8))"},
		{"/etc/update-motd.d", plainName, nil, "run-parts skips names with other than letters, digits, - and _ (run-parts(8))"},
		{
			"/etc/logrotate.d", anyName,
			regexp.MustCompile(`(~|,v|\.(rpmsave|rpmorig|rpmnew|disabled|dpkg-(old|dist|new)|cfsaved|ucf-(old|dist|new)|swp)|\.rhn-cfg-tmp-.*)$`),
			"logrotate skips names with such an ending (logrotate(8), tabooext)",
		},
		{"/etc/yum.repos.d", regexp.MustCompile(`\.repo$`), nil, "yum and dnf read only names that end in .repo (yum.conf(5))"},
		{"/etc/yum/pluginconf.d", endsInConf, nil, "yum reads only names that end in .conf"},
		{"/etc/yum/protected.d", endsInConf, nil, "yum reads only names that end in .conf"},
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

// ForbiddenDropin says why no drop-in may stand at a path, though the path is not
// protected, or "" when one may.
func ForbiddenDropin(file string) string {
	for _, place := range []struct{ dir, why string }{
		{"/etc/dconf/db/", "say it in [dconf], which keeps the whole database"},
		{"/etc/dconf/profile/", "say it in [dconf], which sees to the profile"},
		{"/etc/X11/xorg.conf.d/", "the streaming agent makes the configuration of X, and a mistake ends the session"},
		{"/etc/krb5.conf.d/", "people log in by it, and WorkSpaces sees to it"},
		{"/etc/firewalld/", "a mistake cuts the streaming session off"},
		{"/etc/dracut.conf.d/", "what resumes a hibernated machine lies there"},
		{"/etc/default/grub.d/", "what resumes a hibernated machine lies there"},
	} {
		if strings.HasPrefix(file, place.dir) {
			return place.why
		}
	}
	return ""
}
