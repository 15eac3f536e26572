// Package redact takes secrets out of texts that somebody else is to read: those that are
// known, whatever they look like, and what looks like one, whosever it is. It rather
// removes too much than too little, and keeps JSON what it is.
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

// Removed stands where something was that looks like a secret. One that is known leaves
// the mark of converge.Secrets.
const Removed = "[removed]"

// A Redactor knows some secrets. The zero one knows none.
type Redactor struct{ known converge.Secrets }

// Knowing returns one that knows the policy's secrets and others.
func Knowing(p *policy.Policy, others ...string) Redactor {
	all := slices.Clone(others)
	for _, r := range p.Resources {
		all = append(all, r.Secrets...)
	}
	var more []string
	for _, secret := range all {
		quoted, _ := json.Marshal(secret) // as documents show it
		more = append(more, secret, strings.Trim(string(quoted), `"`), url.QueryEscape(secret), url.PathEscape(secret))
		more = append(more, strings.Split(secret, "\n")...)
	}
	return Redactor{converge.SecretsOf(p, more...)}
}

// Text returns the text without secrets. What is to be cut short has to be redacted before.
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
	// accessKey is that of an AWS user or of a session (IAM User Guide, unique
	// identifiers).
	accessKey = lazily(`\b(?:AKIA|ASIA)[A-Z0-9]{12,}`)
	// inURL is user and password, or a token, before the host.
	inURL         = lazily(`(://)[^\s/"'<>]+@`)
	authorization = lazily(`(?i)(authorization\\*["']?[ \t]*[:=][ \t]*\\*"?)[^\s"][^\r\n"]*`)
	bearer        = lazily(`(?i)\b(bearer)[ \t]+[^\s"',;]+`)
	// flag is a word of a command line, of a shell or of a list, and the one after it.
	flag = lazily(`(?i)((?:^|\s)--?[\w-]*` + secretive + `[\w-]*[ \t]+|["']--?[\w-]*` + secretive + `[\w-]*["'],\s*)("[^"]*"|'[^']*'|[^\s"',]+)`)
	// hint is where an assignment may begin. It is looked for first, for a journal is long.
	hint = lazily(`(?i)\{\{|arn:aws|` + secretive)
	// assignment is the end of a name, and its value.
	assignment = lazily(assigned(`\[[^\]]*\]`))
	// unclosed is the same where no list ends any more: to look for its end after each
	// name would take time that grows with the square of the text.
	unclosed = lazily(assigned(`\[[^"\r\n]*`))
	// setting is a line of a file of settings, whose value may have blanks.
	setting = lazily(`(?im)^([ \t]*[#;]*[ \t]*(?:export[ \t]+)?[\w.-]*` + secretive + `[\w.-]*[ \t]*=[ \t]*)([^\r\n]+)`)

	lineBreak = lazily(`\\[nrt]`) // as documents have it
	reference = lazily(`\{\{(?:resolve|fact):[^{}\s]*\}\}`)
	beginning = lazily(`-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----`)
	ending    = lazily(`-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----`)
)

// lazily compiles an expression when it is asked for: most runs of the agent, and the
// daemon, have nothing to redact.
func lazily(expression string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expression) })
}

// assigned is the end of a name, and its value, which may be a list. What is no secret
// though it looks like one is passed over: references and ARNs, which name secrets,
// actions of IAM, tags of sudo. A quote that nothing closes is as good as one that is,
// for texts are cut short.
func assigned(list string) string {
	return `\A(?i:\{\{(?:resolve|fact):[^{}\s]*\}\}|arn:aws[\w-]*:[\w:/+.@-]*|secretsmanager:[\w*]+|(?-i:PASSWD:[ \t]*(?:ALL\b|[/!]))` +
		`|(` + secretive + `[\w.-]*\\*["']?[ \t]*(?:[:=]|=>|:=)[ \t]*)` +
		`("""(?s:.*?)"""|'''(?s:.*?)'''|"(?:[^"\\]|\\.)*"|'[^']*'|\\+"[^"]*"|` + list + `|(?:\{\{[^{}]*\}\}|[^\s"'{\[])(?:\{\{[^{}]*\}\}|[^\s"])*` +
		`|"[^"\r\n]+|'[^"\\\r\n]+))`
}

var inName = lazily(`\A[\w.-]*`)

// withoutAssigned takes away the values of names that look secretive.
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
			end += len(inName().Find(text[end:])) // what else the name has in it is not assigned either
			clean = append(clean, text[:end]...)
		} else if end = len(match[0]); match[1] == nil {
			clean = append(clean, match[0]...)
		} else {
			clean = append(append(clean, match[1]...), valueless(match[2])...)
		}
		text = text[end:]
	}
}

// valueless is a value without what is secret in it: only its quotes stay, and its
// references.
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

// longestKey is more than a private key of 16384 bits takes, with what a journal
// writes before each line.
const longestKey = 64 << 10

// withoutKeys takes private keys out of a text, those too of which it holds only the
// beginning or the end.
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
