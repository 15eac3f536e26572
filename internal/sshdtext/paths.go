package sshdtext

import (
	"path"
	"slices"
	"strings"
)

// A Use is what sshd does with a file that a key names.
type Use int

// What sshd does with a file.
const (
	Unused    Use = iota // the key names no file
	Published            // its content is shown, by sshd itself or in messages about it
	Obeyed               // sshd goes by it, or runs it
	Replaced             // sshd overwrites it as root
)

// UseOf returns what sshd does with the file that a key names.
func UseOf(key string) Use {
	switch strings.ToLower(key) {
	case "banner", Include:
		return Published
	case "authorizedkeyscommand", "authorizedprincipalscommand", "forcecommand", "hostcertificate", "hostkey", "modulifile", "revokedkeys",
		"securitykeyprovider", "subsystem", "trustedusercakeys", "xauthlocation":
		return Obeyed
	case "pidfile":
		return Replaced
	}
	return Unused
}

// Paths returns the files that the words of a key name, and what sshd does with them.
func Paths(key string, words []string) (files []string, use Use) {
	use = UseOf(key)
	switch name := strings.ToLower(key); {
	case use == Unused || len(words) == 0:
		return nil, use
	case name == Include:
		for _, file := range words {
			if !path.IsAbs(file) {
				file = "/etc/ssh/" + file
			}
			files = append(files, file)
		}
	case name == "revokedkeys":
		files = words
	case name == "subsystem":
		files = words[min(1, len(words)-1):][:1]
	default:
		files = words[:1]
	}
	return slices.DeleteFunc(slices.Clone(files), func(file string) bool {
		return strings.EqualFold(file, "none") || use != Replaced && !path.IsAbs(file) && !strings.EqualFold(key, "banner")
	}), use
}

// wrongPath returns why a file that a key names is refused on each machine, or "".
func wrongPath(key string, words []string) string {
	files, use := Paths(key, words)
	for _, file := range files {
		switch {
		case use == Replaced:
			if path.Clean(file) != file || !strings.HasPrefix(file, "/run/") && !strings.HasPrefix(file, "/var/run/") || strings.Count(file, "/") > 3 {
				return "sshd overwrites that file as root; it is none, or a file of /run"
			}
		case !path.IsAbs(file) || path.Clean(file) != file:
			return "it is not an absolute path without . and .."
		case below(file, peoples()):
			return "others than root may write there"
		case use == Published && private(file):
			return "not everybody may read that file, and sshd would show it"
		}
	}
	return ""
}

// peoples are directories in which others than root make files, or that are no files of root's.
func peoples() []string {
	return strings.Fields("/home /tmp /var/tmp /dev /proc /sys /run/user /run/lock /var/run/user /var/lock /mnt /media /var/spool /var/crash")
}

// private reports whether a file is known as one that root alone may read, on machines of any kind.
func private(file string) bool {
	base := path.Base(file)
	return below(file, strings.Fields(`/root /boot /run /var/run /var/log /var/lib /var/cache /var/backups /etc/sudoers /etc/sudoers.d /etc/sudoers.dist /etc/sudo.conf
		/etc/sudo-ldap.conf /etc/audit /etc/audisp /etc/sssd /etc/polkit-1 /etc/soe-agent /etc/cron.d /etc/crontab /etc/security /etc/ssl/private /etc/pki/tls/private
		/etc/pki/CA/private /etc/pki/private /etc/nftables.conf /etc/nftables.d /etc/sysconfig /etc/ppp /etc/NetworkManager /etc/wpa_supplicant /etc/ipsec.d /etc/ipsec.secrets
		/etc/wireguard /etc/openvpn /etc/libvirt /etc/docker /etc/chrony.keys /etc/chrony/chrony.keys /etc/krb5.keytab /etc/securetty /etc/aliases.db /etc/at.deny /etc/at.allow
		/etc/cups /etc/samba /etc/fstab.d /etc/yum.repos.d /etc/dnf /etc/amazon /etc/pcoip-agent /etc/dcv /etc/letsencrypt /etc/crypttab /etc/cryptsetup-keys.d`)) ||
		slices.ContainsFunc(strings.Fields("shadow gshadow opasswd tcb sudoers ssh_host_ id_ .netrc .pgpass .git-credentials"), func(begins string) bool { return strings.HasPrefix(base, begins) }) ||
		slices.Contains(strings.Fields(".key .keytab .pem .p12 .pfx .jks .secret .secrets"), path.Ext(base)) || strings.Contains(file, "/.ssh/") || strings.Contains(file, "/.aws/") || strings.Contains(file, "/.gnupg/")
}

func below(file string, dirs []string) bool {
	return slices.ContainsFunc(dirs, func(dir string) bool { return file == dir || strings.HasPrefix(file, dir+"/") })
}

// Private returns why a file must not be shown to everybody, as far as its name tells, or "".
func Private(file string) string { return wrongPath("banner", []string{file}) }
