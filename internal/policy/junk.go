package policy

import (
	"cmp"
	"fmt"
	"maps"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/soe-agent/soe-agent/internal/protected"
)

// Limits of names, in bytes.
const (
	mostOfAccount    = 32   // useradd(8), groupadd(8): of a local one
	mostOfDirectorys = 255  // of an account or group that a directory may have
	mostOfRepository = 128  // its file and its caches are called so
	mostOfCheck      = 128  // a line of a report begins with it
	mostOfPersona    = 64   // a parameter is called so
	mostOfDconf      = 1024 // of a directory of dconf with its key
	mostOfName       = 255  // of a file: NAME_MAX; of a unit: systemd.unit(5)
	mostOfPath       = 4095 // PATH_MAX with the NUL that ends it
	mostOfMessage    = 2000 // that quotes what an author has written
)

// nulls refuses every string and key of a document that contains a NUL. No text file, argument or name can
// contain one: their readers take it for the end.
func (d *decoder) nulls(at []string, value any) {
	below := func(part string) []string { return append(slices.Clone(at), part) }
	switch v := value.(type) {
	case string:
		if strings.ContainsRune(v, 0) {
			t := table{d: d, path: at[:len(at)-1]}
			t.problem(at[len(at)-1], "it holds a NUL, which no text has")
		}
	case []any:
		for _, one := range v {
			d.nulls(at, one)
		}
	case []map[string]any:
		for i, one := range v {
			d.nulls(below(element(i)), one)
		}
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			if strings.ContainsRune(key, 0) {
				d.problem(below(key), "cannot use the key %q: it holds a NUL, which no name has", key)
			}
			d.nulls(below(key), v[key])
		}
	}
}

// tooLong returns a message if the name of a resource is longer than the machine accepts, or "".
func tooLong(id ID) string {
	most := mostOfName
	switch id.Kind() {
	case User{}.Kind(), Group{}.Kind():
		most = mostOfAccount
	case Repository{}.Kind():
		most = mostOfRepository
	case Check{}.Kind():
		most = mostOfCheck
	case Dconf{}.Kind():
		most = mostOfDconf
	case Dropin{}.Kind(), File{}.Kind(), Mount{}.Kind():
		return pathTooLong("/" + id.Name())
	}
	if len(id.Name()) > most {
		return fmt.Sprintf("its name is longer than %d bytes", most)
	}
	return ""
}

// pathTooLong returns a message if a path is too long for a file, or "".
func pathTooLong(name string) string {
	if len(name) > mostOfPath {
		return fmt.Sprintf("its path is longer than %d bytes", mostOfPath)
	}
	for part := range strings.SplitSeq(name, "/") {
		if len(part) > mostOfName {
			return fmt.Sprintf("a name in its path is longer than %d bytes", mostOfName)
		}
	}
	return ""
}

// short refuses a name that is longer than its readers accept.
func (v *validator) short(name string, most int) {
	v.refuse(len(name) > most, "the name %.40q… is longer than %d bytes", name, most)
}

// limited cuts a message that quotes an author's text to a readable length.
func limited(message string) string {
	if len(message) <= mostOfMessage {
		return message
	}
	return strings.ToValidUTF8(message[:mostOfMessage], "") + "…"
}

// yumVariable matches a variable that the package manager replaces (yum.conf(5)).
var yumVariable = regexp.MustCompile(`\$(\{[A-Za-z0-9_]+\}|[A-Za-z0-9_]+)`)

// badURL returns a message if nothing can be fetched from a URL, or "". It may contain variables of yum.
func badURL(text string) string {
	text = yumVariable.ReplaceAllString(text, "x")
	scheme, rest, _ := strings.Cut(text, "://")
	switch {
	case scheme != "https" && scheme != "http" && (scheme != "file" || !strings.HasPrefix(rest, "/")):
		return "is none of https://, http:// and file:///"
	case strings.ContainsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }):
		return "has a blank, a line break or another control character"
	case len(text) > mostOfPath:
		return fmt.Sprintf("is longer than %d bytes", mostOfPath)
	}
	parsed, err := url.Parse(text)
	switch {
	case err != nil:
		return "is not a URL: " + err.Error()[strings.LastIndex(err.Error(), ": ")+2:]
	case scheme == "file" && path.Clean(parsed.Path) == "/":
		return "names no file"
	case scheme != "file":
		return badHost(parsed)
	}
	return ""
}

// badHost returns a message if a URL names no possible server, or "".
func badHost(parsed *url.URL) string {
	port, err := strconv.Atoi(cmp.Or(parsed.Port(), "80"))
	switch {
	case parsed.Hostname() == "":
		return "names no host"
	case err != nil || port < 1 || port > 65535:
		return "has a port that is not between 1 and 65535"
	case strings.ContainsAny(parsed.Hostname(), "<>\"|\\^`"):
		return "has a sign in its host that no host has"
	}
	return ""
}

// badHome returns a message if a directory must not become a user's home, who would own it, or "".
func badHome(home string) string {
	if slices.Contains([]string{"/home", "/media", "/mnt", "/opt", "/srv", "/var", "/var/lib", "/var/spool"}, home) {
		return "others have theirs in it"
	}
	for _, dir := range []string{"/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/root", "/run", "/sbin", "/sys", "/tmp", "/usr", "/var/cache", "/var/log", "/var/run", "/var/tmp"} {
		if home == dir || strings.HasPrefix(home, dir+"/") {
			return "the system has its own there"
		}
	}
	for _, in := range []struct {
		dir   string
		names []string
	}{
		{"/var/lib/", systemsState()},
		{"/var/spool/", systemsSpool()},
		{"/var/", strings.Fields("account adm crash db empty games kerberos lock mail nis preserve snap yp")},
		{"/", strings.Fields("efi lib32 libx32 lost+found snap")},
	} {
		inside, below := strings.CutPrefix(home, in.dir)
		if below && (inside == "" || forbiddenOwn(inside, in.names, "x") != "") {
			return "the system has its own there"
		}
	}
	if why := forbiddenBegin(home, false, forbiddenContent()); why != "" {
		return why
	}
	return protected.Pattern(home, true)
}

// reserved says what an account of a name would be taken for, or "".
func reserved(name string) string {
	switch name {
	case "ALL":
		return "in sudoers that is everybody"
	case "unregistered":
		return "a report has what [ids] does not name under it"
	case "nobody", "nogroup":
		return "the kernel calls so whom it has no name for"
	}
	return ""
}
