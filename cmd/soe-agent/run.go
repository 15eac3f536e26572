package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/soe-agent/soe-agent/internal/agent"
	"github.com/soe-agent/soe-agent/internal/system"
)

// daemonCommand is the command that is the daemon, which no line of its log may hold up.
const daemonCommand = "run"

func (a *app) runCommand() *cobra.Command {
	var ended bool
	c := &cobra.Command{
		Use:   daemonCommand,
		Short: "Be the daemon: lock down, bootstrap, converge, keep",
		Long: `Run is what soe-agent.service starts. It enforces the last good policy, or the seed,
tells systemd that it is ready, fetches the published policy with patience, brings the
machine into line with it and keeps it so. SIGHUP makes it read everything again,
SIGUSR1 makes it say more, and less again.

With --ended it is no daemon: it says in the report and the status that a daemon has left
that none runs. systemd calls it so whenever the daemon has ended, however that was.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if a.rootDir != "" {
				return errors.New("cannot run as a daemon below --root: what is there does not run; use apply")
			}
			if err := a.needsRoot(); err != nil {
				return err
			}
			// Whoever reads what it says may go. Commands that it runs end by that signal still.
			signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
			s, err := system.Open(system.Options{Log: slog.Default()})
			if err != nil {
				return err
			}
			if ended {
				if err := agent.Ended(s); err != nil {
					return fmt.Errorf("cannot say in the last report that no daemon runs: %w", err)
				}
				return nil
			}
			release, err := agent.Claim(c.Context(), s, "run")
			if err != nil {
				return err
			}
			defer release()
			m, err := agent.Open(c.Context(), "", nil, slog.Default())
			if err != nil {
				return err
			}
			m.Level = &a.level
			return agent.Run(c.Context(), m, a.configFile, version)
		},
	}
	c.Flags().BoolVar(&ended, "ended", false, "say in the last report that no daemon runs")
	return c
}
