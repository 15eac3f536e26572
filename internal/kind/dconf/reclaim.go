package dconf

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"path"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/system"
)

// leftover returns the database of an earlier policy as unwanted, if it exists. It is called if
// this policy has no settings.
func (k *Kind) leftover() ([]converge.Resource, error) {
	if !k.ledger.Owns(databaseID) {
		f, _, err := k.read(keyfilePath, "")
		if err != nil || !bytes.HasPrefix(f.content, []byte(notice)) {
			return nil, err
		}
	}
	return []converge.Resource{converge.Unwanted(databaseID, "the policy has no settings any more")}, nil
}

// reclaim removes the database without leaving running programs with a lock: dconf first notifies
// them of an empty database, which is then removed.
func (k *Kind) reclaim(ctx context.Context) error {
	f, err := k.look()
	if err != nil {
		return err
	}
	if f.database.content != nil {
		k.tell(ctx, f)
	}
	if err := errors.Join(k.removeMandatory(), k.giveBackProfile()); err != nil {
		return err // a profile that still names the database must find it
	}
	errs := []error{k.forget(locksPath), k.removeIfEmpty(locksDir), k.forget(keyfilePath), k.removeIfEmpty(keyfileDir), k.forget(databaseFile)}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	k.ledger.Disown(databaseID)
	return nil
}

// tell installs an empty database, so that dconf notifies the running programs. If dconf is not
// installed, or keeps failing, the database is removed anyway: the programs notice when they are
// started anew.
func (k *Kind) tell(ctx context.Context, f *found) {
	for range 2 { // the first failure may be temporary
		database, err := k.compile(ctx, settings{}, nil)
		if errors.Is(err, system.ErrNotInstalled) {
			return
		}
		if err == nil {
			err = k.install(ctx, f, settings{}, database)
		}
		if err == nil {
			return
		}
		k.system.Log.Warn("cannot tell running programs that the policy's settings are gone; they see it at their next start", "kind", kindName, "err", err)
	}
}

// removeMandatory removes the mandatory profiles that name the agent's database.
func (k *Kind) removeMandatory() error {
	if !k.system.Running() {
		return nil
	}
	names, err := k.system.FS.ReadDir(mandatoryDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, name := range names {
		name = path.Join(mandatoryDir, name)
		f, _, err := k.read(name, "")
		errs = append(errs, err)
		if namesOurs(string(f.content)) {
			errs = append(errs, k.forget(name))
		}
	}
	errs = append(errs, k.removeIfEmpty(mandatoryDir), k.removeIfEmpty(path.Dir(mandatoryDir)))
	return errors.Join(errs...)
}

// giveBackProfile restores the profile that was there before the agent. If somebody has changed it
// since, only the agent's line is removed.
func (k *Kind) giveBackProfile() error {
	f, _, err := k.read(profilePath, "")
	if err != nil {
		return err
	}
	if f.content == nil {
		nothing := func() error { return nil } // missing or not a regular file: nothing names the database
		return k.ledger.Release(profilePath, func(system.Original) error { return nil }, nothing)
	}
	text := string(f.content)
	rest := withoutDatabase(text)
	drop := func() error {
		if rest == text {
			return nil
		}
		return k.put(profilePath, []byte(rest))
	}
	basis, err := k.packagedProfile()
	if err != nil {
		return err
	}
	restore := func(original system.Original) error {
		before := string(original.Content)
		if text != withDatabase(before) || !original.Info.IsRegular() {
			return drop()
		}
		return k.system.FS.WriteFile(profilePath, []byte(withoutDatabase(before)), original.Info.Attr)
	}
	remove := func() error {
		if text != withDatabase(basis) {
			return drop()
		}
		return k.system.FS.Remove(profilePath)
	}
	_, kept, err := k.ledger.Original(profilePath)
	if err != nil {
		return err
	}
	if !kept && !k.ledger.Made(profilePath) {
		return drop()
	}
	return k.ledger.Release(profilePath, restore, remove)
}

// forget removes a file of the agent and its entry in the ledger.
func (k *Kind) forget(name string) error {
	remove := func() error { return k.system.FS.Remove(name) }
	nothing := func() error { return nil }
	// The first Release keeps a file that the ledger does not know, such as one that dconf made.
	// Removing it makes the ledger keep it as an original of somebody else's, which it is not; the
	// second Release drops that.
	return errors.Join(
		k.ledger.Release(name, func(system.Original) error { return remove() }, remove), remove(),
		k.ledger.Release(name, func(system.Original) error { return nothing() }, nothing),
	)
}

func (k *Kind) removeIfEmpty(dir string) error {
	names, err := k.system.FS.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || len(names) > 0 {
		return err
	}
	return k.system.FS.Remove(dir)
}
