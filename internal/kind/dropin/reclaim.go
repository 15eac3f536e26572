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

// unwanted are files that an earlier policy installed and this one does not name. Files that have
// become protected since are left alone.
func (k *Kind) unwanted() []policy.ID {
	var ids []policy.ID
	for _, id := range k.ledger.Owned(k.Name()) {
		if _, named := k.policy.Lookup(id); !named && protected.Path(fileOf(id)) == "" && policy.ForbiddenDropin(fileOf(id)) == "" {
			ids = append(ids, id)
		}
	}
	return ids
}

// errOriginalUnfit means that the original file is not restored.
var errOriginalUnfit = errors.New("what was there before is not fit to be put back")

// giveBack restores the original file, or removes the agent's file if there was none. If the program
// would reject the original, it stays in the backups, and the agent's file is removed.
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
		b.changed = append(b.changed, name) // it was removed, which is not in effect yet
	}
	b.ledger.Disown(id)
	return nil
}
