// Package file implements the kind "file": owner, group and mode of files that others provide, and
// of a few directories, and keys or lines in some of these files. It leaves the rest of their content
// alone. Of other files it manages the whole content, or that the file does not exist.
//
// In a file whose keys are kept, everything else stays the same to the byte. What readers may
// interpret differently is not touched. New content is checked by the file's reader, if that is
// possible, before it is written, and is written as a whole. A change that a reader notices only
// when it starts is pending until the reboot.
//
// What a whole content replaces, or a removal removes, is kept and restored, whether it is a file or
// a link.
//
// Otherwise nothing is created: a missing file is a failure, or compliant if the policy says so. No link is
// followed, at the end or on the way. The attributes of a file with several names are left alone, because
// one of them may be any file. A mode with "at most" in the policy only removes permissions.
//
// The ledger has the previous value of each aspect before it is changed. When the policy no longer
// names an aspect, the previous value is restored, unless somebody else has changed it since: then
// it is theirs. Set-id bits are never restored, because the file may have got other content in the
// meantime.
package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/public"
	"github.com/soe-agent/soe-agent/internal/system"
)

// A Kind checks and repairs the files of a policy.
type Kind struct {
	*system.Unanswered
	policy *policy.Policy
	system *system.System
	ledger *converge.Ledger

	sshd atomic.Pointer[verdict] // the last verdict about sshd's configuration
}

// New returns the kind for a policy. The ledger knows what an earlier policy changed.
func New(p *policy.Policy, s *system.System, l *converge.Ledger) *Kind {
	s, unanswered := s.Observe()
	return &Kind{Unanswered: unanswered, policy: p, system: s, ledger: l}
}

// Name implements converge.Kind.
func (*Kind) Name() string { return policy.File{}.Kind() }

// File implements converge.Filed.
func (*Kind) File(id policy.ID) string { return "/" + id.Name() }

// Watches implements converge.Watcher: all files except those in /var (logs and spools), which
// change all the time and are checked in the next pass.
func (k *Kind) Watches() []converge.Watch {
	names := map[string][]string{}
	note := func(id policy.ID) {
		if name := k.File(id); !strings.HasPrefix(name, "/var/") {
			names[path.Dir(name)] = append(names[path.Dir(name)], path.Base(name))
		}
	}
	for _, want := range policy.Of[policy.File](k.policy) {
		note(want.ID)
	}
	for _, id := range k.unwanted() {
		note(id)
	}
	if len(names) == 0 {
		return nil
	}
	watches := []converge.Watch{{Mounts: true}} // something may be mounted over a file
	for _, dir := range slices.Sorted(maps.Keys(names)) {
		watches = append(watches, converge.Watch{Dir: dir, Names: names[dir]})
	}
	return watches
}

// unwanted returns the files that an earlier policy named and this one does not. One that has
// become protected since is not touched again.
func (k *Kind) unwanted() (ids []policy.ID) {
	for _, id := range k.ledger.Owned(k.Name()) {
		if _, named := k.policy.Lookup(id); !named && policy.ForbiddenFile(k.File(id)) == "" {
			ids = append(ids, id)
		}
	}
	return ids
}

// Check implements converge.Kind.
func (k *Kind) Check(ctx context.Context) ([]converge.Resource, error) {
	mark := k.Mark()
	l := k.newLook()
	if err := k.Since(mark); err != nil {
		return nil, fmt.Errorf("cannot tell which changes have not taken effect yet: %w", err)
	}
	var resources []converge.Resource
	for _, want := range policy.Of[policy.File](k.policy) {
		r := converge.Wanted(want.Resource)
		spec := want.Spec
		a, err := l.aim(ctx, k.File(want.ID), &spec)
		r.Happened = a.info.Changed
		switch {
		case errors.Is(err, fs.ErrNotExist) && spec.IfExists:
			r.Note("there is none, as the policy allows")
		case errors.Is(err, fs.ErrNotExist):
			r.SetFailed("there is no " + k.File(want.ID) + ", and [files] makes none: install what brings it, or say if_exists = true where it need not be there").ReasonIsPublic()
		case isAnswer(err):
			r.SetFailedErr(public.Error(err))
		case err != nil:
			r.SetUnknownErr(err)
		default:
			for _, d := range a.diff {
				r.AddPublicDrift(d.Aspect, d.Want, d.Got)
			}
			differs, open := r.AddDrift, k.opens(k.File(want.ID), a)
			if open {
				differs = r.AddPublicDrift
			}
			for _, d := range a.keys {
				differs(d.Aspect, d.Want, d.Got)
			}
			if l.awaiting[k.File(want.ID)] {
				r.AddPublicDrift(converge.AspectEffect, "in effect", "written, and not yet in effect")
			}
			if r.State == converge.Compliant {
				k.isInEffect(ctx, k.File(want.ID), spec, open, &r)
			}
			if r.State == converge.Compliant && spec.Content != nil && spec.Ensure != policy.Absent && !policy.IsReadEachTime(k.File(want.ID)) {
				r.Note("it is not known who reads it, and so not whether it is in effect")
			}
			if r.State == converge.Compliant && l.untilBoot[k.File(want.ID)] {
				r.SetPending(converge.Reboot, "its reader reads it when the machine starts").ReasonIsPublic()
			}
		}
		resources = append(resources, r)
	}
	for _, id := range k.unwanted() {
		r := converge.Unwanted(id, "the policy no longer names it, so it gets back what it had")
		_, err := l.aim(ctx, k.File(id), nil)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !isAnswer(err) {
			r.SetUnknownErr(err)
		}
		resources = append(resources, r)
	}
	return resources, nil
}

// Repair implements converge.Kind. The previous attributes of all files are in the ledger, on disk,
// before the first file is changed.
func (k *Kind) Repair(ctx context.Context, drifted []converge.Resource) (outcomes []converge.Outcome) {
	mark := k.Mark()
	l := k.newLook()
	unknown := k.Since(mark)
	aims := map[policy.ID]aim{}
	for _, r := range drifted {
		a, err := k.aimAgain(ctx, l, r.ID)
		switch {
		case unknown != nil:
			outcomes = append(outcomes, k.failed(r.ID, unknown))
		case err != nil:
			outcomes = append(outcomes, k.failed(r.ID, err))
		case k.ledger.Owns(policy.NewID(policy.Dropin{}.Kind(), r.ID.Name())) && a.spec != nil:
			outcomes = append(outcomes, converge.Outcome{ID: r.ID, Postponed: converge.Now, Reason: "it is given back first as it was before an earlier policy wrote it"})
		default:
			aims[r.ID] = a
			if a.spec != nil {
				k.ledger.Own(r.ID)
				k.ledger.Retouch(k.File(r.ID), a.during)
			}
		}
	}
	err := k.ledger.Flush()
	for _, r := range drifted {
		a, aimed := aims[r.ID]
		if !aimed {
			continue
		}
		if err == nil {
			if err := k.change(ctx, l, r.ID, a); err != nil {
				outcomes = append(outcomes, k.failed(r.ID, err))
			} else if a.first {
				outcomes = append(outcomes, converge.Outcome{ID: r.ID, Postponed: converge.Now, Reason: "what an earlier policy changed in it is given back first"})
			}
			continue
		}
		outcomes = append(outcomes, k.failed(r.ID, fmt.Errorf("cannot record its previous values: %w", err)))
	}
	return outcomes
}

func (k *Kind) aimAgain(ctx context.Context, l *look, id policy.ID) (aim, error) {
	if want, named := k.policy.Lookup(id); named {
		spec, _ := want.Spec.(policy.File)
		first := spec.Whole() && hasKeys(k.ledger.Retouched(k.File(id)))
		if first {
			spec.Content, spec.Ensure = nil, policy.Present
		}
		a, err := l.aim(ctx, k.File(id), &spec)
		a.first = first
		return a, err
	}
	a, err := l.aim(ctx, k.File(id), nil)
	if errors.Is(err, fs.ErrNotExist) || isAnswer(err) {
		return aim{during: k.ledger.Retouched(k.File(id))}, nil // nothing of what was changed exists any more
	}
	return a, err
}

func (k *Kind) change(ctx context.Context, l *look, id policy.ID, a aim) error {
	name := k.File(id)
	switch {
	case a.whole != nil:
		if err := k.writeWhole(name, a); err != nil {
			return err
		}
	case len(a.keys) > 0:
		if err := k.write(ctx, l, name, a); err != nil {
			return err
		}
	case a.attr != a.info.Attr || a.info.ACL && len(a.diff) > 0:
		if err := k.files(name).ChangeAttr(name, a.info, a.attr); err != nil {
			return err
		}
	}
	if err := k.takeEffect(ctx, l, name); err != nil {
		return err
	}
	if (hasKeys(a.during) || hasContent(a.during)) && !hasKeys(a.after) && !hasContent(a.after) {
		// The content is the previous one, or somebody else's.
		if err := k.ledger.Release(name, func(system.Original) error { return nil }, func() error { return nil }); err != nil {
			return err
		}
	}
	k.ledger.Retouch(name, a.after)
	if a.spec == nil {
		k.ledger.Disown(id)
	}
	return nil
}

// files returns the FS through which a file is changed: sshd_config, which decides who gets in, has
// one of its own.
func (k *Kind) files(name string) system.FS {
	if name == policy.SSHDConfig || policy.IsKeptByAttributes(name) {
		return k.system.Guarded
	}
	return k.system.FS
}

func (k *Kind) failed(id policy.ID, err error) converge.Outcome {
	verb := "cannot bring " + k.File(id) + " into line"
	if _, named := k.policy.Lookup(id); !named {
		verb = "cannot give " + k.File(id) + " back what it had"
	}
	return converge.Outcome{ID: id, Err: public.Because(verb, err)}
}
