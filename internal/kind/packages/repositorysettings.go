package packages

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/soe-agent/soe-agent/internal/policy"
)

// settings are what the file of a repository says. A repository that cannot be
// reached holds up nothing: it is given up soon, and skipped.
func settings(name string, r policy.Repository) []setting {
	yes := true
	if r.Enabled == nil {
		r.Enabled = &yes
	}
	if r.SkipIfUnavailable == nil {
		r.SkipIfUnavailable = &yes
	}
	r.MetadataExpire = cmp.Or(r.MetadataExpire, "1800")
	all := []setting{{"name", cmp.Or(r.Title, name)}}
	for _, s := range []setting{{"baseurl", r.BaseURL}, {"metalink", r.Metalink}, {"mirrorlist", r.MirrorList}} {
		if s.value != "" {
			all = append(all, s)
		}
	}
	special := optional(r.RepositorySettings)
	take := func(key string) {
		i := slices.IndexFunc(special, func(s setting) bool { return s.key == key })
		all = append(all, special[i])
		special = slices.Delete(special, i, i+1)
	}
	take("enabled")
	all = append(all, setting{"gpgcheck", "1"}, setting{"gpgkey", "file://" + keyFile(name)})
	take("skip_if_unavailable")
	all = append(all, setting{"timeout", "10"}, setting{"retries", "2"})
	take("metadata_expire")
	return append(all, special...)
}

// optional are the settings that the policy makes.
func optional(s policy.RepositorySettings) []setting {
	var all []setting
	for _, is := range []setting{
		{"enabled", number(s.Enabled)},
		{"skip_if_unavailable", number(s.SkipIfUnavailable)},
		{"metadata_expire", s.MetadataExpire},
		{"priority", strings.TrimPrefix(strconv.Itoa(s.Priority), "0")},
		{"exclude", strings.Join(s.Exclude, " ")},
		{"includepkgs", strings.Join(s.IncludePkgs, " ")},
		{"proxy", s.Proxy},
		{"sslcacert", s.SSLCACert},
		{"sslclientcert", s.SSLClientCert},
		{"sslclientkey", s.SSLClientKey},
		{"module_hotfixes", number(s.ModuleHotfixes)},
	} {
		if is.value != "" {
			all = append(all, is)
		}
	}
	return all
}

// optionalKeys are all that optional may make.
func optionalKeys() []string {
	return []string{
		"enabled", "skip_if_unavailable", "metadata_expire", "priority", "exclude", "includepkgs", "proxy",
		"sslcacert", "sslclientcert", "sslclientkey", "module_hotfixes",
	}
}

func number(flag *bool) string {
	switch {
	case flag == nil:
		return ""
	case *flag:
		return "1"
	}
	return "0"
}

// truth is a setting's value with yes and no as numbers, as they may be written in several ways.
func truth(value string) string {
	switch strings.ToLower(value) {
	case "1", "true", "yes", "on":
		return "1"
	case "0", "false", "no", "off":
		return "0"
	}
	return strings.Join(words(value), " ")
}

// value is the setting of a key in a section, of which the last one counts; without one, that
// it is not set.
func value(section []setting, key string) (text string, set bool) {
	for _, s := range section {
		if s.key == key {
			text, set = s.value, true
		}
	}
	return text, set
}

// withSetting is the text of a file with another value in a section, or without one. All other
// lines stay as they are.
func withSetting(text []byte, section, key, value string, set bool) []byte {
	var lines []string
	in, dropped, end := false, false, -1
	for line := range strings.Lines(string(text)) {
		trimmed := strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(trimmed, "[") && strings.Contains(trimmed, "]"):
			in, dropped = trimmed[1:strings.IndexByte(trimmed, ']')] == section, false
		case !in, trimmed == "", strings.HasPrefix(trimmed, "#"), strings.HasPrefix(trimmed, ";"):
		case line[0] == ' ' || line[0] == '\t':
			if dropped { // it goes on with the value before it
				continue
			}
		default:
			name, _, _ := strings.Cut(strings.ReplaceAll(trimmed, ":", "="), "=")
			if dropped = strings.EqualFold(strings.TrimSpace(name), key); dropped {
				continue
			}
		}
		if lines = append(lines, line); in && trimmed != "" {
			end = len(lines)
		}
	}
	if set && end > 0 {
		if !strings.HasSuffix(lines[end-1], "\n") {
			lines[end-1] += "\n"
		}
		lines = slices.Insert(lines, end, fmt.Sprintf("%s=%s\n", key, value))
	}
	return []byte(strings.Join(lines, ""))
}
