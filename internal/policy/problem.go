package policy

import (
	"errors"
	"fmt"
	"strings"
)

// A Gravity says what a problem means for the policy.
type Gravity int

// The gravities, the most serious first.
const (
	Error   Gravity = iota // the policy is refused
	Warning                // something in it has no effect, or grants more than it seems to
	Notice                 // something must be done soon
)

func (g Gravity) String() string {
	switch g {
	case Warning:
		return "warning"
	case Notice:
		return "notice"
	}
	return "error"
}

// MarshalText writes the gravity as its name.
func (g Gravity) MarshalText() ([]byte, error) { return []byte(g.String()), nil }

// A Problem is one thing that is wrong with a fragment, at a place.
type Problem struct {
	File    string  `json:"file"`
	Line    int     `json:"line,omitempty"` // from 1; 0 means the whole file
	Gravity Gravity `json:"severity"`
	Message string  `json:"message"`        // an error begins with "cannot"
	Hint    string  `json:"hint,omitempty"` // what to do, or what was probably meant
}

// Error returns the problem on one line, in the format of compilers.
func (p Problem) Error() string {
	text := p.File + ": "
	if p.Line > 0 {
		text = fmt.Sprintf("%s:%d: ", p.File, p.Line)
	}
	if p.Gravity != Error {
		text += p.Gravity.String() + ": "
	}
	text += p.Message
	if p.Hint != "" {
		text += "; " + p.Hint
	}
	return text
}

// Problems is everything that is wrong, in the order of files and lines. It is the error of Parse,
// Merge and others; use AsProblems to get it from an error.
type Problems []Problem

func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// Count returns how many problems have a gravity.
func (ps Problems) Count(gravity Gravity) int {
	n := 0
	for _, p := range ps {
		if p.Gravity == gravity {
			n++
		}
	}
	return n
}

// asError returns nil, and not a non-nil empty error, if there are no problems.
func (ps Problems) asError() error {
	if len(ps) == 0 {
		return nil
	}
	return ps
}

// AsProblems returns the problems in an error of this package.
func AsProblems(err error) Problems {
	var ps Problems
	errors.As(err, &ps)
	return ps
}
