package packages

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/protected"
	"github.com/soe-agent/soe-agent/internal/public"
	"github.com/soe-agent/soe-agent/internal/schedule"
	"github.com/soe-agent/soe-agent/internal/sessionguard"
	"github.com/soe-agent/soe-agent/internal/system"
)

// Patches implements the kind "patch": it installs updates when the machine is new, and later in
// the maintenance window. While somebody is logged in, packages that the session depends on are
// left alone.
type Patches struct {
	*system.Unanswered
	policy  *policy.Policy
	system  *system.System
	ledger  *converge.Ledger
	wants   []policy.Want[policy.Patch]
	window  schedule.Window
	manager manager

	identity string // state of the sources when the answers were given
	answers  map[string]answer
}

// An answer is what the repositories said to one question, and until when that counts.
type answer struct {
	updates bool
	doubt   string
	until   time.Time
}

// NewPatches returns the kind "patch". Transactions wait for another package manager for at most
// patience.
func NewPatches(p *policy.Policy, s *system.System, l *converge.Ledger, patience time.Duration, window schedule.Window) *Patches {
	s, unanswered := s.Observe()
	return &Patches{Unanswered: unanswered, policy: p, system: s, ledger: l, wants: policy.Of[policy.Patch](p), window: window, manager: newManager(p, s, patience)}
}

// Name implements converge.Kind.
func (k *Patches) Name() string { return "patch" }

// Watches implements converge.Watcher.
func (k *Patches) Watches() []converge.Watch {
	if len(k.wants) == 0 {
		return nil
	}
	return []converge.Watch{{Sessions: true}}
}

// Check implements converge.Kind.
func (k *Patches) Check(ctx context.Context) ([]converge.Resource, error) {
	var resources []converge.Resource
	for _, want := range k.wants {
		r := converge.Wanted(want.Resource)
		if k.policy.Partial {
			r.SetUnknown("a part of the policy could not be had, and it may keep packages in their versions: no update is installed before").ReasonIsPublic()
			resources = append(resources, r)
			continue
		}
		mark := k.Mark()
		if err := k.judge(ctx, &r, want); err != nil {
			return resources, err
		}
		r.SetUnknownIf(k.Since(mark))
		resources = append(resources, r)
	}
	return resources, nil
}

func (k *Patches) judge(ctx context.Context, r *converge.Resource, want policy.Want[policy.Patch]) error {
	updates, doubt := k.ask(ctx, want.Spec, nil)
	switch {
	case !updates && doubt != "":
		r.SetUnknownErr(public.Because("it cannot be told whether there are updates", errors.New(doubt)))
		return nil
	case !updates:
		return k.judgeKernel(ctx, r)
	case !k.mayNow(want.ID) && !k.window.IsSet():
		r.SetPending(converge.Maintenance, "there are updates, and no maintenance window is set; say window in [schedule] of agent.toml").ReasonIsPublic()
		return nil
	case !k.mayNow(want.ID):
		r.SetPending(converge.Maintenance, "there are updates, which wait for the maintenance window "+k.window.String()).ReasonIsPublic()
		return nil
	}
	spared, why, err := k.spared(ctx, want.ID)
	if err != nil {
		return err
	}
	if len(spared) > 0 {
		switch more, doubt := k.ask(ctx, want.Spec, spared); {
		case !more && doubt != "":
			r.SetUnknown("it cannot be told whether there are updates that could be installed now: " + doubt)
			return nil
		case !more:
			r.SetPending(why.Until, why.Reason).ReasonIsPublic()
			return nil
		}
	}
	r.AddPublicDrift("updates", "none left", "there are")
	return nil
}

func (k *Patches) judgeKernel(ctx context.Context, r *converge.Resource) error {
	running, err := runningKernel(k.system)
	if err != nil || running == "" {
		return err
	}
	out, err := k.system.Runner.Run(ctx, system.Command{Argv: append([]string{"rpm"}, query([]string{kernel})...), ReadOnly: true})
	if err != nil {
		return fmt.Errorf("cannot ask the rpm database: %w", err)
	}
	if err := trouble(out); err != nil {
		return fmt.Errorf("cannot ask the rpm database: %w", err)
	}
	there, err := k.manager.parseQuery([]string{kernel}, out)
	if err != nil {
		return err
	}
	if why := olderKernelRuns(running, there[kernel]); why != "" {
		r.SetPending(converge.Reboot, why).ReasonIsPublic()
	}
	return nil
}

// mayNow reports whether updates may be installed now: the window is open, or this machine has
// never had them yet.
func (k *Patches) mayNow(id policy.ID) bool {
	return k.window.Open(system.Here(k.system.Clock)) || !k.ledger.EverInLine(id)
}

// spared returns the installed packages that must not be touched while somebody is logged in, and
// why.
func (k *Patches) spared(ctx context.Context, id policy.ID) (names []string, why *sessionguard.Held, err error) {
	person, err := facts.LoggedIn(ctx, k.system)
	if err != nil || person == "" {
		return nil, nil, err
	}
	there, err := k.manager.recorded(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(there)) {
		if protected.PackageCarries(name) == protected.Nobody {
			continue
		}
		held := (*sessionguard.Held)(nil)
		if err := consentTo(k.policy, k.window, id, name).Hold(k.system, person, "whose session may end when what is left is updated"); errors.As(err, &held) {
			names, why = append(names, name), held
		}
	}
	return names, why, nil
}

// ask reports whether there are updates for other packages than the spared ones. doubt says why the
// answer may be incomplete, or is "". Answers count as long as those of updates.
func (k *Patches) ask(ctx context.Context, want policy.Patch, spared []string) (updates bool, doubt string) {
	now, clock := sources(k.system.FS), k.system.Clock
	if now != k.identity || k.answers == nil {
		k.identity, k.answers = now, map[string]answer{}
	}
	question := want.Updates + strings.Join(spared, " ")
	if a, answered := k.answers[question]; answered && now != "" && clock.Now().Before(a.until) {
		return a.updates, a.doubt
	}
	a := answer{until: clock.Now().Add(updatesKept)}
	if a.updates, a.doubt = k.manager.checkUpdate(ctx, k.options(want, spared)); a.doubt != "" {
		a.until = clock.Now().Add(doubtKept)
	}
	k.answers[question] = a
	return a.updates, a.doubt
}

// options returns the options that exclude the spared packages and those that the policy itself
// keeps in a version. Otherwise the kinds "patch" and "package" would change them back and forth.
func (k *Patches) options(want policy.Patch, spared []string) []string {
	var options []string
	if want.Updates == policy.SecurityUpdates {
		options = append(options, "--security")
	}
	return append(options, excluding(append(pinned(k.policy), spared...))...)
}

// Repair implements converge.Kind.
func (k *Patches) Repair(ctx context.Context, drifted []converge.Resource) []converge.Outcome {
	err := k.manager.awaitEarlier(ctx)
	var there installed
	if err == nil {
		there, err = k.manager.mendInterrupted(ctx)
	}
	if there == nil {
		return all(drifted, err)
	}
	if err != nil {
		k.system.Log.Error("cannot repair the package database after an interrupted transaction; it is tried again at the next pass", "kind", "patch", "err", err)
	}
	var outcomes []converge.Outcome
	for _, want := range k.wants {
		if slices.ContainsFunc(drifted, func(r converge.Resource) bool { return r.ID == want.ID }) {
			outcomes = append(outcomes, k.install(ctx, want, there)...)
		}
	}
	return outcomes
}

// install installs the updates. If not all can be installed, it installs those that can. If
// somebody logs in before the transaction starts, packages that would disturb the session are left
// out.
func (k *Patches) install(ctx context.Context, want policy.Want[policy.Patch], there installed) []converge.Outcome {
	spared, why, err := k.spared(ctx, want.ID)
	if err != nil {
		return []converge.Outcome{{ID: want.ID, Err: err}}
	}
	update := func(options ...string) (system.Output, error) {
		return k.manager.ifStill(func(ctx context.Context) error {
			now, _, err := k.spared(ctx, want.ID)
			if err == nil && slices.ContainsFunc(now, func(name string) bool { return !slices.Contains(spared, name) }) {
				err = errPostponed
			}
			return err
		}).update(ctx, guarded(there), options...)
	}
	out, err := update(k.options(want.Spec, spared)...)
	if errors.Is(err, errPostponed) {
		return k.install(ctx, want, there)
	}
	if err != nil {
		return []converge.Outcome{{ID: want.ID, Err: public.Because("cannot install updates", err)}}
	}
	k.answers = nil
	left, _ := k.ask(ctx, want.Spec, spared)
	if left {
		said := reason(out)
		lenient := []string{"--skip-broken"}
		if k.manager.program() == "dnf" {
			lenient = append(lenient, "--nobest")
		}
		_, err := update(append(k.options(want.Spec, spared), lenient...)...)
		if errors.Is(err, errPostponed) {
			return k.install(ctx, want, there)
		}
		if err != nil {
			said = err.Error()
		}
		k.answers = nil
		if left, _ = k.ask(ctx, want.Spec, spared); left {
			return []converge.Outcome{{ID: want.ID, Err: public.Because("cannot install all updates", errors.New(said))}}
		}
	}
	if rest, _ := k.ask(ctx, want.Spec, nil); rest && len(spared) > 0 {
		return []converge.Outcome{sessionguard.Outcome(want.ID, why)}
	}
	return nil
}
