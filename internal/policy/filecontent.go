package policy

import (
	"path"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/protected"
)

// Whole reports whether the policy names the whole content of a file, or says that the file is absent.
func (f File) Whole() bool { return f.Content != nil || f.Ensure == Absent }

const (
	startsMachine = "the machine starts by it"
	startsUnits   = "services start with it: write it in [dropins], and say with activate what makes it take effect"
	isAWSs        = "it is AWS's, and the machine is reached by what it says"
	makesNetwork  = "the machine is reached by the network that it makes"
	trustsOthers  = "programs trust, and speak with, others by it, AWS's among them"
	startsSession = "sessions begin with it, or programs that these need, and a mistake keeps everybody out"
	saysWhich     = "it says which system this is, and AWS and the package manager go by that"
)

// forbiddenContent returns the files whose content cannot be set, although [files] may set their attributes.
func forbiddenContent() []forbidding {
	var all []forbidding
	for _, p := range []forbidding{
		{`/etc/centrify /etc/duo/ /etc/fail2ban/ /etc/group /etc/gshadow /etc/hosts. /etc/ipa/ /etc/ldap /etc/limits /etc/login. /etc/nologin /etc/nscd.conf
			/etc/nslcd /etc/oddjob /etc/openldap/ /etc/passwd /etc/pbis /etc/porttime /etc/realmd /etc/securetty /etc/shadow /etc/shells /etc/shosts /etc/ssh/ /etc/suauth /etc/usertty`, waysIn},
		{"/etc/doas /etc/super.tab /etc/userhelper", sudoSays},
		{`/etc/crypttab /etc/dracut /etc/grub /etc/init /etc/iscsi/ /etc/kernel /etc/lvm/ /etc/mdadm /etc/mkinit /etc/mtab /etc/multipath /etc/nvme
			/etc/rc /etc/rwtab /etc/statetab /etc/udev/`, startsMachine},
		{"/etc/default/ /etc/sysconfig/", startsUnits},
		{"/etc/amazon /etc/aws /etc/ec2 /etc/euc /etc/nice-dcv /etc/opt/amazon /etc/opt/aws /etc/skylight /etc/snap /etc/workspaces /opt/amazon /opt/aws /opt/dcv /opt/euc /opt/nice /opt/pcoip /opt/skylight /opt/teradici /opt/workspaces /opt/wsp", isAWSs},
		{`/etc/dhcp /etc/dnsmasq /etc/ethers /etc/ipsec /etc/iproute2/ /etc/network/ /etc/openvpn/ /etc/ppp/ /etc/resolvconf /etc/strongswan /etc/swanctl/
			/etc/wireguard/ /etc/wpa_supplicant`, makesNetwork},
		{"/etc/ebtables /etc/ip6tables /etc/ipset /etc/iptables /etc/nftables /etc/ufw/", "a mistake cuts the streaming session off: say it in [firewall]"},
		{"/etc/ca-certificates /etc/crypto-policies/ /etc/gnutls/ /etc/gss /etc/krb5 /etc/pki/ /etc/ssl/", trustsOthers},
		{`/etc/dconf/ /etc/fish/ /etc/ksh /etc/mate /etc/mkshrc /etc/plymouth/ /etc/sddm /etc/vnc /etc/xdm /etc/xprofile /etc/xrdp/
			/etc/zlog /etc/zprofile`, startsSession},
		{"/etc/apparmor /etc/cgconfig /etc/cgrules /etc/fapolicyd/ /etc/firejail/ /etc/ima/ /etc/usbguard/", "it says which programs may run, and a mistake stops those that people need"},
		{"/etc/apt/ /etc/dnf/ /etc/dpkg/ /etc/rpm/ /etc/yum", "say it in [packages], [repositories] and [patch], and as keys"},
		{"/etc/anacrontab /etc/crontab /etc/fcron /etc/incron", "jobs are drop-ins of /etc/cron.d, which are checked"},
		{"/etc/audit/ /etc/logrotate.conf /etc/modprobe /etc/modules /etc/rsyslog /etc/sysctl.conf", "there is a directory of drop-ins for it, which are checked, and in effect: write one of these"},
	} {
		for _, begin := range strings.Fields(p.begins) {
			all = append(all, forbidding{begin, p.why})
		}
	}
	return all
}

// ForbiddenContent returns why the content of a file cannot be set, although its owner and mode may be, or "".
// Files that decide who gets in, that start the machine or a session, or by which AWS reaches the machine are
// forbidden: nothing can prove beforehand that such a file is right as a whole.
func ForbiddenContent(file string) string {
	if why := protected.Path(file); why != "" {
		return "it is protected, " + why
	}
	if _, keyed := LookupKeyFile(file); keyed {
		return "say its keys"
	}
	lower := strings.ToLower(file)
	for _, p := range forbiddenContent() {
		if strings.HasPrefix(lower, p.begins) {
			return p.why
		}
	}
	switch base := path.Base(file); {
	case strings.HasPrefix(file, "/etc/") && strings.HasSuffix(base, "-release"), base == "debian_version", base == "image-id":
		return saysWhich
	case isEverybodys(file):
		return startsSession
	case IsKeptByAttributes(file):
		return "people need it as it is"
	case isDropinDirectory(path.Dir(file)):
		return "write it in [dropins], which knows who reads it"
	case isDropinDirectory(file), IsRootsDirectory(file):
		return "it is a directory"
	}
	for _, begins := range []string{"/etc/", "/opt/", "/srv/", "/usr/local/etc/", "/usr/local/share/"} {
		if strings.HasPrefix(file, begins) {
			return ""
		}
	}
	return "only that of files below /etc, /opt, /srv, /usr/local/etc and /usr/local/share is"
}

// IsReadEachTime reports whether the readers of a file are known to read it at each use, so that its content
// is always in effect.
func IsReadEachTime(file string) bool {
	return slices.Contains([]string{
		"/etc/at.allow", "/etc/at.deny", "/etc/cron.allow", "/etc/cron.deny", "/etc/issue", "/etc/issue.net", "/etc/motd",
		"/etc/securetty", "/etc/shells",
	}, file)
}

// validateContent checks the content that the policy wants, or the absence of the file.
func (f File) validateContent(v *validator, file string) {
	v.ensure(f.Ensure)
	if !f.Whole() {
		return
	}
	what := "the content of %s is not kept: %s"
	if f.Ensure == Absent {
		what = "%s is not removed: %s"
	}
	if why := ForbiddenContent(file); why != "" {
		v.wrong(what, file, why)
	}
	if f.Content != nil && f.Ensure != Absent {
		v.refuse(len(f.everyKey())+len(f.Lines)+len(f.AbsentLines) > 0, "with its content all of %s is said: keys and lines have no place beside it", file)
		v.refuse(strings.ContainsRune(*f.Content, 0), "the content of %s holds a NUL byte", file)
	}
}
