package dropin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/soe-agent/soe-agent/internal/own"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/protected"
	"github.com/soe-agent/soe-agent/internal/system"
)

// unwanted are the files that an earlier policy brought and this one does not
// name. One that has become protected since is not touched again.
func (k *Kind) unwanted() []policy.ID {
	var ids []policy.ID
	for _, id := range k.ledger.Owned(k.Name()) {
		if _, named := k.policy.Lookup(id); !named && protected.Path(fileOf(id)) == "" && policy.ForbiddenDropin(fileOf(id)) == "" {
			ids = append(ids, id)
		}
	}
	return ids
}

// errOriginalUnfit says that what was there before the agent is not put back.
var errOriginalUnfit = errors.New("what was there before is not fit to be put back")

// giveBack puts back what was there before the agent's file, or removes that. An
// original that its reader would refuse is not put back: it stays among the
// backups, and the agent's file goes all the same.
func (b *batch) giveBack(ctx context.Context, id policy.ID) error {
	name := fileOf(id)
	info, err := b.system.FS.Stat(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err == nil && !info.IsRegular() {
		return fmt.Errorf("%s is no longer a regular file; remove it by hand if that is right", name)
	}
	remove := func() error {
		if err := b.vetFile(ctx, name, nil); err != nil {
			return err
		}
		if err := b.expect(name); err != nil {
			return err
		}
		return errors.Join(b.system.FS.Remove(name), b.system.FS.Remove(own.Temporary(name)))
	}
	err = b.ledger.Release(name, func(original system.Original) error {
		if original.Link != "" || !original.Info.IsRegular() || b.vetFile(ctx, name, original.Content) != nil {
			if err := remove(); err != nil {
				return err
			}
			return errOriginalUnfit
		}
		if err := b.expect(name); err != nil {
			return err
		}
		return b.system.FS.WriteFile(name, original.Content, original.Info.Attr)
	}, remove)
	if err != nil && !errors.Is(err, errOriginalUnfit) {
		return err
	}
	_, unread := b.starts[name]
	if (b.awaiting[name] || unread) && !slices.Contains(b.changed, name) {
		b.changed = append(b.changed, name) // it went, and that has not taken effect
	}
	b.ledger.Disown(id)
	return nil
}
