package service

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/public"
	"github.com/soe-agent/soe-agent/internal/system"
	"github.com/soe-agent/soe-agent/internal/unitfiles"
)

// An image is not running: there is no manager to ask, and nothing to start. The units that it will
// start are links below /etc, which systemctl(1) can read and change by itself. The other methods
// behave as on a machine without systemd.
type image struct {
	system.UnitStates
	runner system.Runner
}

// units are those of the machine, or of an image.
func (k *Kind) units(ctx context.Context) (units system.Units, isImage bool) {
	if _, err := k.system.Units.States(ctx, nil); errors.Is(err, system.ErrNotRunning) {
		units, of := k.system.Units, image{k.system.Units.UnitStates, k.system.Runner}
		units.UnitStates, units.UnitFiles = of, of
		return units, true
	}
	return k.system.Units, false
}

// checkImage checks everything except whether units run.
func (k *Kind) checkImage(ctx context.Context, resources []converge.Resource, wants []policy.Want[policy.Service], names []string) {
	units, linked := image{k.system.Units.UnitStates, k.system.Runner}, unitfiles.ReadLinks(k.system.FS)
	for i, want := range wants {
		unit, err := units.Unit(ctx, names[i])
		if err != nil {
			resources[i].SetUnknownErr(public.Error(err))
			continue
		}
		if want.Spec.Running != nil {
			unit.ActiveState = map[bool]string{true: "active", false: "inactive"}[*want.Spec.Running]
		}
		k.judge(&resources[i], want.Spec, unit, linked)
		if want.Spec.Running != nil && resources[i].State == converge.Compliant {
			resources[i].Note(strings.TrimPrefix(resources[i].Reason+"; whether it runs is seen when the machine runs", "; "))
		}
	}
	contradictions(resources, wants, names)
}

// Unit returns the state of a unit's files.
func (i image) Unit(ctx context.Context, name string) (system.Unit, error) {
	out, err := i.runner.Run(ctx, system.Command{Argv: []string{"systemctl", "is-enabled", name}, ReadOnly: true})
	if err != nil {
		return system.Unit{}, fmt.Errorf("cannot tell whether %s is enabled: %w", name, err)
	}
	unit := system.Unit{Name: name, LoadState: "loaded", UnitFileState: strings.TrimSpace(string(out.Stdout))}
	silent := unit.UnitFileState == "" && !strings.Contains(string(out.Stderr), "No such file or directory")
	if silent || unit.UnitFileState != "" && !slices.Contains(fileStates(), unit.UnitFileState) {
		return system.Unit{}, fmt.Errorf("cannot tell whether %s is enabled: systemctl exited with %d and says %q", name, out.ExitCode, out.LastLine())
	}
	switch {
	case unit.UnitFileState == "" || unit.UnitFileState == "not-found":
		unit.LoadState, unit.UnitFileState = "not-found", ""
	case strings.HasPrefix(unit.UnitFileState, "masked"):
		unit.LoadState = "masked"
	}
	return unit, nil
}

// FileState implements system.UnitStates.
func (i image) FileState(ctx context.Context, name string) (string, error) {
	unit, err := i.Unit(ctx, name)
	return unit.UnitFileState, err
}

// Reload does nothing: there is no manager that has read the files.
func (i image) Reload(context.Context) error { return nil }

// fileStates are the states that systemctl(1) prints for is-enabled.
func fileStates() []string {
	return []string{
		"enabled", "enabled-runtime", "linked", "linked-runtime", "alias", "masked", "masked-runtime", "static",
		"indirect", "disabled", "generated", "transient", "bad", "invalid", "not-found",
	}
}

func (i image) Enable(ctx context.Context, name string) error { return i.change(ctx, "enable", name) }

func (i image) Disable(ctx context.Context, name string) error {
	return i.changeAll(ctx, "disable", name)
}

func (i image) Mask(ctx context.Context, name string) error { return i.change(ctx, "mask", name) }

func (i image) Unmask(ctx context.Context, name string) error {
	return i.changeAll(ctx, "unmask", name)
}

// changeAll also changes what is below /run, if it matters.
func (i image) changeAll(ctx context.Context, verb, name string) error {
	if err := i.change(ctx, verb, name); err != nil {
		return err
	}
	state, err := i.FileState(ctx, name)
	if err != nil || !strings.HasSuffix(state, "-runtime") {
		return err
	}
	return i.change(ctx, verb, name, "--runtime")
}

func (i image) change(ctx context.Context, verb, name string, options ...string) error {
	argv := slices.Concat([]string{"systemctl", "--quiet"}, options, []string{verb, name})
	out, err := i.runner.Run(ctx, system.Command{Argv: argv})
	if err == nil && out.ExitCode != 0 {
		err = errors.New(out.LastLine())
	}
	if err != nil {
		return fmt.Errorf("cannot %s %s: %w", verb, name, err)
	}
	return nil
}
