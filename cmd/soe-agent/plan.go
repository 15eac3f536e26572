package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/soe-agent/soe-agent/internal/agent"
	"github.com/soe-agent/soe-agent/internal/bus"
	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/public"
	"github.com/soe-agent/soe-agent/internal/report"
	"github.com/soe-agent/soe-agent/internal/system"
	"github.com/soe-agent/soe-agent/internal/target"
)

func (a *app) planCommand() *cobra.Command {
	var dirs []string
	var on string
	c := &cobra.Command{
		Use:   "plan",
		Short: "Show what apply would change, and change nothing",
		Long: `Plan looks at the machine, holds it against the policy, and shows the differences.
It changes nothing.

With --policy the machine has the personas that agent.toml gives it without AWS; while a
rule of it cannot be decided, nothing that the fragments do not name would be taken away.
With --on too, what goes by facts of the machine is planned as if it were a TARGET.

Exit code: 0 when everything is in line, 2 when something is not, 1 when it could
not be told, or when nothing that is published was ever had.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			sources, err := a.fragments(dirs)
			if err != nil {
				return err
			}
			if on != "" && len(dirs) == 0 {
				return errors.New("cannot use --on without --policy DIR: the policy of this machine is for this machine")
			}
			pretended, err := factsOn(on)
			if err != nil {
				return err
			}
			w, err := a.open(c.Context(), system.ReadOnly, sources, pretended)
			if err != nil {
				return err
			}
			r, err := w.run(c.Context(), (*converge.Engine).Check, nil)
			if err != nil {
				return err
			}
			return w.instead(a.conclude(r, nil, report.Report.Plan))
		},
	}
	policyFlag(c, &dirs)
	onFlag(c, &on)
	return c
}

func (a *app) applyCommand() *cobra.Command {
	var dirs, only []string
	c := &cobra.Command{
		Use:   "apply",
		Short: "Bring the machine into line, once",
		Long: `Apply makes one pass: it checks everything, repairs what has drifted, and
checks again. It never disrupts a live session: what would is left pending.

When the daemon runs, the daemon does it. A policy of one's own (--policy, --config) it
would undo at once: stop it first.

With --only the report is of the whole machine all the same: what was not checked is
unknown there. The exit code goes by the kinds that were named.

Exit code: 0 when everything is in line or pending, 2 when something is not, 1 when it could not run, or when nothing that is published was ever had.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := agent.KnownKinds(only); err != nil {
				return err
			}
			r, err := a.haveApplied(c.Context(), dirs, only)
			if errors.Is(err, bus.ErrNotServed) {
				return a.applyHere(c.Context(), dirs, only)
			}
			if err != nil {
				return err
			}
			return a.conclude(r, only, report.Report.Text)
		},
	}
	policyFlag(c, &dirs)
	c.Flags().StringSliceVar(&only, "only", nil, "check and repair these `KINDS` only, such as dropin,sudo")
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

// applyHere applies without the daemon, and leaves the report of it.
func (a *app) applyHere(ctx context.Context, dirs, only []string) error {
	sources, err := a.fragments(dirs)
	if err != nil {
		return err
	}
	release, err := a.claim(ctx)
	if err != nil {
		return err
	}
	defer release()
	w, err := a.open(ctx, nil, sources, nil)
	if err != nil {
		return err
	}
	if err := w.Keep(); err != nil {
		slog.Warn("cannot keep the policy on disk; without AWS the next pass enforces an older one", "err", err)
	}
	r, err := w.run(converge.OnlyPass(ctx), passThenChecks, only)
	if err != nil {
		return err
	}
	if err := w.machine.SaveReport(r); err != nil {
		slog.Warn("cannot write the report", "err", err)
	}
	return w.instead(a.conclude(r, only, report.Report.Text))
}

// passThenChecks brings all other kinds into line before the checks look at what came of it: an
// answer about the machine as it was before would be reported of the machine as it is now.
func passThenChecks(e *converge.Engine, ctx context.Context, only ...string) converge.Result {
	checks := policy.Check{}.Kind()
	if len(only) == 0 {
		only = policy.Kinds()
	}
	others := slices.DeleteFunc(slices.Clone(only), func(kind string) bool { return kind == checks })
	if len(others) == len(only) || len(others) == 0 {
		return e.Pass(ctx, only...)
	}
	result := e.Pass(ctx, others...)
	if ctx.Err() != nil {
		return result
	}
	after := e.Pass(ctx, checks)
	result.Took += after.Took
	result.Resources = append(result.Resources, after.Resources...)
	result.Kinds = append(result.Kinds, after.Kinds...)
	maps.Copy(result.Timing, after.Timing)
	return result
}

// A onePass is one over a machine that is open, by the policy that was chosen for it.
type onePass struct {
	agent.Choice
	machine *agent.Machine
}

// fragments are those of --policy, nil without it. It takes root to go on.
func (a *app) fragments(dirs []string) ([]policy.Source, error) {
	sources, err := readFragments(dirs)
	if err == nil {
		err = a.needsRoot()
	}
	if len(dirs) == 0 {
		sources = nil
	}
	return sources, err
}

// open opens the machine and finds the policy: these fragments, if they are not nil.
func (a *app) open(ctx context.Context, gate system.Gate, sources []policy.Source, pretended target.Facts) (w onePass, err error) {
	w.machine, err = agent.Open(ctx, a.rootDir, gate, slog.Default())
	if err != nil {
		return w, err
	}
	config, err := agent.TrustedConfig(w.machine.System.FS, a.configFile)
	if err != nil {
		return w, err
	}
	w.machine.Schedule, w.machine.Facts = config.Schedule, w.machine.Facts.As(pretended)
	if sources != nil {
		w.Policy, err = w.machine.Only(ctx, config, sources)
		if err == nil && w.Policy.Partial {
			slog.Warn("cannot decide all personas; nothing that the fragments do not name is taken away: it may be wanted for another persona", "why", strings.Join(public.Whole(w.Policy.Doubts), "; "))
		}
	} else {
		w.Choice, err = w.machine.Policy(ctx, config)
	}
	return w, err
}

// run takes a step over these kinds, all when none is named.
func (w onePass) run(ctx context.Context, step func(*converge.Engine, context.Context, ...string) converge.Result, only []string) (report.Report, error) {
	result := step(w.machine.Engine(w.Policy), ctx, only...)
	if err := ctx.Err(); err != nil {
		return report.Report{}, err
	}
	r := report.New(version, w.machine.Facts, w.Policy, w.Refused, result.Started, whole(w.Policy, result), result.Timing)
	if w.Never != nil {
		r.Await(public.Line{Whole: w.Never.Error(), Open: public.Text(w.Never)})
	}
	return r, nil
}

// instead has a command fail that has gone by something else than what is published,
// for there never was anything that is: whatever else it has to say has been said.
func (w onePass) instead(outcome error) error {
	if w.Never != nil && (outcome == nil || errors.Is(outcome, errNotCompliant)) {
		return w.Never
	}
	return outcome
}

// whole returns what a pass found, and for kinds that it did not check that nothing is known.
func whole(p *policy.Policy, result converge.Result) []converge.Resource {
	resources := result.Resources
	for _, kind := range policy.Kinds() {
		if !slices.Contains(result.Kinds, kind) {
			resources = append(resources, converge.NotCheckedYet(p, kind, result.Started)...)
		}
	}
	return resources
}

// claim sees to it that nobody else works on the machine meanwhile.
func (a *app) claim(ctx context.Context) (release func(), err error) {
	s, err := system.Open(system.Options{Root: a.rootDir, Log: slog.Default()})
	if err != nil {
		return nil, err
	}
	return agent.Claim(ctx, s, "apply")
}

// conclude prints a report and turns it into the command's outcome: that of these kinds,
// when some are named.
func (a *app) conclude(r report.Report, only []string, write func(report.Report, io.Writer, report.Style) error) error {
	var err error
	if a.json {
		err = a.printJSON(r)
	} else {
		err = write(r, a.stdout, a.style())
	}
	asked := r
	if len(only) > 0 {
		asked = r.Of(only...)
		if err == nil && !a.json {
			a.printf("%s: %s; the exit code goes by that, and not by the rest of the machine\n", strings.Join(only, ", "), asked.Verdict)
		}
	}
	if err == nil && !asked.Compliant {
		return errNotCompliant
	}
	return err
}
