package pcoip

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

const (
	manualPath = "/usr/share/man/man5/pcoip-agent.conf.5"
	maxManual  = 1 << 20
)

// manual is the content of the installed agent's pcoip-agent.conf(5), which AWS and the vendor call
// authoritative. Its layout is not public. So the parser relies only on what any layout must have,
// the names of the directives and the sentences after each, and draws no conclusion from anything
// ambiguous.
type manual map[string]described

// described is what the manual says about one directive. Fields that it does not mention are zero.
type described struct {
	ranged      bool
	min, max    int
	immediately bool
	// aes256 is the value that the manual describes as AES-256 only.
	aes256 string
}

// readManual returns the manual, or nil if there is none that can be parsed.
func readManual(files system.FileReader) (manual, error) {
	content, err := files.ReadFile(manualPath)
	if errors.Is(err, fs.ErrNotExist) {
		var packed []byte
		if packed, err = files.ReadFile(manualPath + ".gz"); err == nil {
			content, err = unpack(packed)
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the manual of the PCoIP agent: %w", err)
	}
	return parseManual(string(content)), nil
}

func unpack(packed []byte) ([]byte, error) {
	reader, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(reader, maxManual))
}

var (
	// Escapes of groff(7) that produce no text: fonts, sizes, zero width.
	roffSilent = regexp.MustCompile(`\\(f(\[[^\]]*\]|\(..|.)|s[-+]?\d|m\[[^\]]*\]|[&%|^:c])`)
	roffGlyph  = strings.NewReplacer(`\-`, "-", `\(en`, "-", `\[en]`, "-", `\(hy`, "-", `\(aq`, "'", `\(dq`, `"`,
		`\(lq`, `"`, `\(rq`, `"`, `\ `, " ", `\~`, " ", `\e`, `\`, `\_`, "_", "–", "-")
	roffMacro = regexp.MustCompile(`^[.']\s*([A-Za-z]*)\s*`)

	named = regexp.MustCompile(`\bpcoip\.([a-z0-9_]+(?:\.[a-z0-9_]+)*)`)
	// A word that can only be the name of a directive without "pcoip.".
	bare = regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)+$`)

	rangeSaid   = regexp.MustCompile(`(?i)\b(?:range|value|between|from)s?\b[^.\d]{0,30}(\d+)(?: ?(?:to|and|through|\.\.|-) ?)(\d+)\b`)
	flagSaid    = regexp.MustCompile(`(?i)\b0 or 1\b|<0\|1>|\b0/1\b`)
	soonSaid    = regexp.MustCompile(`(?i)\b(?:effect|applied|applies)\s+immediately\b|\bimmediately (?:applied|effective)\b`)
	laterSaid   = regexp.MustCompile(`(?i)\bnext session\b|\brestart|\breboot|\bnew session\b`)
	aes256Value = regexp.MustCompile(`(?i)^\W*(\d+)\b\W+\D*\bAES-?256\b.*\bonly\b|^\W*(\d+)\b\W+(?:only)\b.*\bAES-?256\b`)
)

// parseManual parses roff with the macros of man(7) or mdoc(7), and plain text.
func parseManual(text string) manual {
	m := manual{}
	paragraphs := map[string]*strings.Builder{}
	current := ""
	for raw := range strings.Lines(text) {
		line, macro := plain(raw)
		if strings.Contains(line, "pcoip.") { // regular expressions are slow, and the manual is read at each check
			for _, match := range named.FindAllStringSubmatch(line, -1) {
				m.name(match[1])
			}
		}
		if key := heading(line); key != "" {
			current = key
			m.name(key)
		} else if macro == "SH" || macro == "Sh" {
			current = "" // a new section: what follows is not about the directive
		}
		if current == "" {
			continue
		}
		if paragraphs[current] == nil {
			paragraphs[current] = &strings.Builder{}
		}
		paragraphs[current].WriteString(line + " ")
		if !strings.Contains(line, "256") {
			continue
		}
		if match := aes256Value.FindStringSubmatch(line); match != nil {
			d := m[current]
			d.aes256 = match[1] + match[2]
			m[current] = d
		}
	}
	for key, said := range paragraphs {
		m[key] = m[key].read(said.String())
	}
	if !slices.ContainsFunc(policy.PCoIPNames(), func(name string) bool { _, names := m[name]; return names }) {
		return nil // it is about something else, or in an unknown form
	}
	return m
}

func (m manual) name(key string) {
	if _, named := m[key]; !named {
		m[key] = described{}
	}
}

// plain returns a line of roff as rendered text, and its macro.
func plain(raw string) (line, macro string) {
	line = strings.TrimRight(raw, "\r\n")
	if strings.HasPrefix(line, `.\"`) || strings.HasPrefix(line, `'\"`) {
		return "", ""
	}
	if match := roffMacro.FindStringSubmatch(line); match != nil {
		macro = match[1]
		line = strings.ReplaceAll(line[len(match[0]):], `"`, "")
	}
	if strings.Contains(line, `\`) {
		line = roffSilent.ReplaceAllString(line, "")
	}
	line = roffGlyph.Replace(line)
	return strings.TrimSpace(line), macro
}

// heading returns the directive that a line introduces, or "". The line begins with the name,
// followed at most by an equals sign and a value.
func heading(line string) string {
	word, rest, _ := strings.Cut(strings.TrimLeft(line, "#*•- \t"), " ")
	if !strings.ContainsAny(word, "._") {
		return "" // most lines of a text
	}
	word, _, assigned := strings.Cut(strings.TrimRight(word, ":,"), "=")
	key, prefixed := strings.CutPrefix(word, "pcoip.")
	rest = strings.TrimSpace(rest)
	ends := rest == "" || assigned || strings.ContainsRune("=<([:-", rune(rest[0])) || isNumber(rest)
	if ends && (prefixed && named.MatchString(word) || bare.MatchString(word)) {
		return key
	}
	return ""
}

// isNumber reports whether text is a number, or an indent as .IP and .TP take it.
func isNumber(text string) bool {
	_, err := strconv.Atoi(strings.TrimRight(text, "n"))
	return err == nil
}

// read adds what the sentences about a directive say unambiguously.
func (d described) read(said string) described {
	ranges := map[[2]int]bool{}
	for _, match := range rangeSaid.FindAllStringSubmatch(said, -1) {
		from, err1 := strconv.Atoi(match[1])
		to, err2 := strconv.Atoi(match[2])
		if err1 == nil && err2 == nil && from < to {
			ranges[[2]int{from, to}] = true
		}
	}
	if len(ranges) == 0 && flagSaid.MatchString(said) {
		ranges[[2]int{0, 1}] = true
	}
	if len(ranges) == 1 {
		for r := range ranges {
			d.ranged, d.min, d.max = true, r[0], r[1]
		}
	}
	d.immediately = strings.Contains(strings.ToLower(said), "immediately") && soonSaid.MatchString(said) && !laterSaid.MatchString(said)
	return d
}

// refuses returns why the installed agent does not accept the directive, or "".
func (m manual) refuses(key, value string) string {
	d, names := m[key]
	switch {
	case m == nil:
		return ""
	case !names:
		return "the installed agent's manual does not know it: pcoip-agent.conf(5)"
	case d.ranged:
		if n, err := strconv.Atoi(value); err != nil || n < d.min || n > d.max {
			return fmt.Sprintf("the installed agent's manual wants a number between %d and %d, and not %q: pcoip-agent.conf(5)", d.min, d.max, value)
		}
	}
	return ""
}

// aes256 returns the directives with which the installed agent uses AES-256 and nothing weaker. It
// returns an error if the manual does not name them unambiguously.
func (m manual) aes256() (map[string]string, error) {
	const remedy = "set the directive itself once you know it, such as enable_aes_128_gcm"
	if m == nil {
		return nil, errors.New("without a manual of the installed agent that can be read, pcoip-agent.conf(5), it is not known which directive it is; " + remedy)
	}
	var ways []map[string]string
	_, weak := m["enable_aes_128_gcm"]
	_, strong := m["enable_aes_256_gcm"]
	if weak && strong {
		way := map[string]string{"enable_aes_128_gcm": "0", "enable_aes_256_gcm": "1"}
		if _, other := m["enable_salsa20_256_round12"]; other {
			way["enable_salsa20_256_round12"] = "0"
		}
		ways = append(ways, way)
	}
	for key, d := range m {
		if d.aes256 != "" {
			ways = append(ways, map[string]string{key: d.aes256})
		}
	}
	switch len(ways) {
	case 0:
		return nil, errors.New("the installed agent's manual, pcoip-agent.conf(5), names no directive for AES-256 only; " + remedy)
	case 1:
		return ways[0], nil
	}
	return nil, errors.New("the installed agent's manual, pcoip-agent.conf(5), names more than one directive for AES-256 only; " + remedy)
}
