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
)

// A Fragment is one parsed and valid TOML document of a policy.
type Fragment struct {
	Name        string
	Layer       Layer
	Personas    []string // empty: for everybody
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
	f := Fragment{Name: source.Name, Layer: source.Layer}
	f.Personas, f.Description = d.document(&table{d: &d, form: language(), values: values})
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

// ReadDir returns the fragments in a directory, by name: its files that end in ".toml" and do not
// begin with a dot. A missing directory has none.
func ReadDir(files Files, dir string, layer Layer) ([]Source, error) {
	names, err := Fragments(files, dir)
	if err != nil {
		return nil, err
	}
	var sources []Source
	var errs []error
	for _, name := range names {
		text, err := files.ReadFile(name)
		if err != nil {
			errs = append(errs, fmt.Errorf("cannot read the policy fragment %s: %w", name, err))
			continue
		}
		sources = append(sources, Source{Name: name, Layer: layer, Text: string(text)})
	}
	return sources, errors.Join(errs...)
}

// Fragments returns the names of the files in a directory that ReadDir reads.
func Fragments(files Files, dir string) ([]string, error) {
	names, err := files.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the policy in %s: %w", dir, err)
	}
	var fragments []string
	for _, name := range names {
		if strings.HasSuffix(name, ".toml") && !strings.HasPrefix(name, ".") {
			fragments = append(fragments, path.Join(dir, name))
		}
	}
	return fragments, nil
}
