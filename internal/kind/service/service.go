// Package service keeps systemd's units as the policy wants them: the kind "service".
//
// The state of a unit is what systemd says; nothing is remembered between two checks. An alias stands
// for its unit, and a template is only a file. In an image the unit files are kept all the same:
// enabled, disabled, masked. What would end or disturb a live session waits until it has ended, and
// the units that carry the streaming session are never stopped.
package service

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/public"
	"github.com/soe-agent/soe-agent/internal/schedule"
	"github.com/soe-agent/soe-agent/internal/sessionguard"
	"github.com/soe-agent/soe-agent/internal/system"
	"github.com/soe-agent/soe-agent/internal/unitfiles"
)

// atOnce is how many units are queried, started or stopped in parallel.
const atOnce = 8

// Kind keeps the policy's services.
type Kind struct {
	*system.Unanswered
	policy *policy.Policy
	system *system.System
	window schedule.Window

	aliases aliases
}

// New returns the kind "service". In the maintenance window, what the policy consents to may disrupt
// sessions.
func New(p *policy.Policy, s *system.System, window schedule.Window) *Kind {
	s, unanswered := s.Observe()
	return &Kind{Unanswered: unanswered, policy: p, system: s, window: window}
}

// Name implements converge.Kind.
func (k *Kind) Name() string { return "service" }

// Watches implements converge.Watcher.
func (k *Kind) Watches() []converge.Watch {
	watches, known := []converge.Watch{{Sessions: true}}, k.newNames()
	for _, want := range policy.Of[policy.Service](k.policy) {
		watches = append(watches, converge.Watch{Unit: want.ID.Name()})
		if real := known.real(want.ID.Name()); real != want.ID.Name() {
			watches = append(watches, converge.Watch{Unit: real}) // systemd sends signals only for this name
		}
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
	names, known := make([]string, len(wants)), k.newNames() // their own
	for i, want := range wants {
		resources[i] = converge.Wanted(want.Resource)
		names[i] = known.real(want.ID.Name())
		if names[i] != want.ID.Name() {
			resources[i].Note("it is another name of " + names[i])
		}
	}
	units, err := k.states(ctx, names)
	if errors.Is(err, system.ErrNotRunning) {
		k.checkImage(ctx, resources, wants, names)
		return resources, nil
	}
	if err != nil {
		for i := range resources {
			resources[i].SetUnknownErr(public.Error(err))
		}
		return resources, err
	}
	mark := k.Mark()
	linked := unitfiles.ReadLinks(k.system.FS)
	whole := k.Since(mark) == nil // otherwise ask systemd about each unit
	errs := make([]error, len(wants))
	each(wants, func(i int, want policy.Want[policy.Service]) {
		unit, r := units[i], &resources[i]
		if unit.Err != nil {
			r.SetUnknownErr(public.Error(unit.Err))
			return
		}
		if !unitfiles.IsTemplate(unit.Name) && (unit.LoadState == "" || unit.ActiveState == "") {
			r.SetUnknown(fmt.Sprintf("systemd does not say where %s stands", unit.Name))
			return
		}
		if !whole || !tell(linked, want.Spec, &unit) {
			unit, errs[i] = examine(ctx, k.system.Units, unit.Name)
		}
		if errs[i] == nil && is(want.Spec.Running, true) {
			unit, errs[i] = sessionguard.Stable(ctx, k.system, unit)
		}
		if errs[i] != nil {
			r.SetUnknownErr(public.Error(errs[i]))
			return
		}
		k.judge(r, want.Spec, unit, linked)
	})
	contradictions(resources, wants, names)
	if slices.Contains(errs, nil) {
		return resources, nil // each that cannot be asked about says so itself, and the others are known
	}
	return resources, errors.Join(errs...)
}

// states returns the states of units, in the order of names. A template, which does not run, has only
// a name.
func (k *Kind) states(ctx context.Context, names []string) ([]system.Unit, error) {
	found, err := k.system.Units.States(ctx, slices.DeleteFunc(slices.Clone(names), unitfiles.IsTemplate))
	if err != nil {
		return nil, err
	}
	units := make([]system.Unit, len(names))
	for i, name := range names {
		if unitfiles.IsTemplate(name) {
			units[i].Name = name
			continue
		}
		units[i], found = found[0], found[1:]
		units[i].Name = name
	}
	return units, nil
}

// examine returns the full state of a unit, with the current state of its file: systemd caches that
// until it reloads.
func examine(ctx context.Context, units system.UnitStates, name string) (system.Unit, error) {
	unit := system.Unit{Name: name, LoadState: "not-found", ActiveState: "inactive"}
	var err error
	if !unitfiles.IsTemplate(name) {
		if unit, err = units.Unit(ctx, name); err != nil {
			return unit, err
		}
		unit.Name = name
	}
	if unit.UnitFileState, err = units.FileState(ctx, name); err != nil || !unitfiles.IsTemplate(name) {
		return unit, err
	}
	switch {
	case masked(unit):
		unit.LoadState = "masked"
	case unit.UnitFileState != "":
		unit.LoadState = "loaded"
	}
	return unit, nil
}

// contradictions are conflicting wants for one unit under several names.
func contradictions(resources []converge.Resource, wants []policy.Want[policy.Service], names []string) {
	contrary := func(a, b *bool) bool { return a != nil && b != nil && *a != *b }
	for i := range wants {
		for j := range wants {
			a, b := wants[i].Spec, wants[j].Spec
			if unitfiles.TemplateOf(names[j]) == names[i] && (is(a.Enabled, false) && is(b.Enabled, true) || is(a.Masked, true) && mustUnmask(b)) {
				resources[i].SetFailed(fmt.Sprintf("with it goes its instance %s, which the policy wants to stay; name the instances that are to go", names[j])).ReasonIsPublic()
				resources[j].SetFailed(fmt.Sprintf("it goes with its template %s, of which the policy wants the contrary; say nothing of the template", names[i])).ReasonIsPublic()
			}
			if i == j || names[i] != names[j] {
				continue
			}
			both := policy.Service{Enabled: cmp.Or(a.Enabled, b.Enabled), Running: cmp.Or(a.Running, b.Running), Masked: cmp.Or(a.Masked, b.Masked)}
			if contrary(a.Enabled, b.Enabled) || contrary(a.Running, b.Running) || contrary(a.Masked, b.Masked) || is(both.Masked, true) && mustUnmask(both) {
				resources[i].SetFailed(fmt.Sprintf("it is %s, of which the policy wants the contrary as %s; say it once, as %s", names[i], wants[j].ID.Name(), names[i])).ReasonIsPublic()
			}
		}
	}
}

// each calls do for all elements, some in parallel, and returns when all are done.
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

// The words of systemctl(1), is-enabled, and of org.freedesktop.systemd1(5).

func masked(u system.Unit) bool {
	return u.LoadState == "masked" || strings.HasPrefix(u.UnitFileState, "masked")
}

func maskedForGood(u system.Unit) bool {
	return masked(u) && u.UnitFileState != "masked-runtime"
}

func enabled(u system.Unit) bool { return u.UnitFileState == "enabled" }

// A template is indirect if another instance than its default one is enabled.
func disabled(u system.Unit) bool {
	return !strings.HasPrefix(u.UnitFileState, "enabled") && (u.UnitFileState != "indirect" || !unitfiles.IsTemplate(u.Name))
}

func running(u system.Unit) bool {
	return slices.Contains([]string{"active", "reloading", "refreshing"}, u.ActiveState)
}

func stopped(u system.Unit) bool {
	return slices.Contains([]string{"inactive", "failed", ""}, u.ActiveState)
}

// mustUnmask reports whether a wanted state is impossible while the unit is masked.
func mustUnmask(want policy.Service) bool {
	return is(want.Masked, false) || is(want.Enabled, true) || is(want.Running, true)
}

// absent reports whether a unit does not exist although it should.
func absent(want policy.Service, u system.Unit) bool {
	return u.LoadState == "not-found" && (is(want.Enabled, true) || is(want.Running, true))
}

// judge records how a unit differs from what is wanted.
func (k *Kind) judge(r *converge.Resource, want policy.Service, u system.Unit, l unitfiles.Links) {
	if absent(want, u) {
		// This is drift and not a failure: the repair of another kind may install it.
		r.AddPublicDrift("unit", "present", "not found")
		return
	}
	switch {
	case is(want.Masked, true) && !maskedForGood(u):
		r.AddPublicDrift("masked", "masked", said(u.UnitFileState, "not masked"))
	case mustUnmask(want) && masked(u):
		r.AddPublicDrift("masked", "not masked", said(u.UnitFileState, "masked"))
	}
	switch {
	case is(want.Enabled, true) && !enabled(u):
		r.AddPublicDrift("enabled", "enabled", said(u.UnitFileState, "no unit file"))
	case is(want.Enabled, false) && !disabled(u):
		r.AddPublicDrift("enabled", "disabled", u.UnitFileState)
	case is(want.Enabled, false) && len(left(l, u)) > 0:
		r.AddPublicDrift("enabled", "disabled", "there is no file that could be started, and links to it are left: "+strings.Join(left(l, u), " "))
	}
	switch {
	case is(want.Running, true) && !running(u):
		r.AddPublicDrift("running", "active", state(u))
	case is(want.Running, false) && !stopped(u):
		r.AddPublicDrift("running", "inactive", u.ActiveState)
	}
	if len(r.Diff) != 1 {
		return
	}
	why := ""
	switch aspect := r.Diff[0].Aspect; {
	case aspect == "enabled" && *want.Enabled:
		why = cannotEnable(u)
	case aspect == "masked" && is(want.Masked, true):
		why = k.cannotMask(u.Name)
	}
	if why != "" {
		r.SetFailed(strings.TrimPrefix(r.Reason+"; "+why, "; ")).ReasonIsPublic() // a repair has nothing else to try
	}
}

// state is a unit's ActiveState and, if it has failed, its result.
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

// cannotMask returns why a unit cannot be masked, or "". systemd 219 only says "Invalid argument", and
// later ones that there is a file.
func (k *Kind) cannotMask(name string) string {
	file := path.Join(unitfiles.Dirs()[0], name)
	if info, err := k.system.FS.Stat(file); err != nil || info.Type != 0 || info.Size == 0 {
		return ""
	}
	return "its file is " + file + ", where the mask would have to be; let it go from there, or say enabled = false and running = false instead of masked"
}

// cannotEnable returns why enabling a unit would have no effect, or "".
func cannotEnable(u system.Unit) string {
	if unitfiles.IsTemplate(u.Name) && u.UnitFileState == "indirect" {
		return "" // an instance is enabled, and another one may be that its file says (DefaultInstance=)
	}
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
	case "bad", "invalid": // in systemd 219
		return "systemd cannot read its unit file; see: systemctl status " + u.Name
	}
	return ""
}
