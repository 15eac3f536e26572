package packages

import (
	"cmp"
	"fmt"
	"runtime"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/policy"
)

// An instance is one installed package. There may be several of a name: for two
// architectures, of kernels, or because a transaction was killed half-way.
type instance struct {
	evr
	arch       string
	sideBySide bool // other versions are installed next to it
}

// installed are the instances of each name, newest first.
type installed map[string][]instance

// called are the packages that a name of the policy means: a NAME that is there comes
// before NAME.ARCH.
func (i installed) called(text string) []instance {
	if all := i[text]; len(all) > 0 {
		return all
	}
	name, arch := policy.PackageArch(text)
	if arch == "" {
		return nil
	}
	return of(i[name], func(i instance) bool { return i.arch == arch })
}

// meant are the packages that a wish is about. That is, of NAME alone, all architectures
// for what is to be absent or the latest, and the machine's own otherwise.
func (i installed) meant(want policy.Want[policy.Package]) []instance {
	all := i.called(want.ID.Name())
	if _, arch := policy.PackageArch(want.ID.Name()); arch != "" || want.Spec.Ensure == policy.Absent || want.Spec.Ensure == policy.Latest {
		return all
	}
	return of(all, native)
}

func native(i instance) bool { return !policy.ForeignArchitecture(i.arch) }

func of(all []instance, which func(instance) bool) []instance {
	return slices.DeleteFunc(slices.Clone(all), func(i instance) bool { return !which(i) })
}

// misnamed says that a name of the policy is that of an installed package with its version,
// which rpm and the package managers take for a name too, or "".
func (i installed) misnamed(want policy.Want[policy.Package]) string {
	text := want.ID.Name()
	if len(i.called(text)) > 0 {
		return ""
	}
	for name, all := range i {
		if !strings.HasPrefix(text, name+"-") {
			continue
		}
		for _, is := range all {
			version := strings.TrimPrefix(strings.TrimSuffix(text, "."+is.arch), name+"-")
			if e := parseEVR(version); version == e.version || version == e.version+"-"+e.release || e.epoch != "" {
				if e.version != is.version || e.release != "" && e.release != is.release {
					continue
				}
				ensure := cmp.Or(want.Spec.Version(), string(want.Spec.Ensure))
				if want.Spec.Ensure == policy.Present {
					ensure = version
				}
				return fmt.Sprintf("there is a version in the name; say %s = %q", name, ensure)
			}
		}
	}
	return ""
}

// machineArch is the architecture of the machine's packages, as rpm calls it. The agent is
// built for it.
func machineArch() string {
	switch runtime.GOARCH {
	case "amd64":
		return "x86_64"
	case "arm64":
		return "aarch64"
	}
	return runtime.GOARCH
}

// argument is how the package managers are told of a package, in a version if one is
// wanted. The architecture is said where NAME alone would not tell which of several.
func argument(want policy.Want[policy.Package], there installed) string {
	text, version := want.ID.Name(), want.Spec.Version()
	name, arch := policy.PackageArch(text)
	if len(there[text]) > 0 { // it is called so
		name, arch = text, ""
	}
	if all := want.Spec.Ensure == policy.Absent || want.Spec.Ensure == policy.Latest; arch == "" && !all && slices.ContainsFunc(there[name], func(i instance) bool { return !native(i) }) {
		arch = machineArch()
		if own := of(there[name], native); len(own) > 0 {
			arch = own[0].arch
		}
	}
	switch {
	case version != "" && arch != "" && parseEVR(version).release == "":
		// Neither yum nor dnf knows NAME-VERSION.ARCH. A release begins with a digit, and
		// what follows the name of a longer one does not.
		return name + "-" + version + "-[0-9]*." + arch
	case version != "" && arch != "":
		return name + "-" + version + "." + arch
	case version != "":
		return name + "-" + version
	case arch != "":
		return name + "." + arch
	}
	return name
}

// A label is one package as rpm's and the package managers' commands take it, whatever else
// is installed of that name.
type label struct{ name, arch string }

func (l label) String() string {
	if l.arch == "" {
		return l.name
	}
	return l.name + "." + l.arch
}

// labelOf takes apart NAME-[EPOCH:]VERSION-RELEASE.ARCH.
func labelOf(nevra string) label {
	_, arch := policy.PackageArch(nevra)
	return label{nameOf(nevra), arch}
}

// covers says whether a name of the policy means a package.
func (l label) covers(text string) bool {
	name, arch := policy.PackageArch(text)
	return text == l.name || name == l.name && (arch == "" || arch == l.arch || l.arch == "")
}
