package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/soe-agent/soe-agent/internal/agent"
	"github.com/soe-agent/soe-agent/internal/credentials"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/publish"
	"github.com/soe-agent/soe-agent/internal/source"
	"github.com/soe-agent/soe-agent/internal/system"
)

// publication is what was asked of policy publish.
type publication struct {
	dirs          []string
	schemas       string
	percent       float64
	pause, resume bool
	dryRun        bool
}

func (a *app) publishCommand() *cobra.Command {
	p := publication{percent: publish.Everybody}
	c := &cobra.Command{
		Use:   "publish --policy DIR [--percent N] [--dry-run]",
		Short: "Publish the fragments in DIR to a fleet, by SSM Parameter Store",
		Long: `Publish lints the fragments in DIR, shows what will change for each persona, writes
them below the path of [aws] in the --config file, reads them back, and replaces the
manifest last: until then no machine sees anything of them. What is published already
is not written again, and whoever was interrupted publishes again.

A rollout:   publish --policy DIR --percent 10, then 50, then without --percent.
             A better policy in between goes to the same machines.
A rollback:  publish the older directory. It gets a new serial, since machines do not
             go back in serials. It ends a rollout, too.
A pause:     publish --pause. Every machine stays at the serial that it has, whatever
             is published, until publish --resume.

It needs neither root nor a managed node: the region is that of [aws] or AWS_REGION, and
the credentials are those of the environment, of AWS_PROFILE, or of [aws.credentials].`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := p.check(c.Flags().Changed("percent")); err != nil {
				return err
			}
			return a.publish(c.Context(), p)
		},
	}
	flags := c.Flags()
	flags.StringArrayVar(&p.dirs, "policy", nil, "publish the fragments in `DIR` (may be repeated)")
	flags.StringVar(&p.schemas, "schemas", "", "hold dconf settings to the GSettings schemas compiled in `DIR`")
	flags.Float64Var(&p.percent, "percent", p.percent, "give it to `N` percent of the machines, and leave the others what they have")
	flags.BoolVar(&p.pause, "pause", false, "have every machine stay at the serial that it has")
	flags.BoolVar(&p.resume, "resume", false, "end a pause")
	flags.BoolVar(&p.dryRun, "dry-run", false, "do everything but write")
	return c
}

// check says what does not go together.
func (p publication) check(share bool) error {
	switch {
	case p.pause && p.resume:
		return errors.New("cannot pause and resume at once: name one of --pause and --resume")
	case (p.pause || p.resume) && (len(p.dirs) > 0 || share || p.schemas != ""):
		return errors.New("cannot publish and pause or resume at once: --pause and --resume go with neither --policy, --schemas nor --percent")
	case !p.pause && !p.resume && len(p.dirs) == 0:
		return errNoPolicy
	}
	return publish.CheckPercent(p.percent)
}

func (a *app) publish(ctx context.Context, asked publication) error {
	var sources []policy.Source
	if len(asked.dirs) > 0 {
		var err error
		if sources, err = a.publishable(asked.dirs, asked.schemas); err != nil {
			return err
		}
	}
	publisher, err := a.publisher(ctx)
	if err != nil {
		return err
	}
	var plan *publish.Plan
	if asked.pause || asked.resume {
		plan, err = publisher.PlanPause(ctx, asked.pause)
	} else {
		plan, err = publisher.Plan(ctx, sources, asked.percent)
	}
	if err != nil {
		return err
	}
	if !a.json {
		plan.Text(a.stdout)
	}
	document := struct {
		*publish.Plan
		Result *publish.Result `json:"result"` // null: nothing was written
	}{Plan: plan}
	switch {
	case !a.json && plan.Nothing():
		a.printf("Nothing to do.\n")
	case !a.json && asked.dryRun:
		a.printf("Nothing was written: this is a dry run.\n")
	case !plan.Nothing() && !asked.dryRun:
		result, err := publisher.Write(ctx, plan)
		if err != nil {
			return err
		}
		document.Result = &result
		if !a.json {
			result.Text(a.stdout)
		}
	}
	if a.json {
		return a.printJSON(document)
	}
	return nil
}

// publishable are the fragments in directories, if lint has nothing against them. What it
// finds is printed.
func (a *app) publishable(dirs []string, schemasName string) ([]policy.Source, error) {
	found, err := linted(dirs, schemasName)
	if err != nil {
		return nil, err
	}
	refused := found.refusal()
	switch {
	case !a.json:
		for _, p := range found.problems {
			a.printf("%s\n", p.Error())
		}
	case refused != nil:
		err = a.printJSON(found.document())
	}
	return found.sources, errors.Join(err, refused)
}

// longestCall is how long one call to AWS is repeated: somebody waits for it.
const longestCall = 3 * time.Minute

// publisher connects as the configuration says. It does not open this machine as
// the agent does: it may be anybody's laptop.
func (a *app) publisher(ctx context.Context) (*publish.Publisher, error) {
	file, err := filepath.Abs(a.configFile)
	if err != nil {
		return nil, fmt.Errorf("cannot use --config %s: %w", a.configFile, err)
	}
	s, err := system.Open(system.Options{Gate: system.ReadOnly, Log: slog.Default()})
	if err != nil {
		return nil, err
	}
	config, err := agent.ReadConfig(s.FS, file)
	if err != nil {
		return nil, err
	}
	region := cmp.Or(config.AWS.Region, os.Getenv("AWS_REGION"), os.Getenv("AWS_DEFAULT_REGION"))
	if region == "" {
		return nil, errors.New("cannot reach AWS: the region is not known; set region in [aws] of the --config file, or AWS_REGION")
	}
	provider := credentials.New(config.AWS.Credentials, s)
	if _, err := provider.Retrieve(ctx); err != nil { // waiting for an activation is for managed nodes
		return nil, fmt.Errorf("%w; set AWS_PROFILE, or AWS_ACCESS_KEY_ID and its like, or [aws.credentials] in the --config file", err)
	}
	retry := source.Retry{Waiting: func(err error, next time.Time) {
		slog.Warn("cannot reach AWS; it is tried again", "for", err, "until", next.Format(time.TimeOnly))
	}}
	aws, err := source.Connect(config.AWS, region, provider, source.Client(), retry)
	if err != nil {
		return nil, err
	}
	return &publish.Publisher{
		Store: aws.SSM(), Path: config.AWS.Path,
		Call: func(ctx context.Context, op func(context.Context) error) error {
			ctx, cancel := context.WithTimeout(ctx, longestCall)
			defer cancel()
			return aws.Call(ctx, op)
		},
	}, nil
}
