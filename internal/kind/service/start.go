package service

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
	"github.com/soe-agent/soe-agent/internal/unitfiles"
)

// startOnce starts a unit. If systemd refuses because the unit has failed too often, the limit is
// reset if the cause may have been fixed: once per change, so that a failing unit does not restart at
// full speed for ever. lifted reports a reset.
func (k *Kind) startOnce(ctx context.Context, unit system.Unit) (lifted string, err error) {
	name := unit.Name
	if err = k.system.Units.Start(ctx, name); !errors.Is(err, system.ErrJobFailed) {
		return "", err
	}
	after, failed := k.system.Units.Unit(ctx, name)
	// systemd calls the result by what it was before, if there is something.
	tried := after.ActiveState != "failed" || !after.InactiveSince.Equal(unit.InactiveSince)
	if failed != nil || tried {
		return "", errors.Join(err, failed)
	}
	after.Name = name
	changed, failed := k.changedSince(ctx, after)
	if failed != nil {
		return "", errors.Join(err, failed)
	}
	const limit = "systemd does not start it any more, for it was started and failed too often (StartLimitBurst=)"
	if changed == "" {
		return "", fmt.Errorf("%w: %s; it is made to as soon as the unit, its programs, or something of the policy's changes; or run: systemctl reset-failed %s", err, limit, name)
	}
	lifted = limit + "; it was made to, since " + changed + " has changed"
	k.system.Log.Info("reset the start limit of a unit: what it depends on has changed", "resource", policy.NewID(k.Name(), name), "changed", changed)
	if err := k.system.Units.ResetFailed(ctx, name); err != nil {
		return "", err
	}
	return lifted, k.system.Units.Start(ctx, name)
}

// changedSince returns something that has changed since a unit failed and that may have been the
// cause, or "": its unit files, its program, packages, accounts, all files of the policy, and the
// clock, if it was set back behind the failure.
func (k *Kind) changedSince(ctx context.Context, unit system.Unit) (string, error) {
	if unit.InactiveSince.After(k.system.Clock.Now()) { // nothing can be told to be later
		return "the clock", nil
	}
	files := append(slices.Clone(unit.Files), path.Join(unitfiles.Dirs()[0], unit.Name+".d"),
		"/etc/passwd", "/etc/group", "/var/lib/rpm/Packages", "/var/lib/rpm/rpmdb.sqlite", "/usr/lib/sysimage/rpm/rpmdb.sqlite")
	for _, want := range policy.Of[policy.Dropin](k.policy) {
		files = append(files, "/"+want.ID.Name())
	}
	if strings.HasSuffix(unit.Name, ".service") {
		service, err := k.system.Units.Service(ctx, unit.Name)
		if err != nil {
			return "", err
		}
		files = append(files, service.Files...)
	}
	for _, file := range files {
		if info, err := k.system.FS.Stat(file); err == nil && info.Changed.After(unit.InactiveSince) {
			return file, nil
		}
	}
	return "", nil
}
