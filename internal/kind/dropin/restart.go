package dropin

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/gently"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/public"
	"github.com/soe-agent/soe-agent/internal/system"
)

const (
	unitDir = "/etc/systemd/system"
	// untilRestart lists files that a running service has not read, each with the
	// service and the moment at which that start of it was. The moment is a name and
	// never compared with a clock, which may be set meanwhile. The list goes with the
	// reboot.
	untilRestart = "/run/soe-agent/dropins-until-restart"

	restartTimeout = 30 * time.Second
)

// A start is one start of a service.
type start struct {
	unit string
	at   int64 // µs
}

func startOf(u system.Unit, name string) start { return start{name, u.ActiveSince.UnixMicro()} }

// serviceOf is the one service that a file configures, or "".
func serviceOf(name string) string {
	below, found := strings.CutPrefix(name, unitDir+"/")
	unit, _, _ := strings.Cut(below, "/")
	stem, isService := strings.CutSuffix(strings.TrimSuffix(unit, ".d"), ".service")
	if !found || !isService || strings.HasSuffix(stem, "@") || strings.HasSuffix(stem, "-") {
		return ""
	}
	return stem + ".service"
}

// readsQuietly says of a service that nobody notices its restart. Of others it is
// not known what a person does with them: containers, databases, mounts.
func readsQuietly(unit string) bool {
	return slices.Contains([]string{
		"chrony.service", "chronyd.service", "cron.service", "crond.service", "rsyslog.service", "systemd-journald.service",
	}, unit)
}

func (k *Kind) readStarts() map[string]start {
	starts := map[string]start{}
	content, _ := k.system.FS.ReadFile(untilRestart)
	for line := range strings.SplitSeq(string(content), "\n") {
		fields := strings.Split(line, "\t")
		if len(fields) != 3 {
			continue
		}
		if at, err := strconv.ParseInt(fields[2], 10, 64); err == nil {
			starts[fields[0]] = start{fields[1], at}
		}
	}
	return starts
}

func (k *Kind) writeStarts(starts map[string]start) error {
	if len(starts) == 0 {
		return k.system.FS.Remove(untilRestart)
	}
	var content strings.Builder
	for _, name := range slices.Sorted(maps.Keys(starts)) {
		fmt.Fprintf(&content, "%s\t%s\t%d\n", name, starts[name].unit, starts[name].at)
	}
	return k.system.FS.WriteFile(untilRestart, []byte(content.String()), system.Attr{Mode: 0o600})
}

// awaitsRestart says of a file that is right on disk what its service waits for
// before it is restarted, if it has not read it.
func (k *Kind) awaitsRestart(ctx context.Context, old start, r *converge.Resource) {
	unit, err := k.system.Units.Unit(ctx, old.unit)
	if err != nil {
		r.DoubtFor(public.Because(fmt.Sprintf("cannot tell whether %s has read it", old.unit), err))
		return
	}
	if !up(unit) || startOf(unit, old.unit) != old {
		return // it was started since
	}
	err = k.unnoticed(ctx, old.unit, gently.ConsentTo(k.policy, k.window, r.ID))
	held := (*gently.Held)(nil)
	switch {
	case errors.As(err, &held):
		r.Wait(held.Until, old.unit+" has been running since before it changed, and "+held.Reason).Openly()
	case err != nil:
		r.DoubtFor(public.Because(fmt.Sprintf("cannot tell whether %s may be restarted", old.unit), err))
	default:
		r.DiffersOpenly(converge.AspectEffect, "read by "+old.unit, "it has been running since before")
	}
}

// unnoticed returns an error, Held or another, while somebody may notice that a
// service is restarted.
func (k *Kind) unnoticed(ctx context.Context, unit string, consent gently.Consent) error {
	if readsQuietly(unit) {
		return nil
	}
	person, err := facts.LoggedIn(ctx, k.system)
	if err != nil {
		return err
	}
	return consent.Hold(k.system, person, "who may be using it: it is restarted when nobody is")
}

func (k *Kind) consentTo(names []string) gently.Consent {
	ids := make([]policy.ID, len(names))
	for i, name := range names {
		ids[i] = policy.NewID(k.Name(), name)
	}
	return gently.ConsentTo(k.policy, k.window, ids...)
}

func up(u system.Unit) bool {
	return !slices.Contains([]string{"inactive", "failed", ""}, u.ActiveState)
}

// takeUnits makes systemd read its files, and the services that run on what they said
// before, as soon as nobody is disturbed.
func (b *batch) takeUnits(ctx context.Context, names []string) map[string]error {
	if !b.system.Running() {
		return nil
	}
	failures := map[string]error{}
	fail := func(names []string, err error) {
		for _, name := range names {
			failures[name] = err
		}
	}
	if err := b.system.Units.Reload(ctx); err != nil {
		fail(names, unlessNotRunning(err))
		return failures
	}
	byService := map[string][]string{}
	for _, name := range names {
		delete(b.starts, name)
		if service := serviceOf(name); service != "" {
			byService[service] = append(byService[service], name)
		}
	}
	services := slices.Sorted(maps.Keys(byService))
	for _, service := range services {
		unit, err := b.system.Units.Unit(ctx, service)
		if err != nil {
			fail(byService[service], unlessNotRunning(err))
		}
		if err != nil || !up(unit) || unit.LoadState == "not-found" || unit.LoadState == "masked" {
			delete(byService, service)
			continue
		}
		for _, name := range byService[service] {
			b.starts[name] = startOf(unit, service)
		}
	}
	if err := b.writeStarts(b.starts); err != nil {
		fail(names, err)
		return failures
	}
	for _, service := range services {
		if waiting := byService[service]; len(waiting) > 0 {
			fail(waiting, b.restartService(ctx, service, waiting))
		}
	}
	if err := b.writeStarts(b.starts); err != nil {
		fail(names, err)
	}
	return failures
}

// restartService restarts a service, unless somebody might notice: the next look
// finds that it waits, and for what.
func (b *batch) restartService(ctx context.Context, service string, names []string) error {
	ctx, cancel := context.WithTimeout(ctx, restartTimeout)
	defer cancel()
	consent := b.consentTo(names)
	err := gently.MayRestart(ctx, b.system, service, consent)
	held := (*gently.Held)(nil)
	switch noticed := b.unnoticed(ctx, service, consent); {
	case errors.As(err, &held) && held.Until == converge.Reboot:
		err = b.await(untilReboot, names)[names[0]]
	case errors.As(noticed, &held):
		return nil
	default:
		if err = errors.Join(err, noticed); err == nil {
			err = gently.Restart(ctx, b.system, service, consent)
		}
	}
	if err == nil {
		for _, name := range names {
			delete(b.starts, name)
		}
	}
	return err
}
