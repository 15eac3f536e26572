package policy

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// breaksLine reports whether a text contains what some reader takes for the end of a line, or
// another control character. With one, a value could reach beyond its place.
func breaksLine(text string) bool {
	return strings.ContainsFunc(text, func(r rune) bool {
		return unicode.IsControl(r) || unicode.Is(unicode.Zl, r) || unicode.Is(unicode.Zp, r)
	})
}

const (
	ofItsLine = "refer to it on a line of its own, or take the character out of the value"
	ofNoLine  = "take the character out of the value"
)

// unfit returns why values must not replace the references of a spec, or "". Whoever may change a
// value may not be allowed to change the policy, so a value must never have an effect beyond the
// place that the policy gives it. The message contains no value.
func unfit(spec Spec, values map[Reference]string) string {
	why := ""
	note := func(format string, args ...any) {
		if why == "" {
			why = fmt.Sprintf(format, args...)
		}
	}
	written := notationOf(spec)
	spec.Expand(func(text string) string {
		for _, at := range referenceSyntax.FindAllStringIndex(text, -1) {
			ref, err := ParseReference(text[at[0]:at[1]])
			value, known := values[ref]
			before, after := text[:at[0]], text[at[1]:]
			switch {
			case err != nil || !known:
			case strings.ContainsRune(value, 0) && (utf8.ValidString(value) || !isFile(spec) || before+after != ""):
				note("the value of %s holds a NUL, which no text has, and only a drop-in that is nothing but that value can be anything else; %s", ref, ofNoLine)
			case !utf8.ValidString(value) && !isFile(spec):
				note("the value of %s is no text, and only the content of a drop-in can be anything else", ref)
			case breaksLine(value) && written != wholeLines:
				note("the value of %s holds a line break or another control character, for which there is no place here; %s", ref, ofNoLine)
			case breaksLine(value) && !isWholeLine(before, after):
				note("the value of %s holds a line break or another control character, and would reach beyond its place in a line; %s", ref, ofItsLine)
			case written == quotedText && before+after != "" && strings.ContainsAny(value, `'"\`):
				note("the value of %s holds a quote or a backslash, and would reach beyond the text in which it stands; set the key without gvariant, or have the value be all of it", ref)
			case strings.HasSuffix(value, `\`) && endsLine(after) && after != "":
				note(`the value of %s ends in a backslash, by which the next line would be a part of it; take it out of the value`, ref)
			}
		}
		return text
	})
	if s, is := spec.(fitting); is && why == "" {
		why = s.misfit(spec.Expand(replacing(values)))
	}
	return why
}

func isFile(spec Spec) bool {
	_, is := spec.(Dropin)
	return is
}

// A notation is how the texts of a spec reach their reader.
type notation int

const (
	partOfLine notation = iota // as part of a line
	wholeLines                 // as a file, or quoted by the code that writes them
	quotedText                 // literally, in a notation where quotes and backslashes have a meaning
)

// notationOf returns the notation of a spec. The default does not allow several lines.
func notationOf(spec Spec) notation {
	if s, is := spec.(noted); is {
		return s.notation()
	}
	return partOfLine
}

// isWholeLine reports whether the text between two others is a whole line, and not the continuation
// of the line before.
func isWholeLine(before, after string) bool {
	if before == "" {
		return endsLine(after)
	}
	line, ended := strings.CutSuffix(before, "\n")
	return ended && !strings.HasSuffix(strings.TrimSuffix(line, "\r"), `\`) && endsLine(after)
}

func endsLine(after string) bool {
	return after == "" || strings.HasPrefix(after, "\n") || strings.HasPrefix(after, "\r\n")
}
