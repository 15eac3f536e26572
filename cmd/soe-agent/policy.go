package main

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/soe-agent/soe-agent/internal/policy"
)

func (a *app) policyCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "policy",
		Short: "For the policy's author: check, look at and publish fragments, on any machine",
	}
	c.AddCommand(a.lintCommand(), a.showCommand(), a.schemaCommand(), a.publishCommand())
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

// counted is so many of a thing.
func counted(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
