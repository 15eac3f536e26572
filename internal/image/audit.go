// Package image gets a machine ready to be captured as the image of other desktops. AWS
// has an image checker for Windows only.
//
// An Audit looks for what would go wrong with the capture, or with every desktop that is
// made of it. It only reads, on a machine that runs or below a root that does not. A
// Seal takes away what belongs to this machine alone: the agent's own state and, if that
// is wanted, the registration as a managed node. It never touches the machine-id, which
// the capture keeps.
//
// What the capture asks for, what it deletes and what it keeps is from the WorkSpaces
// Administration Guide, "Create a custom WorkSpaces image and bundle".
package image

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/soe-agent/soe-agent/internal/system"
)

// Options say where the agent keeps what.
type Options struct {
	System *system.System

	ConfigFile, LocalDir, SeedDir, StateDir, RunDir string
}

// A Finding is something that would go wrong.
type Finding struct {
	Check string `json:"check"`
	What  string `json:"what"` // is found
	Why   string `json:"why"`  // that is bad
	Do    string `json:"do"`

	named bool // and no more
}

// A NoResult is a check of which the outcome is not known.
type NoResult struct {
	Check string `json:"check"`
	Why   string `json:"why"`
}

// An Audit is what was found.
type Audit struct {
	Findings []Finding `json:"findings"`
	// Named are what may be right in an image and is for its maker to decide.
	Named   []Finding  `json:"named"`
	Unknown []NoResult `json:"unknown"`
	Fine    []string   `json:"fine"`    // the checks that have found nothing
	Skipped []NoResult `json:"skipped"` // checks that only a machine that runs has, or one that has its own volume
}

// errSkipped is wrapped by the error of a check that says nothing of this system.
var errSkipped = errors.New("not checked")

// A check returns what it has found, and an error when it could not look at all of it.
type check struct {
	name string
	find func(context.Context, Options) ([]Finding, error)
}

func checks() []check {
	return []check{
		{"transaction", transaction},
		{"disk", disk},
		{"components", components},
		{"agent", enabledAgent},
		{"registration", registered},
		{"credentials", credentials},
		{"wiped", wiped},
		{"state", state},
		{"administrator", administrator},
	}
}

// Run makes an audit.
func Run(ctx context.Context, o Options) Audit {
	a := Audit{Findings: []Finding{}, Named: []Finding{}, Unknown: []NoResult{}, Fine: []string{}, Skipped: []NoResult{}}
	for _, c := range checks() {
		found, err := c.find(ctx, o)
		for _, f := range found {
			f.Check = c.name
			if f.named {
				a.Named = append(a.Named, f)
			} else {
				a.Findings = append(a.Findings, f)
			}
		}
		switch {
		case errors.Is(err, errSkipped):
			a.Skipped = append(a.Skipped, NoResult{c.name, err.Error()})
		case err != nil:
			a.Unknown = append(a.Unknown, NoResult{c.name, err.Error()})
		case len(found) == 0:
			a.Fine = append(a.Fine, c.name)
		}
	}
	return a
}

// maxFull is how full the root volume may be when it is captured.
const maxFull = 0.97

func disk(_ context.Context, o Options) ([]Finding, error) {
	full, err := o.System.Full()
	switch {
	case errors.Is(err, system.ErrNoVolume):
		return nil, fmt.Errorf("%w: %w", errSkipped, err)
	case err != nil:
		return nil, err
	case full < maxFull:
		return nil, nil
	}
	return []Finding{{
		What: fmt.Sprintf("the root volume is %.0f %% full", 100*full),
		Why:  "the capture is refused when it is 97 % full or more",
		Do:   "make room: yum clean all; journalctl --vacuum-size=50M; see what is large with: du -xh / | sort -h | tail",
	}}, nil
}

func state(_ context.Context, o Options) ([]Finding, error) {
	there, err := below(o.System.FS, o.StateDir)
	if err != nil || len(there) == 0 {
		return nil, err
	}
	return []Finding{{
		What: fmt.Sprintf("%s has the agent's state of this machine (%d files)", o.StateDir, len(there)),
		Why:  "the capture keeps it and the machine-id: every desktop would begin by finding out that it is a clone",
		Do:   "systemctl stop soe-agent; soe-agent image seal --yes",
	}}, nil
}

func registered(_ context.Context, o Options) ([]Finding, error) {
	there, err := below(o.System.FS, ssmDir)
	if err != nil {
		return nil, err
	}
	marks := []string{ssmDir + "/registration", ssmDir + "/Vault/Store/RegistrationKey", ssmDir + "/runtimeconfig/identity_config.json"}
	for _, mark := range marks {
		if slices.Contains(there, mark) {
			return []Finding{{
				What: mark + " is there: amazon-ssm-agent is registered as a managed node",
				Why:  "the capture keeps it: all desktops would be one managed node, and each would invalidate the key of the others",
				Do:   "systemctl stop amazon-ssm-agent; soe-agent image seal --ssm-registration --yes; the desktops need an activation of their own",
			}}, nil
		}
	}
	return nil, nil
}
