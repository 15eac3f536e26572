package policy

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// breaksLine says whether a text holds what some reader takes for the end of a line, or
// another control character: with it, a value would say more than its place is for.
func breaksLine(text string) bool {
	return strings.ContainsFunc(text, func(r rune) bool {
		return unicode.IsControl(r) || unicode.Is(unicode.Zl, r) || unicode.Is(unicode.Zp, r)
	})
}

const (
	ofItsLine = "refer to it on a line of its own, or take the character out of the value"
	ofNoLine  = "take the character out of the value"
)

// unfit says why values must not be put in the places of the references of a spec, or "".
// Who may change a value is not who may change the policy: a value never reaches
// beyond the place that the policy gives it. What is said holds no value.
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
	partOfLine notation = iota // in a line
	wholeLines                 // as a file, or quoted by whoever writes them for it
	quotedText                 // as they are, in its own notation, in which quotes and backslashes mean something
)

// notationOf is that of a spec; one that says nothing of it has no place for several lines.
func notationOf(spec Spec) notation {
	if s, is := spec.(noted); is {
		return s.notation()
	}
	return partOfLine
}

// isWholeLine says whether what stands between two texts is all of its line, and that
// line not the rest of the one before.
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
