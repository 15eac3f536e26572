package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/soe-agent/soe-agent/internal/kind/dconf"
	"github.com/soe-agent/soe-agent/internal/policy"
)

func (a *app) policyCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "policy",
		Short: "For the policy's author: check, look at and publish fragments, on any machine",
	}
	c.AddCommand(a.lintCommand(), a.showCommand(), a.publishCommand())
	return c
}

var errNoPolicy = errors.New("cannot tell which policy is meant: name its directory with --policy DIR")

// laptop are the files of the author's machine, which may be any.
type laptop struct{}

func (laptop) ReadFile(name string) ([]byte, error) { return os.ReadFile(name) }

func (laptop) ReadDir(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	names := make([]string, len(entries))
	for i, entry := range entries {
		names[i] = entry.Name()
	}
	return names, err
}

// readFragments reads the fragments in directories of the author's machine.
func readFragments(dirs []string) ([]policy.Source, error) {
	var sources []policy.Source
	var errs []error
	for _, dir := range dirs {
		if _, err := os.Stat(dir); err != nil {
			errs = append(errs, fmt.Errorf("cannot read the policy in %s: %w", dir, err))
			continue
		}
		found, err := policy.ReadDir(laptop{}, dir, policy.Local)
		sources, errs = append(sources, found...), append(errs, err)
		if err == nil && len(found) == 0 {
			errs = append(errs, fmt.Errorf("cannot find a policy in %s: no file there ends in .toml", dir))
		}
	}
	return sources, errors.Join(errs...)
}

// personasOf are the personas that any fragment is for, by name.
func personasOf(fragments []policy.Fragment) []string {
	var personas []string
	for _, f := range fragments {
		for _, p := range f.Personas {
			if !slices.Contains(personas, p) {
				personas = append(personas, p)
			}
		}
	}
	slices.Sort(personas)
	return personas
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
	for _, persona := range append([]string{"base"}, personasOf(fragments)...) {
		merged, err := policy.Merge(fragments, []string{persona})
		found := policy.AsProblems(err)
		if err == nil && schemas != nil {
			if found, err = dconf.Lint(merged, schemas); err != nil {
				return fragments, policy.Problems{{File: schemasFile, Message: fmt.Sprintf("cannot read the schemas: %v", err)}}
			}
		}
		for _, p := range found {
			if !slices.Contains(problems, p) {
				problems = append(problems, p)
			}
		}
	}
	return fragments, problems
}

const schemasFile = "gschemas.compiled"

// readSchemas reads compiled GSettings schemas: a file, or the one in a
// directory. It is nil if no name is given.
func readSchemas(name string) ([]byte, error) {
	if name == "" {
		return nil, nil
	}
	file := name
	if info, err := os.Stat(name); err == nil && info.IsDir() {
		file = filepath.Join(name, schemasFile)
	}
	content, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("cannot read the schemas in %s: %w; run: glib-compile-schemas %s", name, err, name)
	}
	return content, err
}

// problemsDocument is what lint prints for programs.
type problemsDocument struct {
	Problems policy.Problems `json:"problems"`
}

// linted reads the fragments in directories. If anything is wrong with them, it
// prints all of it and returns an error.
func (a *app) linted(dirs []string, schemasName string) ([]policy.Source, []policy.Fragment, error) {
	if len(dirs) == 0 {
		return nil, nil, errNoPolicy
	}
	sources, err := readFragments(dirs)
	if err != nil {
		return nil, nil, err
	}
	schemas, err := readSchemas(schemasName)
	if err != nil {
		return nil, nil, err
	}
	fragments, problems := lint(sources, schemas)
	if len(problems) == 0 {
		return sources, fragments, nil
	}
	if !a.json {
		a.printf("%s\n", problems.Error())
	} else if err := a.printJSON(problemsDocument{problems}); err != nil {
		return nil, nil, err
	}
	return nil, nil, fmt.Errorf("cannot accept the policy: %s in %s", counted(len(problems), "problem"), counted(len(sources), "fragment"))
}

func (a *app) lintCommand() *cobra.Command {
	var dirs []string
	var schemasName string
	c := &cobra.Command{
		Use:   "lint --policy DIR",
		Short: "Report everything that is wrong with the fragments in DIR",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, fragments, err := a.linted(dirs, schemasName)
			switch {
			case err != nil:
				return err
			case a.json:
				return a.printJSON(problemsDocument{policy.Problems{}})
			}
			a.printf("%s, nothing wrong%s.\n", counted(len(fragments), "fragment"), forPersonas(personasOf(fragments)))
			return nil
		},
	}
	policyFlag(c, &dirs)
	c.Flags().StringVar(&schemasName, "schemas", "", "hold dconf settings to the GSettings schemas compiled in `DIR`")
	return c
}

func forPersonas(personas []string) string {
	if len(personas) == 0 {
		return ""
	}
	return "; personas: " + strings.Join(personas, ", ")
}

func (a *app) showCommand() *cobra.Command {
	var dirs, personas []string
	c := &cobra.Command{
		Use:   "show --policy DIR --persona NAME",
		Short: "Show the policy as a machine of these personas has it, and who set what",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if len(dirs) == 0 {
				return errNoPolicy
			}
			sources, err := readFragments(dirs)
			if err != nil {
				return err
			}
			fragments, err := policy.ParseAll(sources)
			if err != nil {
				return err
			}
			for _, p := range personas {
				if known := personasOf(fragments); p != "base" && !slices.Contains(known, p) {
					return fmt.Errorf("cannot show persona %q: no fragment is for it; personas here are %s", p, strings.Join(known, ", "))
				}
			}
			p, err := policy.Merge(fragments, personas)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(shown(p))
			}
			a.showPolicy(p)
			return nil
		},
	}
	policyFlag(c, &dirs)
	c.Flags().StringSliceVar(&personas, "persona", []string{"base"}, "the machine's personas, the weakest first")
	return c
}

// shownResource is one resource as the policy has it, references unresolved.
type shownResource struct {
	ID      policy.ID     `json:"id"`
	Want    policy.Spec   `json:"want"`
	Content string        `json:"content,omitempty"` // of a drop-in
	Origin  policy.Origin `json:"origin"`
}

func shown(p *policy.Policy) []shownResource {
	resources := make([]shownResource, len(p.Resources))
	for i, r := range p.Resources {
		resources[i] = shownResource{ID: r.ID, Want: r.Spec, Origin: r.Origin}
		if d, ok := r.Spec.(policy.Dropin); ok {
			resources[i].Content = d.Content
		}
	}
	return resources
}

func (a *app) showPolicy(p *policy.Policy) {
	for _, r := range shown(p) {
		want, _ := json.Marshal(r.Want) // specs are plain data
		a.printf("%s  # %s\n    %s\n", r.ID, provenance(r.Origin), want)
		if r.Content != "" {
			a.printf("    | %s\n", strings.ReplaceAll(strings.TrimSuffix(r.Content, "\n"), "\n", "\n    | "))
		}
	}
}

// provenance is who set a resource, and what that replaced.
func provenance(o policy.Origin) string {
	text := o.String()
	for _, lower := range o.Overrode {
		text += ", instead of " + lower.String()
	}
	return text
}

// counted is so many of a thing.
func counted(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
