// Package image prepares a machine for being captured as the image of other desktops. AWS has an
// image checker only for Windows.
//
// An Audit looks for what would go wrong with the capture, or with every desktop made from it. It
// only reads, on a running machine or below a root. A Seal removes what belongs to this machine
// alone: the agent's own state and, on request, the registration as a managed node. It never
// touches the machine-id, which the capture keeps.
//
// What the capture requires, deletes and keeps is from the WorkSpaces Administration Guide, "Create
// a custom WorkSpaces image and bundle".
package image

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/soe-agent/soe-agent/internal/system"
)

// Options has the locations of the agent's files.
type Options struct {
	System *system.System

	ConfigFile, LocalDir, SeedDir, StateDir, RunDir string
}

// A Finding is something that would go wrong.
type Finding struct {
	Check string `json:"check"`
	What  string `json:"what"` // what was found
	Why   string `json:"why"`  // why that is bad
	Do    string `json:"do"`

	named bool // only to be named: it may be intended
}

// A NoResult is a check without a result.
type NoResult struct {
	Check string `json:"check"`
	Why   string `json:"why"`
}

// An Audit is the result of all checks.
type Audit struct {
	Findings []Finding `json:"findings"`
	// Named are findings that may be right in an image. Its maker must decide.
	Named   []Finding  `json:"named"`
	Unknown []NoResult `json:"unknown"`
	Fine    []string   `json:"fine"`    // the checks that found nothing
	Skipped []NoResult `json:"skipped"` // checks that need a running machine, or one with its own volume
}

// errSkipped is wrapped by the error of a check that does not apply to this system.
var errSkipped = errors.New("not checked")

// A check returns its findings, and an error if it could not read everything.
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

// Run runs all checks.
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

// maxFull is how full the root volume may be for a capture.
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
