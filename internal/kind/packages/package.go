package packages

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/public"
	"github.com/soe-agent/soe-agent/internal/schedule"
	"github.com/soe-agent/soe-agent/internal/system"
)

// Kind checks and repairs the policy's packages.
type Kind struct {
	*system.Unanswered
	policy  *policy.Policy
	system  *system.System
	ledger  *converge.Ledger
	wants   []policy.Want[policy.Package]
	groups  *groups
	manager manager
	window  schedule.Window
	updates updates

	reclaim  []policy.ID // packages that the agent installed and the policy no longer wants
	names    []string    // the names that rpm is queried for
	unsound  error       // why rpm's "not installed" is not to be trusted, or nil
	believed string      // the state of the database for which unsound was determined
	db       *rpmdb
}

// New returns the kind "package". Transactions wait for another package manager for at most
// patience. In the maintenance window, changes that the policy consents to may disrupt sessions.
func New(p *policy.Policy, s *system.System, l *converge.Ledger, patience time.Duration, window schedule.Window) *Kind {
	s, unanswered := s.Observe()
	k := &Kind{
		Unanswered: unanswered,
		policy:     p, system: s, ledger: l, window: window,
		wants: policy.Of[policy.Package](p), manager: newManager(p, s, patience), db: &rpmdb{system: s},
	}
	k.groups = newGroups(s, k.wants)
	k.updates.manager = &k.manager
	k.survey()
	return k
}

// survey determines the names that rpm must be queried for. Nothing is reclaimed until the members
// of all groups of the policy are known.
func (k *Kind) survey() {
	k.groups.look()
	var names []string
	for _, want := range k.wants {
		if _, is := policy.PackageGroup(want.ID.Name()); !is {
			names = append(names, want.ID.Name())
		}
	}
	names = append(names, k.groups.names()...)
	k.reclaim = nil
	if !k.groups.unknown() {
		k.reclaim = k.reclaimable()
	}
	for _, id := range slices.Concat(k.reclaim, k.elsewhere(), k.ledger.Owned(hold)) {
		names = append(names, id.Name())
	}
	for _, text := range names {
		if name, arch := policy.PackageArch(text); arch != "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	if !slices.Equal(names, k.names) {
		k.names = names
		k.db.question = query(names)
		k.db.forget()
	}
}

// Name implements converge.Kind.
func (k *Kind) Name() string { return "package" }

// Watches implements converge.Watcher.
func (k *Kind) Watches() []converge.Watch {
	if len(k.wants)+len(k.names) == 0 {
		return nil
	}
	watches := databaseWatches(k.system.FS)
	if list, err := k.manager.readLockList(); err == nil && k.holds() {
		watches = append(watches, converge.Watch{Dir: path.Dir(list.file)})
	}
	if slices.ContainsFunc(k.wants, disruptive) {
		watches = append(watches, converge.Watch{Sessions: true})
	}
	return watches
}

// installed returns which of the policy's packages are installed.
func (k *Kind) installed(ctx context.Context) (installed, error) {
	k.survey()
	if len(k.names) == 0 {
		return nil, nil
	}
	out, err := k.db.ask(ctx)
	if err != nil {
		return nil, err
	}
	there, err := k.manager.parseQuery(k.names, out)
	if err == nil && (k.db.identity == "" || k.db.identity != k.believed) {
		k.unsound = k.manager.believable(ctx, there)
		k.believed = k.db.identity
	}
	if err != nil || k.unsound != nil {
		k.db.forget() // an unreadable database may be repaired without its files changing
	}
	return there, err
}

// Check implements converge.Kind.
func (k *Kind) Check(ctx context.Context) ([]converge.Resource, error) {
	mark := k.Mark()
	if len(k.wants) > 0 {
		k.manager.freeLocks() // before anybody needs the locks
	}
	there, err := k.installed(ctx)
	if err != nil {
		return nil, err
	}
	locks, err := k.lookAtHolds()
	if err != nil {
		return nil, err
	}
	if err := k.Since(mark); err != nil {
		return nil, err
	}
	if k.unsound != nil && (!k.foreign() || len(k.reclaim) > 0) {
		return nil, k.unsound
	}
	var resources []converge.Resource
	var latest []string
	for _, want := range k.wants {
		r := k.checkInstalled(want, there, locks)
		switch name := want.ID.Name(); {
		case r.State != converge.Compliant:
		case want.Spec.Ensure == policy.Latest:
			latest = append(latest, name)
		case isKernel(name):
			if err := k.awaitReboot(&r, there[kernel]); err != nil {
				r.SetUnknown(err.Error())
			}
		}
		resources = append(resources, r)
	}
	resources = append(resources, k.unwanted(locks, there)...)
	resources = append(resources, k.leftOver(there)...)
	if len(latest) > 0 {
		k.checkNewest(ctx, resources, latest, there)
	}
	return resources, nil
}

// checkInstalled compares a package with what is installed and held.
func (k *Kind) checkInstalled(want policy.Want[policy.Package], there installed, locks lockList) converge.Resource {
	r := converge.Wanted(want.Resource)
	k.judge(&r, want, there)
	if interrupted(there.meant(want)) != "" {
		if who := k.manager.lockHolder(); who != "" { // that process may be about to remove the older version
			r = converge.Wanted(want.Resource)
			r.SetUnknown(fmt.Sprintf("%v (%s)", errBusy, who))
		}
	}
	if k.unsound != nil && r.State == converge.Compliant {
		r.SetUnknown(k.unsound.Error())
	}
	if r.State == converge.Compliant {
		k.judgeHold(&r, want, locks, there[want.ID.Name()])
	}
	return r
}

// checkNewest asks the repositories about packages that are wanted in their latest version.
func (k *Kind) checkNewest(ctx context.Context, resources []converge.Resource, latest []string, there installed) {
	newer, doubt := k.updates.of(ctx, latest)
	for i := range resources {
		r := &resources[i]
		name := r.ID.Name()
		switch said, asked := newer[name]; {
		case !asked:
		case said == updateThere:
			r.AddPublicDrift("version", "latest", versions(there.called(name))+", and there is a newer one")
		case doubt != "":
			r.SetUnknownErr(public.Because("it cannot be told whether there is a newer one", errors.New(doubt)))
		case isKernel(name):
			if err := k.awaitReboot(r, there[kernel]); err != nil {
				r.SetUnknown(err.Error())
			}
		}
	}
}

// foreign reports whether the machine's own packages are dpkg's. There an rpm database may be
// empty, and a missing package may still be installed.
func (k *Kind) foreign() bool {
	info, err := k.system.FS.Stat("/var/lib/dpkg/status")
	return err == nil && info.Size > 0
}

// unwanted returns the packages and holds that the policy no longer wants and that exist because of
// the agent.
func (k *Kind) unwanted(locks lockList, there installed) []converge.Resource {
	var resources []converge.Resource
	for _, id := range k.reclaim {
		if len(there.called(id.Name())) > 0 {
			resources = append(resources, converge.Unwanted(id, "the agent installed it for a policy that no longer names it"))
		}
	}
	for _, name := range k.released() {
		id := policy.NewID(k.Name(), name)
		_, named := k.policy.Lookup(id)
		if named || slices.Contains(k.reclaim, id) || len(locks.of(name)) == 0 {
			continue
		}
		r := converge.Unwanted(id, "the agent held its version for a policy that no longer names it")
		r.Diff = nil
		r.AddPublicDrift("hold", "none", strings.Join(locks.of(name), ", "))
		resources = append(resources, r)
	}
	return resources
}

// judge records how a package or group differs from the policy.
func (k *Kind) judge(r *converge.Resource, want policy.Want[policy.Package], there installed) {
	group, is := policy.PackageGroup(want.ID.Name())
	if !is {
		judge(r, want, there)
		return
	}
	missing := k.missing(group, there)
	switch _, known := k.groups.members[group]; {
	case !known:
		r.AddPublicDrift("members", "all installed", "not known yet")
	case len(missing) > 0:
		r.AddPublicDrift("members", "all installed", strings.Join(missing, ", ")+" missing")
	}
}

// missing returns the packages of a group that are not installed, except those that the policy
// wants absent.
func (k *Kind) missing(group string, there installed) []string {
	return slices.DeleteFunc(slices.Clone(k.groups.members[group]), func(name string) bool {
		want, named := k.policy.Lookup(policy.NewID(k.Name(), name))
		return slices.ContainsFunc(there[name], native) || named && want.Spec.(policy.Package).Ensure == policy.Absent
	})
}

// judge records how the installed packages of a name differ from the policy.
func judge(r *converge.Resource, want policy.Want[policy.Package], there installed) {
	instances := there.meant(want)
	switch {
	case there.misnamed(want) != "":
		r.AddPublicDrift("name", "that of a package", want.ID.Name())
		r.Note(there.misnamed(want))
	case want.Spec.Ensure == policy.Absent:
		if len(instances) > 0 {
			r.AddPublicDrift("version", "absent", versions(instances))
		}
	case len(instances) == 0:
		r.AddPublicDrift("version", string(want.Spec.Ensure), "absent")
		if others := there.called(want.ID.Name()); len(others) > 0 {
			r.Note(fmt.Sprintf("it is installed for %s alone, which is not the machine's own architecture", others[0].arch))
		}
	case interrupted(instances) != "":
		r.AddPublicDrift("version", string(want.Spec.Ensure), versions(instances))
		r.Note(interrupted(instances))
	case want.Spec.Version() != "" && !matches(want, instances):
		r.AddPublicDrift("version", want.Spec.Version(), versions(instances))
	}
}

// matches reports whether the wanted version is the installed one. For packages that are installed
// side by side it is enough that one of them is.
func matches(want policy.Want[policy.Package], instances []instance) bool {
	wanted := parseEVR(want.Spec.Version())
	count := 0
	for _, i := range instances {
		if compareEVR(wanted, i.evr) == 0 {
			count++
		}
	}
	return count == len(instances) || count > 0 && instances[0].sideBySide
}

// interrupted returns a message if one package is recorded in two versions, with what to do about
// it, and "" otherwise. The package managers refuse to continue in that state.
func interrupted(instances []instance) string {
	seen := map[string]evr{}
	for _, i := range instances {
		if other, twice := seen[i.arch]; twice && other != i.evr && !i.sideBySide {
			return fmt.Sprintf("both %s and %s are recorded as installed, which an interrupted transaction leaves behind; "+
				"mend it with: package-cleanup --cleandupes (yum) or dnf remove --duplicates", other, i.evr)
		}
		seen[i.arch] = i.evr
	}
	return ""
}
