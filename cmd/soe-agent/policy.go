package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
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

func (laptop) ReadFile(name string) ([]byte, error) {
	return system.ReadGiven(name, policy.LargestFragment)
}

func (laptop) ReadDir(name string) ([]string, error) {
	dir, err := os.OpenFile(name, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

// readFragments reads the fragments in directories of the author's machine. Its error is
// policy.Problems; what could be read is returned all the same.
func readFragments(dirs []string) ([]policy.Source, error) {
	var sources []policy.Source
	var problems policy.Problems
	for _, dir := range dirs {
		found, err := policy.ReadDir(laptop{}, dir, policy.Local)
		sources, problems = append(sources, found...), append(problems, policy.AsProblems(err)...)
		if err != nil || len(found) > 0 {
			continue
		}
		problem := policy.Problem{File: dir, Message: "cannot find a policy: no file there ends in .toml"}
		if _, err := os.Stat(dir); err != nil {
			problem.Message = "cannot read the policy: there is no such directory"
		}
		problems = append(problems, problem)
	}
	if len(problems) > 0 {
		return sources, problems
	}
	return sources, nil
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
