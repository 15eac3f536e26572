package packages

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

// Kind keeps the policy's packages.
type Kind struct {
	policy  *policy.Policy
	system  *system.System
	ledger  *converge.Ledger
	wants   []policy.Want[policy.Package]
	reclaim []policy.ID // what the agent has installed and the policy no longer names
	names   []string
	db      *rpmdb
	manager manager
	updates updates
}

// New returns the kind "package".
func New(p *policy.Policy, s *system.System, l *converge.Ledger) *Kind {
	k := &Kind{policy: p, system: s, ledger: l, wants: policy.Of[policy.Package](p), manager: newManager(p, s)}
	k.reclaim = reclaimable(p, l.Owned(k.Name()))
	for _, want := range k.wants {
		k.names = append(k.names, want.ID.Name())
	}
	for _, id := range k.reclaim {
		k.names = append(k.names, id.Name())
	}
	k.db = &rpmdb{system: s, question: query(k.names)}
	k.updates.manager = &k.manager
	return k
}

// Name implements converge.Kind.
func (k *Kind) Name() string { return "package" }

// Watches implements converge.Watcher.
func (k *Kind) Watches() []converge.Watch {
	if len(k.names) == 0 {
		return nil
	}
	var watches []converge.Watch
	for _, dir := range databaseDirs(k.system.FS) {
		watches = append(watches, converge.Watch{Dir: dir})
	}
	if slices.ContainsFunc(k.wants, disruptive) {
		watches = append(watches, converge.Watch{Sessions: true})
	}
	return watches
}

// installed is what of the policy's packages is there.
func (k *Kind) installed(ctx context.Context) (installed, error) {
	out, err := k.db.ask(ctx)
	if err != nil {
		return nil, err
	}
	there, err := parseQuery(k.names, out)
	if err != nil {
		k.db.forget() // a database that could not be read may be mended without changing
	}
	return there, err
}

// Check implements converge.Kind.
func (k *Kind) Check(ctx context.Context) ([]converge.Resource, error) {
	if len(k.names) == 0 {
		return nil, nil
	}
	there, err := k.installed(ctx)
	if err != nil {
		return nil, err
	}
	var resources []converge.Resource
	var latest []string
	for _, want := range k.wants {
		r := converge.Wanted(want.Resource)
		judge(&r, want, there[want.ID.Name()])
		if want.Spec.Ensure == policy.Latest && r.State == converge.Compliant {
			latest = append(latest, want.ID.Name())
		}
		resources = append(resources, r)
	}
	for _, id := range k.reclaim {
		if len(there[id.Name()]) > 0 {
			resources = append(resources, converge.Unwanted(id, "the agent installed it for a policy that no longer names it"))
		}
	}
	if len(latest) == 0 {
		return resources, nil
	}
	newer, doubt := k.updates.of(ctx, latest)
	for i := range resources {
		r := &resources[i]
		name := r.ID.Name()
		switch said, asked := newer[name]; {
		case !asked:
		case said == updateThere:
			r.Differs("version", "latest", versions(there[name])+", and there is a newer one")
		case doubt != "":
			r.Doubt("it cannot be told whether there is a newer one: " + doubt)
		}
	}
	return resources, nil
}

// judge records how what is installed under a name differs from what is wanted.
func judge(r *converge.Resource, want policy.Want[policy.Package], instances []instance) {
	switch {
	case want.Spec.Ensure == policy.Absent:
		if len(instances) > 0 {
			r.Differs("version", "absent", versions(instances))
		}
	case len(instances) == 0:
		r.Differs("version", string(want.Spec.Ensure), "absent")
	case interrupted(want.ID.Name(), instances) != "":
		r.Differs("version", string(want.Spec.Ensure), versions(instances))
		r.Reason = interrupted(want.ID.Name(), instances)
	case want.Spec.Version() != "" && !matches(want, instances):
		r.Differs("version", want.Spec.Version(), versions(instances))
	}
}

// matches says whether the version that is wanted is the one installed; of
// packages that are installed side by side, whether it is one of them.
func matches(want policy.Want[policy.Package], instances []instance) bool {
	wanted := parseEVR(want.Spec.Version())
	count := 0
	for _, i := range instances {
		if compareEVR(wanted, i.evr) == 0 {
			count++
		}
	}
	return count == len(instances) || count > 0 && sideBySide(want.ID.Name())
}

// sideBySide says whether versions of a package are installed next to each other
// (installonlypkgs in yum.conf(5)).
func sideBySide(name string) bool {
	return name == "kernel" || strings.HasPrefix(name, "kernel-") && !strings.HasPrefix(name, "kernel-headers") &&
		!strings.HasPrefix(name, "kernel-tools")
}

// interrupted says that one package is recorded in two versions, and what to do
// about it, or "". The package managers themselves refuse to go on from there.
func interrupted(name string, instances []instance) string {
	seen := map[string]evr{}
	for _, i := range instances {
		if other, twice := seen[i.arch]; twice && other != i.evr && !sideBySide(name) {
			return fmt.Sprintf("both %s and %s are recorded as installed, which an interrupted transaction leaves behind; "+
				"mend it with: package-cleanup --cleandupes (yum) or dnf remove --duplicates", other, i.evr)
		}
		seen[i.arch] = i.evr
	}
	return ""
}
