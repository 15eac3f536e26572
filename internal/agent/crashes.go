package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

// crashFile records how earlier runs of the agent ended. Removing it and restarting the agent ends safe mode.
const crashFile = StateDir + "/life.json"

const (
	healthyAfter = time.Minute      // a run that ends before this age, without being asked to, is a crash
	maxCrashes   = 4                // this many crashes
	crashWindow  = 10 * time.Minute // within this time lead to safe mode
	safeFor      = time.Hour        // after this time the whole policy is tried again
	keptCrashes  = 20               // how many crashes are recorded at most
)

// crashes is the content of crashFile.
type crashes struct {
	Boot          string      `json:"boot"`    // the kernel's random boot id
	Version       string      `json:"version"` // of the agent
	Started       time.Time   `json:"started,omitzero"`
	Crashes       []time.Time `json:"deaths,omitempty"` // when early crashes were noticed
	Safe          *safeMode   `json:"safe,omitempty"`
	WatchdogKinds []string    `json:"bitten,omitempty"` // kinds for which the watchdog has fired in this boot
}

// safeMode is the state in which the agent keeps nothing but sudo, because it crashed repeatedly with
// everything else.
type safeMode struct {
	Since  time.Time `json:"since"`
	Why    string    `json:"why"`
	Serial int64     `json:"serial"` // of the policy under which it crashed
}

func (s safeMode) in(zone *time.Location) string {
	return fmt.Sprintf("safe mode since %s, because %s; only sudo is kept, until %s, a newer policy or: systemctl reload soe-agent",
		s.Since.In(zone).Format(time.DateTime), s.Why, s.Since.Add(safeFor).In(zone).Format(time.TimeOnly))
}

// started judges the earlier runs when a new one begins. A run that ended together with its boot is not a
// crash, however it ended: machines may be rebooted at any time while they are provisioned. Neither is one
// that was asked to stop, or that lasted for healthyAfter.
func (r crashes) started(now time.Time, boot, version string) crashes {
	if r.Version != version {
		r = crashes{Boot: r.Boot} // crashes of another version do not count
	}
	if r.Boot == boot && !r.Started.IsZero() {
		r.Crashes = append(r.Crashes, now)
	}
	if r.Boot != boot {
		r.WatchdogKinds = nil
	}
	r.Crashes = slices.DeleteFunc(r.Crashes, func(death time.Time) bool { return now.Sub(death).Abs() > crashWindow })
	r.Crashes = r.Crashes[max(0, len(r.Crashes)-keptCrashes):]
	switch {
	case r.Safe != nil && now.Sub(r.Safe.Since).Abs() > safeFor:
		r.Safe, r.Crashes = nil, nil
	case r.Safe == nil && len(r.Crashes) >= maxCrashes:
		r.Safe = &safeMode{Since: now, Why: fmt.Sprintf("the agent crashed %d times within %s, each time within %s of its start", len(r.Crashes), minutes(crashWindow), minutes(healthyAfter))}
	}
	r.Boot, r.Version, r.Started = boot, version, now
	return r
}

// minutes returns a duration in words.
func minutes(d time.Duration) string {
	if d == time.Minute {
		return "a minute"
	}
	return fmt.Sprintf("%d minutes", d/time.Minute)
}

// A crashRecord knows how earlier runs of the agent ended, and records how this one goes.
type crashRecord struct {
	files system.FS
	log   *slog.Logger

	mu            sync.Mutex
	saved         crashes
	watchdogKinds []string // kinds for which the watchdog fired in earlier runs of this boot
}

// openCrashRecord reads the record of earlier runs and records the start of this one.
func openCrashRecord(files system.FS, log *slog.Logger, now time.Time, version string) *crashRecord {
	l := &crashRecord{files: files, log: log}
	content, err := files.ReadFile(crashFile)
	if err == nil {
		err = json.Unmarshal(content, &l.saved)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Warn("cannot read life.json; earlier crashes of the agent are not counted", "err", err)
		l.saved = crashes{}
	}
	boot, err := files.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		log.Warn("cannot read the boot id; crashes before the last reboot may be counted", "err", err)
	}
	l.change(func(r *crashes) { *r = r.started(now, strings.TrimSpace(string(boot)), version) })
	l.watchdogKinds = slices.Clone(l.saved.WatchdogKinds)
	return l
}

// change changes the record in memory and on disk.
func (l *crashRecord) change(how func(*crashes)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	how(&l.saved)
	content, err := json.Marshal(l.saved)
	if err == nil {
		err = l.files.WriteFile(crashFile, append(content, '\n'), system.Attr{Mode: 0o600})
	}
	if err != nil {
		l.log.Error("cannot write life.json; a crash now is not counted towards safe mode", "err", err)
	}
}

// safe returns the safe mode, or nil if it is off.
func (l *crashRecord) safe() *safeMode {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.saved.Safe
}

// markHealthy records that this run is not a crash: it has lasted long enough, or was asked to stop.
func (l *crashRecord) markHealthy() {
	l.change(func(r *crashes) {
		r.Started = time.Time{}
		if r.Safe == nil {
			r.Crashes = nil
		}
	})
}

// mayStopWatchdog says whether the agent may let the watchdog fire because of a kind, and records that it
// does. If that did not help once in this boot, it is not done again. The answer stays the same for this run,
// because the watchdog fires only after more than one missed answer.
func (l *crashRecord) mayStopWatchdog(kind string) bool {
	if slices.Contains(l.watchdogKinds, kind) {
		return false
	}
	l.mu.Lock()
	noted := slices.Contains(l.saved.WatchdogKinds, kind)
	l.mu.Unlock()
	if !noted {
		l.change(func(r *crashes) { r.WatchdogKinds = append(r.WatchdogKinds, kind) })
	}
	return true
}

// watchSafeMode calls markHealthy when this run has lasted long enough, and leaves safe mode after an hour.
func (d *daemon) watchSafeMode(ctx context.Context) {
	for d.System.Clock.Sleep(ctx, healthyAfter) == nil {
		d.crashes.markHealthy()
		safe := d.crashes.safe()
		if safe == nil {
			return
		}
		timer := time.NewTimer(min(safeFor, max(0, safe.Since.Add(safeFor).Sub(d.System.Clock.Now()))))
		select {
		case <-ctx.Done():
		case <-d.freed:
		case <-timer.C:
			d.leaveSafeMode("it has lasted for an hour")
		}
		timer.Stop()
	}
}

// leaveSafeMode enforces the whole policy again, if the agent is in safe mode.
func (d *daemon) leaveSafeMode(why string) {
	if d.crashes.safe() == nil {
		return
	}
	d.Log.Warn("leaving safe mode; the whole policy is enforced again", "why", why)
	d.crashes.change(func(r *crashes) { r.Safe, r.Crashes, r.Started = nil, nil, d.System.Clock.Now() })
	d.mu.Lock()
	d.status.SafeMode = ""
	d.mu.Unlock()
	select {
	case d.freed <- struct{}{}:
	default:
	}
	d.enforceAgain()
}

// enterSafeMode reports safe mode if the record demands it. It does not if the policy is newer than the one
// under which the earlier runs crashed.
func (d *daemon) enterSafeMode(serial int64) {
	safe := d.crashes.safe()
	if safe == nil {
		return
	}
	if safe.Serial == 0 {
		d.crashes.change(func(r *crashes) { r.Safe.Serial = serial })
	} else if serial > safe.Serial {
		d.crashes.change(func(r *crashes) { r.Safe, r.Crashes = nil, nil })
		return
	}
	d.status.SafeMode = d.crashes.safe().in(system.Here(d.System.Clock).Location())
	d.Log.Error(d.status.SafeMode)
}

// enabled returns the kinds to check: in safe mode most of them are replaced by suspended ones.
func (d *daemon) enabled(p *policy.Policy, kinds []converge.Kind) []converge.Kind {
	safe := d.crashes.safe()
	if safe == nil {
		return kinds
	}
	kept := slices.Clone(kinds)
	for i, kind := range kept {
		if !inSafeMode(kind.Name()) {
			kept[i] = suspended{kind.Name(), p, safe.in(system.Here(d.System.Clock).Location())}
		}
	}
	return kept
}

// suspended stands for a kind that is not checked: it reports the kind's resources as unknown.
type suspended struct {
	name   string
	policy *policy.Policy
	why    string
}

func (k suspended) Name() string { return k.name }

func (k suspended) Check(context.Context) ([]converge.Resource, error) {
	var resources []converge.Resource
	for _, want := range k.policy.Resources {
		if want.ID.Kind() == k.name {
			r := converge.Wanted(want)
			r.SetUnknown(k.why).ReasonIsPublic()
			resources = append(resources, r)
		}
	}
	return resources, nil
}

func (suspended) Repair(context.Context, []converge.Resource) []converge.Outcome { return nil }
