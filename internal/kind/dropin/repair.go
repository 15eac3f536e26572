package dropin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/own"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/public"
	"github.com/soe-agent/soe-agent/internal/system"
)

// Repair implements converge.Kind.
func (k *Kind) Repair(ctx context.Context, drifted []converge.Resource) []converge.Outcome {
	mark := k.Mark()
	wanted, secretDirs := map[policy.ID]policy.Want[policy.Dropin]{}, map[string]bool{}
	touched, waiting := map[string]bool{}, k.readNames(awaiting) // these are the only directories asked about
	for _, r := range drifted {
		touched[path.Dir(fileOf(r.ID))] = true
	}
	for name := range waiting {
		touched[path.Dir(name)] = true
	}
	for _, want := range k.wants() {
		wanted[want.ID] = want
		if len(want.Secrets) > 0 || touched[path.Dir(fileOf(want.ID))] && modeOf(want)&0o004 != 0 && k.isClosed(fileOf(want.ID)) {
			secretDirs[path.Dir(fileOf(want.ID))] = true
		}
	}
	for _, r := range k.policy.Resources {
		if r.ID.Kind() == k.Name() && slices.ContainsFunc(r.Missing, policy.Reference.Secret) {
			secretDirs[path.Dir(fileOf(r.ID))] = true // the old content is on disk and unknown
		}
	}
	for _, id := range k.unwanted() {
		if k.isClosed(fileOf(id)) {
			secretDirs[path.Dir(fileOf(id))] = true
		}
	}
	delete(secretDirs, sshdDir) // no policy can have a secret there, whatever the modes are
	b := &batch{
		Kind: k, accounts: facts.NewIDs(k.system), wants: wanted, secretDirs: secretDirs, awaiting: waiting, starts: k.readStarts(),
		undo: k.loadUndo(), before: map[string][]byte{}, broken: map[string]error{},
	}
	if err := b.recordUndo(drifted, mark); err != nil {
		for _, r := range drifted {
			b.fail(fileOf(r.ID), public.Because(fmt.Sprintf("cannot bring %s into line", fileOf(r.ID)), err))
		}
		return b.outcomes
	}
	for _, r := range drifted {
		want, known := wanted[r.ID]
		if !known && b.purgeable(r.ID) {
			if err := b.clear(ctx, fileOf(r.ID)); err != nil {
				b.failChange(fileOf(r.ID), nil, public.Because("cannot remove "+fileOf(r.ID), err))
			}
			continue
		}
		if !known {
			if err := b.giveBack(ctx, r.ID); err != nil {
				b.failChange(fileOf(r.ID), nil, public.Because(fmt.Sprintf("cannot give %s back", fileOf(r.ID)), err))
			}
			continue
		}
		if err := b.mend(ctx, want, r.Diff); err != nil {
			b.failChange(fileOf(r.ID), &want.Spec, public.Because(fmt.Sprintf("cannot bring %s into line", fileOf(r.ID)), err))
		}
	}
	b.relabel(ctx)
	b.activate(ctx)
	return b.outcomes
}

// batch is one repair of several files.
type batch struct {
	*Kind
	accounts *facts.IDs
	wants    map[policy.ID]policy.Want[policy.Dropin]
	awaiting map[string]bool
	starts   map[string][]start // the starts of units that have not read a file

	secretDirs map[string]bool // directories with a file of the policy that has, or had, a secret

	undo     *undoRecord
	touched  []string          // files that were written, replaced, removed, or got another mode or owner
	changed  []string          // files that still have to take effect
	before   map[string][]byte // contents of changed files before the repair
	broken   map[string]error  // by file, the other problem that keeps it from taking effect
	outcomes []converge.Outcome
}

func (b *batch) mend(ctx context.Context, want policy.Want[policy.Dropin], diff []converge.Difference) error {
	name := fileOf(want.ID)
	differs := func(aspects ...string) bool {
		return slices.ContainsFunc(diff, func(d converge.Difference) bool { return slices.Contains(aspects, d.Aspect) })
	}
	if want.Spec.Ensure == policy.Absent {
		return b.remove(ctx, want)
	}
	if !b.ledger.Owns(want.ID) {
		b.ledger.Own(want.ID)
	}
	attr := system.Attr{Mode: modeOf(want)}
	var err error
	if attr.UID, err = b.accounts.UID(ctx, want.Spec.Owner); err != nil {
		return err
	}
	if attr.GID, err = b.accounts.GID(ctx, want.Spec.Group); err != nil {
		return err
	}
	if differs("content", "leftover", "effect") {
		if err := b.vet(ctx, want, []byte(want.Spec.Content)); err != nil {
			return err
		}
	}
	if len(want.Secrets) > 0 {
		if err := b.ledger.HoldsSecret(name); err != nil {
			return err
		}
	}
	switch {
	case differs("content", "leftover"):
		if err := b.expect(name); err != nil {
			return err
		}
		err := b.system.FS.WriteFile(name, []byte(want.Spec.Content), attr)
		if err == nil && len(want.Secrets) == 0 {
			b.ledger.HoldsNoSecret(name)
		}
		return err
	case differs("mode", "owner", "group", "acl"):
		if err := b.expect(name); err != nil {
			return err
		}
		return b.system.FS.SetAttr(name, attr)
	}
	return b.expect(name)
}

// failChange reports that a file could not be changed; want is nil if it was to be removed. The
// current content may be somebody else's, so it is not activated: that is done once the file is right.
func (b *batch) failChange(name string, want *policy.Dropin, err error) {
	b.outcomes = append(b.outcomes, converge.Outcome{ID: policy.NewID(b.Name(), name), Err: err})
	content, missing := b.system.FS.ReadFile(name)
	if want == nil || want.Ensure == policy.Absent {
		if errors.Is(missing, fs.ErrNotExist) {
			return
		}
	} else if missing == nil && string(content) == want.Content {
		return
	}
	b.changed = slices.DeleteFunc(b.changed, func(changed string) bool { return changed == name })
}

func (b *batch) remove(ctx context.Context, want policy.Want[policy.Dropin]) error {
	name := fileOf(want.ID)
	if err := b.vet(ctx, want, nil); err != nil {
		return err
	}
	if err := b.expect(name); err != nil {
		return err
	}
	if err := errors.Join(b.system.FS.Remove(name), b.system.FS.Remove(own.Temporary(name))); err != nil {
		return err
	}
	b.ledger.HoldsNoSecret(name)
	if b.ledger.Owns(want.ID) {
		b.ledger.Disown(want.ID)
	}
	return nil
}

// vet runs the family's checker on the new content of a file; nil stands for removal.
func (b *batch) vet(ctx context.Context, want policy.Want[policy.Dropin], content []byte) error {
	return b.vetFile(ctx, fileOf(want.ID), content)
}

// beside returns the other files that the policy wants in the directory of a part of a unit.
func (b *batch) beside(name string) map[string][]byte {
	dir, others := path.Dir(name), map[string][]byte{}
	if path.Dir(dir) != unitDir {
		return nil
	}
	for id, want := range b.wants {
		if other := fileOf(id); path.Dir(other) == dir && other != name && want.Spec.Ensure == policy.Present {
			others[other] = []byte(want.Spec.Content)
		}
	}
	return others
}

func (b *batch) vetFile(ctx context.Context, name string, content []byte) error {
	check := familyOf(name).check
	if check == nil {
		return nil
	}
	mark := b.Mark()
	err := check(ctx, candidate{
		system: b.system, name: name, content: content, secret: b.holdsSecrets(path.Dir(name)), beside: b.beside(name), allow: b.administrators(),
		named: func(other string) bool { _, named := b.wants[policy.NewID(b.Name(), other)]; return named },
	})
	if unanswered := b.Since(mark); unanswered != nil {
		return unanswered // the check has not seen everything, so its result does not count
	}
	var broken *brokenError
	if errors.As(err, &broken) {
		b.broken[name] = err // waiting for a fix would let one broken file block all
		return nil
	}
	return err
}

// administrators are the subjects that the policy allows to administer.
func (b *batch) administrators() (allow []string) {
	for _, want := range policy.Of[policy.Sudo](b.policy) {
		allow = append(allow, want.Spec.Allow...)
	}
	return allow
}

// holdsSecrets reports whether a file in the directory holds a secret of this policy, or of an earlier
// one.
func (b *batch) holdsSecrets(dir string) bool { return b.secretDirs[dir] }
