package dropin

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/own"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/public"
	"github.com/soe-agent/soe-agent/internal/sessionguard"
	"github.com/soe-agent/soe-agent/internal/system"
)

const (
	unitDir = "/etc/systemd/system"
	// untilRestart lists files that a running unit has not read, each with the unit and its start time.
	// The start time is only an identifier and is never compared with a clock, which may be set meanwhile.
	// The list is gone after a reboot.
	untilRestart = own.RunDir + "/dropins-until-restart"

	restartTimeout = 30 * time.Second
)

// A start is one start of a unit.
type start struct {
	unit string
	at   int64 // µs
}

func startOf(u system.Unit, name string) start { return start{name, u.ActiveSince.UnixMicro()} }

// readsQuietly reports whether nobody notices the restart of a unit. It is not known what people use
// other services for: containers, databases.
func readsQuietly(unit string) bool {
	return slices.Contains([]string{".timer", ".path"}, path.Ext(unit)) || slices.Contains([]string{
		"chrony.service", "chronyd.service", "cron.service", "crond.service", "rsyslog.service", "systemd-journald.service",
	}, unit)
}

func (k *Kind) readStarts() map[string][]start {
	starts := map[string][]start{}
	content, _ := k.system.FS.ReadFile(untilRestart)
	for line := range strings.SplitSeq(string(content), "\n") {
		fields := strings.Split(line, "\t")
		if len(fields) != 3 {
			continue
		}
		if at, err := strconv.ParseInt(fields[2], 10, 64); err == nil {
			starts[fields[0]] = append(starts[fields[0]], start{fields[1], at})
		}
	}
	return starts
}

func (k *Kind) writeStarts(starts map[string][]start) error {
	if len(starts) == 0 {
		return k.system.FS.Remove(untilRestart)
	}
	var content strings.Builder
	for _, name := range slices.Sorted(maps.Keys(starts)) {
		for _, start := range starts[name] {
			fmt.Fprintf(&content, "%s\t%s\t%d\n", name, start.unit, start.at)
		}
	}
	return k.system.FS.WriteFile(untilRestart, []byte(content.String()), system.Attr{Mode: 0o600})
}

// awaitsRestart returns what units wait for before they are restarted, if one has not read a file that
// is right on disk.
func (k *Kind) awaitsRestart(ctx context.Context, starts []start, r *converge.Resource) {
	for _, old := range starts {
		if k.awaitsStart(ctx, old, r); r.State != converge.Compliant {
			return
		}
	}
}

func (k *Kind) awaitsStart(ctx context.Context, old start, r *converge.Resource) {
	unit, err := k.system.Units.Unit(ctx, old.unit)
	if err != nil {
		r.SetUnknownErr(public.Because(fmt.Sprintf("cannot tell whether %s has read it", old.unit), err))
		return
	}
	if !up(unit) || startOf(unit, old.unit) != old {
		return // the unit was restarted since
	}
	since := " has been running since before it changed, and "
	if unit.LoadState == "not-found" {
		since = " runs though its file has gone, and "
	}
	err = k.unnoticed(ctx, unit, old.unit, sessionguard.ConsentTo(k.policy, k.window, r.ID))
	held := (*sessionguard.Held)(nil)
	switch {
	case errors.As(err, &held):
		r.SetPending(held.Until, old.unit+since+held.Reason).ReasonIsPublic()
	case err != nil:
		r.SetUnknownErr(public.Because(fmt.Sprintf("cannot tell whether %s may be restarted", old.unit), err))
	default:
		r.AddPublicDrift(converge.AspectEffect, "read by "+old.unit, "it has been running since before")
	}
}

// unnoticed returns an error, Held or another, if somebody may notice the restart of a unit, or its
// stop because its file is gone.
func (k *Kind) unnoticed(ctx context.Context, unit system.Unit, name string, consent sessionguard.Consent) error {
	if path.Ext(name) == ".socket" && unit.LoadState != "not-found" {
		for _, service := range unit.Triggers {
			started, err := k.system.Units.Unit(ctx, service)
			if err != nil {
				return err
			}
			if up(started) { // systemd would refuse to start the socket again
				return &sessionguard.Held{Until: converge.Reboot, Reason: service + " is running, which it has started: it is restarted when that has ended"}
			}
		}
	}
	if readsQuietly(name) {
		return nil
	}
	person, err := facts.LoggedIn(ctx, k.system)
	if err != nil {
		return err
	}
	return consent.Hold(k.system, person, "who may be using it: that is done when nobody is")
}

func (k *Kind) consentTo(names []string) sessionguard.Consent {
	ids := make([]policy.ID, len(names))
	for i, name := range names {
		ids[i] = policy.NewID(k.Name(), name)
	}
	return sessionguard.ConsentTo(k.policy, k.window, ids...)
}

func up(u system.Unit) bool {
	return !slices.Contains([]string{"inactive", "failed", ""}, u.ActiveState)
}
