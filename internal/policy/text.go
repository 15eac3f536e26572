package policy

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/BurntSushi/toml"
)

// Text returns the policy as one fragment for everybody, which Parse reads: the same resources and
// rules, each below a comment that says who set it. It has references in place of secrets.
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
	for _, b := range p.Benchmarks {
		text.WriteByte('\n')
		b.entry().write(&text, true)
	}
	for _, r := range p.Rules {
		text.WriteByte('\n')
		entry{origin: r.Origin, header: "[[rules]]", whole: true, lines: r.lines()}.write(&text, true)
	}
	return text.String()
}

// Text returns the resource as a fragment sets it, without a comment.
func (r Resource) Text() string {
	var text strings.Builder
	e := r.entry()
	e.origin = Origin{}
	e.write(&text, true)
	return text.String()
}

// Provenance says who set something, and what that replaced.
func (o Origin) Provenance() string {
	text := "set by " + o.String()
	for _, lower := range o.Overrode {
		text += ", instead of " + lower.String()
	}
	return text
}

// An entry is the text of one resource in a document.
type entry struct {
	origin Origin // the zero Origin: no comment
	header string // of its table
	whole  bool   // nothing else is in the table
	note   string // why it is not enforced, for people
	lines  []string
}

// ownTable returns an entry that is a table of its own.
func ownTable(section, name string, lines ...string) entry {
	return entry{header: "[" + section + "." + keyText(name) + "]", whole: true, lines: lines}
}

// inTable returns an entry in a table shared with others.
func inTable(table string, lines ...string) entry {
	return entry{header: "[" + table + "]", lines: lines}
}

func (e entry) write(text *strings.Builder, header bool) {
	comment := ""
	if e.origin.Fragment != "" {
		comment = "# " + strings.Map(printable, e.origin.Provenance()) + "\n"
	}
	if e.note != "" {
		comment += "# " + strings.Map(printable, e.note) + "\n"
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

// printable replaces control characters in a comment, where TOML does not allow them.
func printable(r rune) rune {
	if unicode.IsControl(r) {
		return unicode.ReplacementChar
	}
	return r
}

// entries returns the entries of all resources, table by table.
func (p *Policy) entries() []entry {
	entries := make([]entry, 0, len(p.Resources))
	said := map[string]bool{} // lines already written, with their table, because TOML allows each key only once
	for _, r := range p.Resources {
		e := r.entry()
		if !e.whole {
			e.lines = slices.DeleteFunc(e.lines, func(line string) bool {
				key := e.header + line
				defer func() { said[key] = true }()
				return said[key]
			})
		}
		if len(e.lines) > 0 || e.whole {
			entries = append(entries, e)
		}
	}
	slices.SortStableFunc(entries, func(a, b entry) int { return cmp.Compare(a.header, b.header) })
	return entries
}

// entry returns the text of the resource in a document.
func (r Resource) entry() entry {
	spec := r.Spec
	if r.Shown != nil {
		spec = r.Shown
	}
	e := spec.entry(r.ID.Name())
	e.origin = r.Origin
	switch {
	case r.NotApplicable != "":
		e.note = "not applicable: " + r.NotApplicable
	case r.Undecided != "":
		e.note = "it cannot be told whether it is for the machine: " + r.Undecided
	}
	return e
}

// pairs writes keys with their values, except empty ones.
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
	_ = encoder.Encode(map[string]any{key: value}) // TOML can represent all values of specs
	return strings.TrimSuffix(text.String(), "\n")
}

func inline(key string, members []string) string {
	return keyText(key) + " = { " + strings.Join(members, ", ") + " }"
}

// keyText returns a key as it is written, quoted if necessary.
func keyText(key string) string { return strings.TrimSuffix(pair(key, 0), " = 0") }
