package dconf

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/kind/dconf/gvdb"
	"github.com/soe-agent/soe-agent/internal/own"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

// Repair implements converge.Kind. All keys are repaired together: the database is replaced as a
// whole or not at all.
func (k *Kind) Repair(ctx context.Context, drifted []converge.Resource) []converge.Outcome {
	if _, wanted := k.whole(databaseID); !wanted {
		if err := k.reclaim(ctx); err != nil {
			return []converge.Outcome{{ID: databaseID, Err: fmt.Errorf("cannot remove the dconf settings: %w", err)}}
		}
		return nil
	}
	var outcomes []converge.Outcome
	mended := map[policy.ID]bool{}
	profileDrifted := false
	for _, r := range drifted {
		if r.ID == profileID {
			profileDrifted = true
		} else {
			mended[r.ID] = true
		}
	}
	if len(mended) > 0 {
		if err := k.repairDatabase(ctx, mended); err != nil {
			for id := range mended {
				outcomes = append(outcomes, converge.Outcome{ID: id, Err: err})
			}
		}
	}
	if profileDrifted {
		if err := k.repairProfile(ctx); err != nil {
			outcomes = append(outcomes, converge.Outcome{ID: profileID, Err: err})
		}
	}
	return outcomes
}

func (k *Kind) repairDatabase(ctx context.Context, mended map[policy.ID]bool) error {
	f, err := k.look()
	if err != nil {
		return err
	}
	next := k.next(f.settings, mended)
	database, err := k.compile(ctx, next, f.settings)
	if err != nil {
		return err
	}
	if !k.ledger.Owns(databaseID) {
		k.ledger.Own(databaseID)
	}
	return k.install(ctx, f, next, database)
}

// next returns the settings that the database should get: the keys to be repaired as the policy
// wants them, the policy's other keys as they are, and nothing else.
func (k *Kind) next(now settings, mended map[policy.ID]bool) settings {
	next := settings{}
	for path, s := range now {
		if k.manages(path) {
			next[path] = s
		}
	}
	for _, want := range policy.Of[policy.Dconf](k.policy) {
		if !mended[want.ID] {
			continue
		}
		if value, err := k.text(want.ID, want.Spec); err == nil {
			next[pathOf(want.ID)] = setting{text: value, locked: want.Spec.Lock}
		}
	}
	return next
}

const (
	scratch          = own.RunDir + "/dconf"
	scratchDatabase  = scratch + "/soe"
	scratchDirectory = scratch + "/soe.d"
	scratchKeyfile   = scratchDirectory + "/" + keyfileName
	scratchLocks     = scratchDirectory + "/locks/" + keyfileName
)

// compile lets dconf compile the settings in a scratch directory. A setting that dconf cannot
// parse, or whose type does not match the schema, is remembered as refused and replaced by its
// previous value, if it has one.
func (k *Kind) compile(ctx context.Context, next, before settings) ([]byte, error) {
	defer k.clean()
	const rounds = 3 // as wanted, then with the previous value, then without the key
	for range rounds {
		database, complaint, err := k.tryCompile(ctx, next)
		if err != nil {
			return nil, err
		}
		refused, err := k.findRefused(ctx, next, database, complaint)
		if err != nil {
			return nil, err
		}
		if len(refused) == 0 {
			return database, k.holds(database, next)
		}
		for path, why := range refused {
			bad := next[path]
			k.refused[refusal{path, bad.text}] = why
			delete(next, path)
			if old, ok := before[path]; ok && old.text != bad.text {
				next[path] = old
			}
		}
	}
	return nil, errors.New("cannot compile the dconf settings: dconf still refuses some after the refused ones were replaced")
}

// holds returns an error unless the database holds exactly these settings, each with its value and
// lock. dconf exits with 0 and prints nothing even if it could not read a file or ran out of
// memory; the database is then incomplete.
func (k *Kind) holds(database []byte, want settings) error {
	root, err := gvdb.Parse(database)
	if err != nil {
		return fmt.Errorf("cannot read what dconf has compiled: %w", err)
	}
	values, locks := contents(root)
	for _, path := range slices.Sorted(maps.Keys(want)) {
		value, there := values[path]
		if !there {
			return fmt.Errorf("cannot compile the dconf settings: dconf has silently left out %s", path)
		}
		if got, ok := value.Text(); ok && k.isPlain(path) && got != want[path].text {
			return fmt.Errorf("cannot compile the dconf settings: dconf has made %s of %s = %s", got, path, want[path].text)
		}
		if locked := locks[path]; locked != want[path].locked {
			return fmt.Errorf("cannot compile the dconf settings: dconf has silently made %[2]s %[1]s, which should be %[3]s",
				lockWord(locked), path, lockWord(want[path].locked))
		}
	}
	for path := range values {
		if _, wanted := want[path]; !wanted {
			return fmt.Errorf("cannot compile the dconf settings: dconf has added %s", path)
		}
	}
	for path := range locks {
		if _, wanted := want[path]; !wanted {
			return fmt.Errorf("cannot compile the dconf settings: dconf has locked %s", path)
		}
	}
	return nil
}

// isPlain reports whether the policy's text for a path has the same form as the database's. That is
// not known of a gvariant, which its author may have written differently.
func (k *Kind) isPlain(path string) bool {
	want, _ := k.policy.Lookup(policy.NewID(kindName, path))
	spec, named := want.Spec.(policy.Dconf)
	return named && spec.GVariant == ""
}

// findRefused returns the settings at fault, by path, with the reasons.
func (k *Kind) findRefused(ctx context.Context, next settings, database []byte, complaint string) (map[string]string, error) {
	refused := map[string]string{}
	if complaint == "" {
		root, err := gvdb.Parse(database)
		if err != nil {
			return nil, fmt.Errorf("cannot read what dconf has compiled: %w", err)
		}
		for path := range next {
			key, err := k.schemas.key(path, k.schemaOf(path))
			value, there := root.Value(path)
			if !there || err != nil || key == nil {
				continue
			}
			if err := key.judge(value); err != nil {
				refused[path] = err.Error()
			}
		}
		return refused, nil
	}
	for path, s := range next {
		_, why, err := k.tryCompile(ctx, settings{path: s})
		if err == nil && why != "" { // the same twice: the first failure may be temporary
			_, again, err2 := k.tryCompile(ctx, settings{path: s})
			if err = err2; again != why {
				return nil, errors.Join(err, fmt.Errorf("cannot compile the dconf settings: for %s dconf prints %q, and then %q", path, why, again))
			}
		}
		if err != nil {
			return nil, err
		}
		if why != "" {
			refused[path] = why
		}
	}
	if len(refused) == 0 {
		return nil, fmt.Errorf("cannot compile the dconf settings: %s", complaint)
	}
	return refused, nil
}

// tryCompile runs "dconf compile". Unlike "dconf update" it neither skips anything nor hides a
// failure. complaint is what dconf printed.
func (k *Kind) tryCompile(ctx context.Context, s settings) (database []byte, complaint string, err error) {
	err = errors.Join(
		k.system.FS.WriteFile(scratchKeyfile, s.keyfile(), system.Attr{Mode: fileMode}),
		k.system.FS.WriteFile(scratchLocks, s.locks(), system.Attr{Mode: fileMode}),
	)
	if err != nil {
		return nil, "", err
	}
	out, err := k.dconf(ctx, "compile", scratchDatabase, scratchDirectory)
	if err != nil {
		return nil, "", err
	}
	if out.ExitCode != 0 || len(out.Stderr) > 0 {
		return nil, out.LastLine(), nil
	}
	database, err = k.system.FS.ReadFile(scratchDatabase)
	return database, "", err
}

// clean removes the files of tryCompile.
func (k *Kind) clean() {
	for _, name := range []string{scratchDatabase, scratchLocks, path.Dir(scratchLocks), scratchKeyfile, scratchDirectory, scratch} {
		if err := k.system.FS.Remove(name); err != nil {
			k.system.Log.Warn("cannot remove a temporary file", "kind", kindName, "err", err)
		}
	}
}

func (k *Kind) dconf(ctx context.Context, args ...string) (system.Output, error) {
	out, err := k.system.Runner.Run(ctx, system.Command{
		Argv: append([]string{"dconf"}, args...), Timeout: 30 * time.Second,
	})
	if errors.Is(err, system.ErrNotInstalled) {
		return out, fmt.Errorf("cannot compile the dconf settings: %w; the package dconf (dconf-cli on Ubuntu) brings it", err)
	}
	return out, err
}

// install writes the files and the database, and seals them.
func (k *Kind) install(ctx context.Context, f *found, next settings, database []byte) error {
	for _, name := range f.foreign {
		if err := k.system.FS.Remove(name); err != nil {
			return err
		}
	}
	for _, dir := range []string{"/etc/dconf", databasesDir, keyfileDir, locksDir} {
		if err := k.ensureDir(dir); err != nil {
			return err
		}
	}
	body, locks := next.keyfile(), next.locks()
	keyfile := withSeal(body, sealOf(body, locks, database))
	if err := k.put(locksPath, locks); err != nil {
		return err
	}
	if sameContent(f.database.content, database) {
		return k.seal(body, locks, f.database.content)
	}
	// Write the keyfile even if it has that content already: before version 0.31, "dconf update"
	// only handles a directory that has changed since the database was made.
	if err := k.write(keyfilePath, keyfile); err != nil {
		return err
	}
	live, err := k.update(ctx, keyfile, database)
	if err != nil {
		return err
	}
	return k.seal(body, locks, live)
}

// seal writes the keyfile with the seal of the installed database.
func (k *Kind) seal(body, locks, database []byte) error {
	return errors.Join(
		k.put(keyfilePath, withSeal(body, sealOf(body, locks, database))),
		k.put(databaseFile, database),
	)
}

// update runs "dconf update", which makes the real database and notifies running programs. It
// returns the database if its content is right.
func (k *Kind) update(ctx context.Context, keyfile, database []byte) ([]byte, error) {
	if info, err := k.system.FS.Stat(databaseFile); err == nil && !info.IsRegular() {
		if err := k.system.FS.Remove(databaseFile); err != nil {
			return nil, err
		}
	}
	var complaint string
	for range 2 {
		out, err := k.dconf(ctx, "update")
		if err != nil {
			return nil, err
		}
		live, _, err := k.read(databaseFile, "")
		if err != nil {
			return nil, err
		}
		if sameContent(live.content, database) {
			if len(out.Stderr) > 0 || out.ExitCode != 0 {
				k.system.Log.Warn("dconf update failed for another database than the agent's", "kind", kindName, "err", out.LastLine())
			}
			return live.content, nil
		}
		complaint = out.LastLine()
		// The clock was set back, or another database makes dconf fail before this one. Write the
		// database directly; the next "dconf update" then only notifies running programs.
		if err := errors.Join(k.write(databaseFile, database), k.write(keyfilePath, keyfile)); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("cannot update the dconf database: it is not what dconf compile makes of %s; dconf update says: %s", keyfileDir, complaint)
}

func (k *Kind) repairProfile(ctx context.Context) error {
	if _, err := k.system.FS.Stat(databaseFile); err != nil {
		return fmt.Errorf("cannot put %s into the dconf profile before it is there: %w", ourSource, err)
	}
	text, _, _, err := k.currentProfile()
	if err != nil {
		return err
	}
	profile := withDatabase(text)
	if !slices.Equal(sources(profile), sources(text)) {
		k.ledger.MarkChanged(profileID, k.system.Clock.Now())
	}
	for _, dir := range []string{"/etc/dconf", profileDir} {
		if err := k.ensureDir(dir); err != nil {
			return err
		}
	}
	if err := k.put(profilePath, []byte(profile)); err != nil {
		return err
	}
	if !k.system.Running() {
		return nil
	}
	files, err := k.mandatory(ctx, profile)
	if err != nil {
		return err
	}
	errs := []error{k.ensureDir(path.Dir(mandatoryDir)), k.ensureDir(mandatoryDir)}
	for name, text := range files {
		errs = append(errs, k.put(name, []byte(text)))
	}
	return errors.Join(errs...)
}

// put writes a file that belongs to root and that everybody can read. It does nothing if the file
// is like that already.
func (k *Kind) put(name string, content []byte) error {
	now, deviations, err := k.read(name, "")
	switch {
	case err != nil:
		return err
	case now.content == nil || !bytes.Equal(now.content, content):
		return k.write(name, content)
	case len(deviations) > 0:
		return k.system.FS.SetAttr(name, system.Attr{Mode: fileMode})
	}
	return nil
}

// write writes the file, and replaces whatever else is in its place.
func (k *Kind) write(name string, content []byte) error {
	if info, err := k.system.FS.Stat(name); err == nil && !info.IsRegular() {
		if err := k.system.FS.Remove(name); err != nil {
			return err
		}
	}
	return k.system.FS.WriteFile(name, content, system.Attr{Mode: fileMode})
}

// ensureDir makes a directory that belongs to root and that everybody can read.
func (k *Kind) ensureDir(name string) error {
	if err := k.system.FS.MkdirAll(name, dirMode); err != nil {
		return err
	}
	if deviations, err := k.lookAtDir(name, ""); err != nil || len(deviations) == 0 {
		return err
	}
	return k.system.FS.SetAttr(name, system.Attr{Mode: dirMode})
}

func (c databaseContent) equal(other databaseContent) bool {
	return maps.Equal(c.values, other.values) && maps.Equal(c.locks, other.locks)
}
