package packages

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/soe-agent/soe-agent/internal/policy"
)

// settings returns the lines of a repository's file. Short timeouts, and skip_if_unavailable by
// default, keep an unreachable repository from holding up everything else.
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

// optional returns the settings that the policy sets.
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

// optionalKeys returns all keys that optional may return.
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

// truth returns a setting's value with yes and no as 1 and 0, because they may be written in
// several ways.
func truth(value string) string {
	switch strings.ToLower(value) {
	case "1", "true", "yes", "on":
		return "1"
	case "0", "false", "no", "off":
		return "0"
	}
	return strings.Join(words(value), " ")
}

// value returns the setting of a key in a section, and whether it is set. If it is set several
// times, the last one counts.
func value(section []setting, key string) (text string, set bool) {
	for _, s := range section {
		if s.key == key {
			text, set = s.value, true
		}
	}
	return text, set
}

// withSetting returns the text with another value of a key in a section, or without the key if set
// is false. All other lines stay as they are.
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
			if dropped { // the line continues the removed value
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
