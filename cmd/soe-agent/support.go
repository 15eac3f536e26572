package main

import (
	"cmp"
	"context"
	"log/slog"
	"path"

	"github.com/spf13/cobra"

	"github.com/soe-agent/soe-agent/internal/agent"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/public"
	"github.com/soe-agent/soe-agent/internal/support"
	"github.com/soe-agent/soe-agent/internal/system"
)

// bundled is what support-bundle prints for programs.
type bundled struct {
	File    string   `json:"file"`
	Size    int      `json:"size"`
	Missing []string `json:"missing"` // what could not be had, and why
}

func (a *app) supportBundleCommand() *cobra.Command {
	var output string
	c := &cobra.Command{
		Use:   "support-bundle",
		Short: "Pack what a support engineer asks for into one archive, without secrets",
		Long: `Support-bundle packs status, report, policy in force, configuration, history, journal
and what the machine is like into one archive, for somebody else to look at. It works
whether the daemon runs or not, and changes nothing.

Secrets are not in it: files that hold credentials are not taken, values that the policy
keeps secret are hidden, and what looks like a password, token or key is removed. Names
of people, hosts and packages are in it. README.txt says what is what, and what could
not be had.

The file is root's alone. It replaces none.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := a.needsRoot(); err != nil {
				return err
			}
			bundle, err := a.collect(c.Context())
			if err != nil {
				return err
			}
			archive, err := bundle.Archive()
			if err != nil {
				return err
			}
			if output == "" {
				output = bundle.Name + ".tar.gz"
			}
			if err := system.WriteNew(output, archive); err != nil {
				return err
			}
			if a.json {
				return a.printJSON(bundled{File: output, Size: len(archive), Missing: append([]string{}, bundle.Missing...)})
			}
			for _, why := range bundle.Missing {
				a.printf("not to be had: %s\n", why)
			}
			a.printf("%s (%d KiB)\n", output, (len(archive)+1023)>>10)
			return nil
		},
	}
	c.Flags().StringVarP(&output, "output", "o", "", "write to `FILE`, which is not there yet (default: soe-agent-support-HOST-TIME.tar.gz here)")
	return c
}

func (a *app) collect(ctx context.Context) (support.Bundle, error) {
	s, err := a.look()
	if err != nil {
		return support.Bundle{}, err
	}
	config, configErr := a.readConfig(s)
	if configErr != nil {
		config = agent.Default() // and the policy says why, in the bundle
	}
	return support.Collect(ctx, support.Options{
		System: s, Version: version, ConfigFile: a.configFile, LocalDir: agent.LocalDir, SeedDir: agent.SeedDir,
		StateDir: agent.StateDir, HistoryDir: agent.HistoryDir, RunDir: path.Dir(agent.StatusFile), Credentials: config.AWS.Credentials,
		Policy: func(ctx context.Context) (*policy.Policy, []string, error) {
			m, err := agent.Open(ctx, a.rootDir, system.ReadOnly, slog.Default())
			if err != nil {
				return nil, nil, err
			}
			if a.rootDir != "" {
				p, refused, err := m.Known(ctx, config)
				return p, public.Whole(refused), cmp.Or(err, configErr)
			}
			choice, err := m.Policy(ctx, config)
			return choice.Policy, public.Whole(choice.Refused), cmp.Or(err, configErr)
		},
	}), nil
}
