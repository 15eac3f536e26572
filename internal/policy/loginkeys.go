package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// SSHDConfig and LoginDefs are files that decide who gets in. Keys and modes in them are kept as
// far as the agent can prove on the machine that nobody is locked out.
const (
	SSHDConfig = "/etc/ssh/sshd_config"
	LoginDefs  = "/etc/login.defs"
)

// decidesLogins reports whether a file decides who gets in but may be managed nevertheless.
func decidesLogins(file string) bool { return file == SSHDConfig || file == LoginDefs }

// A sort is a set of keys with the same effect on logins.
type sort struct {
	keys []string
	why  string // why they are refused, or ""
}

// sshdKeys returns the keys of sshd_config(5), in lower case.
func sshdKeys() []sort {
	return []sort{
		{strings.Fields(`addkeystoagent allowagentforwarding allowstreamlocalforwarding allowtcpforwarding banner clientalivecountmax clientaliveinterval
			compression disableforwarding exposeauthinfo fingerprinthash gatewayports gssapicleanupcredentials gssapikeyexchange hostbasedusesnamefrompacketonly
			ignorerhosts ignoreuserknownhosts ipqos kerberosticketcleanup loglevel logverbose permitemptypasswords permittunnel permituserenvironment permituserrc
			persourcemaxstartups persourcenetblocksize printlastlog printmotd rekeylimit streamlocalbindmask streamlocalbindunlink syslogfacility tcpkeepalive
			usedns versionaddendum x11displayoffset x11forwarding x11uselocalhost`), ""},
		// For these the agent proves on the machine that nobody is locked out.
		{strings.Fields(`allowgroups allowusers authenticationmethods challengeresponseauthentication ciphers denygroups denyusers gssapiauthentication
			hostbasedauthentication kbdinteractiveauthentication kexalgorithms logingracetime macs maxauthtries maxsessions maxstartups passwordauthentication
			permitrootlogin pubkeyauthentication strictmodes usepam`), ""},
		{strings.Fields("addressfamily listenaddress port rdomain"), "people would not find sshd where they expect it"},
		{strings.Fields("hostcertificate hostkey hostkeyagent hostkeyalgorithms pidfile useprivilegeseparation"), "sshd might not start, or clients would take it for another host"},
		{strings.Fields(`authorizedkeyscommand authorizedkeyscommanduser authorizedkeysfile authorizedprincipalscommand authorizedprincipalscommanduser
			authorizedprincipalsfile casignaturealgorithms hostbasedacceptedalgorithms pubkeyacceptedalgorithms pubkeyacceptedkeytypes pubkeyauthoptions requiredrsasize
			revokedkeys securitykeyprovider trustedusercakeys`), "it decides whose keys are accepted, and the agent cannot tell whose those are"},
		{strings.Fields("acceptenv chrootdirectory forcecommand permitlisten permitopen permittty setenv subsystem"), "it decides how sessions start, or it may have several lines that all apply"},
		{strings.Fields("include match"), "other lines depend on it; only settings that apply to everybody are kept"},
	}
}

// keepsOut refuses values that would lock people out of ssh whoever they are. The rest is proved on
// the machine, where the people are known.
func keepsOut(key, value string) string {
	name := strings.ToLower(key)
	sorts := sshdKeys()
	i := slices.IndexFunc(sorts, func(s sort) bool { return slices.Contains(s.keys, name) })
	switch {
	case i < 0:
		return "its effect on logins is not known"
	case sorts[i].why != "":
		return sorts[i].why
	case value == "": // removed, or not known yet
		return ""
	}
	least := map[string]int{"maxauthtries": 2, "maxsessions": 1, "maxstartups": 2, "persourcemaxstartups": 2}
	number, err := strconv.Atoi(strings.TrimRight(strings.Split(value, ":")[0], "sS"))
	switch {
	case name == "usepam" && value != "yes":
		return "people of the directory log in through PAM, and accounts without a password only through it"
	case name == "strictmodes" && value != "yes":
		return "key files that others can write would be accepted"
	case name == "hostbasedauthentication" && value != "no":
		return "it would let in anybody whom another machine vouches for"
	case name == "permitrootlogin" && !slices.Contains([]string{"yes", "no", "prohibit-password", "without-password"}, value):
		return "it is none of yes, no and prohibit-password"
	case slices.Contains([]string{"ciphers", "kexalgorithms", "macs"}, name) && strings.ContainsRune("+-^*", rune(value[0])):
		return "the result depends on the installed sshd; give the whole list"
	case name == "persourcemaxstartups" && value == "none":
		return ""
	case least[name] > 0 && (err != nil || number < least[name]):
		return fmt.Sprintf("it is less than %d, and nobody would get in", least[name])
	case name == "logingracetime" && err == nil && number != 0 && number < 10:
		return "that is too short to type a password"
	}
	return ""
}

const (
	idsOfAccounts = "[users] and [groups], and all who make accounts, give ids by it"
	pathsOfRoot   = "programs are found by it, root's too"
)

// refusesLogins refuses keys of login.defs(5) with which a mistake locks people out, or that other
// programs rely on.
func refusesLogins(key, value string) string {
	in := func(keys string) bool { return slices.Contains(strings.Fields(keys), key) }
	number := func(least, most int) string {
		if n, err := strconv.Atoi(value); value != "" && (err != nil || n < least || n > most) {
			return fmt.Sprintf("it is not a number from %d to %d", least, most)
		}
		return ""
	}
	switch {
	case in("PASS_MAX_DAYS"):
		return number(1, 99999)
	case in("PASS_MIN_DAYS PASS_WARN_AGE PASS_MIN_LEN"):
		return number(0, 99999)
	case in("LOGIN_RETRIES"):
		return number(2, 99)
	case in("LOGIN_TIMEOUT"):
		return number(10, 3600)
	case in("FAIL_DELAY"):
		return number(0, 30)
	case in("SHA_CRYPT_MAX_ROUNDS SHA_CRYPT_MIN_ROUNDS"):
		return number(1000, 500000)
	case in("YESCRYPT_COST_FACTOR"):
		return number(1, 8)
	case in("UMASK HOME_MODE"):
		return refusesMode(key, value)
	case in("ENCRYPT_METHOD"):
		if value != "" && !slices.Contains([]string{"SHA256", "SHA512", "YESCRYPT"}, value) {
			return "it is none of SHA256, SHA512 and YESCRYPT, and others are as good as no password"
		}
	case in("FAILLOG_ENAB LASTLOG_ENAB LOG_OK_LOGINS LOG_UNKFAIL_ENAB SYSLOG_SG_ENAB SYSLOG_SU_ENAB"):
		if value != "" && value != "yes" && value != "no" {
			return "it is neither yes nor no"
		}
	case strings.HasPrefix(key, "UID_"), strings.HasPrefix(key, "GID_"), strings.HasPrefix(key, "SYS_"), strings.HasPrefix(key, "SUB_"), in("USERGROUPS_ENAB"):
		return idsOfAccounts
	case strings.HasPrefix(key, "ENV"), in("CONSOLE_GROUPS SU_NAME USERDEL_CMD"):
		return pathsOfRoot
	default:
		return "its effect on logins is not known"
	}
	return ""
}

// refusesMode refuses a umask, or a mode of homes, with which people could not use their own files,
// or everybody could write them.
func refusesMode(key, value string) string {
	if value == "" {
		return ""
	}
	bits, err := strconv.ParseUint(value, 8, 12)
	takes := bits
	if key == "HOME_MODE" {
		takes = 0o777 &^ bits
	}
	switch {
	case err != nil || bits > 0o777:
		return "it is not three octal digits"
	case takes&0o700 != 0:
		return "people could not use their own files"
	case takes&0o002 == 0:
		return "everybody could write other people's files"
	}
	return ""
}
