package main

import (
	"errors"
	"log/slog"
	"path"

	"github.com/spf13/cobra"

	"github.com/soe-agent/soe-agent/internal/agent"
	"github.com/soe-agent/soe-agent/internal/image"
	"github.com/soe-agent/soe-agent/internal/system"
)

func (a *app) imageCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "image",
		Short: "For the maker of images: what stands in the way of a capture, and what it must not keep",
	}
	c.AddCommand(a.auditCommand(), a.sealCommand())
	return c
}

// imageOptions are those of the machine below --root.
func (a *app) imageOptions(s *system.System) image.Options {
	return image.Options{
		System: s, ConfigFile: a.configFile, LocalDir: agent.LocalDir, SeedDir: agent.SeedDir, StateDir: agent.StateDir, RunDir: path.Dir(agent.StatusFile),
	}
}

func (a *app) auditCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "audit",
		Short: "Say what would go wrong if this machine were captured as an image, and what to do",
		Long: `Audit looks for what would go wrong with the capture of this machine as an image, or with
every desktop that is made of it: unfinished package transactions, a full volume, missing
agents, a registration of amazon-ssm-agent, things in directories that the capture deletes,
the agent's own state, and nobody to administer it. It looks for credentials through all
files below /etc, /home, /opt, /root, /srv and /usr/local: private keys, keys of AWS,
passwords in settings and of local accounts, histories of shells. It names file and line
and never the secret, and what it could not look at. It changes nothing.

✗ has to be mended; • may be right, which the maker of the image knows; ? could not be
looked at.

Exit code: 0 when nothing was found, 2 when something was, 1 when it could not be told.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := a.needsRoot(); err != nil {
				return err
			}
			s, err := a.look()
			if err != nil {
				return err
			}
			found := image.Run(c.Context(), a.imageOptions(s))
			if a.json {
				err = a.printJSON(found)
			} else {
				a.printAudit(found)
			}
			switch {
			case err != nil:
				return err
			case len(found.Findings) > 0:
				return errNotCompliant
			case len(found.Unknown) > 0:
				return errors.New("cannot tell whether this machine is fit to be an image: not everything could be checked")
			}
			return nil
		},
	}
}

func (a *app) printAudit(found image.Audit) {
	for _, f := range found.Findings {
		a.printf("✗ %s: %s\n    why  %s\n    do   %s\n", f.Check, f.What, f.Why, f.Do)
	}
	for _, f := range found.Named {
		a.printf("• %s: %s\n    why  %s\n    do   %s\n", f.Check, f.What, f.Why, f.Do)
	}
	for _, d := range found.Unknown {
		a.printf("? %s: %s\n", d.Check, d.Why)
	}
	for _, d := range found.Skipped {
		a.printf("- %s: %s\n", d.Check, d.Why)
	}
	for _, name := range found.Fine {
		a.printf("✓ %s\n", name)
	}
	if len(found.Findings) == 0 && len(found.Unknown) == 0 {
		a.printf("nothing stands in the way of a capture\n")
	}
}

// sealed is what seal prints for programs.
type sealed struct {
	Done    bool            `json:"done"`
	Removed []image.Removal `json:"removed"` // or would be
}

func (a *app) sealCommand() *cobra.Command {
	var yes, registration bool
	c := &cobra.Command{
		Use:   "seal",
		Short: "Show what of this machine an image must not keep, and with --yes remove it",
		Long: `Seal removes what belongs to this machine alone, so that a desktop which is made of its
image begins with the seed policy: the files in which the policy has put a secret, which
each desktop gets anew; the agent's state (last good policy, ledger, backups, history,
report); and, with --ssm-registration, the registration of amazon-ssm-agent as
a managed node with its key and its credentials. The machine stays as it is configured,
but what files were like before the agent is forgotten: purge cannot give them back.
It never touches the machine-id. Without --yes it shows what it would do and does
nothing.

Do it last, after the reboot: systemctl stop soe-agent; soe-agent image seal --yes.

Exit code: 0 when nothing is left to be removed, 2 when something is, 1 when it could
not run.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := a.needsRoot(); err != nil {
				return err
			}
			options := system.Options{Root: a.rootDir, Unregister: registration, Log: slog.Default()}
			if !yes {
				options.Gate = system.ReadOnly
			}
			s, err := system.Open(options)
			if err != nil {
				return err
			}
			if !yes {
				all, err := image.Sealing(a.imageOptions(s), registration)
				if err != nil {
					return err
				}
				return a.printSealed(all, false, registration)
			}
			release, err := agent.Claim(c.Context(), s, "image seal")
			if err != nil {
				return err
			}
			defer release()
			all, err := image.Seal(c.Context(), a.imageOptions(s), registration)
			if printErr := a.printSealed(all, true, registration); err == nil {
				err = printErr
			}
			return err
		},
	}
	c.Flags().BoolVar(&yes, "yes", false, "do it")
	c.Flags().BoolVar(&registration, "ssm-registration", false, "the registration of amazon-ssm-agent, too, with its key and credentials")
	return c
}

// printSealed prints what was or would be removed. The error is errNotCompliant when
// something of it is still there.
func (a *app) printSealed(all []image.Removal, done, registration bool) error {
	var err error
	for _, r := range all {
		if !done || r.Left != "" {
			err = errNotCompliant
		}
	}
	if a.json {
		return errors.Join(a.printJSON(sealed{Done: done, Removed: append([]image.Removal{}, all...)}), err)
	}
	for _, r := range all {
		switch {
		case !done:
			a.printf("would %s\n", r)
		case r.Left != "":
			a.printf("left: %s: %s\n", r, r.Left)
		default:
			a.printf("done: %s\n", r)
		}
	}
	switch {
	case len(all) == 0:
		a.printf("nothing is to be removed\n")
	case !done && registration:
		a.printf("nothing is done; soe-agent image seal --ssm-registration --yes does it\n")
	case !done:
		a.printf("nothing is done; soe-agent image seal --yes does it\n")
	}
	return err
}
