// Package dconf implements the kind "dconf": settings of the desktop. It writes values and locks to
// a dconf system database of the agent's own. Everybody's profile names this database before all
// other system databases.
//
//	/etc/dconf/db/soe.d/50-soe        the values
//	/etc/dconf/db/soe.d/locks/50-soe  the keys that people cannot change
//	/etc/dconf/db/soe                 what dconf(1) makes of the two
//	/etc/dconf/profile/user           names the database, after the user's own
//	/run/dconf/user/UID               the same profile, which no DCONF_PROFILE beats
//
// The directory soe.d belongs to the agent: anything else in it is removed.
//
// A value gets the type that the installed GSettings schema gives its key. The schemas are read
// from the compiled file that GSettings itself uses. dconf accepts a value of any type, but
// GSettings silently ignores one of the wrong type.
//
// A check finds out without running dconf whether the database is what dconf makes of the files:
// the keyfile contains a seal, which only a repair writes that has compared the two. The result of
// "dconf update" is never trusted, because it may skip the database, exit with 0 after a failure,
// or leave a database that people cannot read.
//
// A lock in a database that the profile names later takes precedence over the agent's. It is found
// and reported, and not changed.
//
// Besides the policy's keys there are two resources: dconf/database is the database as a whole, and
// dconf/profile is that it is in force for everybody. When the policy has no keys any more,
// everything is removed. A third resource, dconf/keyfiles, exists only if somebody has settings in
// a keyfile at home in place of locked ones.
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

// Kind checks and repairs dconf/… resources.
type Kind struct {
	*system.Unanswered
	policy  *policy.Policy
	system  *system.System
	ledger  *converge.Ledger
	schemas *schemas
	// refused is the reason why dconf or the schema does not accept a text for a key.
	refused map[refusal]string
	// overridden is set if personal settings were found in place of locked ones.
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

// pathOf returns the dconf path of a key.
func pathOf(id policy.ID) string { return "/" + id.Name() }

// manages reports whether the policy has a resource for a dconf path.
func (k *Kind) manages(dconfPath string) bool {
	_, ok := k.policy.Lookup(policy.NewID(kindName, dconfPath))
	return ok
}

// schemaOf returns the schema that the policy names for a dconf path, or "".
func (k *Kind) schemaOf(dconfPath string) string {
	want, _ := k.policy.Lookup(policy.NewID(kindName, strings.TrimPrefix(dconfPath, "/")))
	spec, _ := want.Spec.(policy.Dconf)
	return spec.Schema
}

// whole returns a resource that stands for all keys of the policy together. ok is false if the
// policy has none.
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
		clear(k.refused) // the refusals are from the previous schemas
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

// text returns the wanted value of a key in GVariant text format.
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
	// The files are right. The seal says that dconf made the database from them, but not that it is
	// complete.
	live, ok := f.values[path]
	if !ok {
		r.AddPublicDrift("value", value, "not in the database")
		return
	}
	// A gvariant may be written in several ways, so it cannot be compared with the database's text.
	if got, ok := live.Text(); ok && want.GVariant == "" && got != value {
		f.database.differs(r, "value", value, got)
	}
	if locked := f.locked[path]; locked != want.Lock {
		r.AddPublicDrift("lock", lockWord(want.Lock), lockWord(locked))
	}
	// The schema may have changed since, and the text does not show every violation of the schema.
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

// inForce reports drift or pending for a key that is right in the files but not in force on
// desktops.
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

// sameContent reports whether two databases hold the same values and locks.
func sameContent(a, b []byte) bool {
	x, err1 := contentOf(a)
	y, err2 := contentOf(b)
	return err1 == nil && err2 == nil && x.equal(y)
}

type databaseContent struct {
	values map[string]string // type and serialised value, by path
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
