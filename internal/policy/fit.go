package policy

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
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
	spec.Expand(func(text string) string {
		for _, at := range referenceSyntax.FindAllStringIndex(text, -1) {
			written := text[at[0]:at[1]]
			ref, err := ParseReference(written)
			value, known := values[ref]
			before, after := text[:at[0]], text[at[1]:]
			switch {
			case err != nil || !known:
			case breaksLine(value) && !takesLines(spec):
				note("the value of %s holds a line break or another control character, for which there is no place here; %s", ref, ofNoLine)
			case breaksLine(value) && !isWholeLine(before, after):
				note("the value of %s holds a line break or another control character, and would reach beyond its place in a line; %s", ref, ofItsLine)
			case quoted(spec) && before+after != "" && strings.ContainsAny(value, `'"\`):
				note("the value of %s holds a quote or a backslash, and would reach beyond the text in which it stands; set the key without gvariant, or have the value be all of it", ref)
			case strings.HasSuffix(value, `\`) && endsLine(after) && after != "":
				note(`the value of %s ends in a backslash, by which the next line would be a part of it; take it out of the value`, ref)
			}
		}
		return text
	})
	if r, is := spec.(Repository); is && why == "" {
		put := r.Expand(replacing(values)).(Repository)
		before, after := append([]string{r.BaseURL, r.Metalink, r.MirrorList}, r.GPGKeys...), append([]string{put.BaseURL, put.Metalink, put.MirrorList}, put.GPGKeys...)
		if slices.ContainsFunc(before, func(text string) bool { return len(urls(text)) != len(urls(after[slices.Index(before, text)])) }) {
			note("a value in a URL holds a blank or a comma, after which another URL would begin; take it out of the value")
		}
	}
	return why
}

// takesLines says whether a text of a spec may have several lines: as a file, and where it is
// quoted for whoever reads it.
func takesLines(spec Spec) bool {
	switch s := spec.(type) {
	case Dropin, Check:
		return true
	case Dconf:
		return s.GVariant == ""
	}
	return false
}

// quoted says whether the texts of a spec are written in the notation of their reader, in
// which quotes and backslashes mean something.
func quoted(spec Spec) bool {
	s, is := spec.(Dconf)
	return is && s.GVariant != ""
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

// urls are those that yum and dnf read in a list of them.
func urls(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || unicode.IsSpace(r) })
}
