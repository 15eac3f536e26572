package converge

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"html"
	"net/url"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/public"
)

// encoded returns the encoded forms of a text that are looked for besides the text itself: hex,
// base64 at each of the three alignments, URL escapes, JSON and HTML.
func encoded(text string) []string {
	inJSON, _ := json.Marshal(text) // texts always marshal
	inURL, inPath := url.QueryEscape(text), url.PathEscape(text)
	inHex := hex.EncodeToString([]byte(text))
	all := []string{
		string(inJSON[1 : len(inJSON)-1]), inURL, inPath, lowerEscapes(inURL), lowerEscapes(inPath), inHex, strings.ToUpper(inHex), html.EscapeString(text),
	}
	for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for shift := range 3 { // only the characters that depend on this text alone
			whole := encoding.EncodeToString([]byte(strings.Repeat("x", shift) + text))
			all = append(all, whole[(8*shift+5)/6:8*(shift+len(text))/6])
		}
	}
	slices.Sort(all)
	return slices.DeleteFunc(slices.Compact(all), func(form string) bool { return form == text || len(form) < shortestSecret })
}

// lowerEscapes turns upper-case escapes into lower-case ones: %2F becomes %2f.
func lowerEscapes(escaped string) string {
	b := []byte(escaped)
	for i, c := range b {
		if c == '%' && i+2 < len(b) {
			copy(b[i+1:], strings.ToLower(escaped[i+1:i+3]))
		}
	}
	return string(b)
}

// hideWrapped hides forms that white space breaks into lines or groups, as base64 and hex often are.
func hideWrapped(text string, forms []string) string {
	if len(forms) == 0 || !strings.ContainsAny(text, " \t\r\n") {
		return text
	}
	var compact strings.Builder
	var at []int // for each byte of compact, its index in text
	for i := range len(text) {
		if !strings.ContainsRune(" \t\r\n", rune(text[i])) {
			compact.WriteByte(text[i])
			at = append(at, i)
		}
	}
	dense := compact.String()
	hidden := []byte(nil) // 1 for each byte of text that is to be hidden
	for _, form := range forms {
		for from := 0; ; {
			i := strings.Index(dense[from:], form)
			if i < 0 {
				break
			}
			if hidden == nil {
				hidden = make([]byte, len(text))
			}
			for j := at[from+i]; j <= at[from+i+len(form)-1]; j++ {
				hidden[j] = 1
			}
			from += i + len(form)
		}
	}
	if hidden == nil {
		return text
	}
	var b strings.Builder
	for i := range len(text) {
		switch {
		case hidden[i] == 0:
			b.WriteByte(text[i])
		case i == 0 || hidden[i-1] == 0:
			b.WriteString(public.Secret)
		}
	}
	return b.String()
}
