// Package sshdtext knows about sshd_config(5) what does not need sshd: how lines are parsed, and
// which keys and values lock people out.
package sshdtext

import "strings"

const (
	// Match is the key below which all settings of a file apply to some logins only.
	Match = "match"
	// Include is the key that includes other files.
	Include = "include"
)

// blanks separate words.
const blanks = " \t\r\n"

// Line splits a line as sshd does. It returns the key in lower case, and the rest. A key may be in
// quotes, and may be followed by one "=". The key is "" for comments and lines that sshd ignores.
func Line(raw string) (key, rest string) {
	raw, _, _ = strings.Cut(raw, "\x00") // sshd's lines end there
	rest = strings.TrimRight(raw, blanks+"\f")
	for range 2 { // a line may begin with one separator
		var more bool
		if key, rest, more = cut(rest); key != "" || !more {
			break
		}
	}
	if key == "" || key[0] == '#' {
		return "", ""
	}
	return strings.ToLower(key), rest
}

// cut cuts off the first word, as strdelim of sshd does: a closing quote ends a word, and with an
// unclosed quote there is none.
func cut(text string) (word, rest string, more bool) {
	at := strings.IndexAny(text, blanks+`"=`)
	if at < 0 {
		return text, "", false
	}
	if text[at] == '"' {
		inside, behind, closed := strings.Cut(text[at+1:], `"`)
		if !closed {
			return "", "", false
		}
		return text[:at] + inside, strings.TrimLeft(behind, blanks), true
	}
	word, rest = text[:at], strings.TrimLeft(text[at+1:], blanks)
	if text[at] != '=' && strings.HasPrefix(rest, "=") {
		rest = strings.TrimLeft(rest[1:], blanks)
	}
	return word, rest, true
}

// Words returns the words after a key without their quotes, up to a comment.
func Words(rest string) (words []string) {
	for i := 0; i < len(rest); {
		switch {
		case strings.IndexByte(blanks, rest[i]) >= 0:
			i++
		case rest[i] == '#':
			return words
		default:
			word, end := nextWord(rest, i)
			words, i = append(words, word), end
		}
	}
	return words
}

// nextWord returns the word that begins at i, and where it ends.
func nextWord(text string, i int) (string, int) {
	var word strings.Builder
	quote := byte(0)
	for ; i < len(text); i++ {
		c := text[i]
		switch {
		case c == '\\' && i+1 < len(text) && (strings.IndexByte(`'"\`, text[i+1]) >= 0 || quote == 0 && text[i+1] == ' '):
			i++
			word.WriteByte(text[i])
		case quote == 0 && strings.IndexByte(blanks, c) >= 0:
			return word.String(), i
		case quote == 0 && (c == '"' || c == '\''):
			quote = c
		case quote != 0 && c == quote:
			quote = 0
		default:
			word.WriteByte(c)
		}
	}
	return word.String(), i
}

// ForEverybody returns the part of a file that applies to all logins: the lines before the first Match.
func ForEverybody(content string) string {
	end := 0
	for line := range strings.Lines(content) {
		if key, _ := Line(line); key == Match {
			return content[:end]
		}
		end += len(line)
	}
	return content
}
