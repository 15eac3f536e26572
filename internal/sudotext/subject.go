package sudotext

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A Form is how a Subject names whom it means.
type Form string

// The forms of subjects.
const (
	User     Form = "user"
	UID      Form = "uid"
	Group    Form = "group"
	GID      Form = "gid"
	NetGroup Form = "netgroup"
	Foreign  Form = "foreign" // a group that only a plug-in of sudo knows
	Named    Form = "alias"   // or, where there is no such alias, a user
	All      Form = "all"
)

// A Subject is a member of a list of users.
type Subject struct {
	Negated bool
	Form    Form
	Name    string // without prefix; the number of a UID or GID
}

// subjectOf tells what a word means once its quotes and escapes are gone.
func subjectOf(word string) Subject {
	for _, prefix := range []struct {
		text string
		form Form
	}{
		{"%:", Foreign}, {"%#", GID}, {"%", Group}, {"+", NetGroup}, {"#", UID},
	} {
		if name, ok := strings.CutPrefix(word, prefix.text); ok {
			return Subject{Form: prefix.form, Name: name}
		}
	}
	return Subject{Form: User, Name: word}
}

// ShutsOut says whether a subject is an alias that shuts somebody out, or may be: in a
// list that denies it, whoever is shut out twice is in.
func (s Subject) ShutsOut(aliases map[string][]Subject) bool { return s.shutsOut(aliases, 0) }

func (s Subject) shutsOut(aliases map[string][]Subject, depth int) bool {
	members, isAlias := aliases[s.Name]
	return s.Form == Named && isAlias && (depth >= maxAliases || slices.ContainsFunc(members, func(m Subject) bool {
		return m.Negated || m.shutsOut(aliases, depth+1)
	}))
}

// String writes the subject as sudoers(5) has it.
func (s Subject) String() string {
	text := ""
	if s.Negated {
		text = "!"
	}
	switch s.Form {
	case All:
		return text + "ALL"
	case Named:
		return text + s.Name
	case UID:
		return text + "#" + s.Name
	case GID:
		return text + "%#" + s.Name
	case Group:
		return text + Quote("%"+s.Name)
	case NetGroup:
		return text + "+" + s.Name
	case Foreign:
		return text + `"%:` + s.Name + `"`
	}
	return text + Quote(s.Name)
}

// parser reads a list of users from the front of a text.
type parser struct{ rest string }

func (p *parser) blanks() { p.rest = strings.TrimLeft(p.rest, " \t") }

func (p *parser) take(c byte) bool {
	if p.rest == "" || p.rest[0] != c {
		return false
	}
	p.rest = p.rest[1:]
	return true
}

// users reads a list of users, up to what does not belong to it.
func (p *parser) users() ([]Subject, bool) {
	var users []Subject
	for {
		p.blanks()
		negated := false
		for p.take('!') {
			negated = !negated
			p.blanks()
		}
		subject, ok := p.subject()
		if !ok {
			return users, false
		}
		subject.Negated = negated
		users = append(users, subject)
		p.blanks()
		if !p.take(',') {
			return users, true
		}
	}
}

func (p *parser) subject() (Subject, bool) {
	if p.take('"') {
		word, ok := p.quoted()
		return subjectOf(word), ok && word != ""
	}
	before := p.rest
	word, ok := p.word()
	if !ok {
		return Subject{}, false
	}
	raw := before[:len(before)-len(p.rest)]
	switch {
	case raw == "ALL":
		return Subject{Form: All}, true
	case aliasName.MatchString(raw):
		return Subject{Form: Named, Name: raw}, true
	}
	return subjectOf(word), true
}

// quoted reads up to the closing quote. Within quotes a backslash stands for
// itself, but before a quote.
func (p *parser) quoted() (string, bool) {
	var word strings.Builder
	for p.rest != "" {
		c := p.rest[0]
		switch {
		case c == '"':
			p.rest = p.rest[1:]
			return word.String(), true
		case strings.HasPrefix(p.rest, `\"`):
			word.WriteByte('"')
			p.rest = p.rest[2:]
		default:
			word.WriteByte(c)
			p.rest = p.rest[1:]
		}
	}
	return word.String(), false
}

var prefix = regexp.MustCompile(`^(%:?#?|\+|#)`)

// word reads up to the next character that must be escaped in a name.
func (p *parser) word() (string, bool) {
	p.blanks()
	var word strings.Builder
	word.WriteString(prefix.FindString(p.rest))
	i := word.Len()
	for i < len(p.rest) && !strings.ContainsRune("#>!=:,() \t\r\"", rune(p.rest[i])) {
		switch {
		case p.rest[i] != '\\':
			word.WriteByte(p.rest[i])
			i++
		case i+1 == len(p.rest):
			return "", false
		case p.rest[i+1] == 'x' && i+4 <= len(p.rest) && isHex(p.rest[i+2:i+4]):
			value, _ := strconv.ParseUint(p.rest[i+2:i+4], 16, 8)
			word.WriteByte(byte(value))
			i += 4
		default:
			word.WriteByte(p.rest[i+1])
			i += 2
		}
	}
	p.rest = p.rest[i:]
	return word.String(), word.Len() > 0
}

func isHex(text string) bool {
	_, err := strconv.ParseUint(text, 16, 8)
	return err == nil
}

// reserved are names that mean something else to sudo where a user may stand.
var reserved = regexp.MustCompile(`^([A-Z][A-Z0-9_]*|sha(224|256|384|512)|sudoedit|Defaults.*|[A-Z][a-z]+_Alias.*)$`)

// Quote writes a user, or a group when it begins with "%", so that every sudo
// since 1.8 reads it back as it is: %EXAMPLE\\Linux\ Admins. A name in capital
// letters, which would be taken for an alias, gets its first letter as a number.
func Quote(subject string) string {
	var quoted strings.Builder
	name, isGroup := strings.CutPrefix(subject, "%")
	if isGroup {
		quoted.WriteByte('%')
	}
	for i := range len(name) {
		c := name[i]
		switch {
		case i == 0 && !isGroup && reserved.MatchString(name), c < ' ', c == 0x7f:
			fmt.Fprintf(&quoted, `\x%02x`, c)
		case isPlain(c):
			quoted.WriteByte(c)
		default:
			quoted.WriteByte('\\')
			quoted.WriteByte(c)
		}
	}
	return quoted.String()
}

// isPlain says whether a character needs no escape. Bytes beyond ASCII are parts
// of letters.
func isPlain(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("._-$", c) >= 0 || c >= 0x80
}
