package policy

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/document"
	"github.com/soe-agent/soe-agent/internal/target"
)

// A Fragment is one parsed and valid TOML document of a policy.
type Fragment struct {
	Name        string
	Layer       Layer
	Personas    []string          // empty: for everybody
	When        target.Conditions // the machines it is for; none: every machine
	Description string
	Settings    []Setting
	Rules       []Rule
	Benchmarks  []Benchmark

	Advice Problems // advice that Parse found, for Advise
}

// A Setting is what a fragment says about one resource.
type Setting struct {
	ID   ID
	Spec Spec
	Line int

	Evidence Evidence
}

// A Source is the text of a fragment.
type Source struct {
	Name  string `json:"name"` // for messages and provenance
	Layer Layer  `json:"layer"`
	Text  string `json:"text"`
}

// Parse parses a fragment. Its error is Problems, with everything that is wrong.
func Parse(source Source) (Fragment, error) {
	values, err := document.Values(source.Text)
	if err != nil {
		return Fragment{}, Problems{Unreadable(source.Name, "the fragment", err)}
	}
	d := decoder{file: source.Name, lines: locate(source.Text)}
	d.nulls(nil, values)
	f := Fragment{Name: source.Name, Layer: source.Layer}
	f.Personas, f.When, f.Description = d.document(&table{d: &d, form: language(), values: values})
	f.Settings, f.Rules, f.Benchmarks, f.Advice = d.settings, d.rules, d.benchmarks, d.advice
	if why := indexOf(f.allRules()).tooMuch(); why != "" {
		d.problem(nil, "cannot use the fragment: %s", why)
	}
	slices.SortStableFunc(d.problems, func(a, b Problem) int { return cmp.Compare(a.Line, b.Line) })
	if d.untold {
		d.problems = append(d.problems, Problem{File: source.Name, Message: fmt.Sprintf("cannot use the fragment: there are more problems than these %d", mostProblems)})
	}
	return f, d.problems.asError()
}

// allRules returns the rules of the fragment, and those that the tables of its resources make.
func (f Fragment) allRules() []Rule {
	all := slices.Clip(f.Rules)
	for _, s := range f.Settings {
		if !s.Evidence.nothing() {
			all = append(all, Rule{Match: []string{string(s.ID)}, Severity: s.Evidence.Severity, Controls: s.Evidence.Controls})
		}
	}
	return all
}

// Unreadable returns the problem of a document that package document cannot read.
func Unreadable(file, what string, err error) Problem {
	p := Problem{File: file, Message: fmt.Sprintf("cannot read %s: %v", what, err)}
	var e *document.Error
	if errors.As(err, &e) {
		p.Line = e.Line
	}
	return p
}

// ParseAll parses fragments, in order, and reports the problems of all of them.
func ParseAll(sources []Source) ([]Fragment, error) {
	var fragments []Fragment
	var problems Problems
	for _, source := range sources {
		f, err := Parse(source)
		problems = append(problems, AsProblems(err)...)
		fragments = append(fragments, f)
	}
	return fragments, problems.asError()
}

// Files reads the files of fragments.
type Files interface {
	// ReadDir returns the names in a directory, sorted. The error wraps fs.ErrNotExist if there is
	// no such directory.
	ReadDir(name string) ([]string, error)
	ReadFile(name string) ([]byte, error)
}

// LargestFragment is how many bytes a fragment may have, and largestPolicy all of a directory together.
const (
	LargestFragment = document.Largest
	largestPolicy   = 64 << 20
)

// ReadDir returns the fragments in a directory, by name: its files that end in ".toml" and do not
// begin with a dot. A missing directory has none. The error is Problems; the fragments that could be
// read are returned all the same.
func ReadDir(files Files, dir string, layer Layer) ([]Source, error) {
	names, err := Fragments(files, dir)
	if err != nil {
		return nil, Problems{unread(dir, "the policy", err)}
	}
	var sources []Source
	var problems Problems
	room := largestPolicy
	for _, name := range names {
		text, err := files.ReadFile(name)
		if room -= len(text); err == nil && room < 0 {
			return sources, append(problems, Problem{File: dir, Message: fmt.Sprintf("cannot read the policy: its fragments have more than %d MiB together; take away what is none", largestPolicy>>20)})
		}
		if err != nil {
			problems = append(problems, unread(name, "the policy fragment", err))
			continue
		}
		sources = append(sources, Source{Name: name, Layer: layer, Text: string(text)})
	}
	return sources, problems.asError()
}

// unread is the problem of a file or directory that cannot be read.
func unread(name, what string, err error) Problem {
	why := err.Error()
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		why = pathError.Err.Error()
	}
	return Problem{File: name, Message: fmt.Sprintf("cannot read %s: %s", what, why)}
}

// Fragments returns the names of the files in a directory that ReadDir reads.
func Fragments(files Files, dir string) ([]string, error) {
	names, err := files.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var fragments []string
	for _, name := range names {
		if strings.HasSuffix(name, ".toml") && !strings.HasPrefix(name, ".") {
			fragments = append(fragments, path.Join(dir, name))
		}
	}
	return fragments, nil
}
