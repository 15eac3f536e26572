package account

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/protected"
	"github.com/soe-agent/soe-agent/internal/public"
	"github.com/soe-agent/soe-agent/internal/system"
)

// mayLoseID returns an error for an account or group whose id must not change, and which must not
// be removed.
func mayLoseID(name string, id int, reserved map[string]int) error {
	if why := protected.Group(name); why != "" {
		return public.Error(errors.New(why))
	}
	if known, is := reserved[name]; is && known == id {
		return public.Error(fmt.Errorf("id %d is reserved for it in Amazon Linux, and software relies on that", id))
	}
	return nil
}

// mayTakeID returns an error for an id that Amazon Linux reserves for somebody else, because that
// package could not create its account any more.
func mayTakeID(ctx context.Context, s *system.System, word, name string, id int, reserved map[string]int) error {
	const certain = 350                // see reservedUIDs
	machine, _ := facts.Gather(ctx, s) // nothing is known about other or unknown systems
	if machine.OSID != "amzn" || id > certain {
		return nil
	}
	for _, other := range slices.Sorted(maps.Keys(reserved)) {
		if reserved[other] == id && other != name {
			return public.Error(fmt.Errorf("%s %d is reserved for %s in Amazon Linux, whose package needs it", word, id, other))
		}
	}
	return nil
}

// unregistered reports the local names whose id is in the range from which useradd and groupadd
// take the next free one. Such an id differs from machine to machine. Names in the policy, and
// names that the system itself provides, are left out.
func unregistered(s *system.System, p *policy.Policy, want policy.Resource, ids map[string]int, word string, reserved map[string]int) converge.Resource {
	r := converge.Wanted(want)
	least, most := systemRange(s, word)
	var found []string
	for _, name := range slices.Sorted(maps.Keys(ids)) {
		_, known := reserved[name]
		_, wanted := p.Lookup(policy.NewID(r.ID.Kind(), name))
		if id := ids[name]; id < least || id > most || known || wanted || protected.Group(name) != "" {
			continue
		}
		found = append(found, fmt.Sprintf("%s (%d)", name, ids[name]))
	}
	if len(found) > 0 {
		r.SetFailed(fmt.Sprintf("no %s is registered for %s: name them in [ids], so that they have the same one everywhere",
			strings.ToLower(word), strings.Join(found, ", "))).ReasonIsPublic()
	}
	return r
}

// systemRange returns the range from which useradd -r and groupadd -r assign ids; see SYS_UID_MIN
// in login.defs(5). The defaults are those of Amazon Linux.
func systemRange(s *system.System, word string) (least, most int) {
	least, most = 201, 999
	definitions := loginDefs(s)
	if id, err := strconv.Atoi(definitions["SYS_"+word+"_MIN"]); err == nil {
		least = id
	}
	if id, err := strconv.Atoi(definitions["SYS_"+word+"_MAX"]); err == nil {
		most = id
	}
	return least, most
}

// loginDefs returns the settings of /etc/login.defs, or none if it cannot be read.
func loginDefs(s *system.System) map[string]string {
	settings := map[string]string{}
	definitions, _ := s.FS.ReadFile("/etc/login.defs")
	for line := range strings.SplitSeq(string(definitions), "\n") {
		if fields := strings.Fields(line); len(fields) >= 2 {
			settings[fields[0]] = fields[1]
		}
	}
	return settings
}

// reservedUIDs returns the system accounts of Amazon Linux 2, as its User Guide lists them. Those
// from 351 to 389 and from 993 on are usual but not certain.
func reservedUIDs() map[string]int {
	return map[string]int{
		"root": 0, "bin": 1, "daemon": 2, "adm": 3, "lp": 4, "sync": 5, "shutdown": 6, "halt": 7, "mail": 8,
		"uucp": 10, "operator": 11, "games": 12, "ftp": 14, "oprofile": 16, "pkiuser": 17, "squid": 23, "named": 25,
		"postgres": 26, "mysql": 27, "nscd": 28, "rpcuser": 29, "rpc": 32, "amandabackup": 33, "ntp": 38,
		"mailman": 41, "gdm": 42, "mailnull": 47, "apache": 48, "smmsp": 51, "tomcat": 53, "ldap": 55, "tss": 59,
		"nslcd": 65, "pegasus": 66, "avahi": 70, "tcpdump": 72, "sshd": 74, "radvd": 75, "cyrus": 76, "arpwatch": 77,
		"fax": 78, "dbus": 81, "postfix": 89, "quagga": 92, "radiusd": 95, "hsqldb": 96, "dovecot": 97, "ident": 98,
		"nobody": 99, "qemu": 107, "usbmuxd": 113, "stap-server": 155, "avahi-autoipd": 170, "pulse": 171,
		"rtkit": 172, "dhcpd": 177, "sanlock": 179, "haproxy": 188, "hacluster": 189, "systemd-journal-gateway": 191,
		"systemd-network": 192, "systemd-resolve": 193, "uuidd": 357, "tang": 358, "stapdev": 359, "stapsys": 360,
		"stapusr": 361, "systemd-journal-upload": 362, "systemd-journal-remote": 363, "saned": 364, "pesign": 365,
		"pcpqa": 366, "pcp": 367, "memcached": 368, "ipsilon": 369, "ipaapi": 370, "kdcproxy": 371, "ods": 372,
		"sssd": 373, "gluster": 374, "fedfs": 375, "dovenull": 376, "coroqnetd": 377, "clevis": 378, "clamscan": 379,
		"clamilt": 380, "clamupdate": 381, "colord": 382, "geoclue": 383, "aws-kinesis-agent-user": 384,
		"cwagent": 385, "unbound": 386, "polkitd": 387, "saslauth": 388, "dirsrv": 389, "chrony": 996,
		"ec2-instance-connect": 997, "rngd": 998, "libstoragemgmt": 999,
	}
}

// reservedGIDs returns the system groups of Amazon Linux 2; see reservedUIDs.
func reservedGIDs() map[string]int {
	return map[string]int{
		"root": 0, "bin": 1, "daemon": 2, "sys": 3, "adm": 4, "tty": 5, "disk": 6, "lp": 7, "mem": 8, "kmem": 9,
		"wheel": 10, "cdrom": 11, "mail": 12, "uucp": 14, "man": 15, "oprofile": 16, "pkiuser": 17, "dialout": 18,
		"floppy": 19, "games": 20, "slocate": 21, "utmp": 22, "squid": 23, "named": 25, "postgres": 26, "mysql": 27,
		"nscd": 28, "rpcuser": 29, "rpc": 32, "tape": 33, "utempter": 35, "kvm": 36, "ntp": 38, "video": 39,
		"dip": 40, "mailman": 41, "gdm": 42, "mailnull": 47, "apache": 48, "ftp": 50, "smmsp": 51, "tomcat": 53,
		"lock": 54, "ldap": 55, "tss": 59, "audio": 63, "pegasus": 65, "avahi": 70, "tcpdump": 72, "sshd": 74,
		"radvd": 75, "saslauth": 76, "arpwatch": 77, "fax": 78, "dbus": 81, "screen": 84, "quaggavt": 85,
		"wbpriv": 88, "postfix": 89, "postdrop": 90, "quagga": 92, "radiusd": 95, "hsqldb": 96, "dovecot": 97,
		"ident": 98, "nobody": 99, "users": 100, "qemu": 107, "usbmuxd": 113, "stap-server": 155, "stapusr": 156,
		"stapsys": 157, "stapdev": 158, "avahi-autoipd": 170, "pulse": 171, "rtkit": 172, "dhcpd": 177,
		"sanlock": 179, "haproxy": 188, "haclient": 189, "systemd-journal": 190, "systemd-journal-gateway": 191,
		"systemd-network": 192, "systemd-resolve": 193, "usbmon": 351, "wireshark": 352, "uuidd": 353, "tang": 354,
		"systemd-journal-upload": 355, "sfcb": 356, "systemd-journal-remote": 356, "saned": 357, "pesign": 358,
		"pcpqa": 359, "pcp": 360, "memcached": 361, "virtlogin": 362, "ipsilon": 363, "pkcs11": 364, "ipaapi": 365,
		"kdcproxy": 366, "ods": 367, "sssd": 368, "libvirt": 369, "gluster": 370, "fedfs": 371, "dovenull": 372,
		"docker": 373, "coroqnetd": 374, "clevis": 375, "clamscan": 376, "clamilt": 377, "virusgroup": 378,
		"clamupdate": 379, "colord": 380, "geoclue": 381, "printadmin": 382, "aws-kinesis-agent-user": 383,
		"cwagent": 384, "pulse-rt": 385, "pulse-access": 386, "unbound": 387, "polkitd": 388, "dirsrv": 389,
		"cgred": 993, "chrony": 994, "ec2-instance-connect": 995, "rngd": 996, "libstoragemgmt": 997,
		"ssh_keys": 998, "input": 999,
	}
}
