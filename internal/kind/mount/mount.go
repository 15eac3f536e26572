// Package mount implements the kind "mount": it keeps the options nodev, nosuid and noexec on file
// systems that others have mounted.
//
// It never mounts or unmounts anything. A mount is remounted in place, in a way that changes only
// the flags of that mount: no option of the file system is lost, and no other flag changes. The
// options in effect are those in the mountinfo of the machine's first process.
//
// At boot, the options come from the mount's line in /etc/fstab, to which they are added. For what
// systemd mounts by itself, they come from a line that the agent adds for /dev/shm, or from a
// drop-in for the unit of a tmpfs. Everything else is remounted when the agent starts. The readers
// of fstab(5) check a new file before it is written.
//
// The ledger has the previous options before they are changed. They are restored when the policy no
// longer names the mount, unless somebody else has changed them since.
package mount

import (
	"context"
	"errors"
	"fmt"
	"path"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/mounts"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/public"
	"github.com/soe-agent/soe-agent/internal/system"
	"github.com/soe-agent/soe-agent/internal/unitfiles"
)

// A Kind checks and repairs the mounts of a policy.
type Kind struct {
	*system.Unanswered
	policy *policy.Policy
	system *system.System
	ledger *converge.Ledger
}

// New returns the kind for a policy. The ledger knows what an earlier policy changed.
func New(p *policy.Policy, s *system.System, l *converge.Ledger) *Kind {
	s, unanswered := s.Observe()
	return &Kind{Unanswered: unanswered, policy: p, system: s, ledger: l}
}

// Name implements converge.Kind.
func (*Kind) Name() string { return policy.Mount{}.Kind() }

func point(id policy.ID) string { return "/" + id.Name() }

// Watches implements converge.Watcher.
func (k *Kind) Watches() []converge.Watch {
	ids := k.unwanted()
	for _, want := range policy.Of[policy.Mount](k.policy) {
		ids = append(ids, want.ID)
	}
	if len(ids) == 0 {
		return nil
	}
	watches := []converge.Watch{{Mounts: true}, {Dir: path.Dir(mounts.FstabFile), Names: []string{path.Base(mounts.FstabFile)}}}
	for _, id := range ids {
		watches = append(watches, converge.Watch{Dir: path.Dir(dropinOf(unitfiles.MountUnit(point(id))))})
	}
	return watches
}

// unwanted returns the mounts that an earlier policy named and this one does not. One that has
// become protected since is not touched again.
func (k *Kind) unwanted() (ids []policy.ID) {
	for _, id := range k.ledger.Owned(k.Name()) {
		if _, named := k.policy.Lookup(id); !named && policy.ForbiddenMount(point(id)) == "" {
			ids = append(ids, id)
		}
	}
	return ids
}

// Check implements converge.Kind.
func (k *Kind) Check(context.Context) ([]converge.Resource, error) {
	var resources []converge.Resource
	wants, unwanted := policy.Of[policy.Mount](k.policy), k.unwanted()
	if len(wants)+len(unwanted) == 0 {
		return nil, nil
	}
	l, err := k.newLook()
	for _, want := range wants {
		r := converge.Wanted(want.Resource)
		a, mark, unsure := aim{}, k.Mark(), err
		if unsure == nil {
			a, unsure = l.aim(want.ID, &want.Spec)
		}
		absent := absence("")
		switch {
		case errors.As(unsure, &absent) && want.Spec.IfMounted:
			r.Note(absent.Error() + ", as the policy allows")
		case isAnswer(unsure):
			r.SetFailedErr(public.Error(unsure))
		case unsure != nil:
			r.SetUnknownErr(unsure)
		default:
			for _, d := range a.diff {
				r.AddPublicDrift(d.Aspect, d.Want, d.Got)
			}
			if a.note != "" {
				r.Note(a.note)
			}
			r.SetUnknownIf(k.Since(mark))
		}
		resources = append(resources, r)
	}
	for _, id := range unwanted {
		r := converge.Unwanted(id, "the policy no longer names it, so it gets back the options that it had")
		if err != nil {
			r.SetUnknownErr(err)
		}
		resources = append(resources, r)
	}
	return resources, nil
}

// Repair implements converge.Kind. The previous options of all mounts are in the ledger, on disk,
// before the first mount is changed.
func (k *Kind) Repair(ctx context.Context, drifted []converge.Resource) (outcomes []converge.Outcome) {
	aims := map[policy.ID]aim{}
	for _, r := range drifted {
		a, _, err := k.lookAgain(r.ID)
		if err != nil {
			outcomes = append(outcomes, k.failed(r.ID, err))
			continue
		}
		aims[r.ID] = a
		if a.spec != nil {
			k.ledger.Own(r.ID)
			k.ledger.Retouch(string(r.ID), a.During)
		}
	}
	err := k.ledger.Flush()
	for _, r := range drifted {
		a, aimed := aims[r.ID]
		switch {
		case !aimed:
		case err != nil:
			outcomes = append(outcomes, k.failed(r.ID, fmt.Errorf("cannot record its previous values: %w", err)))
		default:
			if err := k.change(ctx, r.ID, a); err != nil {
				outcomes = append(outcomes, k.failed(r.ID, err))
			}
		}
	}
	return outcomes
}

// change remounts, and then changes the files for the boot.
func (k *Kind) change(ctx context.Context, id policy.ID, a aim) error {
	err := errors.Join(k.remount(ctx, a), k.writeFstab(ctx, id), k.writeDropin(ctx, id))
	if err != nil {
		return err
	}
	k.ledger.Retouch(string(id), a.After)
	if a.spec == nil {
		k.ledger.Disown(id)
	}
	return k.forgetFstab()
}

func (k *Kind) failed(id policy.ID, err error) converge.Outcome {
	verb := "cannot bring the mount " + point(id) + " into line"
	if _, named := k.policy.Lookup(id); !named {
		verb = "cannot give the mount " + point(id) + " back what it had"
	}
	return converge.Outcome{ID: id, Err: public.Because(verb, err)}
}
