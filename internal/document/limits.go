package document

import (
	"fmt"
	"strings"
)

// Deepest is how deep the tables and arrays of a document may be nested, and how many
// parts one key may have.
const Deepest = 32

// mostWork bounds what the decoder has to do for all keys, arrays and tables of a document
// together: for each it takes a time that grows with the square of how deep that is. A
// megabyte of policy is less than a quarter of this.
const mostWork = 2_000_000

// limits refuses a document that would take long. It reads no more of TOML than it
// needs: where it takes something for another thing than the decoder does, that is not
// TOML, and the decoder ends there.
func limits(text string) error {
	if len(text) > Largest {
		return &Error{Message: fmt.Sprintf("it has %d bytes, and an agent takes no more than %d; split it", len(text), Largest)}
	}
	s := scanner{text: text}
	if why := s.run(); why != "" {
		return &Error{Line: lineAt(text, s.at), Message: why}
	}
	return nil
}

// A scanner follows how deep it is in a document.
type scanner struct {
	text string
	at   int

	table int   // how deep the table of the last header is
	open  []int // how deep each array and inline table is that has begun
	parts int   // of the key at hand, or what may be one
	more  bool  // it goes on: the last thing was a dot
	under int   // how many tables a key leads into, for the value after its "="
	value bool  // a "=" was in this line
	work  int   // see mostWork
}

var (
	tooDeep  = fmt.Sprintf("tables and arrays are nested more than %d deep", Deepest)
	tooMany  = fmt.Sprintf("a key has more than %d parts", Deepest)
	tooMuch  = "too much of it is nested deeply; nest it less, or split it"
	endsWord = " \t\r\n=[]{},.#\"'"
)

// run says what is too deep, at s.at, or "".
func (s *scanner) run() string {
	for s.at < len(s.text) {
		switch c := s.text[s.at]; c {
		case ' ', '\t', '\r':
			s.at++
			continue
		case '\n', ',':
			s.at++
			if c == '\n' && len(s.open) == 0 {
				s.value = false
			}
			s.parts, s.more, s.under = 0, false, 0
		case '#':
			s.skipTo('\n')
		case '.':
			s.at++
			s.more = true
		case '=':
			s.at++
			s.under, s.value = max(0, s.parts-1), true
			s.parts, s.more = 0, false
			if why := s.down(s.depth() + s.under); why != "" {
				return why
			}
		case ']', '}':
			s.at++
			s.open = s.open[:max(0, len(s.open)-1)]
			s.parts, s.more, s.under = 0, false, 0
		case '[', '{':
			if why := s.begin(c); why != "" {
				return why
			}
		default:
			s.word(c)
			if why := s.part(); why != "" {
				return why
			}
		}
	}
	return ""
}

// depth is how deep what stands here is.
func (s *scanner) depth() int {
	if n := len(s.open); n > 0 {
		return s.open[n-1]
	}
	return s.table
}

// begin reads the mark with which a header, an array or an inline table begins.
func (s *scanner) begin(c byte) string {
	if c == '[' && len(s.open) == 0 && !s.value {
		return s.header()
	}
	depth := s.depth() + s.under + 1
	if why := s.down(depth); why != "" {
		return why
	}
	s.at++
	s.open = append(s.open, depth)
	s.parts, s.more, s.under = 0, false, 0
	return ""
}

// down notes that something stands at a depth.
func (s *scanner) down(depth int) string {
	s.work += depth * depth
	switch {
	case depth > Deepest:
		return tooDeep
	case s.work > mostWork:
		return tooMuch
	}
	return ""
}

// header reads a header up to its end.
func (s *scanner) header() string {
	s.parts, s.more, s.table = 0, false, 0
	for s.at < len(s.text) && (s.text[s.at] == '[' || s.text[s.at] == ' ' || s.text[s.at] == '\t') {
		s.at++
	}
	for s.at < len(s.text) {
		switch c := s.text[s.at]; c {
		case ' ', '\t':
			s.at++
		case '.':
			s.at++
			s.more = true
		case ']', '\n', '\r', '=', '[', '{', '}', ',', '#':
			s.skipTo('\n')
			return s.down(s.table)
		default:
			s.word(c)
			if why := s.part(); why != "" {
				return why
			}
			s.table = s.parts
		}
	}
	return ""
}

// part counts one part of a key, or a value: nobody needs to know which.
func (s *scanner) part() string {
	if !s.more {
		s.parts = 0
	}
	s.parts++
	s.more = false
	if s.parts > Deepest {
		return tooMany
	}
	return ""
}

// word reads a string, or letters up to what ends them.
func (s *scanner) word(first byte) {
	if first != '"' && first != '\'' {
		end := strings.IndexAny(s.text[s.at+1:], endsWord)
		if end < 0 {
			s.at = len(s.text)
			return
		}
		s.at += 1 + end
		return
	}
	mark := s.text[s.at : s.at+1]
	if three := strings.Repeat(mark, 3); strings.HasPrefix(s.text[s.at:], three) {
		mark = three
	}
	for s.at += len(mark); s.at < len(s.text); s.at++ {
		switch c := s.text[s.at]; {
		case c == '\\' && first == '"':
			s.at++
		case c == '\n' && len(mark) == 1:
			return // not TOML
		case c == first && strings.HasPrefix(s.text[s.at:], mark):
			s.at += len(mark)
			for len(mark) == 3 && s.at < len(s.text) && s.text[s.at] == first {
				s.at++ // a string of several lines may end in up to two quotes of its own
			}
			return
		}
	}
	s.at = min(s.at, len(s.text))
}

func (s *scanner) skipTo(end byte) {
	if n := strings.IndexByte(s.text[s.at:], end); n >= 0 {
		s.at += n
	} else {
		s.at = len(s.text)
	}
}
