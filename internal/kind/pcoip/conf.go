package pcoip

import (
	"slices"
	"strings"
)

// conf is a pcoip-agent.conf, line by line. Nothing in it is lost or moved: what
// is not set comes out as it went in, to the byte.
//
// The format is that of pcoip-agent.conf(5): one "pcoip.NAME = VALUE" a line, with
// or without blanks around the "=", and lines that begin with "#".
type conf struct{ lines []line }

type line struct {
	raw   string // with its line break
	key   string // with its "pcoip."; empty for a comment and what is no directive
	value string
}

func parse(content string) conf {
	var c conf
	for raw := range strings.Lines(content) {
		l := line{raw: raw}
		if key, value, ok := strings.Cut(raw, "="); ok && !strings.HasPrefix(strings.TrimSpace(raw), "#") {
			l.key, l.value = strings.TrimSpace(key), strings.TrimSpace(value)
		}
		c.lines = append(c.lines, l)
	}
	return c
}

func (c conf) String() string {
	var b strings.Builder
	for _, l := range c.lines {
		b.WriteString(l.raw)
	}
	return b.String()
}

// values are all values of a key, in their order. Which of several the agent
// takes is not documented, so there must not be several.
func (c conf) values(key string) []string {
	var found []string
	for _, l := range c.lines {
		if l.key == key {
			found = append(found, l.value)
		}
	}
	return found
}

// set makes value the only one of key: where the key stands first, or at the end.
func (c *conf) set(key, value string) {
	lineBreak := "\n"
	if len(c.lines) > 0 && strings.HasSuffix(c.lines[0].raw, "\r\n") {
		lineBreak = "\r\n"
	}
	wanted := line{raw: key + " = " + value + lineBreak, key: key, value: value}
	first := slices.IndexFunc(c.lines, func(l line) bool { return l.key == key })
	if first < 0 {
		if last := len(c.lines) - 1; last >= 0 && !strings.HasSuffix(c.lines[last].raw, "\n") {
			c.lines[last].raw += lineBreak
		}
		c.lines = append(c.lines, wanted)
		return
	}
	if c.lines[first].value != value {
		c.lines[first] = wanted
	}
	rest := slices.DeleteFunc(slices.Clone(c.lines[first+1:]), func(l line) bool { return l.key == key })
	c.lines = append(c.lines[:first+1:first+1], rest...)
}
