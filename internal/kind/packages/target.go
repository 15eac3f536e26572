package packages

import (
	"cmp"
	"fmt"
	"runtime"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/policy"
)

// An instance is one installed package. A name may have several: for two architectures, for
// kernels, or because a transaction was killed half-way.
type instance struct {
	evr
	arch       string
	sideBySide bool // other versions can be installed next to it
}

// installed maps each name to its instances, newest first.
type installed map[string][]instance

// called returns the packages with a name of the policy. A package whose name is the whole text
// takes precedence over NAME.ARCH.
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

// meant returns the packages that a want is about. For a NAME without an architecture these are all
// architectures if it is to be absent or the latest, and the machine's own otherwise.
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

// misnamed returns a message if a name of the policy is the name of an installed package followed
// by its version, and "" otherwise. rpm and the package managers accept that as a name.
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

// machineArch returns rpm's name for the machine's architecture, for which the agent was built.
func machineArch() string {
	switch runtime.GOARCH {
	case "amd64":
		return "x86_64"
	case "arm64":
		return "aarch64"
	}
	return runtime.GOARCH
}

// argument returns a package as an argument of the package managers, with the version if one is
// wanted. It includes the architecture if NAME alone would be ambiguous.
func argument(want policy.Want[policy.Package], there installed) string {
	text, version := want.ID.Name(), want.Spec.Version()
	name, arch := policy.PackageArch(text)
	if len(there[text]) > 0 { // the dot is part of the package's name
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
		// Neither yum nor dnf knows NAME-VERSION.ARCH, so match any release. A release begins with
		// a digit; the rest of a longer package name does not.
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

// A label identifies one package for the commands of rpm and the package managers, regardless of
// what else of that name is installed.
type label struct{ name, arch string }

func (l label) String() string {
	if l.arch == "" {
		return l.name
	}
	return l.name + "." + l.arch
}

// labelOf parses NAME-[EPOCH:]VERSION-RELEASE.ARCH.
func labelOf(nevra string) label {
	_, arch := policy.PackageArch(nevra)
	return label{nameOf(nevra), arch}
}

// covers reports whether a name of the policy means this package.
func (l label) covers(text string) bool {
	name, arch := policy.PackageArch(text)
	return text == l.name || name == l.name && (arch == "" || arch == l.arch || l.arch == "")
}
