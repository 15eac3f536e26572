package credentials

import (
	"errors"
	"strings"
)

// section returns the settings of one section of a file of AWS's tools (AWS SDKs
// and Tools Reference Guide, "Shared config and credentials files"): [name], or
// [profile name]. Of a setting that is there twice the last one counts. Settings
// within a setting are left out; they never hold credentials. Nothing is taken
// from a value: what is a comment depends on what the value is.
func section(content []byte, name string) (settings map[string]string, there bool) {
	settings = map[string]string{}
	inside, nesting := false, false
	for line := range strings.Lines(strings.TrimPrefix(string(content), "\ufeff")) {
		text := strings.TrimSpace(line)
		if text == "" || text[0] == '#' || text[0] == ';' {
			continue
		}
		if text[0] == '[' {
			title, _, closed := strings.Cut(text[1:], "]")
			inside, nesting = closed && titled(title, name), false
			there = there || inside
			continue
		}
		indented := line[0] == ' ' || line[0] == '\t'
		at := strings.IndexAny(text, "=:")
		if !inside || at <= 0 || indented && nesting {
			continue
		}
		value := strings.TrimSpace(text[at+1:])
		nesting = value == ""
		settings[strings.ToLower(strings.TrimSpace(text[:at]))] = value
	}
	return settings, there
}

// titled says whether the title of a section is that of a profile.
func titled(title, name string) bool {
	title = strings.TrimSpace(title)
	if title == name {
		return true
	}
	rest, ok := strings.CutPrefix(title, "profile")
	if !ok || rest == "" || rest[0] != ' ' && rest[0] != '\t' {
		return false
	}
	return strings.Trim(strings.TrimSpace(rest), `"'`) == name
}

// errQuote is the error of a command line that ends within a quotation.
var errQuote = errors.New("a quotation does not end")

// words splits a command line as the AWS CLI does (Python's shlex): at blanks,
// but not within quotations; a backslash takes the next character as it is, in
// double quotes only another backslash or such a quote. Nothing else is special:
// no variable, no pipe, no "~". A word that begins with # or ; begins a comment.
func words(line string) ([]string, error) {
	var all []string
	var word strings.Builder
	begun := false
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case c == ' ' || c == '\t' || c == '\r' || c == '\n':
			if begun {
				all = append(all, word.String())
			}
			word.Reset()
			begun = false
			continue
		case (c == '#' || c == ';') && !begun:
			return all, nil
		case c == '\\' && i+1 == len(line):
			return nil, errQuote
		case c == '\\':
			i++
			word.WriteByte(line[i])
		case c == '\'' || c == '"':
			text, length, ok := quotation(line[i:])
			if !ok {
				return nil, errQuote
			}
			word.WriteString(text)
			i += length - 1
		default:
			word.WriteByte(c)
		}
		begun = true
	}
	if begun {
		all = append(all, word.String())
	}
	return all, nil
}

// quotation returns what is between the quote at the beginning of s and the next,
// and how much of s that is with both.
func quotation(s string) (text string, length int, ok bool) {
	var inside strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == s[0]:
			return inside.String(), i + 1, true
		case s[0] == '"' && s[i] == '\\' && i+1 < len(s) && (s[i+1] == '"' || s[i+1] == '\\'):
			i++
		}
		inside.WriteByte(s[i])
	}
	return "", 0, false
}
