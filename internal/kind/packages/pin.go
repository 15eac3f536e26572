package packages

import (
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/policy"
)

// keepsVersion says whether a package is to stay in a version.
func keepsVersion(want policy.Package) bool { return want.Version() != "" || want.Hold }

// pinned are the packages that no update may change: those that the policy wants in a
// version, of which the value may not be known yet, and those that it wants not to be
// there, which an update might bring along.
func pinned(p *policy.Policy) []string {
	var names []string
	for _, r := range p.Resources {
		if want, is := r.Spec.(policy.Package); is && (keepsVersion(want) || want.Ensure == policy.Absent) {
			names = append(names, r.ID.Name())
		}
	}
	return names
}

// settled are the packages in the version that the policy wants, besides those that are
// to be changed: nothing else that is installed or updated may take them along.
func (m *mending) settled(changed []policy.Want[policy.Package]) []string {
	var names []string
	for _, want := range m.wants {
		is := func(w policy.Want[policy.Package]) bool { return w.ID == want.ID }
		if keepsVersion(want.Spec) && !slices.ContainsFunc(changed, is) && m.Kind.right(want, m.before) {
			name, _ := policy.PackageArch(want.ID.Name())
			for _, is := range m.before.meant(want) {
				names = append(names, label{name, is.arch}.String())
			}
		}
	}
	return names
}

// options are those of a transaction that changes these packages. For what comes as a file
// the policy vouches by its digest.
func (m *mending) options(changed []policy.Want[policy.Package]) []string {
	options := excluding(m.settled(changed))
	if slices.ContainsFunc(changed, func(w policy.Want[policy.Package]) bool { return w.Spec.URL != "" }) {
		options = append(options, "--setopt=localpkg_gpgcheck=False")
	}
	return options
}

// excluding is the option that leaves packages out of what is installed or updated. Both
// yum(8) and dnf(8) take NAME and NAME.ARCH.
func excluding(names []string) []string {
	if len(names) == 0 {
		return nil
	}
	slices.Sort(names)
	return []string{"--exclude=" + strings.Join(slices.Compact(names), ",")}
}
