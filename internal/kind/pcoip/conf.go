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
type conf struct{ all []line }

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
		c.all = append(c.all, l)
	}
	return c
}

func (c conf) String() string {
	var b strings.Builder
	for _, l := range c.all {
		b.WriteString(l.raw)
	}
	return b.String()
}

// values are all values of a key, in their order. Which of several the agent
// takes is not documented, so there must not be several.
func (c conf) values(key string) []string {
	var found []string
	for _, l := range c.all {
		if l.key == key {
			found = append(found, l.value)
		}
	}
	return found
}

func (c conf) lineBreak() string {
	if len(c.all) > 0 && strings.HasSuffix(c.all[0].raw, "\r\n") {
		return "\r\n"
	}
	return "\n"
}

// endLine gives the last of some lines the break that it may lack.
func (c conf) endLine(lines []line) {
	if last := len(lines) - 1; last >= 0 && !strings.HasSuffix(lines[last].raw, "\n") {
		lines[last].raw += c.lineBreak()
	}
}

// set makes value the only one of key: where the key stands first, or at the end.
func (c *conf) set(key, value string) {
	wanted := line{raw: key + " = " + value + c.lineBreak(), key: key, value: value}
	first := slices.IndexFunc(c.all, func(l line) bool { return l.key == key })
	if first < 0 {
		c.endLine(c.all)
		c.all = append(c.all, wanted)
		return
	}
	if c.all[first].value != value {
		c.all[first] = wanted
	}
	rest := slices.DeleteFunc(slices.Clone(c.all[first+1:]), func(l line) bool { return l.key == key })
	c.all = append(c.all[:first+1:first+1], rest...)
}

// lines are the lines of a key, one after the other, with "\n" after each.
func (c conf) lines(key string) string {
	var found strings.Builder
	for _, l := range c.all {
		if l.key == key {
			found.WriteString(strings.TrimRight(l.raw, "\r\n") + "\n")
		}
	}
	return found.String()
}

// put makes these the lines of key, where it stands first: what lines returned of
// another file. Without any the key is gone.
func (c *conf) put(key, lines string) {
	first := slices.IndexFunc(c.all, func(l line) bool { return l.key == key })
	rest := slices.DeleteFunc(slices.Clone(c.all), func(l line) bool { return l.key == key })
	if first < 0 {
		first = len(rest)
		if lines != "" {
			c.endLine(rest)
		}
	}
	put := parse(strings.ReplaceAll(lines, "\n", c.lineBreak())).all
	c.all = slices.Concat(rest[:first:first], put, rest[first:])
}
