// Package keyed edits files of keys and values that others write too, in place: what is not
// set comes out as it went in, to the byte, comments, order, blanks and line breaks included.
package keyed

import (
	"fmt"
	"slices"
	"strings"
)

// A Format is how a file says which value a key has.
type Format int

// The formats.
const (
	Equals Format = iota // "key = value", or "key" alone; a comment is a line that begins with "#"
	INI                  // the same, or "key: value", below "[section]": the key is called "section/key"
	Shell                // "KEY=value", for a shell, or who reads it like one
)

// A File is one, line by line. The zero File is empty, and of Equals.
type File struct {
	format Format
	lines  []line
	unsure string // why nothing of it can be told
}

type line struct {
	raw     string // with its line break
	section string
	key     string // empty for a comment, and what is no key
	value   string
	about   string // of a comment: the key of which it shows a value
	unsure  string // why it cannot be told what the key's value is
}

// Parse reads a file. Whatever it holds, String gives it back.
func Parse(format Format, content string) File {
	f := File{format: format}
	if strings.HasPrefix(content, "\ufeff") {
		f.unsure = "it begins with a byte order mark, which most readers take for a part of the first line: write it without"
	}
	section, last := "", -1 // the last line with a key
	for raw := range strings.Lines(content) {
		l := line{raw: raw, section: section}
		text := trim(raw)
		number := len(f.lines) + 1
		switch {
		case text == "":
		case f.isComment(text):
			if key, _, ok := f.split(strings.TrimLeft(text, "#; \t")); ok && !strings.ContainsAny(key, " \t") {
				l.about = f.called(section, key)
			}
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
			if behind := strings.IndexAny(value, "#;"); behind > 0 && strings.ContainsAny(value[behind-1:behind], " \t") {
				l.unsure = fmt.Sprintf("line %d has a comment behind the value, which some readers take for a part of it: give it a line of its own", number)
			}
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

// trim takes off the blanks that all readers know, in whatever locale they run.
func trim(text string) string { return strings.Trim(text, " \t\r\n\v\f") }

func (f *File) isComment(text string) bool {
	return text[0] == '#' || f.format == INI && text[0] == ';'
}

// called is the name of a key.
func (f *File) called(section, key string) string {
	if f.format == INI {
		return section + "/" + key
	}
	return key
}

// sectionOf is the section in the name of a key; it means something in INI alone.
func sectionOf(key string) string {
	section, _, _ := strings.Cut(key, "/")
	return section
}

// split takes a line without comments and outer blanks apart.
func (f *File) split(text string) (key, value string, ok bool) {
	separators := "="
	if f.format == INI {
		separators = "=:"
	}
	at := strings.IndexAny(text, separators)
	if at < 0 {
		return text, "", f.format == Equals && text != "" && !strings.ContainsAny(text, " \t[]")
	}
	key, value = trim(text[:at]), trim(text[at+1:])
	return key, value, key != ""
}

// String is the file as it is to be written.
func (f *File) String() string {
	var b strings.Builder
	for _, l := range f.lines {
		b.WriteString(l.raw)
	}
	return b.String()
}

// Values are all values of a key, in their order. Which of several counts depends on the
// reader, so there should not be several.
func (f *File) Values(key string) (values []string) {
	for _, l := range f.lines {
		if l.key == key {
			values = append(values, l.value)
		}
	}
	return values
}

// Unsure says why it cannot be told what a key is, or where it would have to stand, or "":
// then it is neither to be judged nor set.
func (f *File) Unsure(key string) string {
	section, known := sectionOf(key), f.format != INI
	for i, l := range f.lines {
		switch {
		case f.unsure != "":
			return f.unsure
		case l.key == key && l.unsure != "":
			return l.unsure
		case l.key != key && strings.EqualFold(l.key, key):
			return fmt.Sprintf("line %d has %s, which some readers take for %s: let both write it in one way", i+1, l.key, key)
		}
		known = known || l.section == section && l.key == "" && strings.HasPrefix(trim(l.raw), "[")
	}
	if !known {
		return "it has no section [" + section + "]"
	}
	return ""
}

// Set makes value the only one of a key: where the key stands first, else below a comment
// that shows it, else at the end, of its section if there are any. Of one of which it is Unsure
// it must not be asked.
func (f *File) Set(key, value string) {
	f.lines = slices.Clone(f.lines) // a copy of the File stays as it is
	wanted := line{raw: f.text(key, value) + f.lineBreak(), section: sectionOf(key), key: key, value: value}
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
	}
	return key + " = " + value
}

// Lines are the lines of a key, one after the other, each with its break.
func (f *File) Lines(key string) string {
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

// Put makes these the lines of a key, where it stands first, or where Set would put it: what
// Lines returned of another file. Without any the key is gone.
func (f *File) Put(key, text string) {
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

func (f *File) index(key string) int {
	return slices.IndexFunc(f.lines, func(l line) bool { return l.key == key })
}

// insert puts lines of a key that stands nowhere where they belong.
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
		at = len(f.lines)
	}
	f.endLine(at, len(put))
	f.lines = slices.Insert(f.lines, at, put...)
}

// endLine gives the last line the break that it may lack, if others are to follow it.
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
