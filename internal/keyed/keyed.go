// Package keyed edits files of keys and values, in place, that others write too. Everything that is
// not set stays the same to the byte, including comments, order, blanks and line breaks.
package keyed

import (
	"fmt"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/sshdtext"
)

// A Format is the syntax of a file.
type Format int

// The formats.
const (
	Equals Format = iota // "key = value", or "key" alone; a comment is a line that begins with "#"
	INI                  // the same, or "key: value", below "[section]"; the key's name is "section/key"
	Shell                // "KEY=value", for a shell or a similar reader
	Words                // "KEY value", as in login.defs
	SSHD                 // "Key value" or "Key=value", as in sshd_config; keys are case-insensitive, and everything below "Match" applies to some logins only
	Chrony               // "key value" or "key" alone, as in chrony.conf; keys are case-insensitive
	Lines                // each line is a key without a value; the number of blanks between its words does not matter
)

// A File is a parsed file, line by line. The zero File is empty and has the format Equals.
type File struct {
	format Format
	lines  []line
	unsure string // why none of its values can be determined
}

type line struct {
	raw     string // including its line break
	section string
	key     string // empty for comments and other lines without a key
	value   string
	about   string // of a comment: the key whose value it shows
	unsure  string // why the key's value cannot be determined
}

// Parse parses a file. String returns exactly the same content, whatever it is.
func Parse(format Format, content string) File {
	f := File{format: format}
	if strings.HasPrefix(content, "\ufeff") {
		f.unsure = "it begins with a byte order mark, which most readers take for a part of the first line: write it without"
	}
	if at := longLine(content); format == SSHD && at > 0 {
		f.unsure = fmt.Sprintf("line %d is longer than %d letters, and an old sshd takes it for two", at, longestLine)
	}
	section, last, some := "", -1, false // last is the last line with a key; some is set once lines apply to some logins only
	for raw := range strings.Lines(content) {
		l := line{raw: raw, section: section}
		text := trim(raw)
		number := len(f.lines) + 1
		switch {
		case text == "" || some:
		case f.isComment(text):
			l.about = f.shownBy(section, text)
		case format == INI && strings.HasPrefix(text, "["):
			section, _, _ = strings.Cut(text[1:], "]")
			l.section, last = section, -1
		case format == Shell:
			f.assignment(&l, number)
		default:
			key, value, ok := f.split(text)
			if ok {
				l.key, l.value = f.called(section, key), value
			}
			some = f.format == SSHD && l.key == sshdtext.Match
			l.unsure = f.doubt(value, number)
			if format == INI && strings.TrimLeft(raw, " \t") != raw && last >= 0 {
				l.unsure = fmt.Sprintf("line %d begins with a blank, and some readers take it for a part of the value before it: write that in one line", number)
				f.lines[last].unsure = l.unsure
			} else if ok {
				last = len(f.lines)
			}
		}
		f.lines = append(f.lines, l)
	}
	return f
}

// trim removes the blanks that all readers recognize, in any locale.
func trim(text string) string { return strings.Trim(text, blanks) }

func (f *File) isComment(text string) bool {
	switch f.format {
	case INI:
		return text[0] == '#' || text[0] == ';'
	case Chrony:
		return strings.IndexByte("#%!;", text[0]) >= 0
	case Equals, Shell, Words, SSHD, Lines:
	}
	return text[0] == '#'
}

// shownBy returns the key whose value a comment shows, or "". In files of words, a comment that
// begins with a blank is a sentence.
func (f *File) shownBy(section, comment string) string {
	text := strings.TrimLeft(comment, "#; \t")
	if f.hasWords() {
		if text = strings.TrimLeft(comment, "#%!;"); text != trim(text) {
			return ""
		}
	}
	key, _, ok := f.split(text)
	if !ok || f.format != Lines && strings.ContainsAny(key, " \t") {
		return ""
	}
	return f.called(section, key)
}

// doubt returns why readers may interpret a value differently, or "".
func (f *File) doubt(value string, number int) string {
	signs := "#;"
	if f.hasWords() {
		signs = "#"
	}
	if behind := strings.IndexAny(value, signs); behind > 0 && strings.ContainsAny(value[behind-1:behind], " \t") {
		return fmt.Sprintf("line %d has a comment behind the value, which some readers take for a part of it: give it a line of its own", number)
	}
	if f.format == Words && strings.Contains(value, `"`) {
		return fmt.Sprintf("line %d has quotes, which some readers take for a part of the value: write it without", number)
	}
	return ""
}

// longestLine is how much of a line an old sshd reads at once.
const longestLine = 4095

// longLine is the number of the first line that is longer, or 0.
func longLine(content string) int {
	number := 0
	for line := range strings.Lines(content) {
		if number++; len(line) > longestLine {
			return number
		}
	}
	return 0
}

func (f *File) hasWords() bool { return f.format == Words || f.format == SSHD || f.format == Chrony }

// called returns the full name of a key.
func (f *File) called(section, key string) string {
	if f.format == INI {
		return section + "/" + key
	}
	return f.one(key)
}

// one returns the canonical name of a key that may be written in several ways.
func (f *File) one(key string) string {
	switch f.format {
	case SSHD, Chrony:
		return strings.ToLower(key)
	case Lines:
		return OneLine(key)
	case Equals, INI, Shell, Words:
	}
	return key
}

// OneLine returns a line without its line break, with a single blank between its words.
func OneLine(line string) string { return strings.Join(strings.FieldsFunc(line, isBlank), " ") }

func isBlank(r rune) bool { return strings.ContainsRune(blanks, r) }

// blanks are the ones that all readers recognize, in any locale.
const blanks = " \t\r\n\v\f"

// sectionOf returns the section in the name of a key. It is meaningful only for INI.
func sectionOf(key string) string {
	section, _, _ := strings.Cut(key, "/")
	return section
}

// split parses a line without comments and outer blanks.
func (f *File) split(text string) (key, value string, ok bool) {
	separators := "="
	switch f.format {
	case INI:
		separators = "=:"
	case SSHD:
		key, value = sshdtext.Line(text)
		if !strings.ContainsAny(value, `#'\`) {
			value = strings.Join(sshdtext.Words(value), " ")
		}
		return key, value, key != ""
	case Words, Chrony:
		key, value = cutWord(text, " \t")
		return key, value, key != ""
	case Lines:
		return text, "", text != ""
	case Equals, Shell:
	}
	at := strings.IndexAny(text, separators)
	if at < 0 {
		return text, "", f.format == Equals && text != "" && !strings.ContainsAny(text, " \t[]")
	}
	key, value = trim(text[:at]), trim(text[at+1:])
	return key, value, key != ""
}

// cutWord splits a text after its first word.
func cutWord(text, ends string) (word, rest string) {
	if at := strings.IndexAny(text, ends); at >= 0 {
		return text[:at], trim(text[at:])
	}
	return text, ""
}

// String returns the content to be written.
func (f *File) String() string {
	var b strings.Builder
	for _, l := range f.lines {
		b.WriteString(l.raw)
	}
	return b.String()
}

// Values returns all values of a key, in order. Which of several counts depends on the reader, so
// there should be only one.
func (f *File) Values(key string) (values []string) {
	key = f.one(key)
	for _, l := range f.lines {
		if l.key == key {
			values = append(values, l.value)
		}
	}
	return values
}

// Unsure returns why a key's value, or the place for it, cannot be determined, or "". An unsure key
// must be neither judged nor set.
func (f *File) Unsure(key string) string {
	key = f.one(key)
	section, known := sectionOf(key), f.format != INI
	for i, l := range f.lines {
		switch {
		case f.unsure != "":
			return f.unsure
		case l.key == key && l.unsure != "":
			return l.unsure
		case f.format != Lines && l.key != key && (strings.EqualFold(l.key, key) || f.format == Words && strings.HasPrefix(strings.ToLower(l.key), strings.ToLower(key)+"=")):
			return fmt.Sprintf("line %d has %s, which some readers take for %s: let both write it in one way", i+1, l.key, key)
		}
		known = known || l.section == section && l.key == "" && strings.HasPrefix(trim(l.raw), "[")
	}
	if !known {
		return "it has no section [" + section + "]"
	}
	return ""
}

// Set makes value the only one of a key. It goes to the key's first line, or else below a comment
// that shows the key, or else to the end, of its section if there are any. Do not call it for a key
// that is Unsure.
func (f *File) Set(key, value string) {
	f.lines = slices.Clone(f.lines) // copies of the File must stay as they are
	wanted := line{raw: f.text(key, value) + f.lineBreak(), section: sectionOf(key), key: f.one(key), value: value}
	key = f.one(key)
	first := f.index(key)
	if first < 0 {
		f.insert(key, []line{wanted})
		return
	}
	if f.lines[first].value != value {
		f.lines[first] = wanted
	}
	rest := slices.DeleteFunc(slices.Clone(f.lines[first+1:]), func(l line) bool { return l.key == key })
	f.lines = append(f.lines[:first+1:first+1], rest...)
}

func (f *File) text(key, value string) string {
	switch {
	case f.format == INI:
		_, name, _ := strings.Cut(key, "/")
		return name + "=" + value
	case f.format == Shell:
		return key + "=" + value
	case value == "":
		return key
	case f.hasWords():
		return key + " " + value
	}
	return key + " = " + value
}

// Lines returns the lines of a key, each with its line break.
func (f *File) Lines(key string) string {
	key = f.one(key)
	var found strings.Builder
	for _, l := range f.lines {
		if l.key == key {
			if found.WriteString(l.raw); !strings.HasSuffix(l.raw, "\n") {
				found.WriteString(f.lineBreak())
			}
		}
	}
	return found.String()
}

// Put replaces the lines of a key with these, at its first line, or where Set would put it. text is
// what Lines returned for another file. An empty text removes the key.
func (f *File) Put(key, text string) {
	key = f.one(key)
	var put []line
	for raw := range strings.Lines(text) {
		l := line{raw: raw, section: sectionOf(key), key: key}
		_, l.value, _ = f.split(trim(raw))
		put = append(put, l)
	}
	first := f.index(key)
	f.lines = slices.DeleteFunc(slices.Clone(f.lines), func(l line) bool { return l.key == key })
	if first < 0 {
		f.insert(key, put)
		return
	}
	f.endLine(first, len(put))
	f.lines = slices.Insert(f.lines, first, put...)
}

// GiveBack restores the lines of a key from an earlier content of the file, in their previous
// place, after the same line, if that still exists.
func (f *File) GiveBack(key string, earlier File) {
	key = f.one(key)
	text, first := earlier.Lines(key), earlier.index(key)
	if f.index(key) >= 0 || first < 0 {
		f.Put(key, text)
		return
	}
	f.Put(key, text)
	at := f.index(key)
	put := slices.Clone(f.lines[at : at+strings.Count(text, "\n")])
	rest := slices.Delete(slices.Clone(f.lines), at, at+len(put))
	end := slices.IndexFunc(rest, func(l line) bool { return f.format == SSHD && l.key == sshdtext.Match })
	if end < 0 {
		end = len(rest)
	}
	if first == 0 {
		f.lines = slices.Insert(rest, 0, put...)
		return
	}
	blanks := 0
	for before := first - 1; before >= 0; before-- {
		if trim(earlier.lines[before].raw) == "" {
			blanks++
			continue
		}
		i := slices.IndexFunc(rest[:end], func(l line) bool {
			return l.raw == earlier.lines[before].raw && l.section == earlier.lines[before].section
		})
		if i < 0 {
			blanks = 0
			continue
		}
		for i++; blanks > 0 && i < end && trim(rest[i].raw) == ""; i++ {
			blanks--
		}
		f.lines = slices.Insert(rest, i, put...)
		return
	}
}

func (f *File) index(key string) int {
	return slices.IndexFunc(f.lines, func(l line) bool { return l.key == key })
}

// insert puts the lines of a key that the file does not have into the right place.
func (f *File) insert(key string, put []line) {
	section, at := sectionOf(key), -1
	for i, l := range f.lines {
		if l.about == key {
			at = i + 1
		}
	}
	if at < 0 && f.format == INI {
		for i, l := range f.lines {
			if l.section == section && trim(l.raw) != "" {
				at = i + 1
			}
		}
	}
	if at < 0 {
		at = f.end()
	}
	f.endLine(at, len(put))
	f.lines = slices.Insert(f.lines, at, put...)
}

// end returns the index after all settings that apply to everybody.
func (f *File) end() int {
	if i := f.index(sshdtext.Match); i >= 0 && f.format == SSHD {
		return i
	}
	return len(f.lines)
}

// endLine adds a missing line break to the last line if other lines follow it.
func (f *File) endLine(at, others int) {
	if last := len(f.lines) - 1; others > 0 && last >= 0 && at == len(f.lines) && !strings.HasSuffix(f.lines[last].raw, "\n") {
		f.lines[last].raw += f.lineBreak()
	}
}

func (f *File) lineBreak() string {
	if len(f.lines) > 0 && strings.HasSuffix(f.lines[0].raw, "\r\n") {
		return "\r\n"
	}
	return "\n"
}
