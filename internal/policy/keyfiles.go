package policy

import (
	"regexp"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/keyed"
)

// A KeyFile is what is known about a file of others in which single keys are kept, and about its
// reader.
type KeyFile struct {
	Path   string
	Format keyed.Format
	Reader string // name of its reader, for people
	// AtBoot means that it is read only at boot, and not each time that it is used.
	AtBoot bool
	// Shows is a command that reads the file and prints its keys, each as "KEY=value"; nil: there
	// is none.
	Shows []string
	// Reports is a command that reads the file and reports keys that it does not know; nil: there
	// is none.
	Reports []string
	// refuses returns why a key must not have a value, or must not be removed (value is ""), or "".
	refuses func(key, value string) string
}

// KeyFiles returns all known files.
func KeyFiles() []KeyFile {
	return []KeyFile{
		{Path: "/etc/audit/auditd.conf", Format: keyed.Equals, Reader: "auditd", AtBoot: true, refuses: refusesBy("auditd", auditdKeys())},
		{Path: "/etc/chrony.conf", Format: keyed.Chrony, Reader: "chronyd", refuses: leavesClock},
		{Path: "/etc/chrony/chrony.conf", Format: keyed.Chrony, Reader: "chronyd", refuses: leavesClock},
		{Path: "/etc/default/useradd", Format: keyed.Shell, Reader: "useradd", Shows: []string{"useradd", "-D"}, refuses: refusesValues(useraddKeys())},
		{Path: "/etc/dnf/dnf.conf", Format: keyed.INI, Reader: "dnf", refuses: leavesPackages},
		{Path: "/etc/libuser.conf", Format: keyed.INI, Reader: "libuser"},
		{Path: LoginDefs, Format: keyed.Words, Reader: "useradd", Reports: []string{"useradd", "-D"}, refuses: refusesLogins},
		{Path: "/etc/security/pwquality.conf", Format: keyed.Equals, Reader: "pam_pwquality", refuses: refusesValues(pwqualityKeys())},
		{Path: SSHDConfig, Format: keyed.SSHD, Reader: "sshd", refuses: keepsOut},
		{Path: "/etc/yum.conf", Format: keyed.INI, Reader: "yum", refuses: leavesPackages},
	}
}

// LookupKeyFile returns what is known about a file.
func LookupKeyFile(file string) (k KeyFile, known bool) {
	all := KeyFiles()
	i := slices.IndexFunc(all, func(k KeyFile) bool { return k.Path == file })
	if i < 0 {
		return KeyFile{}, false
	}
	return all[i], true
}

// leavesPackages refuses the keys that say where packages, repositories and plugins are
// (yum.conf(5), dnf.conf(5)).
func leavesPackages(key, _ string) string {
	_, name, _ := strings.Cut(strings.ToLower(key), "/")
	if slices.Contains([]string{"cachedir", "installroot", "persistdir", "pluginconfpath", "pluginpath", "plugins", "reposdir"}, name) {
		return "[packages] and [repositories], and what WorkSpaces adds to the package manager, need it as it is"
	}
	return ""
}

// leavesClock refuses keys that may have several lines which all count, and those that determine
// the time sources, chronyd's identity, or the location of its files (chrony.conf(5)); and values with which
// chronyd does not start.
func leavesClock(key, value string) string {
	if slices.Contains(strings.Fields(`acquisitionport allow bindacqaddress bindaddress bindcmdaddress binddevice broadcast clientloglimit cmdallow cmddeny confdir deny
		driftfile dumpdir hwtimestamp include initstepslew keyfile leapsectz local lock_all logdir mailonchange manual ntsdumpdir ntsservercert ntsserverkey ntstrustedcerts
		peer pidfile pool refclock rtcfile server sourcedir tempcomp user`), strings.ToLower(key)) {
		return "it may have several lines that all count, or it decides which time sources or files chronyd uses: write it in a drop-in, if there is a directory for them"
	}
	return refusesValues(chronyKeys())(key, value)
}

var (
	wordKey    = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]*$`)
	plainKey   = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]*$`)
	sectionKey = regexp.MustCompile(`^[^][/#;=:\s]+/[A-Za-z_][A-Za-z0-9_.-]*$`)
	shellKey   = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	// shellValue matches values that a shell, and a reader of such a file that is not a shell,
	// interpret in the same way.
	shellValue = regexp.MustCompile(`^[A-Za-z0-9_./:@%+,-]*$`)
)

// validateKeys checks the keys to be kept in a file.
func (f File) validateKeys(v *validator, file string) {
	if len(f.Keys) == 0 && len(f.Absent) == 0 {
		return
	}
	known, is := LookupKeyFile(file)
	if !is {
		var all []string
		for _, k := range KeyFiles() {
			all = append(all, k.Path)
		}
		v.wrong("keys of %s are not kept, because the agent does not know how it is read; it keeps keys of %s", file, strings.Join(all, ", "))
		return
	}
	form, called := plainKey, "the name of a key"
	switch known.Format {
	case keyed.INI:
		form, called = sectionKey, `a section and a key, such as "main/gpgcheck"`
	case keyed.Shell:
		form, called = shellKey, "the name of a variable"
	case keyed.Words, keyed.SSHD, keyed.Chrony:
		form = wordKey
	case keyed.Equals:
	}
	said := map[string]string{} // by key in lower case, because some readers ignore case
	for _, key := range f.everyKey() {
		v.refuse(!form.MatchString(key), "%q is not %s", key, called)
		other, twice := said[strings.ToLower(key)]
		v.refuse(twice, "the key %s is given twice: %q", key, other)
		said[strings.ToLower(key)] = key
		value, set := f.Keys[key]
		if known.refuses != nil {
			is := value
			if v.open(value) {
				is = ""
			}
			if why := known.refuses(key, is); why != "" {
				v.wrong("the key %s is refused: %s", key, why)
			}
		}
		if v.open(value) {
			continue
		}
		words := known.Format == keyed.Words || known.Format == keyed.SSHD
		v.refuse((words || known.Reader == "auditd") && set && value == "", "the key %s has no value", key)
		v.refuse(words && strings.ContainsAny(value, `"'\\`), "the value %q of the key %s would not be read as it is: it has quotes", value, key)
		v.refuse(breaksLine(value) || strings.TrimSpace(value) != value || strings.Contains(value, "#") || !words && strings.Contains(value, ";"),
			"the value %q of the key %s would not be read as it is: it has a line break, a blank at an end, # or ;", value, key)
		v.refuse(known.Format == keyed.Shell && !shellValue.MatchString(value), "the value %q of the key %s needs quotes, which not every reader of the file understands", value, key)
	}
}

// everyKey returns all keys that it names.
func (f File) everyKey() []string {
	keys := slices.Clone(f.Absent)
	for key := range f.Keys {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
