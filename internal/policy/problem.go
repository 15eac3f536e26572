package policy

import (
	"errors"
	"fmt"
	"strings"
)

// A Problem is one thing that is wrong with a fragment, at a place.
type Problem struct {
	File    string `json:"file"`
	Line    int    `json:"line,omitempty"` // counted from 1; 0 when the whole file is meant
	Message string `json:"message"`        // begins with "cannot"
}

func (p Problem) Error() string {
	if p.Line == 0 {
		return fmt.Sprintf("%s: %s", p.File, p.Message)
	}
	return fmt.Sprintf("%s:%d: %s", p.File, p.Line, p.Message)
}

// Problems is everything that is wrong, in the order of the files and lines. It
// is the error of Parse, Merge and their like; use AsProblems to get at it.
type Problems []Problem

func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// asError avoids an error that is not nil and holds nothing.
func (ps Problems) asError() error {
	if len(ps) == 0 {
		return nil
	}
	return ps
}

// AsProblems returns the problems that an error of this package carries.
func AsProblems(err error) Problems {
	var ps Problems
	errors.As(err, &ps)
	return ps
}
