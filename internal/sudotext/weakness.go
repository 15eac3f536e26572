package sudotext

import (
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// A weakness is a parameter that takes away from what sudo protects, and what
// undoes it.
type weakness struct {
	weak func(Setting) bool
	// cure is a setting behind it that undoes it, "" when none can; cureOf, if not nil, makes one.
	cure   string
	cureOf func(Setting) string
	// personal is true for what concerns the one who asks: for the administrators
	// themselves that is a choice, as NOPASSWD is.
	personal bool
	list     bool // of words, to which others may be added
}

func (w weakness) undoes(s Setting) string {
	if w.cureOf != nil {
		return w.cureOf(s)
	}
	return w.cure
}

func isOn(s Setting) bool  { return !s.Negated }
func isOff(s Setting) bool { return s.Negated }

// weaknesses are those parameters of sudoers(5) by which nobody is granted
// anything, and less is asked of those who are, or of somebody else; or by which sudo, as
// root, reads, writes, or runs what somebody without root can put there.
var weaknesses = sync.OnceValue(func() map[string]weakness {
	return map[string]weakness{
		"authenticate":        {weak: isOff, cure: "authenticate", personal: true},
		"editor":              {weak: leadsAstray, cure: "editor = /usr/bin/vi"},
		"env_check":           {weak: keepsMore, cureOf: keepsNoMore, personal: true, list: true},
		"env_file":            {weak: leadsAstray, cure: "!env_file"},
		"env_keep":            {weak: keepsMore, cureOf: keepsNoMore, personal: true, list: true},
		"env_reset":           {weak: isOff, cure: "env_reset"},
		"exempt_group":        {weak: isOn, cure: "!exempt_group"},
		"fast_glob":           {weak: isOn, cure: "!fast_glob"},
		"group_plugin":        {weak: leadsAstray, cure: ""}, // it cannot be unset,
		"iolog_dir":           {weak: writesAstray, cure: "iolog_dir = /var/log/sudo-io"},
		"iolog_file":          {weak: leavesItsPlace, cure: "iolog_file = %{seq}"},
		"lecture_file":        {weak: showsAnyFile, cure: "!lecture_file"},
		"lecture_status_dir":  {weak: writesAstray, cure: "lecture_status_dir = /var/db/sudo/lectured"},
		"logfile":             {weak: writesAstray, cure: "!logfile"},
		"mailerflags":         {weak: flagsBeyondSending, cure: `mailerflags = "-t"`},
		"mailerpath":          {weak: isNoMailer, cure: "!mailerpath"},
		"mailto":              {weak: func(s Setting) bool { return strings.ContainsAny(s.Value, "/|") }, cure: "mailto = root"}, // a file, or a program
		"pam_askpass_service": {weak: isNone("sudo"), cure: "pam_askpass_service = sudo"},
		"pam_login_service":   {weak: isNone("sudo", "sudo-i"), cure: "pam_login_service = sudo-i"},
		"pam_service":         {weak: isNone("sudo", "sudo-i"), cure: "pam_service = sudo"},
		"restricted_env_file": {weak: leadsAstray, cure: "!restricted_env_file"},
		"rootpw":              {weak: isOn, cure: "!rootpw"}, // asks for a password that nobody has
		"runaspw":             {weak: isOn, cure: "!runaspw"},
		"runchroot":           {weak: isOn, cure: "!runchroot", personal: true},
		"runcwd":              {weak: func(s Setting) bool { return s.Value == "*" }, cure: "!runcwd", personal: true},
		"secure_path":         {weak: leadsAstray, cure: `secure_path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"`},
		"setenv":              {weak: isOn, cure: "!setenv"},
		"stay_setuid":         {weak: isOn, cure: "!stay_setuid"},
		"sudoedit_checkdir":   {weak: isOff, cure: "sudoedit_checkdir"},
		"sudoedit_follow":     {weak: isOn, cure: "!sudoedit_follow"},
		"targetpw":            {weak: isOn, cure: "!targetpw"},
		"timestamp_timeout":   {weak: lastsForLong, cure: "timestamp_timeout = 5", personal: true},
		"timestamp_type":      {weak: func(s Setting) bool { return s.Value == "global" }, cure: "timestamp_type = tty", personal: true},
		"timestampdir":        {weak: writesAstray, cure: "timestampdir = /run/sudo/ts"},
		"timestampowner":      {weak: isNone("root", "#0"), cure: "timestampowner = root"},
		"tty_tickets":         {weak: isOff, cure: "tty_tickets", personal: true},
		"umask":               {weak: letsOthersWrite, cure: "umask = 0022"},
		"use_pty":             {weak: isOff, cure: "use_pty"},
		"visiblepw":           {weak: isOn, cure: "!visiblepw"},
	}
})

// longest is how long, in minutes, a password may be remembered: a day.
const longest = 24 * 60

func lastsForLong(s Setting) bool {
	minutes, err := strconv.ParseFloat(s.Value, 64)
	return !s.Negated && err == nil && (minutes < 0 || minutes > longest) // sudo passes over what is no number
}

func letsOthersWrite(s Setting) bool {
	mask, err := strconv.ParseUint(s.Value, 8, 32)
	return s.Negated || err != nil || mask&0o022 != 0o022
}

// isNone says of a setting whether it has a value and that is none of those that are known.
func isNone(known ...string) func(Setting) bool {
	return func(s Setting) bool { return !s.Negated && !slices.Contains(known, s.Value) }
}

// roots are the directories below which, by the file hierarchy standard, only root writes.
func roots() []string {
	return []string{"/bin", "/boot", "/etc", "/lib", "/lib64", "/opt", "/run", "/sbin", "/snap/bin", "/usr", "/var/adm", "/var/db", "/var/lib", "/var/log", "/var/run"}
}

// leadsAstray says of a setting with paths whether one of them may lead where others than
// root write: what sudo reads and runs there is theirs, and so is what a log is appended to.
func leadsAstray(s Setting) bool {
	if s.Negated {
		return s.Name == "secure_path" // the caller's own is used then
	}
	value := strings.ReplaceAll(s.Value, `\:`, ":")
	if strings.Contains(value, `\x`) {
		return true // any character, such as a dot
	}
	for _, word := range strings.FieldsFunc(value, func(r rune) bool { return r == ':' || r == ' ' || r == '\t' || r == '=' }) {
		if !path.IsAbs(word) {
			if strings.Contains(word, "..") || s.Name == "secure_path" {
				return true
			}
			continue // a word, or one that stands below a directory of sudo's own
		}
		below := func(dir string) bool { return word == dir || strings.HasPrefix(word, dir+"/") }
		if word = path.Clean(word); !slices.ContainsFunc(roots(), below) || below("/run/user") || below("/var/run/user") || below("/run/lock") {
			return true
		}
	}
	return false
}

// writesAstray says of what sudo, as root, creates or appends to, and in part with what the caller
// gives it, whether that may be anything but a log or sudo's own state. Elsewhere in root's directories
// files decide: one more in /etc/sudoers.d or /etc/cron.d grants or runs what is written to it.
func writesAstray(s Setting) bool {
	if leadsAstray(s) || s.Negated || !path.IsAbs(s.Value) {
		return leadsAstray(s)
	}
	name := path.Clean(s.Value)
	for _, dir := range []string{"/var/log", "/var/adm", "/var/lib/sudo", "/var/db/sudo", "/run/sudo", "/var/run/sudo"} {
		if name == dir || strings.HasPrefix(name, dir+"/") {
			return false
		}
	}
	// Software that is no distribution's keeps its logs below its own directory.
	return !strings.HasPrefix(name, "/opt/") && !strings.HasPrefix(name, "/var/opt/") ||
		!slices.ContainsFunc(strings.Split(path.Dir(name), "/"), func(dir string) bool { return dir == "log" || dir == "logs" })
}

// leavesItsPlace says of a name below a directory of logs whether it leads out of that.
func leavesItsPlace(s Setting) bool {
	return !s.Negated && (strings.Contains(s.Value, `\`) || slices.Contains(strings.Split(s.Value, "/"), ".."))
}

// isNoMailer says of the program that root runs to send mail, with a text of the caller's in it, whether
// it may do something else with it: tee(1) would write it to any file.
func isNoMailer(s Setting) bool {
	return !s.Negated && (leadsAstray(s) || !mailer.MatchString(path.Base(s.Value)))
}

// flagsBeyondSending says of the options of that program whether they do more than name sender and
// recipients: sendmail(8) writes a log to a file (-X), and reads a configuration (-C).
func flagsBeyondSending(s Setting) bool {
	return !s.Negated && slices.ContainsFunc(strings.Fields(s.Value), func(word string) bool { return !mailerFlag.MatchString(word) })
}

var (
	mailer     = regexp.MustCompile(`^((mini_|opensmtpd-)?sendmail(\.[a-z0-9]+)?|exim4?|[ems]smtp|dma|nullmailer-inject|qmail-inject|postfix|smtpctl)$`)
	mailerFlag = regexp.MustCompile(`^(-(t|i|ti|it|n|oi|oem|om|em)|-[fFrN][^/|]*|[^-/|][^/|]*)$`)
)

// showsAnyFile says of a lecture, which sudo shows to whoever asks, whether it may be
// something else.
func showsAnyFile(s Setting) bool {
	return !s.Negated && (leadsAstray(s) || !strings.Contains(path.Base(s.Value), "lecture") && !strings.HasPrefix(path.Clean(s.Value), "/usr/share/"))
}

// harmless says of a variable of the caller's whether no program that runs as root takes code,
// or a path of code, from it: those that distributions keep, and languages, proxies and displays.
func harmless(variable string) bool {
	name, _, _ := strings.Cut(variable, "=")
	switch {
	case strings.HasPrefix(name, "LC_") && name != "LC_*":
		return true
	case strings.HasPrefix(name, "SSH_") && name != "SSH_*" && name != "SSH_ASKPASS":
		return true
	}
	return slices.Contains([]string{
		"LC_*", "COLORS", "COLORTERM", "DEBEMAIL", "DEBFULLNAME", "DISPLAY", "EMAIL", "GIT_AUTHOR_EMAIL", "GIT_AUTHOR_NAME",
		"GIT_COMMITTER_EMAIL", "GIT_COMMITTER_NAME", "HISTSIZE", "HOSTNAME", "LANG", "LANGUAGE", "LINGUAS", "LS_COLORS", "MAIL", "NAME", "NO_COLOR",
		"QTDIR", "KDEDIR", "PS1", "PS2", "TERM", "TZ", "USERNAME", "WAYLAND_DISPLAY", "XAUTHORITY", "XAUTHORIZATION", "XDG_SESSION_COOKIE", "_XKB_CHARSET",
		"http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "ALL_PROXY", "NO_PROXY",
	}, name)
}

// harmful are the variables of a list that are kept and should not be.
func harmful(s Setting) []string {
	if s.Negated || s.Op == "-=" {
		return nil
	}
	return slices.DeleteFunc(strings.Fields(s.Value), harmless)
}

func keepsMore(s Setting) bool { return len(harmful(s)) > 0 }

func keepsNoMore(s Setting) string { return s.Name + ` -= "` + strings.Join(harmful(s), " ") + `"` }
