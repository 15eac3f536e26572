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
	p := parser{strings.TrimPrefix(text, "Defaults")}
	if before := p.rest; before != "" && strings.IndexByte(":@>!", before[0]) >= 0 {
		p.rest = p.rest[1:]
		if !p.skipList() {
			return d, false
		}
		d.Scope = strings.TrimRight(before[:len(before)-len(p.rest)], " \t")
		if before[0] == ':' {
			users := parser{d.Scope[1:]}
			if d.Users, ok = users.users(); !ok || users.rest != "" {
				return d, false
			}
		}
	}
	for {
		setting, ok := p.setting()
		if !ok {
			return d, false
		}
		d.Settings = append(d.Settings, setting)
		p.blanks()
		if p.rest == "" {
			return d, true
		}
		if !p.take(',') {
			return d, false
		}
	}
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
// than it does by default, each with its cure. Those that only concern the
// password of whom the line names are left out when allowed says so of them.
func (l Line) Weakens(allowed func([]Subject) bool) (cures []string) {
	if l.Sort != DefaultsLine {
		return nil
	}
	own := len(l.Defaults.Users) > 0 && allowed(l.Defaults.Users)
	known := weaknesses()
	for _, s := range l.Defaults.Settings {
		w, listed := known[s.Name]
		if !listed || !w.weak(s) || w.personal && own {
			continue
		}
		if cure := w.undoes(s); !slices.Contains(cures, cure) {
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
	for name, w := range known {
		for _, s := range decided[name] {
			if w.weak(s) {
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
