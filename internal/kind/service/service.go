// Package service keeps systemd's units as the policy wants them: the kind
// "service".
//
// Where a unit stands is what systemd says and nothing else; nothing is remembered
// between two looks. In an image that does not run its files are kept all the same:
// enabled, disabled, masked. What would end or disturb a live session is left until it has
// ended, and what carries the streaming session is never stopped.
package service

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/public"
	"github.com/soe-agent/soe-agent/internal/schedule"
	"github.com/soe-agent/soe-agent/internal/system"
)

// atOnce is how many units are asked about, started or stopped at a time.
const atOnce = 8

// Kind keeps the policy's services.
type Kind struct {
	*system.Unanswered
	policy *policy.Policy
	system *system.System
	window schedule.Window
}

// New returns the kind "service". In the maintenance window what the policy consents
// to may disrupt sessions.
func New(p *policy.Policy, s *system.System, window schedule.Window) *Kind {
	s, unanswered := s.Observe()
	return &Kind{Unanswered: unanswered, policy: p, system: s, window: window}
}

// Name implements converge.Kind.
func (k *Kind) Name() string { return "service" }

// Watches implements converge.Watcher.
func (k *Kind) Watches() []converge.Watch {
	watches := []converge.Watch{{Sessions: true}}
	for _, want := range policy.Of[policy.Service](k.policy) {
		watches = append(watches, converge.Watch{Unit: want.ID.Name()})
	}
	return watches
}

// Check implements converge.Kind.
func (k *Kind) Check(ctx context.Context) ([]converge.Resource, error) {
	wants := policy.Of[policy.Service](k.policy)
	if len(wants) == 0 {
		return nil, nil
	}
	resources := make([]converge.Resource, len(wants))
	names := make([]string, len(wants))
	for i, want := range wants {
		resources[i] = converge.Wanted(want.Resource)
		names[i] = want.ID.Name()
	}
	units, err := k.system.Units.States(ctx, names)
	if errors.Is(err, system.ErrNotRunning) {
		k.checkImage(ctx, resources, wants)
		return resources, nil
	}
	if err != nil {
		for i := range resources {
			resources[i].DoubtFor(public.Error(err))
		}
		return resources, err
	}
	mark := k.Mark()
	linked := k.readLinks()
	whole := k.Since(mark) == nil // else systemd is asked for each
	errs := make([]error, len(wants))
	each(wants, func(i int, want policy.Want[policy.Service]) {
		unit := units[i]
		if unit.LoadState == "" || unit.ActiveState == "" {
			resources[i].Doubt(fmt.Sprintf("systemd does not say where %s stands", want.ID.Name()))
			return
		}
		if !whole || !linked.tell(want.Spec, &unit) {
			if unit, errs[i] = k.system.Units.Unit(ctx, unit.Name); errs[i] != nil {
				resources[i].DoubtFor(public.Error(errs[i]))
				return
			}
		}
		judge(&resources[i], want.Spec, unit)
	})
	return resources, errors.Join(errs...)
}

// each calls do for all elements, some at a time, and returns when all are done.
func each[E any](all []E, do func(i int, e E)) {
	slots := make(chan struct{}, atOnce)
	var wg sync.WaitGroup
	for i, e := range all {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			do(i, e)
		})
	}
	wg.Wait()
}

func is(b *bool, value bool) bool { return b != nil && *b == value }

// The words are those of systemctl(1), is-enabled, and of org.freedesktop.systemd1(5).

func masked(u system.Unit) bool {
	return u.LoadState == "masked" || strings.HasPrefix(u.UnitFileState, "masked")
}

func maskedForGood(u system.Unit) bool {
	return masked(u) && u.UnitFileState != "masked-runtime"
}

func enabled(u system.Unit) bool { return u.UnitFileState == "enabled" || u.UnitFileState == "alias" }

func disabled(u system.Unit) bool { return !strings.HasPrefix(u.UnitFileState, "enabled") }

func running(u system.Unit) bool {
	return slices.Contains([]string{"active", "reloading", "refreshing"}, u.ActiveState)
}

func stopped(u system.Unit) bool {
	return slices.Contains([]string{"inactive", "failed", ""}, u.ActiveState)
}

// mustUnmask says whether what is wanted cannot be while the unit is masked.
func mustUnmask(want policy.Service) bool {
	return is(want.Masked, false) || is(want.Enabled, true) || is(want.Running, true)
}

// absent says whether there is no such unit, and there should be.
func absent(want policy.Service, u system.Unit) bool {
	return u.LoadState == "not-found" && (is(want.Enabled, true) || is(want.Running, true))
}

// judge records how a unit differs from what is wanted.
func judge(r *converge.Resource, want policy.Service, u system.Unit) {
	if absent(want, u) {
		// Drift and not a failure: the repair of another kind may bring it.
		r.DiffersOpenly("unit", "present", "not found")
		return
	}
	switch {
	case is(want.Masked, true) && !maskedForGood(u):
		r.DiffersOpenly("masked", "masked", said(u.UnitFileState, "not masked"))
	case mustUnmask(want) && masked(u):
		r.DiffersOpenly("masked", "not masked", said(u.UnitFileState, "masked"))
	}
	switch {
	case is(want.Enabled, true) && !enabled(u):
		r.DiffersOpenly("enabled", "enabled", said(u.UnitFileState, "no unit file"))
	case is(want.Enabled, false) && !disabled(u):
		r.DiffersOpenly("enabled", "disabled", u.UnitFileState)
	}
	switch {
	case is(want.Running, true) && !running(u):
		r.DiffersOpenly("running", "active", state(u))
	case is(want.Running, false) && !stopped(u):
		r.DiffersOpenly("running", "inactive", u.ActiveState)
	}
	if len(r.Diff) == 1 && r.Diff[0].Aspect == "enabled" && *want.Enabled {
		if why := cannotEnable(u); why != "" {
			r.Fail(why).Openly() // and there is nothing else that a repair could try
		}
	}
}

// state is a unit's ActiveState and, when it has failed, how.
func state(u system.Unit) string {
	if u.Result != "" {
		return u.ActiveState + " (" + u.Result + ")"
	}
	return u.ActiveState
}

func said(word, otherwise string) string {
	if word == "" {
		return otherwise
	}
	return word
}

// cannotEnable says why enabling a unit would do nothing, or "".
func cannotEnable(u system.Unit) string {
	switch u.UnitFileState {
	case "static":
		return "it is static: it has no [Install] section, and other units start it; say nothing of enabled"
	case "indirect":
		return "it is indirect: it has only an Also= in its [Install] section; enable the unit named there"
	case "generated":
		return "it is generated: a generator makes it of other configuration, which decides whether it is started"
	case "transient":
		return "it is transient: a program made it, and it is gone after the next boot"
	case "alias":
		return "it is an alias, another name of a unit that is not enabled; enable the unit itself"
	case "linked", "linked-runtime":
		return "it is linked: its file is elsewhere, and the link is all that systemd knows; put the file into /etc/systemd/system"
	case "":
		return "it has no unit file that could be enabled"
	case "bad", "invalid": // as systemd 219 calls it
		return "systemd cannot read its unit file; see: systemctl status " + u.Name
	}
	return ""
}
