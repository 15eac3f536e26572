package main

import (
	"slices"
	"strings"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/soe-agent/soe-agent/internal/policy"
)

// completeIDs offers the resources of the last report to a shell.
func (a *app) completeIDs(c *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	r, err := a.lastReport(c.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var ids []cobra.Completion
	for _, resource := range r.Resources {
		if id := string(resource.ID); strings.HasPrefix(id, begun) && isOneWord(id) {
			ids = append(ids, id)
		}
	}
	return ids, cobra.ShellCompDirectiveNoFileComp
}

// isOneWord keeps from the shell what a hostile name could have it misread.
func isOneWord(id string) bool {
	return !strings.ContainsFunc(id, func(r rune) bool {
		return r == ' ' || !unicode.IsPrint(r) || strings.ContainsRune("\"'`$\\;&|<>(){}*?!#~:", r)
	})
}

// completeKinds offers the kinds to a shell, in a list with commas.
func completeKinds(_ *cobra.Command, _ []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
	before := begun[:strings.LastIndexByte(begun, ',')+1]
	var kinds []cobra.Completion
	for _, kind := range policy.Kinds() {
		if !slices.Contains(strings.Split(before, ","), kind) {
			kinds = append(kinds, before+kind)
		}
	}
	return kinds, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
}

// completeFlag has a shell offer values of a flag that c has.
func completeFlag(c *cobra.Command, flag string, complete cobra.CompletionFunc) {
	if err := c.RegisterFlagCompletionFunc(flag, complete); err != nil {
		panic(err) // there is no such flag
	}
}
