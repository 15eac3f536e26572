// Package redact removes secrets from texts that others will read: known secrets, whatever they
// look like, and everything that looks like a secret. When in doubt it removes too much. JSON stays
// valid.
package redact

import (
	"bytes"
	"encoding/json"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
)

// Removed replaces what looks like a secret. A known secret is replaced by the mark of
// converge.Secrets.
const Removed = "[removed]"

// A Redactor knows some secrets. The zero value knows none.
type Redactor struct{ known converge.Secrets }

// Knowing returns a Redactor that knows the policy's secrets and others.
func Knowing(p *policy.Policy, others ...string) Redactor {
	all := slices.Clone(others)
	for _, r := range p.Resources {
		all = append(all, r.Secrets...)
	}
	var more []string
	for _, secret := range all {
		quoted, _ := json.Marshal(secret) // as JSON shows it
		more = append(more, secret, strings.Trim(string(quoted), `"`), url.QueryEscape(secret), url.PathEscape(secret))
		more = append(more, strings.Split(secret, "\n")...)
	}
	return Redactor{converge.SecretsOf(p, more...)}
}

// Text returns the text without secrets. Redact a text before truncating it.
func (s Redactor) Text(text []byte) []byte {
	clean := withoutKeys(bytes.ToValidUTF8(text, []byte("\uFFFD")))
	clean = []byte(s.known.Hide(string(clean)))
	clean = accessKey().ReplaceAll(clean, []byte(Removed))
	clean = inURL().ReplaceAll(clean, []byte("${1}"+Removed+"@"))
	clean = authorization().ReplaceAll(clean, []byte("${1}"+Removed))
	clean = bearer().ReplaceAll(clean, []byte("${1} "+Removed))
	clean = withoutAssigned(clean)
	clean = setting().ReplaceAllFunc(clean, func(match []byte) []byte {
		parts := setting().FindSubmatch(match)
		return append(bytes.Clone(parts[1]), valueless(parts[2])...)
	})
	return flag().ReplaceAllFunc(clean, func(match []byte) []byte {
		parts := flag().FindSubmatch(match)
		return append(bytes.Clone(parts[1]), valueless(parts[2])...)
	})
}

const secretive = `(?:pass(?:word|wd|phrase|code)|secret|token|private[_-]?key|api[_-]?key|access[_-]?key|auth[_-]?key|activation[_-]?code|amz-signature|credential[_-]?s?=)` //nolint:gosec // words, and no secrets

var (
	// accessKey matches the key of an AWS user or session (IAM User Guide, unique identifiers).
	accessKey = lazily(`\b(?:AKIA|ASIA)[A-Z0-9]{12,}`)
	// inURL matches user and password, or a token, before the host.
	inURL         = lazily(`(://)[^\s/"'<>]+@`)
	authorization = lazily(`(?i)(authorization\\*["']?[ \t]*[:=][ \t]*\\*"?)[^\s"][^\r\n"]*`)
	bearer        = lazily(`(?i)\b(bearer)[ \t]+[^\s"',;]+`)
	// flag matches an option with a secretive name, in a command line or a JSON list, and the next
	// word.
	flag = lazily(`(?i)((?:^|\s)--?[\w-]*` + secretive + `[\w-]*[ \t]+|["']--?[\w-]*` + secretive + `[\w-]*["'],\s*)("[^"]*"|'[^']*'|[^\s"',]+)`)
	// hint matches where an assignment may begin. It is searched for first, because a journal is
	// long.
	hint = lazily(`(?i)\{\{|arn:aws|` + secretive)
	// assignment matches the end of a name and its value.
	assignment = lazily(assigned(`\[[^\]]*\]`))
	// unclosed is used where the text has no further "]". Searching for one after each name would
	// take time quadratic in the length of the text.
	unclosed = lazily(assigned(`\[[^"\r\n]*`))
	// setting matches a line of a settings file, whose value may contain blanks.
	setting = lazily(`(?im)^([ \t]*[#;]*[ \t]*(?:export[ \t]+)?[\w.-]*` + secretive + `[\w.-]*[ \t]*=[ \t]*)([^\r\n]+)`)

	lineBreak = lazily(`\\[nrt]`) // as JSON shows it
	reference = lazily(`\{\{(?:resolve|fact):[^{}\s]*\}\}`)
	beginning = lazily(`-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----`)
	ending    = lazily(`-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----`)
)

// lazily compiles an expression on first use, because the daemon and most other runs of the agent
// have nothing to redact.
func lazily(expression string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expression) })
}

// assigned returns the expression for the end of a name and its value, which may be a list. It
// skips what looks like a secret but is none: references and ARNs, which name secrets, actions of
// IAM, tags of sudo. An unclosed quote counts too, because texts may be truncated.
func assigned(list string) string {
	return `\A(?i:\{\{(?:resolve|fact):[^{}\s]*\}\}|arn:aws[\w-]*:[\w:/+.@-]*|secretsmanager:[\w*]+|(?-i:PASSWD:[ \t]*(?:ALL\b|[/!]))` +
		`|(` + secretive + `[\w.-]*\\*["']?[ \t]*(?:[:=]|=>|:=)[ \t]*)` +
		`("""(?s:.*?)"""|'''(?s:.*?)'''|"(?:[^"\\]|\\.)*"|'[^']*'|\\+"[^"]*"|` + list + `|(?:\{\{[^{}]*\}\}|[^\s"'{\[])(?:\{\{[^{}]*\}\}|[^\s"])*` +
		`|"[^"\r\n]+|'[^"\\\r\n]+))`
}

var inName = lazily(`\A[\w.-]*`)

// withoutAssigned removes the values of names that look secretive.
func withoutAssigned(text []byte) []byte {
	clean := make([]byte, 0, len(text))
	afterLists := len(text) - 1 - bytes.LastIndexByte(text, ']')
	for {
		at := hint().FindIndex(text)
		if at == nil {
			return append(clean, text...)
		}
		clean, text = append(clean, text[:at[0]]...), text[at[0]:]
		end := at[1] - at[0]
		pattern := assignment
		if len(text) <= afterLists {
			pattern = unclosed
		}
		if match := pattern().FindSubmatch(text); match == nil {
			end += len(inName().Find(text[end:])) // the rest of the name cannot begin another assignment
			clean = append(clean, text[:end]...)
		} else if end = len(match[0]); match[1] == nil {
			clean = append(clean, match[0]...)
		} else {
			clean = append(append(clean, match[1]...), valueless(match[2])...)
		}
		text = text[end:]
	}
}

// valueless returns a value without its secret parts: only its quotes and references stay.
func valueless(value []byte) []byte {
	rest := lineBreak().ReplaceAll(reference().ReplaceAll(value, nil), nil)
	if len(bytes.Trim(rest, ` "',;\`)) == 0 || bytes.Contains(rest, []byte(Removed)) && len(rest) <= len(Removed)+3 {
		return value
	}
	clean := []byte(Removed)
	for _, r := range reference().FindAll(value, -1) {
		clean = append(clean, r...)
	}
	if value[0] == '"' || value[0] == '\'' {
		return append(append([]byte{value[0]}, clean...), value[0])
	}
	return clean
}

// longestKey is more than a private key of 16384 bits takes, including the prefixes that a journal
// adds to each line.
const longestKey = 64 << 10

// withoutKeys removes private keys, including those of which the text has only the beginning or the
// end.
func withoutKeys(text []byte) []byte {
	var clean []byte
	if end := ending().FindIndex(text); end != nil && end[0] < longestKey {
		if begin := beginning().FindIndex(text); begin == nil || begin[0] > end[0] {
			clean, text = append(clean, Removed...), text[end[1]:]
		}
	}
	for {
		begin := beginning().FindIndex(text)
		if begin == nil {
			return append(clean, text...)
		}
		clean = append(append(clean, text[:begin[0]]...), Removed...)
		text = text[begin[1]:]
		if end := ending().FindIndex(text); end != nil && end[0] < longestKey {
			text = text[end[1]:]
		} else {
			text = text[min(len(text), longestKey):]
		}
	}
}
