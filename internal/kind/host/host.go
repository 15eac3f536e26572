// Package host keeps settings of the machine as a whole: the kind "system", with the resources
// "system/timezone" and "system/selinux".
//
// The time zone in effect is the target of the link /etc/localtime, and UTC without it (localtime(5)).
// SELinux has a running mode and a mode for the next boot; both are kept. SELinux is never turned on
// on a machine that runs without it: files would have no labels, and nobody could log in.
package host

import (
	"context"
	"errors"
	"fmt"
	"path"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/public"
	"github.com/soe-agent/soe-agent/internal/system"
)

// Kind keeps the settings of the machine as a whole.
type Kind struct {
	*system.Unanswered
	policy *policy.Policy
	system *system.System
}

// New returns the kind "system".
func New(p *policy.Policy, s *system.System) *Kind {
	s, unanswered := s.Observe()
	return &Kind{Unanswered: unanswered, policy: p, system: s}
}

// Name implements converge.Kind.
func (k *Kind) Name() string { return "system" }

// Watches implements converge.Watcher.
func (k *Kind) Watches() []converge.Watch {
	return []converge.Watch{
		{Dir: path.Dir(localtimeLink), Names: []string{path.Base(localtimeLink), path.Base(timezoneFile)}},
		{Dir: path.Dir(selinuxConfig)},
		{Sessions: true},
	}
}

// Check implements converge.Kind.
func (k *Kind) Check(context.Context) ([]converge.Resource, error) {
	var resources []converge.Resource
	var errs []error
	for _, want := range policy.Of[policy.System](k.policy) {
		r := converge.Wanted(want.Resource)
		var err error
		switch want.ID.Name() {
		case "timezone":
			err = k.checkTimezone(&r, want.Spec.Value)
		case "selinux":
			err = k.checkSELinux(&r, want.Spec.Value)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		resources = append(resources, r)
	}
	return resources, errors.Join(errs...)
}

// Repair implements converge.Kind.
func (k *Kind) Repair(ctx context.Context, drifted []converge.Resource) []converge.Outcome {
	var outcomes []converge.Outcome
	for _, r := range drifted {
		want, _ := k.policy.Lookup(r.ID)
		spec, _ := want.Spec.(policy.System)
		outcome := converge.Outcome{ID: r.ID}
		switch r.ID.Name() {
		case "timezone":
			outcome.Err = k.setTimezone(spec.Value)
		case "selinux":
			outcome = k.setSELinux(ctx, r, spec.Value)
		}
		if outcome.Err != nil {
			outcome.Err = public.Because(fmt.Sprintf("cannot set %s to %s", r.ID.Name(), spec.Value), outcome.Err)
		}
		if outcome.Err != nil || outcome.Postponed != "" {
			outcomes = append(outcomes, outcome)
		}
	}
	return outcomes
}
