package sshdtext

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A sort is a set of keys with the same effect on logins.
type sort struct {
	keys []string
	why  string // why they are not managed individually, or ""
}

// sorts returns the keys of sshd_config(5), in lower case.
func sorts() []sort {
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
			revokedkeys rsaminsize securitykeyprovider trustedusercakeys`), "it decides whose keys are accepted, and the agent cannot tell whose those are"},
		{strings.Fields("acceptenv chrootdirectory forcecommand permitlisten permitopen permittty setenv subsystem"), "it decides how sessions start, or it may have several lines that all apply"},
		{strings.Fields("channeltimeout persourcepenalties persourcepenaltyexemptlist refuseconnection unusedconnectiontimeout"), "it ends connections, and the agent cannot tell whose"},
		{[]string{Include, Match}, "other lines depend on it; only settings that apply to everybody are kept"},
	}
}

// NotByKey returns why a key of sshd_config is not managed individually, or "".
func NotByKey(key string) string {
	all := sorts()
	i := slices.IndexFunc(all, func(s sort) bool { return slices.Contains(s.keys, strings.ToLower(key)) })
	if i < 0 {
		return "its effect on logins is not known"
	}
	return all[i].why
}

// Wrong is a line that is refused.
type Wrong struct {
	Number int
	Key    string
	Why    string
}

// KeepsOutIn returns the first line that KeepsOut refuses, also below Match. Lines whose value is
// not known yet are skipped.
func KeepsOutIn(content string, unknown func(value string) bool) (wrong Wrong, is bool) {
	number := 0
	for line := range strings.Lines(content) {
		number++
		key, rest := Line(line)
		if unknown(rest) {
			continue
		}
		if why := KeepsOut(key, Words(rest)...); why != "" {
			return Wrong{number, key, why}, true
		}
	}
	return Wrong{}, false
}

// KeepsOut returns why a value locks people out of ssh, lets them in without credentials, whoever
// they are, or names a file that sshd must not show, go by or overwrite; or "". What depends on the people is proved on the machine. The words are those
// of a file or of sshd -T. Without words the value is not known.
func KeepsOut(key string, words ...string) string {
	if len(words) == 0 || words[0] == "" {
		return ""
	}
	if why := wrongPath(key, words); why != "" {
		return why
	}
	key, value := strings.ToLower(key), strings.ToLower(words[0])
	switch key {
	case "usepam":
		return unless(value, "people of the directory log in through PAM, and accounts without a password only through it", "yes")
	case "strictmodes":
		return unless(value, "key files that others can write would be accepted", "yes")
	case "hostbasedauthentication":
		return unless(value, "it would let in anybody whom another machine vouches for", "no")
	case "permitemptypasswords":
		return unless(value, "it would let in anybody who knows the name of an account without a password", "no")
	case "permitrootlogin":
		return unless(value, "it is none of yes, no and prohibit-password", "yes", "no", "prohibit-password", "without-password")
	case "refuseconnection":
		return unless(value, "nobody would get in", "no")
	case "ciphers", "kexalgorithms", "macs":
		return unlessWhole(value, "+-^*")
	case "hostkeyalgorithms", "pubkeyacceptedalgorithms", "pubkeyacceptedkeytypes", "casignaturealgorithms":
		if strings.ContainsAny(value, "*?") {
			return unlessWhole(value, "-")
		}
	case "persourcemaxstartups", "maxauthtries", "maxsessions", "maxstartups":
		least := int64(2)
		if key == "maxsessions" {
			least = 1
		}
		number, err := strconv.ParseInt(firstPart(value), 10, 32)
		if (value != "none" || key != "persourcemaxstartups") && (err != nil || number < least) {
			return fmt.Sprintf("it is less than %d, and nobody would get in", least)
		}
	case "logingracetime":
		return unlessLasts(value, "that is too short to type a password")
	case "clientalivecountmax":
		if n, err := strconv.ParseInt(value, 10, 32); err == nil && n < 1 {
			return "an sshd before OpenSSH 8.2 would end every session that is silent for ClientAliveInterval"
		}
	case "channeltimeout":
		return unless(value, "it ends sessions that are idle", "none")
	case "clientaliveinterval", "unusedconnectiontimeout":
		return unlessLasts(value, "sessions would end before anybody has typed a word")
	}
	return ""
}

func unless(value, why string, fine ...string) string {
	if slices.Contains(fine, value) {
		return ""
	}
	return why
}

// unlessWhole refuses a list that modifies the default one of the installed sshd.
func unlessWhole(value, signs string) string {
	if strings.IndexByte(signs, value[0]) < 0 {
		return ""
	}
	return "the result depends on the installed sshd; give the whole list"
}

// unlessLasts refuses a time of less than ten seconds, except 0, which means none.
func unlessLasts(value, why string) string {
	if value == "none" {
		return ""
	}
	if n, is := seconds(value); !is || n == 0 || n >= 10 {
		return "" // sshd refuses what is no time
	}
	return why
}

func firstPart(value string) string {
	first, _, _ := strings.Cut(value, ":")
	return first
}

// seconds parses a time of sshd_config(5), such as 1h30m.
func seconds(text string) (total int64, is bool) {
	units := map[byte]int64{'s': 1, 'm': 60, 'h': 3600, 'd': 86400, 'w': 604800}
	for text != "" {
		digits := len(text) - len(strings.TrimLeft(text, "0123456789"))
		n, err := strconv.ParseInt(text[:digits], 10, 32)
		if err != nil {
			return 0, false
		}
		unit := int64(1)
		if text = text[digits:]; text != "" {
			if unit, is = units[text[0]|0x20], units[text[0]|0x20] > 0; !is {
				return 0, false
			}
			text = text[1:]
		}
		total += n * unit
	}
	return total, true
}
