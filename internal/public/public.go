// Package public tells which texts everybody on the machine may read.
//
// What the agent finds it finds as root: in files that not everybody may read, in what
// programs print that run as root, in messages that quote either. Of each text is noted
// where it begins whether everybody may read it. What is not noted to be so is root's: it
// is in root's report and in no other.
package public

import (
	"io/fs"
	"slices"
	"strings"
)

// Secret stands in the place of a secret.
const Secret = "‹secret›" //nolint:gosec // it stands in the place of one

// Withheld stands in a public text for what is root's alone.
const Withheld = "root's report says why"

// An open error is one whose text everybody may read, that of what it wraps too.
type open struct{ error }

func (o open) Unwrap() error { return o.error }

// Error marks an error: everybody may read its text. nil stays nil.
func Error(err error) error {
	if err == nil {
		return nil
	}
	return open{err}
}

// because is an error of which everybody may read what could not be done, and why as
// far as the cause is marked.
type because struct {
	what  string
	cause error
}

func (b because) Error() string { return b.what + ": " + b.cause.Error() }

func (b because) Unwrap() error { return b.cause }

// Because is the error "what: cause". Everybody may read what.
func Because(what string, cause error) error { return because{what, cause} }

// Text is what everybody may read of the text of an error; "" is nothing.
func Text(err error) string {
	switch e := err.(type) { //nolint:errorlint // what wraps an error may add what is root's
	case open:
		return e.Error()
	case because:
		if why := Text(e.cause); why != "" {
			return e.what + ": " + why
		}
		return e.what + ": " + Withheld
	case interface{ Unwrap() []error }:
		return joined(err, e.Unwrap())
	}
	return ""
}

// joined is what everybody may read of errors that errors.Join has made one.
func joined(whole error, parts []error) string {
	texts, open, something := make([]string, len(parts)), make([]string, len(parts)), false
	for i, part := range parts {
		texts[i], open[i] = part.Error(), Text(part)
		something = something || open[i] != ""
		if open[i] == "" {
			open[i] = Withheld
		}
	}
	if !something || whole.Error() != strings.Join(texts, "\n") { // of another kind, which has words of its own
		return ""
	}
	return strings.Join(open, "\n")
}

// May says whether everybody may read a file with this mode, as far as the file itself
// has a say.
func May(mode fs.FileMode) bool { return mode&0o004 != 0 }

// A Line is a line of text of which everybody may read what is open. The open part of one
// that says something is never empty.
type Line struct{ Whole, Open string }

// All is a line that everybody may read.
func All(text string) Line { return Line{text, text} }

// Whole are the lines as root may read them.
func Whole(lines []Line) []string { return each(lines, func(l Line) string { return l.Whole }) }

// Open are the lines as everybody may read them.
func Open(lines []Line) []string { return each(lines, func(l Line) string { return l.Open }) }

// each is a text of each line, each text once; nil of none.
func each(lines []Line, text func(Line) string) []string {
	var texts []string
	for _, l := range lines {
		if t := text(l); !slices.Contains(texts, t) {
			texts = append(texts, t)
		}
	}
	return texts
}
