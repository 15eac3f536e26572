package dconf

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/kind/dconf/gvdb"
	"github.com/soe-agent/soe-agent/internal/public"
	"github.com/soe-agent/soe-agent/internal/system"
)

// below are the databases that a profile names after the agent's own, in order. Normally their
// values do not count. But if several databases lock a key, dconf reads the key from the last one
// that locks it, and from those after it.
type below []lower

type lower struct {
	file         string
	table, locks gvdb.Table
	loose        error // why others than root may write it, and so add any lock to it; or nil
}

// below returns the databases of each profile that is in force for somebody: everybody's, and those
// of single persons.
func (k *Kind) below(ctx context.Context) ([]below, error) {
	text, _, _, err := k.currentProfile()
	if err != nil {
		return nil, err
	}
	profile := withDatabase(text)
	profiles := map[string]bool{profile: true}
	if k.system.Running() {
		files, err := k.mandatory(ctx, profile)
		if err != nil {
			return nil, err
		}
		for _, text := range files {
			profiles[text] = true
		}
	}
	var all []below
	for _, text := range slices.Sorted(maps.Keys(profiles)) {
		one, err := k.belowIn(text)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, nil
}

func (k *Kind) belowIn(profile string) (below, error) {
	all := sources(profile)
	var found below
	for _, source := range all[slices.Index(all, ourSource)+1:] {
		file, isFile := strings.CutPrefix(source, "file-db:")
		if name, isSystem := strings.CutPrefix(source, "system-db:"); isSystem {
			file, isFile = path.Join(databasesDir, name), true
		}
		if !isFile {
			continue
		}
		one, err := k.lower(file)
		if err != nil {
			return nil, err
		}
		found = append(found, one)
	}
	return found, nil
}

// lower reads a database as dconf does, following links. A database that is missing, or that dconf
// ignores, has neither values nor locks.
func (k *Kind) lower(file string) (lower, error) {
	leads, info, err := system.Trusted(k.system.FS, file, 0)
	switch {
	case errors.Is(err, system.ErrUnsafe):
		return lower{file: file, loose: err}, nil
	case isGone(err):
		return lower{file: file}, nil
	case err != nil:
		return lower{}, err
	case !info.IsRegular():
		return lower{file: file}, nil
	}
	content, err := k.system.FS.ReadFile(leads)
	if err != nil && !isGone(err) {
		return lower{}, err
	}
	table, _ := gvdb.Parse(content)
	return lower{file: file, table: table, locks: table.Table(locksTable)}, nil
}

// overrule marks a key that is right in the agent's database as failed or drifted if another
// database takes precedence.
func (b below) overrule(r *converge.Resource, ours gvdb.Table, lock bool) {
	key := pathOf(r.ID)
	lowest := -1
	for i, database := range b {
		if lock && database.loose != nil {
			r.SetFailedErr(public.Because(fmt.Sprintf("cannot lock %s for good: the profile names %s too, "+
				"and of several databases that lock a key dconf reads the lowest", r.ID.Name(), database.file), database.loose))
			return
		}
		if _, locked := database.locks.Value(key); locked {
			lowest = i
		}
	}
	if lowest < 0 || lock && b[lowest:].sameValue(key, ours) {
		return
	}
	r.SetFailed(fmt.Sprintf("cannot put %s in force: %s locks it too, and of several databases that do dconf reads the lowest; "+
		"take the lock out of that one, and run: dconf update", r.ID.Name(), b[lowest].file)).ReasonIsPublic()
}

// sameValue reports whether dconf finds the value of our database here too.
func (b below) sameValue(key string, ours gvdb.Table) bool {
	want, set := ours.Value(key)
	for _, database := range b {
		if got, there := database.table.Value(key); there {
			return set && got.Type == want.Type && bytes.Equal(got.Data, want.Data)
		}
	}
	return false
}
