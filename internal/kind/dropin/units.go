package dropin

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/sessionguard"
	"github.com/soe-agent/soe-agent/internal/system"
	"github.com/soe-agent/soe-agent/internal/unitfiles"
)

// A taking is how a running unit applies changes of its files.
type taking int

const (
	atOnce    taking = iota // at daemon-reload: a slice gets its limits, a target does nothing
	byRestart               // the unit is restarted
	byRemount               // the mount is remounted in place
	byReboot
)

// howTaken returns it by the type of the unit.
func howTaken() map[string]taking {
	return map[string]taking{
		".service": byRestart, ".socket": byRestart, ".timer": byRestart, ".path": byRestart,
		".mount": byRemount, ".automount": byReboot, ".swap": byReboot, ".slice": atOnce, ".target": atOnce,
	}
}

// unitOf returns the unit that a file defines, or extends from a ".d" directory, "" if it is not about
// a unit. It may be a template ("a@.service"), a prefix ("a-.service") or a type ("service"), as in
// systemd.unit(5).
func unitOf(name string) string {
	below, found := strings.CutPrefix(name, unitDir+"/")
	unit, _, inside := strings.Cut(below, "/")
	if !found || inside && !strings.HasSuffix(unit, ".d") {
		return ""
	}
	return strings.TrimSuffix(unit, ".d")
}

// isUnitFile reports whether a file defines a whole unit.
func isUnitFile(name string) bool {
	_, known := howTaken()[path.Ext(name)]
	return known && path.Dir(name) == unitDir
}

// concerned returns the running units that may have read a file, and how they apply it. running lists
// the running units, for files that do not name one.
func concerned(name string, running func() ([]string, error)) (units []string, how taking, err error) {
	unit := unitOf(name)
	kind := path.Ext(unit)
	if kind == "" {
		if howTaken()["."+unit] != atOnce {
			return nil, byReboot, nil // the file is for all units of a type
		}
		return nil, atOnce, nil
	}
	how = howTaken()[kind]
	stem := strings.TrimSuffix(unit, kind)
	if !unitfiles.IsTemplate(unit) && (!strings.HasSuffix(stem, "-") || how == byRemount) {
		return []string{unit}, how, nil
	}
	if how == atOnce {
		return nil, how, nil
	}
	all, err := running()
	for _, other := range all {
		if strings.HasPrefix(other, stem) && path.Ext(other) == kind && other != unit {
			units = append(units, other)
		}
	}
	return units, how, err
}

// takeUnits reloads systemd's files, and restarts the units that run with old settings once nobody is
// disturbed.
func (b *batch) takeUnits(ctx context.Context, names []string) map[string]error {
	if !b.system.Running() {
		return nil
	}
	failures := map[string]error{}
	fail := func(names []string, err error) {
		for _, name := range names {
			failures[name] = errors.Join(failures[name], err)
		}
	}
	if err := b.system.Units.Reload(ctx); err != nil {
		fail(names, unlessNotRunning(err))
		return failures
	}
	steps := b.unitSteps(ctx, names, fail)
	if err := b.writeStarts(b.starts); err != nil {
		fail(names, err)
		return failures
	}
	for _, unit := range slices.Sorted(maps.Keys(steps)) {
		step := steps[unit]
		fail(step.files, step.take(ctx))
	}
	if err := b.writeStarts(b.starts); err != nil {
		fail(names, err)
	}
	return failures
}

// A unitStep is what makes a unit apply files.
type unitStep struct {
	files []string
	take  func(context.Context) error
}

// unitSteps returns what to do for running units, by name. Files that a unit has not read yet are
// recorded in b.starts.
func (b *batch) unitSteps(ctx context.Context, names []string, fail func([]string, error)) map[string]unitStep {
	running := sync.OnceValues(func() ([]string, error) { return b.system.Units.Active(ctx) })
	files, takings := map[string][]string{}, map[string]taking{}
	for _, name := range names {
		if err := b.removeLinks(ctx, name); err != nil {
			fail([]string{name}, unlessNotRunning(err))
		}
		delete(b.starts, name)
		if why, err := b.tooOld(ctx, name); why != "" || err != nil {
			if err != nil {
				fail([]string{name}, err)
			}
			continue // no unit has read it
		}
		units, how, err := concerned(name, running)
		if err != nil {
			fail([]string{name}, unlessNotRunning(err))
		}
		if how == byReboot && len(units) == 0 {
			fail([]string{name}, b.await(untilReboot, []string{name})[name])
		}
		for _, unit := range units {
			files[unit], takings[unit] = append(files[unit], name), how
		}
	}
	steps := map[string]unitStep{}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		unit, err := b.system.Units.Unit(ctx, name)
		unit.Name = name
		if err != nil {
			fail(files[name], unlessNotRunning(err))
			continue
		}
		if step := b.unitStep(unit, takings[name], files[name]); step != nil {
			steps[name] = unitStep{files[name], step}
		}
	}
	return steps
}

// unitStep returns how one running unit applies files, nil if it has done so.
func (b *batch) unitStep(unit system.Unit, how taking, files []string) func(context.Context) error {
	gone := unit.LoadState == "not-found"
	if !up(unit) || unit.LoadState == "masked" || gone && b.keepsService(unit.Name) {
		return nil
	}
	switch how {
	case byReboot:
		return func(context.Context) error { return b.await(untilReboot, files)[files[0]] }
	case byRemount:
		return func(ctx context.Context) error { return b.remount(ctx, unit, files) }
	case byRestart:
		for _, file := range files {
			b.starts[file] = append(b.starts[file], startOf(unit, unit.Name))
		}
		return func(ctx context.Context) error { return b.restartUnit(ctx, unit, files) }
	}
	return nil
}

// keepsService reports whether the policy has a service resource for a unit. That then decides what
// becomes of it.
func (b *batch) keepsService(unit string) bool {
	_, named := b.policy.Lookup(policy.NewID("service", unit))
	return named
}

// removeLinks removes the links that enabled a unit whose file is gone. They dangle, and would enable
// a new unit of that name.
func (b *batch) removeLinks(ctx context.Context, file string) error {
	unit := path.Base(file)
	if _, err := b.system.FS.Stat(file); !isUnitFile(file) || !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if state, err := b.system.Units.FileState(ctx, unit); err != nil || state != "" {
		return err // the unit has a file elsewhere
	}
	mark := b.Mark()
	links := unitfiles.ReadLinks(b.system.FS).Of(unit)
	if err := b.Since(mark); err != nil {
		return err
	}
	links = slices.DeleteFunc(slices.Clone(links), func(link string) bool { return b.keepsService(unit) || b.keepsService(path.Base(link)) })
	for _, link := range links {
		if err := b.system.FS.Remove(link); err != nil {
			return err
		}
	}
	if len(links) == 0 {
		return nil
	}
	return b.system.Units.Reload(ctx)
}

// restartUnit restarts a unit, or stops it if its file is gone, unless somebody might notice. The next
// check then reports what it waits for.
func (b *batch) restartUnit(ctx context.Context, unit system.Unit, files []string) error {
	ctx, cancel := context.WithTimeout(ctx, restartTimeout)
	defer cancel()
	consent := b.consentTo(files)
	may, take := sessionguard.MayRestart, sessionguard.Restart
	if unit.LoadState == "not-found" {
		may, take = sessionguard.MayStop, sessionguard.Stop
	}
	err := may(ctx, b.system, unit.Name, consent)
	held := (*sessionguard.Held)(nil)
	switch noticed := b.unnoticed(ctx, unit, unit.Name, consent); {
	case errors.As(err, &held) && held.Until == converge.Reboot:
		err = b.await(untilReboot, files)[files[0]]
	case errors.As(noticed, &held):
		return nil
	default:
		if err = errors.Join(err, noticed); err == nil {
			err = take(ctx, b.system, unit.Name, consent)
		}
		if err == nil && unit.LoadState != "not-found" {
			err = sessionguard.StaysUp(ctx, b.system, unit.Name)
		}
	}
	if err == nil {
		for _, file := range files {
			b.starts[file] = slices.DeleteFunc(b.starts[file], func(s start) bool { return s.unit == unit.Name })
			if len(b.starts[file]) == 0 {
				delete(b.starts, file)
			}
		}
	}
	return err
}
