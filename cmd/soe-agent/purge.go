package main

import (
	"errors"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/soe-agent/soe-agent/internal/agent"
	"github.com/soe-agent/soe-agent/internal/system"
)

func (a *app) purgeCommand() *cobra.Command {
	yes := false
	c := &cobra.Command{
		Use:   "purge",
		Short: "Show what the agent would undo if it had to go, and with --yes undo it",
		Long: `Purge gives the machine back as it was before the agent: files that it replaced are
given back, files, settings and packages that it brought are removed, and what it knew
is forgotten. Accounts that it made stay, for files belong to them. Without --yes it
shows what it would do and does nothing.

Stop the daemon first: systemctl disable --now soe-agent. Removing the package alone
leaves the desktop as it was configured.

Exit code: 0 when nothing is left to be undone, 2 when something is, 1 when it could
not run.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := a.needsRoot(); err != nil {
				return err
			}
			var gate system.Gate = system.ReadOnly
			undo := (*agent.Machine).Undo
			if yes {
				s, err := system.Open(system.Options{Root: a.rootDir, Log: slog.Default()})
				if err != nil {
					return err
				}
				release, err := agent.Claim(c.Context(), s, "purge")
				if err != nil {
					return err
				}
				defer release()
				gate, undo = nil, (*agent.Machine).Purge
			}
			m, err := agent.Open(c.Context(), a.rootDir, gate, slog.Default())
			if err != nil {
				return err
			}
			all, failed := undo(m, c.Context())
			err = a.printUndoings(all, yes)
			if failed != nil {
				return failed
			}
			return err
		},
	}
	c.Flags().BoolVar(&yes, "yes", false, "do it")
	return c
}

// printUndoings prints what was or would be undone. The error is errNotCompliant when
// something of it is still there.
func (a *app) printUndoings(all []agent.Undoing, done bool) error {
	var err error
	for _, u := range all {
		if !done || u.Left != "" {
			err = errNotCompliant
		}
	}
	if a.json {
		return errors.Join(a.printJSON(append([]agent.Undoing{}, all...)), err)
	}
	for _, u := range all {
		switch {
		case !done:
			a.printf("would %s\n", u.What)
		case u.Left != "":
			a.printf("left: %s: %s\n", u.What, u.Left)
		default:
			a.printf("done: %s\n", u.What)
		}
	}
	switch {
	case len(all) == 0:
		a.printf("nothing is to be undone\n")
	case !done:
		a.printf("nothing is done; soe-agent purge --yes does it\n")
	}
	return err
}
