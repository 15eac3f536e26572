package packages

import (
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/policy"
)

// keepsVersion reports whether the policy keeps a package in one version.
func keepsVersion(want policy.Package) bool { return want.Version() != "" || want.Hold }

// pinned returns the packages that no update may change: those that the policy wants in a version,
// even if its value is not known yet, and those that it wants absent, which an update might bring
// along.
func pinned(p *policy.Policy) []string {
	var names []string
	for _, r := range p.Resources {
		if want, is := r.Spec.(policy.Package); is && (keepsVersion(want) || want.Ensure == policy.Absent) {
			names = append(names, r.ID.Name())
		}
	}
	return names
}

// settled returns the installed packages that are in the version that the policy wants and are not
// among the changed ones. No other install or update may change them.
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

// options returns the options of a transaction that changes these packages. The signature of a
// package that comes as a file is not checked, because the policy has its digest.
func (m *mending) options(changed []policy.Want[policy.Package]) []string {
	options := excluding(m.settled(changed))
	if slices.ContainsFunc(changed, func(w policy.Want[policy.Package]) bool { return w.Spec.URL != "" }) {
		options = append(options, "--setopt=localpkg_gpgcheck=False")
	}
	return options
}

// excluding returns the option that excludes packages from installs and updates. Both yum(8) and
// dnf(8) accept NAME and NAME.ARCH.
func excluding(names []string) []string {
	if len(names) == 0 {
		return nil
	}
	slices.Sort(names)
	return []string{"--exclude=" + strings.Join(slices.Compact(names), ",")}
}
