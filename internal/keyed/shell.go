package keyed

import (
	"fmt"
	"regexp"
	"strings"
)

var assigned = regexp.MustCompile(`^(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)$`)

// assignment parses a line for a shell. A file in which any line is more than an assignment is a
// program, and its settings cannot be determined without running it.
func (f *File) assignment(l *line, number int) {
	text := strings.TrimRight(l.raw, "\r\n")
	match := assigned.FindStringSubmatch(text)
	value, rest, whole := "", "", false
	if match != nil {
		value, rest, whole = word(match[2])
	}
	comment := strings.HasPrefix(strings.TrimLeft(rest, " \t"), "#") && rest != strings.TrimLeft(rest, " \t")
	if !whole || trim(rest) != "" && !comment {
		if f.unsure == "" {
			f.unsure = fmt.Sprintf("line %d is more than an assignment, so that the file is a program", number)
		}
		return
	}
	l.key, l.value = match[1], value
	if comment {
		l.unsure = fmt.Sprintf("line %d has a comment behind the value, which some readers take for a part of it: give it a line of its own", number)
	}
}

// word returns the first word of a shell's line, without quotes that have no effect. whole reports
// whether the word ends on this line.
func word(text string) (value, rest string, whole bool) {
	quote := byte(0)
	end := len(text)
scan:
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\' && quote != '\'':
			if i++; i == len(text) {
				return "", "", false
			}
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '\'' || c == '"':
			quote = c
		case strings.IndexByte(" \t;&|<>()", c) >= 0:
			end = i
			break scan
		}
	}
	if quote != 0 {
		return "", "", false
	}
	value, rest = text[:end], text[end:]
	if n := len(value); n >= 2 && (value[0] == '"' || value[0] == '\'') && value[n-1] == value[0] && !strings.ContainsAny(value[1:n-1], "\"'\\$`") {
		value = value[1 : n-1]
	}
	return value, rest, true
}
