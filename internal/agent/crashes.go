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

// lifeFile is what the agent knows of its earlier lives. Who removes it, and starts
// the agent again, ends its safe mode.
const lifeFile = StateDir + "/life.json"

const (
	young      = time.Minute      // who dies before this age dies young
	tooMany    = 4                // so many that died young
	soShort    = 10 * time.Minute // within so long mean safe mode
	safeFor    = time.Hour        // after which all of the policy is tried again
	rememberer = 20               // deaths at the most
)

// A record is what is in lifeFile.
type record struct {
	Boot    string      `json:"boot"`    // the kernel's random id of it
	Version string      `json:"version"` // of the agent
	Started time.Time   `json:"started,omitzero"`
	Deaths  []time.Time `json:"deaths,omitempty"` // of those that died young
	Safe    *safeMode   `json:"safe,omitempty"`
	Bitten  []string    `json:"bitten,omitempty"` // kinds for which the watchdog has bitten, in this boot
}

// safeMode is the state in which the agent keeps nothing but sudo: with all else it
// died again and again.
type safeMode struct {
	Since  time.Time `json:"since"`
	Why    string    `json:"why"`
	Serial int64     `json:"serial"` // of the policy with which it died
}

func (s safeMode) in(zone *time.Location) string {
	return fmt.Sprintf("safe mode since %s, because %s; only sudo is kept, until %s, a newer policy or: systemctl reload soe-agent",
		s.Since.In(zone).Format(time.DateTime), s.Why, s.Since.Add(safeFor).In(zone).Format(time.TimeOnly))
}

// born judges the earlier lives when another begins. A life that ended with its
// boot, however that ended, is no death: machines are rebooted at any time while
// they are provisioned. Neither is one that was asked to end, or grew old.
func (r record) born(now time.Time, boot, version string) record {
	if r.Version != version {
		r = record{Boot: r.Boot} // what another agent died of
	}
	if r.Boot == boot && !r.Started.IsZero() {
		r.Deaths = append(r.Deaths, now)
	}
	if r.Boot != boot {
		r.Bitten = nil
	}
	r.Deaths = slices.DeleteFunc(r.Deaths, func(death time.Time) bool { return now.Sub(death).Abs() > soShort })
	r.Deaths = r.Deaths[max(0, len(r.Deaths)-rememberer):]
	switch {
	case r.Safe != nil && now.Sub(r.Safe.Since).Abs() > safeFor:
		r.Safe, r.Deaths = nil, nil
	case r.Safe == nil && len(r.Deaths) >= tooMany:
		r.Safe = &safeMode{Since: now, Why: fmt.Sprintf("the agent has died %d times within %s, each time before it was %s old", len(r.Deaths), minutes(soShort), minutes(young))}
	}
	r.Boot, r.Version, r.Started = boot, version, now
	return r
}

// minutes is a duration in words.
func minutes(d time.Duration) string {
	if d == time.Minute {
		return "a minute"
	}
	return fmt.Sprintf("%d minutes", d/time.Minute)
}

// A life is the one under way, and what became of those before it.
type life struct {
	files system.FS
	log   *slog.Logger

	mu     sync.Mutex
	record record
	bitten []string // kinds for which the watchdog bit in earlier lives of this boot
}

// begin begins a life.
func begin(files system.FS, log *slog.Logger, now time.Time, version string) *life {
	l := &life{files: files, log: log}
	content, err := files.ReadFile(lifeFile)
	if err == nil {
		err = json.Unmarshal(content, &l.record)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Warn("cannot tell how earlier lives ended", "err", err)
		l.record = record{}
	}
	boot, err := files.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		log.Warn("cannot tell this boot from others", "err", err)
	}
	l.change(func(r *record) { *r = r.born(now, strings.TrimSpace(string(boot)), version) })
	l.bitten = slices.Clone(l.record.Bitten)
	return l
}

// change changes the record, on disk too.
func (l *life) change(how func(*record)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	how(&l.record)
	content, err := json.Marshal(l.record)
	if err == nil {
		err = l.files.WriteFile(lifeFile, append(content, '\n'), system.Attr{Mode: 0o600})
	}
	if err != nil {
		l.log.Error("cannot note how this life goes", "err", err)
	}
}

// safe is the safe mode, nil when it is not on.
func (l *life) safe() *safeMode {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.record.Safe
}

// endsWell says that this life has grown old, or ends because it was asked to.
func (l *life) endsWell() {
	l.change(func(r *record) {
		r.Started = time.Time{}
		if r.Safe == nil {
			r.Deaths = nil
		}
	})
}

// mayBite says whether the watchdog may bite because of a kind, and notes that it
// does: once in a boot is enough to see that it does not help. The answer holds for
// all of this life, since the watchdog takes more than one silence to bite.
func (l *life) mayBite(kind string) bool {
	if slices.Contains(l.bitten, kind) {
		return false
	}
	l.mu.Lock()
	noted := slices.Contains(l.record.Bitten, kind)
	l.mu.Unlock()
	if !noted {
		l.change(func(r *record) { r.Bitten = append(r.Bitten, kind) })
	}
	return true
}

// grow notes when this life has lasted long enough, and ends safe mode in time.
func (d *daemon) grow(ctx context.Context) {
	for d.System.Clock.Sleep(ctx, young) == nil {
		d.life.endsWell()
		safe := d.life.safe()
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

// leaveSafeMode tries all of the policy again, if it is not tried already.
func (d *daemon) leaveSafeMode(why string) {
	if d.life.safe() == nil {
		return
	}
	d.Log.Warn("leaving safe mode: all of the policy is tried again", "why", why)
	d.life.change(func(r *record) { r.Safe, r.Deaths, r.Started = nil, nil, d.System.Clock.Now() })
	d.mu.Lock()
	d.status.SafeMode = ""
	d.mu.Unlock()
	select {
	case d.freed <- struct{}{}:
	default:
	}
	d.enforceAgain()
}

// beSafe says that the agent is in safe mode, if earlier lives are a reason to be. A
// newer policy than the one with which they ended is none.
func (d *daemon) beSafe(serial int64) {
	safe := d.life.safe()
	if safe == nil {
		return
	}
	if safe.Serial == 0 {
		d.life.change(func(r *record) { r.Safe.Serial = serial })
	} else if serial > safe.Serial {
		d.life.change(func(r *record) { r.Safe, r.Deaths = nil, nil })
		return
	}
	d.status.SafeMode = d.life.safe().in(system.Here(d.System.Clock).Location())
	d.Log.Error(d.status.SafeMode)
}

// kept are the kinds as they may be walked: in safe mode all but sudo are left
// alone. Sudo locks down, and is the one kind whose own rules see to it that nobody
// who may administer the machine is locked out.
func (d *daemon) kept(p *policy.Policy, kinds []converge.Kind) []converge.Kind {
	safe := d.life.safe()
	if safe == nil {
		return kinds
	}
	kept := slices.Clone(kinds)
	for i, kind := range kept {
		if kind.Name() != "sudo" {
			kept[i] = resting{kind.Name(), p, safe.in(system.Here(d.System.Clock).Location())}
		}
	}
	return kept
}

// resting is a kind that is not looked at.
type resting struct {
	name   string
	policy *policy.Policy
	why    string
}

func (k resting) Name() string { return k.name }

func (k resting) Check(context.Context) ([]converge.Resource, error) {
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

func (resting) Repair(context.Context, []converge.Resource) []converge.Outcome { return nil }
