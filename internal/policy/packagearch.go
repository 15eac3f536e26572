package policy

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// architectures returns the architectures of packages. A name with another ending, such as
// python3.9, does not contain one.
func architectures() []string {
	return append(foreignArchitectures(), "noarch", "x86_64", "x86_64_v2", "amd64", "ia32e", "aarch64")
}

// foreignArchitectures returns the architectures of packages that are not the machine's own but can
// run there.
func foreignArchitectures() []string {
	return []string{"i386", "i486", "i586", "i686", "athlon", "geode", "armv6hl", "armv7hl", "armv7hnl"}
}

// ForeignArchitecture reports whether an architecture is not the machine's own: machines have 64
// bits.
func ForeignArchitecture(arch string) bool { return slices.Contains(foreignArchitectures(), arch) }

// PackageArch splits NAME.ARCH, as yum(8) and dnf(8) do. arch is "" if there is none.
func PackageArch(text string) (name, arch string) {
	if i := strings.LastIndexByte(text, '.'); i > 0 && slices.Contains(architectures(), text[i+1:]) {
		return text[:i], text[i+1:]
	}
	return text, ""
}

// versionInName matches NAME-VERSION-RELEASE with the mark of a distribution. Names of packages may
// look like versions, but not like this.
var versionInName = regexp.MustCompile(`^(.+)-(\d[^-]*-\d[^-]*\.(?:amzn|el|fc)\d[\w.]*)$`)

// packageProblems reports contradictions between NAME and NAME.ARCH. NAME alone means the machine's
// own architecture and noarch for "present" and versions, and all architectures for "absent" and
// "latest".
func (p *Policy) packageProblems() (problems []contradiction) {
	for _, r := range p.Resources {
		one, is := r.Spec.(Package)
		if !is {
			continue
		}
		name, arch := PackageArch(r.ID.Name())
		if arch == "" {
			continue
		}
		whole, named := p.Lookup(NewID("package", name))
		if all, is := whole.Spec.(Package); named && is {
			if why := contradict(all, one, arch); why != "" {
				problems = append(problems, contradiction{Problem{
					File: r.Origin.Fragment, Line: r.Origin.Line,
					Message: fmt.Sprintf("cannot use %s with %s, which is set at %s: %s", r.ID, whole.ID, whole.Origin, why),
				}, r.ID})
			}
		}
	}
	return problems
}

// contradict returns why the wishes for a package and for one architecture of it cannot both be
// satisfied, or "".
func contradict(all, one Package, arch string) string {
	if hasReference(string(all.Ensure)) || hasReference(string(one.Ensure)) {
		return ""
	}
	foreign := ForeignArchitecture(arch)
	switch {
	case all.Ensure == Absent && one.Ensure != Absent:
		return `"absent" without an architecture means all of them`
	case all.Ensure == Latest && one.Version() != "":
		return `"latest" without an architecture means all of them`
	case all.Hold && (one.Ensure == Latest || one.Version() != "" && one.Ensure != all.Ensure):
		return "a hold is on all architectures"
	case foreign, all.Ensure == Absent, all.Ensure == Latest:
		return ""
	case one.Ensure == Absent && arch != "noarch":
		return "without an architecture the machine's own is meant"
	case one.Ensure == Latest && all.Version() != "":
		return "one is to stay in a version, and the other is to be the latest"
	case all.Version() != "" && one.Version() != "" && !compatible(all.Version(), one.Version()):
		return "they want different versions"
	}
	return ""
}

// compatible reports whether a package can have both versions, one being VERSION and the other
// VERSION-RELEASE.
func compatible(a, b string) bool {
	a, b = strings.TrimPrefix(a, "0:"), strings.TrimPrefix(b, "0:")
	if len(a) > len(b) {
		a, b = b, a
	}
	return a == b || strings.HasPrefix(b, a+"-")
}
