package policy

import (
	"iter"
	"slices"
	"strings"
)

// patterns finds the globs with a * that may match a text. Each is indexed by the text before its first *, or
// after its last one if that is longer.
type patterns struct {
	count  int
	by     map[anchor][]*said
	begins []int // lengths of the anchors at the beginning
	ends   []int // lengths of the anchors at the end
}

// An anchor is a text with which everything that a glob matches begins or ends.
type anchor struct {
	end  bool
	text string
}

func newPatterns() patterns { return patterns{by: map[anchor][]*said{}} }

func (p *patterns) add(s *said) {
	p.count++
	first, last := strings.Index(s.glob, "*"), strings.LastIndex(s.glob, "*")
	begin, end := s.glob[:first], s.glob[last+1:]
	_, name, _ := strings.Cut(begin, "/") // without the kind, which thousands of globs share
	if len(end) > len(name) {
		p.note(&p.ends, anchor{true, end}, s)
		return
	}
	p.note(&p.begins, anchor{false, begin}, s)
}

func (p *patterns) note(lengths *[]int, a anchor, s *said) {
	p.by[a] = append(p.by[a], s)
	if !slices.Contains(*lengths, len(a.text)) {
		*lengths = append(*lengths, len(a.text))
	}
}

// near returns the globs that may match a text. No other does.
func (p *patterns) near(text string) iter.Seq[*said] {
	return func(yield func(*said) bool) {
		for _, n := range p.begins {
			if n > len(text) {
				continue
			}
			for _, s := range p.by[anchor{false, text[:n]}] {
				if !yield(s) {
					return
				}
			}
		}
		for _, n := range p.ends {
			if n > len(text) {
				continue
			}
			for _, s := range p.by[anchor{true, text[len(text)-n:]}] {
				if !yield(s) {
					return
				}
			}
		}
	}
}
