package policy

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/BurntSushi/toml"
)

// Text is the policy as one fragment for everybody, which Parse reads: the same
// resources and rules, each below a comment that says who set it. Secrets are in it as
// references.
func (p *Policy) Text() string {
	var text strings.Builder
	fmt.Fprintf(&text, "# personas: %s\n\nschema = 1\n", strings.Join(p.Personas, ", "))
	var previous string
	for _, e := range p.entries() {
		if e.whole || e.header != previous {
			text.WriteByte('\n')
		}
		e.write(&text, e.header != previous)
		previous = e.header
	}
	for _, r := range p.Rules {
		text.WriteByte('\n')
		entry{origin: r.Origin, header: "[[rules]]", whole: true, lines: r.lines()}.write(&text, true)
	}
	return text.String()
}

// Text is the resource as a fragment sets it, without a comment.
func (r Resource) Text() string {
	var text strings.Builder
	e := r.entry()
	e.origin = Origin{}
	e.write(&text, true)
	return text.String()
}

// Provenance is who set something, and what that replaced.
func (o Origin) Provenance() string {
	text := "set by " + o.String()
	for _, lower := range o.Overrode {
		text += ", instead of " + lower.String()
	}
	return text
}

// An entry is what a document says of one resource.
type entry struct {
	origin Origin // the zero Origin: nothing is said of it
	header string // of its table
	whole  bool   // the table is about nothing else
	lines  []string
}

func (e entry) write(text *strings.Builder, header bool) {
	comment := ""
	if e.origin.Fragment != "" {
		comment = "# " + strings.Map(printable, e.origin.Provenance()) + "\n"
	}
	if header && !e.whole {
		text.WriteString(e.header + "\n")
	}
	text.WriteString(comment)
	if header && e.whole {
		text.WriteString(e.header + "\n")
	}
	for _, line := range e.lines {
		text.WriteString(line + "\n")
	}
}

// printable keeps control characters out of a comment, where TOML allows none.
func printable(r rune) rune {
	if unicode.IsControl(r) {
		return unicode.ReplacementChar
	}
	return r
}

// entries are those of all resources, table by table.
func (p *Policy) entries() []entry {
	entries := make([]entry, 0, len(p.Resources))
	unchecked := false
	for _, r := range p.Resources {
		e := r.entry()
		if directive, ok := r.Spec.(PCoIP); ok && directive.Unchecked {
			if unchecked { // it is said once
				e.lines = e.lines[1:]
			}
			unchecked = true
		}
		if registry, ok := r.Spec.(Registry); !ok || registry.Of == "user" { // it is said once of both
			entries = append(entries, e)
		}
	}
	slices.SortStableFunc(entries, func(a, b entry) int { return cmp.Compare(a.header, b.header) })
	return entries
}

// entry is what a document says of the resource.
func (r Resource) entry() entry {
	spec := r.Spec
	if r.Shown != nil {
		spec = r.Shown
	}
	name := r.ID.Name()
	one := func(section, name string, lines ...string) entry {
		return entry{r.Origin, "[" + section + "." + keyText(name) + "]", true, lines}
	}
	among := func(section string, lines ...string) entry {
		return entry{r.Origin, "[" + section + "]", false, lines}
	}
	switch s := spec.(type) {
	case System:
		return among("system", pair(name, s.Value))
	case Group:
		if s.Registered {
			return among("ids", "gid."+pair(name, *s.GID))
		}
		return one("groups", name, s.lines()...)
	case User:
		if s.Registered {
			return among("ids", "uid."+pair(name, *s.UID))
		}
		return one("users", name, s.lines()...)
	case Registry:
		return among("ids", pair("report_unregistered", true))
	case Sudo:
		lines := pairs("allow", s.Allow, "root_groups", s.RootGroups)
		for _, subject := range slices.Sorted(maps.Keys(s.Commands)) {
			lines = append(lines, "commands."+pair(subject, s.Commands[subject]))
		}
		return among("sudo", lines...)
	case Dropin:
		return one("dropins", "/"+name, s.lines()...)
	case Directory:
		return one("directories", "/"+name, pair("purge", s.Purge))
	case PCoIP:
		return among("pcoip", s.lines(name)...)
	case Dconf:
		at := strings.LastIndexByte(name, '/')
		return among("dconf."+keyText(name[:at]), s.line(name[at+1:]))
	case Repository:
		return one("repositories", name, s.lines()...)
	case Package:
		return among("packages", s.line(name))
	case Patch:
		return among("patch", pair("updates", s.Updates))
	case Service:
		return one("services", name, pairs("enabled", s.Enabled, "running", s.Running, "masked", s.Masked)...)
	case Check:
		return one("checks", name, s.lines()...)
	}
	return entry{}
}

func (g Group) lines() []string {
	return pairs("ensure", g.Ensure.unlessPresent(), "gid", g.GID, "system", g.System)
}

func (u User) lines() []string {
	return pairs("ensure", u.Ensure.unlessPresent(), "uid", u.UID, "group", u.Group, "groups", u.Groups,
		"comment", u.Comment, "home", u.Home, "shell", u.Shell, "system", u.System)
}

func (d Dropin) lines() []string {
	var lines []string
	if d.Ensure == Absent {
		lines = pairs("ensure", string(d.Ensure), "content", d.Content)
	} else {
		lines = []string{contentLine(d.Content)}
	}
	if d.Mode != nil {
		lines = append(lines, pair("mode", fmt.Sprintf("%04o", uint32(*d.Mode))))
	}
	return append(lines, pairs("owner", d.Owner, "group", d.Group, "activate", d.Activate)...)
}

// contentLine writes text of many lines as such, where TOML has a form for it in which
// nothing needs to be escaped.
func contentLine(content string) string {
	escaped := func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }
	if strings.Count(content, "\n") < 2 || strings.ContainsFunc(content, escaped) || strings.Contains(content, "''") || strings.HasSuffix(content, "'") {
		return pair("content", content)
	}
	return "content = '''\n" + content + "'''"
}

func (p PCoIP) lines(name string) []string {
	var lines []string
	if p.Unchecked {
		lines = []string{pair("allow_unknown", true)}
	}
	if n, err := strconv.Atoi(p.Value); err == nil && strconv.Itoa(n) == p.Value {
		return append(lines, pair(name, n)+p.comment(name))
	}
	return append(lines, pair(name, p.Value))
}

// comment is what a number means that says nothing by itself.
func (p PCoIP) comment(name string) string {
	if means := p.Meaning(name); means != "" {
		return "  # " + means
	}
	return ""
}

// Meaning is what the value of the directive of this name means, or "" where that is no more
// than it says.
func (p PCoIP) Meaning(name string) string {
	d, _ := LookupPCoIP(name)
	if word := d.Word(d.Number(p.Value)); word == "on" || word == "off" {
		return ""
	}
	return d.Meaning(p.Value)
}

func (d Dconf) line(key string) string {
	if d.Lock && d.Schema == "" && d.GVariant == "" {
		return pair(key, d.Value)
	}
	members := pairs("gvariant", d.GVariant, "schema", d.Schema)
	if d.Value != nil {
		members = append([]string{pair("value", d.Value)}, members...)
	}
	if !d.Lock {
		members = append(members, pair("lock", false))
	}
	return inline(key, members)
}

func (p Package) line(name string) string {
	if p.Topic == "" && !p.Hold && p.URL == "" {
		return pair(name, string(p.Ensure))
	}
	return inline(name, pairs("ensure", string(p.Ensure), "topic", p.Topic, "hold", p.Hold, "url", p.URL, "sha256", p.SHA256))
}

func (c Check) lines() []string {
	lines := pairs("run", c.Run, "user", c.User, "stdout", c.Stdout, "stderr", c.Stderr)
	if c.Exit != 0 {
		lines = append(lines, pair("exit", c.Exit))
	}
	if c.Timeout != defaultCheckTimeout {
		lines = append(lines, pair("timeout", c.Timeout.String()))
	}
	return lines
}

func (r Rule) lines() []string {
	lines := pairs("match", r.Match, "severity", string(r.Severity), "controls", r.Controls)
	if r.Pending != 0 {
		lines = append(lines, pair("pending", Days(r.Pending)))
	}
	lines = append(lines, pairs("disrupt", r.Disrupt)...)
	if r.Audit {
		lines = append(lines, pair("mode", "audit"))
	}
	if !r.Until.IsZero() {
		lines = append(lines, "until = "+r.LastDay())
	}
	return append(lines, pairs("reason", r.Reason)...)
}

func (e Ensure) unlessPresent() string {
	if e == Present {
		return ""
	}
	return string(e)
}

// pairs writes keys with their values, but for those that say nothing.
func pairs(keysAndValues ...any) []string {
	var lines []string
	for ; len(keysAndValues) > 1; keysAndValues = keysAndValues[2:] {
		key, value := keysAndValues[0].(string), keysAndValues[1]
		switch v := value.(type) {
		case string:
			if v == "" {
				continue
			}
		case bool:
			if !v {
				continue
			}
		case *int:
			if v == nil {
				continue
			}
		case *bool:
			if v == nil {
				continue
			}
		case []string:
			if v == nil {
				continue
			}
		}
		lines = append(lines, pair(key, value))
	}
	return lines
}

// pair writes a key with its value.
func pair(key string, value any) string {
	var text bytes.Buffer
	encoder := toml.NewEncoder(&text)
	encoder.Indent = ""
	_ = encoder.Encode(map[string]any{key: value}) // values of specs are such that TOML has a form for them
	return strings.TrimSuffix(text.String(), "\n")
}

func inline(key string, members []string) string {
	return keyText(key) + " = { " + strings.Join(members, ", ") + " }"
}

// keyText is a key as it is written, in quotes if need be.
func keyText(key string) string { return strings.TrimSuffix(pair(key, 0), " = 0") }
