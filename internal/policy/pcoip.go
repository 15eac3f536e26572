package policy

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

func pcoipSection() section {
	return section{"pcoip", pcoipForm(), (*decoder).pcoip, `[pcoip]
server_clipboard_state = "disabled"
encryption = "aes256"
`, []Spec{PCoIP{}}}
}

// PCoIP is one directive of pcoip-agent.conf: the text after the "=".
type PCoIP struct {
	Value string `json:"value"`
	// Unchecked means that it is not known to be right, and is written because the policy says
	// allow_unknown.
	Unchecked bool `json:"unchecked,omitempty"`
}

// Kind implements Spec.
func (PCoIP) Kind() string { return "pcoip" }

// Expand implements Spec.
func (p PCoIP) Expand(expand func(string) string) Spec {
	p.Value = expand(p.Value)
	return p
}

func pcoipForm() *form {
	value := func(doc string) *form {
		return &form{doc: doc, types: []string{anInt, aString, aBoolean}, open: true}
	}
	f := named("directives of pcoip-agent.conf, without their `pcoip.`", "NAME", "", value(""))
	f.keys = []key{
		{name: "allow_unknown", form: yesOrNo("directives of this fragment that nobody knows are written as they are, and reported as not validated")},
		{name: PCoIPEncryption, form: word("how the stream is encrypted, by whichever directive the installed agent has for it", PCoIPAES256)},
	}
	directives := pcoipDirectives()
	for _, name := range slices.Sorted(maps.Keys(directives)) {
		d := directives[name]
		if d.Forbidden != "" {
			continue
		}
		heeded := map[PCoIPEffect]string{
			Immediately: "heeded at once", AtSession: "heeded in the next session", AtRestart: "heeded when the agent is restarted",
		}[d.Applies]
		directive := value(strings.Join(append(meanings(d), heeded), "; "))
		directive.is = "text"
		if !d.Text {
			directive.bounded, directive.least, directive.most = d.Verified, d.Min, d.Max
			directive.is = fmt.Sprintf("a number from %d to %d", d.Min, d.Max)
			for _, w := range d.Words {
				directive.words = append(directive.words, w.Word)
			}
			if len(d.Words) > 0 {
				directive.is += ", or a word"
				directive.pattern = map[bool]string{true: "^[0-9]+$", false: "^."}[d.Verified]
			}
		}
		if !d.Verified {
			directive.doc = "as far as is known: " + directive.doc
		}
		f.keys = append(f.keys, key{name: name, form: directive})
	}
	return f
}

// meanings returns what a directive is, and what each of its numbers means.
func meanings(d PCoIPDirective) []string {
	says := []string{d.Means}
	for _, w := range d.Words {
		if w.Word == "on" || w.Word == "off" {
			says = append(says, fmt.Sprintf("%d `%s`", w.Number, w.Word))
		} else {
			says = append(says, strings.TrimSuffix(fmt.Sprintf("%d `%s`: %s", w.Number, w.Word, w.Means), ": "))
		}
	}
	return says
}

func (d *decoder) pcoip(t *table) {
	const allowUnknown = "allow_unknown"
	allowed := t.isSet(allowUnknown)
	for _, key := range t.keys() {
		if key == allowUnknown {
			continue
		}
		value, _ := t.value(key)
		var text string
		switch v := value.(type) {
		case string:
			text = v
		case int64:
			text = strconv.FormatInt(v, 10)
		case bool:
			text = map[bool]string{true: "1", false: "0"}[v]
		case map[string]any:
			t.problem(key, `its keys are written without "pcoip.", and none of them is a table`)
			continue
		default:
			t.problem(key, "it wants a string, a whole number or a boolean, and not %s", describe(value))
			continue
		}
		directive, known := LookupPCoIP(key)
		d.tellNumber(t, key, directive, text)
		text = directive.Number(text)
		doubtful := !known || !directive.Verified && directive.Check(text) != ""
		d.set(t, key, NewID("pcoip", key), PCoIP{Value: text, Unchecked: allowed && doubtful && key != PCoIPEncryption})
	}
}

// tellNumber tells the author what a number means, if the number alone does not show it.
func (d *decoder) tellNumber(t *table, key string, directive PCoIPDirective, value string) {
	if means := (PCoIP{}).meaning(key, value); means != "" && directive.Number(value) == value {
		d.advice = append(d.advice, Problem{
			File: d.file, Line: d.lines.at(append(slices.Clone(t.path), key)), Gravity: Notice,
			Message: fmt.Sprintf("%s = %s is %s", t.name(key), value, means),
			Hint:    fmt.Sprintf("say %s = %q", key, directive.Word(value)),
		})
	}
}

var pcoipName = regexp.MustCompile(`^[a-z0-9_]+(\.[a-z0-9_]+)*$`)

func (p PCoIP) validate(v *validator) {
	v.refuse(breaksLine(p.Value), "the value has a line break or another control character")
	if v.name == PCoIPEncryption {
		v.refuse(!v.open(p.Value) && p.Value != PCoIPAES256, "%q is not %q, the only encryption that can be required", p.Value, PCoIPAES256)
		return
	}
	directive, known := LookupPCoIP(v.name)
	switch {
	case strings.HasPrefix(v.name, "pcoip."):
		v.wrong(`keys are written without "pcoip."`)
	case !pcoipName.MatchString(v.name):
		v.wrong("it is not the name of a directive: small letters, digits and underscores")
	case directive.Forbidden != "":
		v.wrong("it must not be set on a WorkSpace: %s", directive.Forbidden)
	case p.Unchecked:
	case !known:
		if meant := Nearest(v.name, PCoIPNames()); meant != "" {
			v.wrong("no such directive is known; did you mean %q?", meant)
		} else {
			v.wrong("no such directive is known; if pcoip-agent.conf(5) of the installed agent names it, say allow_unknown = true")
		}
	case !v.open(p.Value):
		why := directive.Check(p.Value)
		if why != "" && !directive.Verified {
			why += ", as far as is known; if pcoip-agent.conf(5) of the installed agent says otherwise, say allow_unknown = true"
		}
		v.refuse(why != "", "%s", why)
	}
}

func (p PCoIP) entry(name string) entry {
	var lines []string
	if p.Unchecked {
		lines = []string{pair("allow_unknown", true)}
	}
	if n, err := strconv.Atoi(p.Value); err == nil && strconv.Itoa(n) == p.Value {
		return inTable("pcoip", append(lines, pair(name, n)+p.comment(name))...)
	}
	return inTable("pcoip", append(lines, pair(name, p.Value))...)
}

// comment returns a comment with the meaning of a number, if the number alone does not show it.
func (p PCoIP) comment(name string) string {
	if means := p.meaning(name, p.Value); means != "" {
		return "  # " + means
	}
	return ""
}

func (PCoIP) meaning(name, value string) string {
	d, _ := LookupPCoIP(name)
	if word := d.Word(d.Number(value)); word == "on" || word == "off" {
		return ""
	}
	return d.Meaning(value)
}
