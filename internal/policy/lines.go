package policy

import (
	"strconv"
	"strings"
)

// lines maps the keys of a TOML document to their line numbers. The decoder does not provide them,
// but messages need them.
//
// It expects valid TOML, which the decoder has checked before. For any other text the result is
// arbitrary, but locate still terminates.
type lines map[string]int

// at returns the line of the key with this path, or of the nearest table above.
func (l lines) at(path []string) int {
	for n := len(path); n > 0; n-- {
		if line, ok := l[joinPath(path[:n])]; ok {
			return line
		}
	}
	return 0
}

func joinPath(path []string) string { return strings.Join(path, "\x00") }

// locate returns the lines of all keys of a document.
func locate(document string) lines {
	s := keyScanner{rest: document, line: 1, found: lines{}, elements: map[string]int{}}
	for s.rest != "" {
		s.statement()
	}
	return s.found
}

type keyScanner struct {
	rest     string
	line     int
	table    []string
	found    lines
	elements map[string]int // number of elements of each array of tables so far
}

func (s *keyScanner) note(path []string) {
	for n := len(path); n > 0; n-- {
		key := joinPath(path[:n])
		if _, ok := s.found[key]; ok {
			return // and the tables above are noted too
		}
		s.found[key] = s.line
	}
}

func (s *keyScanner) advance(n int) {
	s.line += strings.Count(s.rest[:n], "\n")
	s.rest = s.rest[n:]
}

// statement consumes one line: a table header, a key with its value, or nothing.
func (s *keyScanner) statement() {
	s.advance(len(s.rest) - len(strings.TrimLeft(s.rest, " \t\r\n")))
	switch {
	case s.rest == "":
	case s.rest[0] == '#':
		s.toEndOfLine()
	case strings.HasPrefix(s.rest, "[["):
		s.advance(2)
		path := s.key()
		name := joinPath(path)
		s.table = append(path, element(s.elements[name]))
		s.elements[name]++
		s.note(s.table)
		s.toEndOfLine()
	case s.rest[0] == '[':
		s.advance(1)
		s.table = s.key()
		s.note(s.table)
		s.toEndOfLine()
	default:
		s.pair(s.table)
		s.toEndOfLine()
	}
}

// element returns how the n-th table of an array of tables appears in a path.
func element(n int) string { return "[" + strconv.Itoa(n) + "]" }

func isElement(part string) bool { return strings.HasPrefix(part, "[") && strings.HasSuffix(part, "]") }

func (s *keyScanner) toEndOfLine() {
	if end := strings.IndexByte(s.rest, '\n'); end >= 0 {
		s.advance(end + 1)
	} else {
		s.rest = ""
	}
}

// pair consumes "key = value".
func (s *keyScanner) pair(table []string) {
	path := append(append([]string(nil), table...), s.key()...)
	s.note(path)
	if equals := strings.IndexByte(s.rest, '='); equals >= 0 {
		s.advance(equals + 1)
	}
	s.value(path)
}

// key consumes a dotted key and the end of a table header.
func (s *keyScanner) key() []string {
	var path []string
	for {
		s.rest = strings.TrimLeft(s.rest, " \t")
		if s.rest == "" {
			return path
		}
		switch c := s.rest[0]; c {
		case '"', '\'':
			path = append(path, s.quoted())
		default:
			end := strings.IndexAny(s.rest, " \t.=]\r\n")
			if end < 0 {
				end = len(s.rest)
			}
			path = append(path, s.rest[:end])
			s.rest = s.rest[end:]
		}
		s.rest = strings.TrimLeft(s.rest, " \t")
		if !strings.HasPrefix(s.rest, ".") {
			s.rest = strings.TrimLeft(s.rest, "]")
			return path
		}
		s.rest = s.rest[1:]
	}
}

// quoted consumes a string of any of TOML's four forms and returns it.
func (s *keyScanner) quoted() string {
	mark := s.rest[:1]
	if strings.HasPrefix(s.rest, strings.Repeat(mark, 3)) {
		mark = s.rest[:3]
	}
	for i := len(mark); i < len(s.rest); i++ {
		switch {
		case s.rest[i] == '\\' && mark[0] == '"':
			i++
		case strings.HasPrefix(s.rest[i:], mark):
			text := s.rest[len(mark):i]
			end := i + len(mark)
			for len(mark) == 3 && end < len(s.rest) && s.rest[end] == mark[0] {
				end++ // a multi-line string may end in up to two quotes that belong to it
			}
			s.advance(end)
			if mark == `"` {
				// TOML's escapes in a key are a subset of Go's.
				if unquoted, err := strconv.Unquote(mark + text + mark); err == nil {
					return unquoted
				}
			}
			return text
		}
	}
	s.rest = ""
	return ""
}

// value consumes a value, noting the keys of inline tables.
func (s *keyScanner) value(path []string) {
	s.rest = strings.TrimLeft(s.rest, " \t")
	if s.rest == "" {
		return
	}
	switch s.rest[0] {
	case '"', '\'':
		s.quoted()
	case '[':
		s.advance(1)
		for s.more(']') {
			before := len(s.rest)
			s.value(path)
			if len(s.rest) == before {
				s.rest = "" // not TOML
			}
		}
	case '{':
		s.advance(1)
		for s.more('}') {
			s.pair(path)
		}
	default:
		end := strings.IndexAny(s.rest, ",]}#\r\n")
		if end < 0 {
			end = len(s.rest)
		}
		s.rest = s.rest[end:]
	}
}

// more skips what separates the elements of an array or inline table and says
// whether another element follows; if not, it consumes the closing mark.
func (s *keyScanner) more(closing byte) bool {
	for s.rest != "" {
		switch c := s.rest[0]; c {
		case ' ', '\t', '\r', '\n', ',':
			s.advance(1)
		case '#':
			s.toEndOfLine()
		case closing:
			s.advance(1)
			return false
		default:
			return true
		}
	}
	return false
}
