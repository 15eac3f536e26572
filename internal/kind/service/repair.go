package service

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/public"
	"github.com/soe-agent/soe-agent/internal/sessionguard"
	"github.com/soe-agent/soe-agent/internal/system"
	"github.com/soe-agent/soe-agent/internal/unitfiles"
)

// jobTimeout is how long a start or stop may take: systemd itself gives up after
// 90 s unless the unit says otherwise (DefaultTimeoutStartSec in systemd-system.conf(5)).
const jobTimeout = 2 * time.Minute

// Repair implements converge.Kind. It changes the links of unit files first, one at a time, because
// each change makes systemd reload all its units. Jobs come after that.
func (k *Kind) Repair(ctx context.Context, drifted []converge.Resource) []converge.Outcome {
	ctx, cancel := context.WithTimeout(ctx, jobTimeout)
	defer cancel()
	outcomes := make([]converge.Outcome, len(drifted))
	units, isImage := k.units(ctx)
	// Resolve names before the links change: some of the links are aliases.
	own, known := make([]string, len(drifted)), k.newNames()
	for i, r := range drifted {
		own[i] = known.real(r.ID.Name())
	}
	if !isImage {
		k.reloadForNew(ctx, own)
	}
	for i, r := range drifted {
		outcomes[i].ID = r.ID
		outcomes[i].Err = k.link(ctx, units, own[i], k.spec(r.ID))
	}
	if !isImage {
		each(drifted, func(i int, _ converge.Resource) {
			if errors.Is(outcomes[i].Err, errNotFound) {
				return
			}
			said, err := k.run(ctx, own[i], drifted[i].ID)
			outcome := sessionguard.Outcome(drifted[i].ID, err)
			outcome.Reason = cmp.Or(outcome.Reason, said)
			outcome.Err = errors.Join(outcomes[i].Err, outcome.Err)
			outcomes[i] = outcome
		})
	}
	var troubled []converge.Outcome
	for _, outcome := range outcomes {
		if outcome.Err != nil || outcome.Reason != "" {
			outcome.Err = public.Error(outcome.Err) // everybody can ask systemd for the same
			troubled = append(troubled, outcome)
		}
	}
	return troubled
}

var errNotFound = errors.New("there is no such unit; does a package bring it?")

// reloadForNew makes systemd reload its unit files if a unit was not found, for its file may be new.
// If that fails, the unit stays missing.
func (k *Kind) reloadForNew(ctx context.Context, names []string) {
	for _, name := range names {
		if unitfiles.IsTemplate(name) {
			continue
		}
		if unit, err := k.system.Units.Unit(ctx, name); err == nil && unit.LoadState == "not-found" {
			_ = k.system.Units.Reload(ctx)
			return
		}
	}
}

func (k *Kind) spec(id policy.ID) policy.Service {
	want, _ := k.policy.Lookup(id)
	spec, _ := want.Spec.(policy.Service)
	return spec
}

// link brings the links of a unit into line: masked, enabled.
func (k *Kind) link(ctx context.Context, units system.Units, name string, want policy.Service) error {
	unit, err := examine(ctx, units, name)
	if err != nil {
		return err
	}
	if why := sessionguard.Stays(k.system, name); why != "" && (is(want.Masked, true) || is(want.Enabled, false)) {
		return fmt.Errorf("cannot disable or mask %s: %s", name, why)
	}
	if mustUnmask(want) && masked(unit) {
		if err := units.Unmask(ctx, name); err != nil {
			return err
		}
		if unit, err = examine(ctx, units, name); err != nil {
			return err
		}
	}
	if absent(want, unit) {
		return fmt.Errorf("cannot find %s: %w", name, errNotFound)
	}
	switch {
	case is(want.Enabled, true) && !enabled(unit):
		err = k.enable(ctx, units, unit)
	case is(want.Enabled, false) && !disabled(unit):
		err = units.Disable(ctx, name)
	case is(want.Enabled, false):
		err = k.removeLinks(ctx, units, unit)
	}
	if is(want.Masked, true) && !maskedForGood(unit) {
		if why := k.cannotMask(name); why != "" {
			return errors.Join(err, fmt.Errorf("cannot mask %s: %s", name, why))
		}
		err = errors.Join(err, units.Mask(ctx, name))
	}
	return err
}

// enable enables a unit. systemd does not always report an error if it made no link.
func (k *Kind) enable(ctx context.Context, units system.Units, unit system.Unit) error {
	if why := cannotEnable(unit); why != "" {
		return fmt.Errorf("cannot enable %s: %s", unit.Name, why)
	}
	err := units.Enable(ctx, unit.Name)
	if !unitfiles.IsTemplate(unit.Name) {
		return err
	}
	state, failed := units.FileState(ctx, unit.Name)
	if failed != nil || state == "enabled" {
		return errors.Join(err, failed)
	}
	return fmt.Errorf("cannot enable %s: it is a template, and its file does not say of which instance (DefaultInstance=); enable one, such as %s",
		unit.Name, strings.Replace(unit.Name, "@", "@NAME", 1))
}

// removeLinks removes links that would enable a unit once it has a file, or is unmasked. systemd
// itself disables only units that exist.
func (k *Kind) removeLinks(ctx context.Context, units system.UnitFiles, unit system.Unit) error {
	mark := k.Mark()
	leftovers := left(unitfiles.ReadLinks(k.system.FS), unit)
	if err := k.Since(mark); err != nil || len(leftovers) == 0 {
		return err
	}
	for _, link := range leftovers {
		if err := k.system.FS.Remove(link); err != nil {
			return err
		}
	}
	return units.Reload(ctx)
}

// run starts or stops a unit if needed. said is a note for the report.
func (k *Kind) run(ctx context.Context, name string, id policy.ID) (said string, err error) {
	want := k.spec(id)
	if want.Running == nil || unitfiles.IsTemplate(name) {
		return "", nil
	}
	unit, err := k.system.Units.Unit(ctx, name)
	unit.Name = name
	switch {
	case err != nil:
		return "", err
	case *want.Running && !running(unit):
		return k.start(ctx, unit, sessionguard.ConsentTo(k.policy, k.window, id))
	case !*want.Running && !stopped(unit):
		return "", sessionguard.Stop(ctx, k.system, name, sessionguard.ConsentTo(k.policy, k.window, id))
	}
	return "", nil
}

// start starts a unit, or waits until it has come up by itself, and checks that it stays up: a start
// job also counts as done when the unit has already ended. said is a note for the report.
func (k *Kind) start(ctx context.Context, unit system.Unit, consent sessionguard.Consent) (said string, err error) {
	name := unit.Name
	if err := sessionguard.MayStart(ctx, k.system, name, consent); err != nil {
		return "", err
	}
	lifted, err := k.startOnce(ctx, unit)
	if errors.Is(err, context.DeadlineExceeded) {
		return "", fmt.Errorf("%w: it was not up after %s; systemd goes on starting it", err, jobTimeout)
	}
	if err != nil {
		return "", fmt.Errorf("%w%s", err, k.lastWords(ctx, name))
	}
	started, err := k.system.Units.Unit(ctx, name)
	if err != nil {
		return "", err
	}
	started.Name = name
	switch started.ActiveState {
	case "inactive":
		if started.Unmet {
			return "", fmt.Errorf("cannot keep %s running: a condition of its file does not hold, and so systemd does not start it; see: systemctl status %s", name, name)
		}
		return "", fmt.Errorf("cannot keep %s running: it starts, does its work and ends, or a condition of its file does not hold; say nothing of running", name)
	case "failed":
		return "", fmt.Errorf("cannot keep %s running: it failed as soon as it was started (%s)%s; see: journalctl -u %s", name, started.Result, k.lastWords(ctx, name), name)
	}
	if err := sessionguard.StaysUp(ctx, k.system, name); err != nil {
		return "", fmt.Errorf("%w%s", err, k.lastWords(ctx, name))
	}
	return lifted, nil
}

// lastWords are systemd's messages in the journal about the end of a unit. Messages of the program
// itself are left out: everybody can read a report.
func (k *Kind) lastWords(ctx context.Context, name string) string {
	out, err := k.system.Runner.Run(ctx, system.Command{
		Argv: []string{"journalctl", "--quiet", "--no-pager", "--lines=8", "--output=cat", "_PID=1", "UNIT=" + name},
		// A large journal must not hold up the repair.
		Timeout: 2 * time.Second, ReadOnly: true,
	})
	if err != nil {
		return ""
	}
	words := ""
	for line := range strings.Lines(string(out.Stdout)) {
		if strings.Contains(line, "status=") {
			words = ": " + strings.TrimSpace(line)
		}
	}
	return words
}
