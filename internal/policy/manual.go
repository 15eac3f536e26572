package policy

import (
	"fmt"
	"strings"
)

// Manual returns every word of the language with its meaning, in Markdown.
func Manual() string {
	var m manual
	m.printf("%s", `# Every key of the policy

Made from the tables by which fragments are parsed, as is their [JSON Schema](policy.schema.json).
[The policy](policy.md) says how it all goes together, and what happens on a machine.
`)
	root := language()
	var simple []key
	for _, k := range root.keys {
		if k.table() == nil && k.name != "rules" {
			simple = append(simple, k)
		}
	}
	m.section("The fragment itself", &form{keys: simple})
	for _, k := range root.keys {
		table := k.table()
		switch {
		case k.name == "rules":
			m.section("`[[rules]]`", k.form, k.items.keys...)
		case table == nil: // it is among the simple keys
			continue
		case table.each == nil || len(table.keys) > 0: // other names in [pcoip] need allow_unknown
			m.section("`["+k.name+"]`", table)
		case table.each.each != nil:
			m.section("`["+k.name+"."+table.called+"]`", table, key{name: table.each.called, form: table.each.each})
		case len(table.each.either) > 0:
			m.section("`["+k.name+"]`", table, key{name: table.called, form: table.each})
		default:
			m.section("`["+k.name+"."+table.called+"]`", table, table.each.keys...)
		}
		if k.name == "benchmarks" {
			m.printf("\n```toml\n%s```\n", benchmarkExample)
		}
		for _, section := range sections() {
			if section.name == k.name {
				m.printf("\n```toml\n%s```\n", section.example)
			}
		}
	}
	return m.String()
}

type manual struct{ strings.Builder }

func (m *manual) printf(format string, args ...any) { fmt.Fprintf(m, format, args...) }

// section writes a table of keys: the given ones, or else those of the form.
func (m *manual) section(title string, f *form, keys ...key) {
	m.printf("\n## %s\n\n", title)
	if f.doc != "" {
		m.printf("%s.\n\n", sentence(f.doc))
	}
	if len(keys) == 0 {
		keys = f.keys
	}
	m.printf("| key | is | meaning |\n|---|---|---|\n")
	for _, k := range keys {
		m.row("", k)
	}
}

// row writes a key, and the keys below it.
func (m *manual) row(prefix string, k key) {
	if k.refused != "" {
		return
	}
	name := prefix + k.name
	forms := k.either
	if forms == nil {
		forms = []*form{k.form}
	}
	for _, f := range forms {
		switch {
		case f.each != nil:
			m.row(name+".", key{name: f.called, form: &form{doc: f.doc, is: f.each.is, types: f.each.types, bounded: f.each.bounded, least: f.each.least, most: f.each.most, example: f.example}})
		case len(f.keys) > 0:
			for _, below := range f.keys {
				m.row(name+".", below)
			}
		default:
			meaning := f.doc
			if f.example != "" {
				meaning += strings.TrimPrefix("; such as `"+f.example+"`", map[bool]string{true: "; "}[meaning == ""])
			}
			m.printf("| `%s` | %s | %s |\n", name, f.what(), strings.ReplaceAll(meaning, "|", `\|`))
		}
	}
}

// what returns the type of a value, for people.
func (f *form) what() string {
	names := map[string]string{aString: "a string", anInt: "a whole number", aNumber: "a number", aBoolean: "`true` or `false`", anArray: "an array"}
	switch {
	case f.is != "":
		return f.is
	case f.isDate:
		return "a date"
	case f.bounded && len(f.types) == 1 && f.least == f.most:
		return fmt.Sprintf("`%d`", f.least)
	case f.bounded && len(f.types) == 1:
		return fmt.Sprintf("a whole number from %d to %d", f.least, f.most)
	case f.items != nil:
		return "an array of strings"
	case len(f.words) > 0 && f.pattern == "":
		return "`\"" + strings.Join(f.words, "\"`, `\"") + "\"`"
	}
	var types []string
	for _, t := range f.types {
		types = append(types, names[t])
	}
	return strings.Join(types, ", ")
}

func sentence(text string) string { return strings.ToUpper(text[:1]) + text[1:] }
