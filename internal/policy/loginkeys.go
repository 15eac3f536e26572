package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/soe-agent/soe-agent/internal/sshdtext"
)

// SSHDConfig and LoginDefs are files that decide who gets in. Keys and modes in them are kept as
// far as the agent can prove on the machine that nobody is locked out.
const (
	SSHDConfig = "/etc/ssh/sshd_config"
	LoginDefs  = "/etc/login.defs"
)

// decidesLogins reports whether a file decides who gets in but may be managed nevertheless.
func decidesLogins(file string) bool { return file == SSHDConfig || file == LoginDefs }

// keepsOut refuses values that would lock people out of ssh whoever they are, and keys that are not
// managed individually. The rest is proved on the machine, where the people are known.
func keepsOut(key, value string) string {
	if why := sshdtext.NotByKey(key); why != "" {
		return why
	}
	if sshdtext.UseOf(key) != sshdtext.Unused {
		return sshdtext.KeepsOut(key, sshdtext.Words(value)...)
	}
	return sshdtext.KeepsOut(key, value)
}

// sshdDropins is the directory of drop-ins of sshd.
const sshdDropins = "/etc/ssh/sshd_config.d"

// keepsOutOfSSH refuses the same values in a drop-in of sshd, also below Match.
func (v *validator) keepsOutOfSSH(content string) {
	if wrong, is := sshdtext.KeepsOutIn(content, v.open); is {
		v.wrong("line %d: the key %s cannot be so: %s", wrong.Number, wrong.Key, wrong.Why)
	}
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
	case in("PASS_MIN_DAYS PASS_WARN_AGE"):
		return number(0, 99999)
	case in("PASS_MIN_LEN"):
		return number(0, 64)
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
