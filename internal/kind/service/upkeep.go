package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

const (
	// firstSeconds are those in which a service dies that cannot work: without its
	// configuration, its port, its user. A unit of which systemd cannot tell when it is
	// ready is not said to run before they are over.
	firstSeconds = 3 * time.Second
	// lookEvery is how often is looked meanwhile.
	lookEvery = 200 * time.Millisecond
)

// neverReady says of a service's Type that systemd takes it for up as soon as its program
// has been started (systemd.service(5)).
func neverReady(serviceType string) bool {
	return slices.Contains([]string{"simple", "exec", "idle"}, serviceType)
}

// stays waits until a unit that was started has been up for its first seconds, if they tell
// anything.
func (k *Kind) stays(ctx context.Context, unit system.Unit) error {
	if !strings.HasSuffix(unit.Name, ".service") || !running(unit) {
		return nil
	}
	service, err := k.system.Units.Service(ctx, unit.Name)
	if err != nil || !neverReady(service.Type) {
		return err
	}
	later, err := k.outlives(ctx, unit)
	if err != nil || running(later) && later.ActiveSince.Equal(unit.ActiveSince) {
		return err
	}
	again := ""
	if running(later) || !stopped(later) {
		again = ", and systemd starts it again and again"
	}
	return fmt.Errorf("cannot keep %s running: it ended within %s of its start (%s)%s%s; see: journalctl -u %s",
		unit.Name, firstSeconds, state(later), again, k.lastWords(ctx, unit.Name), unit.Name)
}

// settled is a unit once it can be told whether it runs: one that systemd has started anew
// by itself, a moment ago, may be dying again and again.
func (k *Kind) settled(ctx context.Context, unit system.Unit) (system.Unit, error) {
	if !running(unit) || !strings.HasSuffix(unit.Name, ".service") || k.untilSettled(unit) == 0 {
		return unit, nil
	}
	service, err := k.system.Units.Service(ctx, unit.Name)
	if err != nil || service.Restarts == 0 || !neverReady(service.Type) {
		return unit, err
	}
	later, err := k.outlives(ctx, unit)
	if err != nil {
		return unit, err
	}
	if running(later) && later.ActiveSince.Equal(unit.ActiveSince) {
		return unit, nil
	}
	unit.ActiveState, unit.Result = later.ActiveState, later.Result
	if running(later) {
		unit.ActiveState = "dying, and started again and again"
	}
	return unit, nil
}

// outlives returns a unit as it is once its first seconds are over, or as soon as it is not
// up as it was.
func (k *Kind) outlives(ctx context.Context, unit system.Unit) (system.Unit, error) {
	for wait := k.untilSettled(unit); ; {
		select {
		case <-ctx.Done():
			return unit, ctx.Err()
		case <-time.After(min(wait, lookEvery)):
		}
		units, err := k.system.Units.States(ctx, []string{unit.Name})
		if err != nil {
			return unit, err
		}
		wait = k.untilSettled(unit)
		if wait == 0 || !running(units[0]) || !units[0].ActiveSince.Equal(unit.ActiveSince) {
			return units[0], units[0].Err
		}
	}
}

// untilSettled is how much is left of a unit's first seconds, whatever the clock is set to.
func (k *Kind) untilSettled(unit system.Unit) time.Duration {
	return min(firstSeconds, max(0, unit.ActiveSince.Add(firstSeconds).Sub(k.system.Clock.Now())))
}

// startOnce starts a unit. What systemd does not even try any more, since it has failed too
// often, it is made to try again when that for which it failed may have been mended: once
// for each change, so that what fails does not fail for ever at full speed. lifted says so.
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
	slog.Info("the start limit of a unit is lifted", "resource", policy.NewID(k.Name(), name), "changed", changed)
	if err := k.system.Units.ResetFailed(ctx, name); err != nil {
		return "", err
	}
	return lifted, k.system.Units.Start(ctx, name)
}

// changedSince is something that a unit may have failed for and that has changed since, or
// "": what says how it is run, what it runs, what packages brought, accounts, and every file
// of the policy's.
func (k *Kind) changedSince(ctx context.Context, unit system.Unit) (string, error) {
	files := append(slices.Clone(unit.Files), path.Join(unitDirs()[0], unit.Name+".d"),
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
