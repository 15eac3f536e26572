package sudotext

import (
	"regexp"
	"slices"
	"strconv"
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

// A weakness is a parameter that takes away from what sudo protects, and what
// undoes it.
type weakness struct {
	weak func(Setting) bool
	cure string
	// personal is true for what concerns the password of the one who asks: for the
	// administrators themselves that is a choice, as NOPASSWD is.
	personal bool
}

func isOn(s Setting) bool  { return !s.Negated }
func isOff(s Setting) bool { return s.Negated }

// weaknesses are those parameters of sudoers(5) by which nobody is granted
// anything, and less is asked of those who are, or of somebody else.
func weaknesses() map[string]weakness {
	return map[string]weakness{
		"authenticate":      {isOff, "authenticate", true},
		"exempt_group":      {isOn, "!exempt_group", false},
		"env_reset":         {isOff, "env_reset", false},
		"rootpw":            {isOn, "!rootpw", false}, // asks for a password that nobody has
		"runaspw":           {isOn, "!runaspw", false},
		"setenv":            {isOn, "!setenv", false},
		"sudoedit_checkdir": {isOff, "sudoedit_checkdir", false},
		"sudoedit_follow":   {isOn, "!sudoedit_follow", false},
		"targetpw":          {isOn, "!targetpw", false},
		"timestamp_timeout": {neverExpires, "timestamp_timeout = 5", true},
		"timestamp_type":    {func(s Setting) bool { return s.Value == "global" }, "timestamp_type = tty", true},
		"tty_tickets":       {isOff, "tty_tickets", true},
		"use_pty":           {isOff, "use_pty", false},
		"visiblepw":         {isOn, "!visiblepw", false},
	}
}

func neverExpires(s Setting) bool {
	minutes, err := strconv.ParseFloat(s.Value, 64)
	return !s.Negated && err == nil && minutes < 0
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
		if listed && w.weak(s) && (!w.personal || !own) && !slices.Contains(cures, w.cure) {
			cures = append(cures, w.cure)
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
	decided := map[string]Setting{}
	for _, s := range settings {
		decided[s.Name] = s
	}
	personal = map[string]bool{}
	for name, w := range weaknesses() {
		if s, set := decided[name]; set && w.weak(s) {
			personal[s.String()] = w.personal
		}
	}
	return personal
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
