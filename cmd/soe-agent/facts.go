package main

import (
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/system"
)

func (a *app) factsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "facts",
		Short: "Print what is known of this machine, and where it comes from",
		Long: `Facts prints what the agent knows of this machine: what its operating system is, its desktop,
its streaming protocol and so on. Fragments and rules of a policy, and the rules that give
personas, may go by them (when = { fact."os.family" = ["rhel"] }), and {{fact:NAME}} puts
one into a text.

What the machine is holds for one boot. A fact that is not known has no value; what depends
on it is left as it is.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := system.Open(system.Options{Root: a.rootDir, Gate: system.ReadOnly, Log: slog.Default()})
			if err != nil {
				return err
			}
			f, err := facts.Gather(c.Context(), s)
			if err != nil {
				slog.Warn("cannot tell all facts", "err", err)
			}
			return a.printFacts(f)
		},
	}
}

func (a *app) printFacts(f facts.Facts) error {
	if a.json {
		all := map[string]facts.Fact{}
		for _, name := range facts.Names() {
			all[name] = f.Of(name)
		}
		return a.printJSON(all)
	}
	for _, name := range facts.Names() {
		fact := f.Of(name)
		value := fact.Value
		if value == "" {
			value = "(not known)"
		}
		a.printf("%-16s %-24s %s\n", name, value, fact.From)
	}
	return nil
}
