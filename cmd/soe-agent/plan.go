package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"

	"github.com/spf13/cobra"

	"github.com/soe-agent/soe-agent/internal/agent"
	"github.com/soe-agent/soe-agent/internal/bus"
	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/report"
	"github.com/soe-agent/soe-agent/internal/system"
)

func (a *app) planCommand() *cobra.Command {
	var dirs []string
	c := &cobra.Command{
		Use:   "plan",
		Short: "Show what apply would change, and change nothing",
		Long: `Plan looks at the machine, holds it against the policy, and shows the differences.
It changes nothing.

Exit code: 0 when everything is in line, 2 when something is not, 1 when it could
not be told.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			r, err := a.walk(c.Context(), system.ReadOnly, dirs, func(ctx context.Context, e *converge.Engine) converge.Result {
				return e.Check(ctx)
			})
			if err != nil {
				return err
			}
			return a.conclude(r, report.Report.Plan)
		},
	}
	policyFlag(c, &dirs)
	return c
}

func (a *app) applyCommand() *cobra.Command {
	var dirs, only []string
	c := &cobra.Command{
		Use:   "apply",
		Short: "Bring the machine into line, once",
		Long: `Apply walks the machine once: it checks everything, repairs what has drifted, and
checks again. It never disrupts a live session: what would is left pending.

When the daemon runs, the daemon does it. A policy of one's own (--policy, --config) it
would undo at once: stop it first.

Exit code: 0 when everything is in line or pending, 2 when something is not, or was not
looked at, 1 when it could not run.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := agent.KnownKinds(only); err != nil {
				return err
			}
			r, err := a.haveApplied(c.Context(), dirs, only)
			if errors.Is(err, bus.ErrNotServed) {
				r, err = a.walk(c.Context(), nil, dirs, func(ctx context.Context, e *converge.Engine) converge.Result {
					return e.Pass(ctx, only...)
				})
			}
			if err != nil {
				return err
			}
			return a.conclude(r, report.Report.Text)
		},
	}
	policyFlag(c, &dirs)
	c.Flags().StringSliceVar(&only, "only", nil, "walk these `KINDS` only, such as dropin,sudo")
	completeFlag(c, "only", completeKinds)
	return c
}

// haveApplied has the daemon apply its policy. The error is bus.ErrNotServed when it
// does not run, or when it is not its policy that is to be applied.
func (a *app) haveApplied(ctx context.Context, dirs, only []string) (report.Report, error) {
	if a.rootDir != "" || len(dirs) > 0 || a.configFile != agent.ConfigFile {
		return report.Report{}, bus.ErrNotServed
	}
	client, err := bus.Dial(ctx)
	if err != nil {
		return report.Report{}, err
	}
	defer client.Close()
	if err := client.Apply(ctx, only); err != nil {
		return report.Report{}, err
	}
	return a.lastReport(ctx)
}

func policyFlag(c *cobra.Command, dirs *[]string) {
	c.Flags().StringArrayVar(dirs, "policy", nil, "use the fragments in `DIR` as the only policy (may be repeated)")
}

// walk opens the machine, finds the policy, and hands the engine to step.
func (a *app) walk(ctx context.Context, gate system.Gate, dirs []string, step func(context.Context, *converge.Engine) converge.Result) (report.Report, error) {
	sources, err := readFragments(dirs)
	if err == nil {
		err = a.needsRoot()
	}
	if err != nil {
		return report.Report{}, err
	}
	if gate == nil {
		release, err := a.claim(ctx)
		if err != nil {
			return report.Report{}, err
		}
		defer release()
	}
	m, err := agent.Open(ctx, a.rootDir, gate, slog.Default())
	if err != nil {
		return report.Report{}, err
	}
	config, err := a.readConfig(m.System)
	if err != nil {
		return report.Report{}, err
	}
	m.Schedule = config.Schedule
	var p *policy.Policy
	var refused []string
	if len(dirs) > 0 {
		p, err = m.Only(ctx, config, sources)
	} else {
		p, refused, err = m.Policy(ctx, config)
	}
	if err != nil {
		return report.Report{}, err
	}
	result := step(ctx, m.Engine(p))
	if err := ctx.Err(); err != nil {
		return report.Report{}, err
	}
	r := report.New(version, m.Facts, p, refused, result.Started, whole(p, result), result.Timing)
	if len(dirs) == 0 && config.AWS.Path != "" && p.Serial == 0 && len(refused) == 0 {
		r.Await(agent.NothingPublished(config.AWS.Path))
	}
	return r, nil
}

// whole is what a walk found, and of the kinds that it did not walk that nothing is known.
func whole(p *policy.Policy, result converge.Result) []converge.Resource {
	resources := result.Resources
	for _, kind := range policy.Kinds() {
		if !slices.Contains(result.Kinds, kind) {
			resources = append(resources, converge.Unseen(p, kind, result.Started)...)
		}
	}
	return resources
}

// claim sees to it that nobody else works on the machine meanwhile.
func (a *app) claim(ctx context.Context) (release func(), err error) {
	s, err := system.Open(system.Options{Root: a.rootDir})
	if err != nil {
		return nil, err
	}
	return agent.Claim(ctx, s, "apply")
}

// conclude prints a report and turns it into the command's outcome.
func (a *app) conclude(r report.Report, write func(report.Report, io.Writer, report.Style) error) error {
	var err error
	if a.json {
		err = a.printJSON(r)
	} else {
		err = write(r, a.stdout, a.style())
	}
	if err == nil && !r.Compliant {
		return errNotCompliant
	}
	return err
}
