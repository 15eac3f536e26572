package sudotext

import (
	"regexp"
	"slices"
	"strings"
)

// Defaults is what a line of Defaults sets, and for whom or what.
type Defaults struct {
	// Scope is what binds it, as it is written: "" for all, ":alice", "@host",
	// ">root", "!/usr/bin/id".
	Scope    string
	Users    []Subject // whom a scope of users names
	Settings []Setting
}

// A Setting is one parameter of Defaults: a flag, which may be negated, or a
// name with a value.
type Setting struct {
	Negated bool
	Name    string
	Op      string // "", "=", "+=" or "-="
	Value   string // without quotes
}

var (
	settingName = regexp.MustCompile(`^[a-z_]+`)
	settingOp   = regexp.MustCompile(`^[ \t]*([+-]?=)[ \t]*`)
)

// ParseDefaults reads a line of Defaults; ok is false when some of it cannot be
// made sense of. A scope follows the keyword at once: in "Defaults !insults" the
// mark belongs to the setting.
func ParseDefaults(text string) (d Defaults, ok bool) {
	d, _, ok = parseDefaults(text)
	return d, ok
}

// parseDefaults also returns each setting as it is written.
func parseDefaults(text string) (d Defaults, written []string, ok bool) {
	p := parser{strings.TrimPrefix(text, "Defaults")}
	if before := p.rest; before != "" && strings.IndexByte(":@>!", before[0]) >= 0 {
		p.rest = p.rest[1:]
		if !p.skipList() {
			return d, nil, false
		}
		d.Scope = strings.TrimRight(before[:len(before)-len(p.rest)], " \t")
		if before[0] == ':' {
			users := parser{d.Scope[1:]}
			if d.Users, ok = users.users(); !ok || users.rest != "" {
				return d, nil, false
			}
		}
	}
	for {
		p.blanks()
		before := p.rest
		setting, ok := p.setting()
		if !ok {
			return d, nil, false
		}
		d.Settings = append(d.Settings, setting)
		written = append(written, before[:len(before)-len(p.rest)])
		p.blanks()
		if p.rest == "" {
			return d, written, true
		}
		if !p.take(',') {
			return d, nil, false
		}
	}
}

// Without is a line of Defaults without some of its settings, the others as they are
// written; "" when none is left.
func (l Line) Without(gone func(Setting) bool) string {
	d, written, ok := parseDefaults(l.Text)
	if !ok {
		return ""
	}
	var left []string
	for i, s := range d.Settings {
		if !gone(s) {
			left = append(left, written[i])
		}
	}
	if len(left) == 0 {
		return ""
	}
	return "Defaults" + d.Scope + " " + strings.Join(left, ", ")
}

// skipList passes over the words of a list, between which there are commas.
func (p *parser) skipList() bool {
	for {
		p.blanks()
		before := p.rest
		for p.rest != "" && strings.IndexByte(" \t,", p.rest[0]) < 0 {
			switch {
			case p.take('"'):
				if _, ok := p.quoted(); !ok {
					return false
				}
			case p.rest[0] == '\\' && len(p.rest) > 1:
				p.rest = p.rest[2:]
			default:
				p.rest = p.rest[1:]
			}
		}
		if p.rest == before {
			return false
		}
		p.blanks()
		if !p.take(',') {
			return true
		}
	}
}

func (p *parser) setting() (s Setting, ok bool) {
	p.blanks()
	for p.take('!') {
		s.Negated = !s.Negated
		p.blanks()
	}
	s.Name = settingName.FindString(p.rest)
	p.rest = p.rest[len(s.Name):]
	if op := settingOp.FindStringSubmatch(p.rest); op != nil {
		s.Op = op[1]
		p.rest = p.rest[len(op[0]):]
		if p.take('"') {
			s.Value, ok = p.quoted()
			return s, ok
		}
		end := 0
		for end < len(p.rest) && strings.IndexByte(" \t,", p.rest[end]) < 0 {
			if p.rest[end] == '\\' {
				end++
			}
			end++
		}
		end = min(end, len(p.rest))
		s.Value, p.rest = p.rest[:end], p.rest[end:]
	}
	return s, s.Name != ""
}

// Weakens returns the parameters of a line of Defaults by which sudo asks less
// than it does by default. Those that only concern the
// password of whom the line names are left out when allowed says so of them.
func (l Line) Weakens(allowed func([]Subject) bool) (weak []Setting) {
	if l.Sort != DefaultsLine {
		return nil
	}
	own := len(l.Defaults.Users) > 0 && allowed(l.Defaults.Users)
	known := weaknesses()
	for _, s := range l.Defaults.Settings {
		if w, listed := known[s.Name]; listed && w.weak(s) && (!w.personal || !own) {
			weak = append(weak, s)
		}
	}
	return weak
}

// Cures are what undoes settings that Weakens or Hinders has returned, behind them, each once.
func Cures(settings []Setting) (cures []string) {
	for _, s := range settings {
		known, hinders := hindrances()[s.Name]
		if !hinders {
			known = weaknesses()[s.Name]
		}
		if cure := known.undoes(s); cure != "" && !slices.Contains(cures, cure) {
			cures = append(cures, cure)
		}
	}
	return cures
}

// mentionsWeakness says whether a line that cannot be read holds the name of a
// parameter that may weaken.
func mentionsWeakness(text string) bool {
	for name := range weaknesses() {
		if strings.Contains(text, name) {
			return true
		}
	}
	return false
}

// Weak are those of Defaults by which sudo asks less than it does by itself, as sudoers(5)
// writes them; of two of the same name the later one decides. personal says of each whether
// it is about the password of the one who asks alone.
func Weak(settings []Setting) (personal map[string]bool) {
	known := weaknesses()
	decided := map[string][]Setting{}
	for _, s := range settings {
		switch {
		case known[s.Name].list && s.Op == "-=":
			decided[s.Name] = withoutWords(decided[s.Name], s)
		case known[s.Name].list && s.Op == "+=":
			decided[s.Name] = append(decided[s.Name], s)
		default:
			decided[s.Name] = []Setting{s}
		}
	}
	personal = map[string]bool{}
	for name, settings := range decided {
		for _, s := range settings {
			if w, listed := known[name]; listed && w.weak(s) {
				personal[s.String()] = w.personal
			}
		}
	}
	return personal
}

// withoutWords are lists without the words of another one.
func withoutWords(lists []Setting, gone Setting) (left []Setting) {
	for _, s := range lists {
		words := slices.DeleteFunc(strings.Fields(s.Value), func(word string) bool { return slices.Contains(strings.Fields(gone.Value), word) })
		if s.Value = strings.Join(words, " "); s.Value != "" {
			left = append(left, s)
		}
	}
	return left
}

func (s Setting) String() string {
	text := s.Name
	if s.Negated {
		text = "!" + text
	}
	if s.Op != "" {
		text += " " + s.Op + " " + s.Value
	}
	return text
}
