package target

import (
	"fmt"
	"slices"
	"strings"
)

// A Target is a machine that a policy is linted for: what all WorkSpaces of one operating system have in common.
type Target struct {
	Name  string
	Facts Facts
}

// All returns the operating systems of Linux WorkSpaces, the one that they are migrated from first. What
// the pages of AWS do not say of all of them is not among the facts.
func All() []Target {
	desktop := func(name, id, family, version, codename, manager string) Target {
		return Target{name, Facts{
			"os.id": id, Family: family, Version: version, "os.codename": codename, "arch": "x86_64",
			PackageManager: manager, Desktop: GNOME, Streaming: DCV, Directory: SSSD,
		}}
	}
	amazon := Target{"amzn-2", Facts{
		"os.id": "amzn", Family: Amazon, Version: "2", "os.codename": None, "arch": "x86_64",
		PackageManager: Yum, Desktop: MATE, Streaming: PCoIP, Directory: Winbind,
	}}
	return []Target{
		amazon,
		desktop("rhel-8", "rhel", RHEL, "8", None, DNF),
		desktop("rhel-9", "rhel", RHEL, "9", None, DNF),
		desktop("rocky-8", "rocky", RHEL, "8", None, DNF),
		desktop("rocky-9", "rocky", RHEL, "9", None, DNF),
		desktop("ubuntu-22.04", "ubuntu", Debian, "22.04", "jammy", APT),
		desktop("ubuntu-24.04", "ubuntu", Debian, "24.04", "noble", APT),
	}
}

// AllNames returns the names of All.
func AllNames() (names []string) {
	for _, t := range All() {
		names = append(names, t.Name)
	}
	return names
}

// Named returns the target of that name.
func Named(name string) (Target, error) {
	all := All()
	if i := slices.IndexFunc(all, func(t Target) bool { return t.Name == name }); i >= 0 {
		return all[i], nil
	}
	return Target{}, fmt.Errorf("cannot use target %q: targets are %s", name, strings.Join(AllNames(), ", "))
}

// May says whether conditions may hold on some machine of the target: a version of the target stands for
// all its minor versions, and a fact that the target does not name may have any value.
func (t Target) May(c Conditions) bool {
	for fact, values := range c {
		if t.Facts[fact] == "" {
			continue
		}
		if !slices.ContainsFunc(values, func(value string) bool {
			has, _ := t.Facts.Has(fact, value)
			return has || fact == Version && strings.HasPrefix(value, t.Facts[Version]+".")
		}) {
			return false
		}
	}
	return true
}
