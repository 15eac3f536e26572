// Package dconf keeps the settings of the desktop: values and locks in a dconf
// system database of the agent's own, which stands in everybody's profile above
// all other system databases.
//
//	/etc/dconf/db/soe.d/50-soe        the values
//	/etc/dconf/db/soe.d/locks/50-soe  the keys that people cannot change
//	/etc/dconf/db/soe                 what dconf(1) makes of the two
//	/etc/dconf/profile/user           names the database, after the user's own
//	/run/dconf/user/UID               the same profile, which no DCONF_PROFILE beats
//
// The directory soe.d is the agent's alone: what else is put there is removed.
//
// A value takes the type that the installed GSettings schema gives its key, read
// from the compiled schemas that GSettings itself reads: dconf takes a value of
// any type, and GSettings silently ignores one of the wrong type.
//
// Whether the database is what dconf makes of the files is told without running
// dconf, by a seal that the keyfile carries: only a repair that has compared the
// two writes it. So "dconf update", which may skip, fail with exit code 0, or
// leave a database that people cannot read, is never taken at its word.
//
// A lock of a database that stands below is stronger than anything said here; it
// is found and reported, and not touched.
//
// Besides the policy's keys there are two resources: dconf/database is the
// database as a whole, and dconf/profile that it is in force for everybody. When
// the policy has no keys any more, all of it goes. A third one, dconf/keyfiles, is there
// when somebody has settings in a keyfile at home in place of locked ones.
package dconf

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/kind/dconf/gvdb"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/public"
	"github.com/soe-agent/soe-agent/internal/system"
)

const (
	kindName = "dconf"

	databaseID = policy.ID(kindName + "/database")
	profileID  = policy.ID(kindName + "/profile")
)

// Kind keeps dconf/… resources.
type Kind struct {
	*system.Unanswered
	policy  *policy.Policy
	system  *system.System
	ledger  *converge.Ledger
	schemas *schemas
	// refused is why dconf, or the schema, would not have a text for a key.
	refused map[refusal]string
	// overridden says that somebody's own settings have been found in place of locked ones.
	overridden atomic.Bool
}

type refusal struct{ path, text string }

// New returns the kind for a policy.
func New(p *policy.Policy, s *system.System, l *converge.Ledger) *Kind {
	s, unanswered := s.Observe()
	return &Kind{Unanswered: unanswered, policy: p, system: s, ledger: l, schemas: &schemas{}, refused: map[refusal]string{}}
}

// Name implements converge.Kind.
func (*Kind) Name() string { return kindName }

// Watches implements converge.Watcher.
func (*Kind) Watches() []converge.Watch {
	return []converge.Watch{
		{Dir: databasesDir},
		{Dir: keyfileDir},
		{Dir: locksDir},
		{Dir: profileDir},
		{Dir: mandatoryDir},
		{Dir: schemasDir},
		{Sessions: true},
	}
}

// pathOf is the dconf path of a key.
func pathOf(id policy.ID) string { return "/" + id.Name() }

// manages says whether the policy has anything to say about a dconf path.
func (k *Kind) manages(dconfPath string) bool {
	_, ok := k.policy.Lookup(policy.NewID(kindName, dconfPath))
	return ok
}

// schemaOf is the schema that the policy names for a dconf path, or "".
func (k *Kind) schemaOf(dconfPath string) string {
	want, _ := k.policy.Lookup(policy.NewID(kindName, strings.TrimPrefix(dconfPath, "/")))
	spec, _ := want.Spec.(policy.Dconf)
	return spec.Schema
}

// whole is a resource of the kind's own, which stands for all keys of the policy.
func (k *Kind) whole(id policy.ID) (r policy.Resource, ok bool) {
	hash := sha256.New()
	for _, want := range k.policy.Resources {
		if want.ID.Kind() != kindName {
			continue
		}
		if !ok {
			r, ok = want, true
		}
		hash.Write([]byte(want.Digest()))
	}
	r.ID, r.Missing, r.Unusable = id, nil, ""
	r.Spec = policy.Dconf{GVariant: hex.EncodeToString(hash.Sum(nil))}
	return r, ok
}

// Check implements converge.Kind.
func (k *Kind) Check(ctx context.Context) ([]converge.Resource, error) {
	want, wanted := k.whole(databaseID)
	if !wanted {
		return k.leftover()
	}
	f, err := k.look()
	if err != nil {
		return nil, err
	}
	installed, err := readSchemas(k.system.FS, k.schemas)
	if err != nil {
		return nil, err
	}
	if installed.version != k.schemas.version {
		clear(k.refused) // what the schemas of before had against a value
	}
	k.schemas = installed
	database := converge.Wanted(want)
	k.checkDatabase(&database, f)
	want, _ = k.whole(profileID)
	profile := converge.Wanted(want)
	k.checkProfile(ctx, &profile)
	resources := []converge.Resource{database, profile}
	others, err := k.below(ctx)
	if err != nil {
		return nil, err
	}
	for _, want := range policy.Of[policy.Dconf](k.policy) {
		r := converge.Wanted(want.Resource)
		k.checkKey(&r, want.Spec, f)
		if r.State == converge.Compliant {
			if want.Spec.Value != nil && !k.schemas.areInstalled() {
				r.Note("no schemas are installed that tell the type of its value, which is guessed")
			}
			inForce(&r, database, profile)
		}
		if r.State == converge.Compliant || r.State == converge.Pending {
			for _, databases := range others {
				databases.overrule(&r, f.live, want.Spec.Lock)
			}
			if err := undone(k.policy, r.ID); err != nil {
				r.SetFailed(fmt.Sprintf("cannot put %s in force: %v", r.ID.Name(), err)).ReasonIsPublic()
			}
		}
		resources = append(resources, r)
	}
	personal, err := k.checkPersonal(ctx)
	return append(resources, personal...), err
}

// text is the value wanted of a key as it is written.
func (k *Kind) text(id policy.ID, want policy.Dconf) (string, error) {
	key, err := k.schemas.keyOf(pathOf(id), want)
	if err != nil {
		return "", err
	}
	value, err := text(want, key)
	if err != nil {
		return "", err
	}
	if why := k.refused[refusal{pathOf(id), value}]; why != "" {
		return "", fmt.Errorf("%s is refused: %s", value, why)
	}
	return value, nil
}

func (k *Kind) checkKey(r *converge.Resource, want policy.Dconf, f *found) {
	value, err := k.text(r.ID, want)
	if err != nil {
		r.SetFailedErr(public.Because("cannot set "+r.ID.Name(), err))
		return
	}
	path := pathOf(r.ID)
	got, ok := f.settings[path]
	switch {
	case !ok:
		r.AddPublicDrift("value", value, "not set")
	case got.text != value:
		f.keyfile.differs(r, "value", value, got.text)
	}
	if got.locked != want.Lock {
		r.AddPublicDrift("lock", lockWord(want.Lock), lockWord(got.locked))
	}
	if r.State != converge.Compliant {
		return
	}
	// The files are right. A seal says that dconf made the database of them, and not that
	// it made all of them.
	live, ok := f.values[path]
	if !ok {
		r.AddPublicDrift("value", value, "not in the database")
		return
	}
	// How a gvariant was written cannot be told from the database.
	if got, ok := live.Text(); ok && want.GVariant == "" && got != value {
		f.database.differs(r, "value", value, got)
	}
	if locked := f.locked[path]; locked != want.Lock {
		r.AddPublicDrift("lock", lockWord(want.Lock), lockWord(locked))
	}
	// The schema may have changed since, and text does not show all that it has against a value.
	if key, err := k.schemas.keyOf(path, want); err == nil && key != nil && r.State == converge.Compliant {
		if err := key.judge(live); err != nil {
			r.SetFailedErr(public.Because("cannot set "+r.ID.Name(), err))
		}
	}
}

func lockWord(locked bool) string {
	if locked {
		return "locked"
	}
	return "not locked"
}

// inForce says of a key that is right in the files whether it is so on desktops.
func inForce(r *converge.Resource, database, profile converge.Resource) {
	bypassed := func(d converge.Difference) bool { return d.Aspect == aspectMandatory }
	switch {
	case slices.ContainsFunc(database.Diff, func(d converge.Difference) bool { return d.Aspect == aspectDatabase }):
		r.AddPublicDrift("effect", "in force", "not in force: see "+string(databaseID))
	case slices.ContainsFunc(profile.Diff, func(d converge.Difference) bool { return !bypassed(d) }):
		r.AddPublicDrift("effect", "in force", "not in force: see "+string(profileID))
	case profile.State == converge.Pending:
		r.SetPending(profile.Effect, profile.Reason).ReasonIsPublic()
	}
}

const (
	aspectDatabase  = "database"
	aspectMandatory = "mandatory profile"
)

func (k *Kind) checkDatabase(r *converge.Resource, f *found) {
	var stale []string
	for path := range f.settings {
		if !k.manages(path) {
			stale = append(stale, strings.TrimPrefix(path, "/"))
		}
	}
	slices.Sort(stale)
	if len(stale) > 0 {
		f.keyfile.differs(r, "keys", "those of the policy", "also "+strings.Join(stale, ", "))
	}
	if len(f.foreign) > 0 {
		r.AddDrift("files", keyfileName+" alone", "also "+strings.Join(f.foreign, ", "))
	}
	for _, w := range f.wrong {
		r.AddPublicDrift(w.aspect, w.want, w.got)
	}
	switch {
	case f.database.content == nil:
		r.AddPublicDrift(aspectDatabase, "compiled", "missing")
	case !f.sealed:
		r.AddPublicDrift(aspectDatabase, "what dconf makes of "+keyfileDir, "not known to be that")
	}
}

// sameContent says whether two databases hold the same values and locks.
func sameContent(a, b []byte) bool {
	x, err1 := contentOf(a)
	y, err2 := contentOf(b)
	return err1 == nil && err2 == nil && x.equal(y)
}

type databaseContent struct {
	values map[string]string // type and serialised value
	locks  map[string]bool
}

func contentOf(file []byte) (databaseContent, error) {
	root, err := gvdb.Parse(file)
	if err != nil {
		return databaseContent{}, err
	}
	c := databaseContent{values: map[string]string{}, locks: map[string]bool{}}
	for key, value := range root.Values() {
		c.values[key] = value.Type + "\x00" + string(value.Data)
	}
	for key := range root.Table(locksTable).Values() {
		c.locks[key] = true
	}
	return c, nil
}
