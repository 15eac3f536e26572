package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/soe-agent/soe-agent/internal/kind/dconf"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/resolve"
	"github.com/soe-agent/soe-agent/internal/system"
)

func (a *app) lintCommand() *cobra.Command {
	var dirs []string
	var schemasName string
	var strict bool
	c := &cobra.Command{
		Use:   "lint --policy DIR",
		Short: "Report everything that is wrong with the fragments in DIR",
		Long: `Lint reports everything for which a machine would refuse the fragments in DIR, for any
persona: errors, with file and line. It warns of what has no effect, such as a rule that
matches nothing or a waiver that has ended, and of commands for others by which they become
root, and notes waivers that end within 30 days.
All fragments of a policy belong together: a rule may be about what another one sets.

Exit code: 0 when nothing is wrong, 1 when there are errors or the fragments could not
be read, 2 with --strict when there are no errors, but warnings. Notices are never held
against a policy.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return a.lint(dirs, schemasName, strict)
		},
	}
	policyFlag(c, &dirs)
	c.Flags().StringVar(&schemasName, "schemas", "", "hold dconf settings to the GSettings schemas compiled in `DIR`")
	c.Flags().BoolVar(&strict, "strict", false, "fail for warnings, too")
	return c
}

func (a *app) lint(dirs []string, schemasName string, strict bool) error {
	found, err := linted(dirs, schemasName)
	if err != nil {
		return err
	}
	if a.json {
		err = a.printJSON(found.document())
	} else {
		found.print(a)
	}
	if err == nil {
		err = found.refusal()
	}
	if err == nil && strict && found.problems.Count(policy.Warning) > 0 {
		return errNotCompliant
	}
	return err
}

// A linting is fragments and what is wrong with them.
type linting struct {
	sources   []policy.Source
	fragments []policy.Fragment // none when they cannot be read or parsed
	problems  policy.Problems
	unread    policy.Problems // of these the ones for which not all could be read
}

// linted reads the fragments in directories and lints them. What cannot be read is among the problems.
func linted(dirs []string, schemasName string) (linting, error) {
	if len(dirs) == 0 {
		return linting{}, errNoPolicy
	}
	sources, err := readFragments(dirs)
	unread := policy.AsProblems(err)
	schemas, err := readSchemas(schemasName)
	if err != nil {
		unread = append(unread, policy.Problem{File: schemasName, Message: err.Error()})
	}
	if len(unread) > 0 { // what the fragments come to together is not known
		_, err := policy.ParseAll(sources)
		return linting{sources: sources, problems: append(slices.Clone(unread), policy.AsProblems(err)...), unread: unread}, nil
	}
	fragments, problems := lint(sources, schemas)
	return linting{sources: sources, fragments: fragments, problems: problems}, nil
}

// refusal is the error for which the policy is refused, or nil.
func (l linting) refusal() error {
	errs := l.problems.Count(policy.Error)
	switch {
	case errs == 0:
		return nil
	case len(l.unread) > 0:
		return errors.New("cannot accept the policy: not all of it can be read")
	}
	return fmt.Errorf("cannot accept the policy: %s in %s", counted(errs, "problem"), counted(len(l.sources), "fragment"))
}

// print prints the problems for people.
func (l linting) print(a *app) {
	for _, p := range l.problems {
		a.printf("%s\n", p.Error())
	}
	if l.problems.Count(policy.Error) > 0 {
		return
	}
	verdict := "nothing wrong"
	if n := len(l.problems); n > 0 {
		verdict = fmt.Sprintf("no errors, %s, %s", counted(l.problems.Count(policy.Warning), "warning"), counted(l.problems.Count(policy.Notice), "notice"))
	}
	a.printf("%s, %s%s.\n", counted(len(l.fragments), "fragment"), verdict, forPersonas(personasOf(l.fragments)))
}

// A lintDocument is what lint prints for programs. Its schema is 1 as long as fields are
// only added.
type lintDocument struct {
	Schema    int             `json:"schema"`
	Accepted  bool            `json:"accepted"` // there are no errors
	Fragments int             `json:"fragments"`
	Personas  []string        `json:"personas"` // that fragments are for
	Problems  policy.Problems `json:"problems"`
}

func (l linting) document() lintDocument {
	return lintDocument{
		Schema: 1, Accepted: l.refusal() == nil, Fragments: len(l.sources),
		Personas: append([]string{}, personasOf(l.fragments)...), Problems: append(policy.Problems{}, l.problems...),
	}
}

func forPersonas(personas []string) string {
	if len(personas) == 0 {
		return ""
	}
	return "; personas: " + strings.Join(personas, ", ")
}

// lint returns everything that is wrong with fragments: each alone, and put
// together for each persona. With schemas, the content of a gschemas.compiled,
// settings are held to them.
func lint(sources []policy.Source, schemas []byte) ([]policy.Fragment, policy.Problems) {
	fragments, err := policy.ParseAll(sources)
	if err != nil {
		return nil, policy.AsProblems(err)
	}
	var problems policy.Problems
	told := map[policy.Problem]bool{} // there may be thousands
	add := func(found policy.Problems) {
		for _, p := range found {
			if !told[p] {
				told[p] = true
				problems = append(problems, p)
			}
		}
	}
	found, err := lintMachines(fragments, schemas)
	if err != nil {
		return fragments, policy.Problems{{File: schemasFile, Message: fmt.Sprintf("cannot read the schemas: %v", err)}}
	}
	add(found)
	add(policy.Advise(fragments, time.Now()))
	slices.SortStableFunc(problems, func(a, b policy.Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
	})
	return fragments, problems
}

// lintMachines returns what is wrong with fragments put together as they are on some target, and on which if
// not on all. The error is about the schemas.
func lintMachines(fragments []policy.Fragment, schemas []byte) (policy.Problems, error) {
	var all policy.Problems
	where := map[policy.Problem][]string{}
	everywhere := 0
	for _, variant := range policy.Variants(fragments)[0] {
		everywhere += len(variant.Targets)
		found, err := lintVariant(variant, personasOf(fragments), schemas)
		if err != nil {
			return nil, err
		}
		here := map[policy.Problem]bool{}
		for _, p := range found {
			if _, known := where[p]; !known {
				all = append(all, p)
			}
			if !here[p] {
				here[p] = true
				where[p] = append(where[p], variant.Targets...)
			}
		}
	}
	for i, p := range all {
		if on := where[p]; len(on) < everywhere {
			all[i].Message += " (on " + strings.Join(on, ", ") + ")"
		}
	}
	return all, nil
}

// lintVariant returns what is wrong with fragments put together as they are on some targets, for each persona.
// The error is about the schemas.
func lintVariant(v policy.Variant, personas []string, schemas []byte) (policy.Problems, error) {
	var problems policy.Problems
	told := map[policy.Problem]bool{}
	for _, persona := range append([]string{"base"}, personas...) {
		found, err := lintMerged(v.Fragments, []string{persona}, schemas)
		if err != nil {
			return nil, err
		}
		for _, p := range found {
			told[p] = true
		}
		problems = append(problems, found...)
	}
	// Whether there are machines of the two only their configuration tells.
	for _, persona := range personas {
		_, err := policy.Merge(v.Fragments, []string{"base", persona}, nil)
		for _, p := range policy.AsProblems(err) {
			if !told[p] {
				p.Gravity, p.Message = policy.Warning, fmt.Sprintf("a machine with the personas base and %s refuses the policy: %s", persona, p.Message)
				problems = append(problems, p)
			}
		}
	}
	return problems, nil
}

// lintMerged returns what is wrong with fragments for a machine. The error is about the
// schemas.
func lintMerged(fragments []policy.Fragment, personas []string, schemas []byte) (policy.Problems, error) {
	merged, err := policy.Merge(fragments, personas, nil)
	if err != nil {
		return policy.AsProblems(err), nil
	}
	problems := append(policy.AsProblems(resolve.UnknownFacts(merged)), merged.Doubtful()...)
	if schemas == nil {
		return problems, nil
	}
	found, err := dconf.Lint(merged, schemas)
	return append(problems, found...), err
}

const schemasFile = "gschemas.compiled"

// largestSchemas is how many bytes compiled schemas may have.
const largestSchemas = 64 << 20

// readSchemas reads compiled GSettings schemas: a file, or the one in a directory. It is nil if no
// name is given. The error does not name the file that is given.
func readSchemas(name string) ([]byte, error) {
	if name == "" {
		return nil, nil
	}
	file := name
	if info, err := os.Stat(name); err == nil && info.IsDir() {
		file = filepath.Join(name, schemasFile)
	}
	content, err := system.ReadGiven(file, largestSchemas)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, fmt.Errorf("cannot read the schemas: %w; run: glib-compile-schemas %s", err, name)
	case err != nil:
		return nil, fmt.Errorf("cannot read the schemas: %w", err)
	}
	return content, nil
}
