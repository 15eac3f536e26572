package image

import (
	"bytes"
	"path"
	"regexp"
	"slices"
	"strings"
)

const secretName = `(?:pass(?:w(?:or)?d|phrase)|secret|token|psk|authtok|api[_-]?key|access[_-]?key|private[_-]?key|auth[_-]?key)` //nolint:gosec // words, and no secrets

var (
	// awsKey matches the ID of an access key (IAM User Guide, unique identifiers).
	awsKey = lazily(`\b(?:AKIA|ASIA)[A-Z2-7]{16}\b`)
	// setting matches a name and its value in settings and environment files.
	setting = lazily(`(?i)^\s*(?:export\s+|set\s+|Environment=\s*["']?)?["']?([\w.-]*` + secretName + `[\w.-]*)["']?\s*=\s*("[^"]+"|'[^']+'|[^\s"']+)["']?\s*(?:[#;].*)?$`)
	// entry matches the same in YAML.
	entry = lazily(`(?i)^\s*(?:-\s+)?["']?([\w.-]*(?:` + secretName + `|client-key-data)[\w.-]*)["']?\s*:\s+("[^"]+"|'[^']+'|[^\s"'{\[&*|>!][^\s]*),?\s*$`)
	// option matches the same within a line: the options of a mount, the arguments of a command,
	// several variables, attributes of XML.
	option = lazily(`(?i)(?:^|[\s,;"'(?&])-{0,2}([\w.-]*` + secretName + `|pass)=("[^"]+"|'[^']+'|[^\s"',;)&]+)`)
	// member matches the same in JSON.
	member = lazily(`(?i)["']([\w.-]*` + secretName + `[\w.-]*)["']\s*:\s*("[^"]+"|'[^']+')`)
	// tag matches the same in XML.
	tag = lazily(`(?i)<([\w.:-]*` + secretName + `[\w.-]*)>\s*([^<\s][^<]*)</`)
	// xmlComment matches comments of XML, which are ignored.
	xmlComment = lazily(`(?s)<!--.*?-->`)
	// shared matches a secret of ipsec.secrets(5).
	shared = lazily(`(?i):\s*(?:PSK|XAUTH|EAP)\s+("[^"]+"|\S+)`)
	// word matches a password as in netrc(5), apt_auth.conf(5) and others.
	word = lazily(`(?i)(?:^|\s)password\s+(\S+)`)
	// inURL matches user and password before a host.
	inURL = lazily(`\b[a-z][a-z0-9+.-]*://[^\s/:@"'<>]+:([^\s/@"'<>]+)@[\w\[]`)
	// crypted matches a hash of crypt(5).
	crypted = lazily(`\$(?:1|5|6|7|y|gy|2[abxy]|apr1)\$[./A-Za-z0-9$=,]{20,}|\bgrub\.pbkdf2\.sha512\.\d+\.[0-9A-Fa-f]{32,}|\{S?SHA\d*\}[A-Za-z0-9+/=]{20,}`)
	// auths matches credentials of registries in a docker config.json.
	auths = lazily(`"(?:auth|identitytoken|registrytoken)"\s*:\s*"([^"]+)"`)
	// noSecret matches values that only say where or how: a reference, a word, a path, a number.
	noSecret = lazily(`(?i)^(?:|-----BEGIN.*|[$%@{<(].*|.*\{\{.*|/.*|\d{1,3}|x+|\*+|!+|\.\.\.|true|false|yes|no|on|off|none|null|nil|ask|always|never|required|optional|pass:insta|prompt|default|disabled|enabled|files|env|example|changeit|.*\(\).*)$`)
	// notItself matches names of settings about passwords that are not passwords themselves.
	notItself = lazily(`(?i)(?:file|path|dir|url|uri|min|max|len|length|size|age|policy|type|timeout|tries|retries|warn|days|count|cmd|command|prompt|helper|store|storage|agent|method|mode|algorithm|format|bits|name|label|encoder|echo|expire|expiry|ttl|id)$|^(?:no|allow|require|enable|disable|use|try|min|max|permit)`)
)

// configuration reports whether a file contains settings and is searched for passwords. In source
// code, names such as "password" are everywhere.
func configuration(name string) bool {
	base := strings.ToLower(path.Base(name))
	switch path.Ext(base) {
	case ".conf", ".cfg", ".cnf", ".ini", ".env", ".properties", ".yaml", ".yml", ".toml", ".repo", ".service", ".nmconnection", ".list", ".sources", ".sh", ".cred", ".credentials", ".secrets":
		return true
	case ".json", ".xml":
		return !words(name)
	case ".pem", ".crt", ".js", ".py", ".html", ".md", ".so":
		return false
	}
	return strings.HasPrefix(name, "/etc/") || strings.HasPrefix(name, "/var/lib/cloud/") || strings.HasPrefix(name, "/var/spool/cron/") || strings.HasPrefix(base, ".") || strings.HasPrefix(path.Base(path.Dir(name)), ".") ||
		slices.Contains([]string{"credentials", "environment", "netrc", "_netrc", "my.cnf", "config", "user-data.txt", "user-data", "anaconda-ks.cfg", "original-ks.cfg"}, base)
}

// words reports whether a file contains a program's texts in some language, where the word for
// "password" is a value.
func words(name string) bool {
	return slices.ContainsFunc(strings.Split(path.Dir(name), "/"), func(dir string) bool {
		return slices.Contains([]string{"i18n", "l10n", "lang", "langs", "language", "languages", "locale", "locales", "_locales", "messages", "nls", "translations", "node_modules"}, strings.ToLower(dir))
	})
}

// A hit is something in a file that looks like a secret.
type hit struct {
	line int // from 1; 0 means the whole file
	sort string
}

// passwordsIn returns hits in the text of a settings file, a few at most.
func passwordsIn(name string, text []byte, fromLine int) []hit {
	var found []hit
	number := fromLine
	base := path.Base(name)
	if path.Ext(base) == ".xml" {
		text = xmlComment().ReplaceAllFunc(text, func(comment []byte) []byte {
			return bytes.Repeat([]byte("\n"), bytes.Count(comment, []byte("\n")))
		})
	}
	for raw := range bytes.Lines(text) {
		number++
		if sort := secretOf(name, base, strings.TrimRight(string(raw), "\r\n")); sort != "" && len(found) < mostOfAFile {
			found = append(found, hit{number, sort})
		}
	}
	return found
}

// mostOfAFile is how many lines of one file are listed.
const mostOfAFile = 5

// longestLine is how much of a line is searched for secrets other than keys.
const longestLine = 16 << 10

// secretOf returns the sort of secret in a line, or "".
func secretOf(name, base, line string) string {
	if len(line) > longestLine {
		line = line[:longestLine]
	}
	text := strings.TrimSpace(line)
	comment := strings.HasPrefix(text, "#") || strings.HasPrefix(text, ";") || strings.HasPrefix(text, "// ")
	if comment {
		return ""
	}
	switch {
	case assigned(setting().FindStringSubmatch(line)), yaml(name, base) && assigned(entry().FindStringSubmatch(line)):
		return "a password or another secret"
	case anyAssigned(option(), line), anyValue(member(), line), anyValue(tag(), line):
		return "a password or another secret"
	case strings.HasSuffix(base, ".secrets") || strings.HasSuffix(base, "-secrets"):
		return ofSecrets(base, text)
	case meant(inURL().FindStringSubmatch(line)):
		return "a password in a URL"
	case crypted().MatchString(line):
		return "the hash of a password"
	case (strings.Contains(base, "netrc") || strings.HasPrefix(name, "/etc/apt/auth.conf")) && meant(word().FindStringSubmatch(line)):
		return "a password"
	case base == ".pgpass" && strings.Count(line, ":") >= 4:
		return "a password of PostgreSQL"
	case (base == "config.json" || base == ".dockercfg" || base == "auth.json") && meant(auths().FindStringSubmatch(line)):
		return "the password of a registry"
	case base == ".npmrc" && strings.Contains(line, "_auth") && strings.Contains(line, "=") && !strings.Contains(line, "${"):
		return "a token of npm"
	}
	return ""
}

// ofSecrets returns the sort of secret in a line of a file made for secrets, or "":
// ipsec.secrets(5), pppd(8), rsyncd.conf(5).
func ofSecrets(base, text string) string {
	if fields := strings.Fields(text); meant(shared().FindStringSubmatch(text)) ||
		strings.HasSuffix(base, "-secrets") && len(fields) > 2 && meant(fields[:3]) ||
		base != "ipsec.secrets" && len(fields) == 1 && strings.Contains(text, ":") && !strings.HasSuffix(text, ":") {
		return "a password or another secret"
	}
	return ""
}

func anyAssigned(form *regexp.Regexp, line string) bool {
	return slices.ContainsFunc(form.FindAllStringSubmatch(line, -1), assigned)
}

// anyValue is anyAssigned for formats where names and texts for people are as frequent as settings:
// a value of several words, or one that repeats its name, does not count.
func anyValue(form *regexp.Regexp, line string) bool {
	return slices.ContainsFunc(form.FindAllStringSubmatch(line, -1), func(match []string) bool {
		value := strings.TrimSpace(strings.Trim(match[2], `"'`))
		return assigned(match) && !strings.ContainsAny(value, " \t") && !strings.EqualFold(value, match[1])
	})
}

func yaml(name, base string) bool {
	switch path.Ext(base) {
	case ".yaml", ".yml", ".properties":
		return true
	}
	return base == "config" && strings.Contains(name, "/.kube/") || strings.HasPrefix(name, "/etc/kubernetes/") || strings.HasPrefix(name, "/var/lib/cloud/")
}

func assigned(match []string) bool {
	return match != nil && !notItself().MatchString(match[1]) && meant([]string{"", strings.Trim(match[2], `"'`)})
}

// meant reports whether the last group of a match is a secret itself, and not only where to find
// one.
func meant(match []string) bool { return match != nil && !noSecret().MatchString(match[len(match)-1]) }
