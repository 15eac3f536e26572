package target

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Names of facts that the agent itself goes by.
const (
	Family         = "os.family"
	Version        = "os.version"
	PackageManager = "package-manager"
	Desktop        = "desktop"
	Streaming      = "streaming"
	Directory      = "directory"
)

// Values of facts.
const (
	Amazon = "amzn"   // os.family: Amazon Linux
	RHEL   = "rhel"   // os.family: Red Hat Enterprise Linux and its rebuilds
	Debian = "debian" // os.family: Debian and Ubuntu
	Other  = "other"  // os.family: none of these

	Yum = "yum"
	DNF = "dnf"
	APT = "apt"

	MATE  = "mate"
	GNOME = "gnome"

	PCoIP = "pcoip"
	DCV   = "dcv"

	SSSD    = "sssd"
	Winbind = "winbind"

	Both = "both" // desktop: MATE and GNOME; streaming: PCoIP and DCV
	None = "none" // it is known that there is none
)

// Names returns the names of all facts, sorted.
func Names() []string {
	return []string{
		"arch", Desktop, Directory, "hostname", "locale", "machine-id", "managed-node", "os.codename", Family, "os.id", Version,
		PackageManager, "region", Streaming,
	}
}

// Values returns the values that a fact may have, or none if there is no list of them.
func Values(fact string) []string {
	switch fact {
	case Family:
		return []string{Amazon, RHEL, Debian, Other}
	case PackageManager:
		return []string{Yum, DNF, APT, None}
	case Desktop:
		return []string{MATE, GNOME, Both, None}
	case Streaming:
		return []string{PCoIP, DCV, Both, None}
	case Directory:
		return []string{SSSD, Winbind, None}
	}
	return nil
}

// Facts are what is known of a machine, by name. A fact that is not known is not in it, or empty.
type Facts map[string]string

// Has says whether a fact has a value. "both" is each of the two. A version is given in whole
// components: 8.10 is "8" and "8.10", but not "8.1". known is false if the fact is not known.
func (f Facts) Has(fact, value string) (has, known bool) {
	got := f[fact]
	switch {
	case got == "":
		return false, false
	case got == value, fact == Version && strings.HasPrefix(got, value+"."):
		return true, true
	case got == Both && (fact == Desktop || fact == Streaming):
		return value != None, true
	}
	return false, true
}

// Lacks says whether it is known that a fact does not have a value.
func (f Facts) Lacks(fact, value string) bool {
	has, known := f.Has(fact, value)
	return known && !has
}

// Conditions are tests of facts, by name: one of the values must be the fact's. All of them must hold.
// Without any they always hold.
type Conditions map[string][]string

// An Answer says whether conditions hold.
type Answer int

// The answers.
const (
	No Answer = iota
	Yes
	Unknown // a fact that decides is not known
)

// Hold says whether the conditions hold for a machine, and why: which facts decide.
func (c Conditions) Hold(f Facts) (a Answer, why string) {
	a = Yes
	var unknown, holding []string
	for _, fact := range slices.Sorted(maps.Keys(c)) {
		switch is, known := c.holds(f, fact); {
		case !known:
			a = Unknown
			unknown = append(unknown, fact+" is not known")
		case !is:
			return No, fmt.Sprintf("%s is %s", fact, f[fact])
		default:
			holding = append(holding, fmt.Sprintf("%s is %s", fact, f[fact]))
		}
	}
	if a == Unknown {
		return a, strings.Join(unknown, ", ")
	}
	return a, strings.Join(holding, ", ")
}

func (c Conditions) holds(f Facts, fact string) (is, known bool) {
	for _, value := range c[fact] {
		if is, known = f.Has(fact, value); is || !known {
			return is, known
		}
	}
	return false, f[fact] != ""
}

// NoSuchFact is the problem of a name that no fact has.
const NoSuchFact = "no such fact is known"

// Problem returns what is wrong with the test of a fact for one of these values, or "".
func Problem(fact string, values []string) string {
	if !slices.Contains(Names(), fact) {
		return NoSuchFact
	}
	if len(values) == 0 {
		return "it names no value, so it never holds"
	}
	possible := Values(fact)
	for _, value := range values {
		switch {
		case value == "":
			return "no machine has an empty one"
		case possible != nil && !slices.Contains(possible, value):
			return fmt.Sprintf("no machine has %q; it is one of %s", value, strings.Join(possible, ", "))
		}
	}
	return ""
}

// String returns the conditions as they are written in TOML, as a value of when.
func (c Conditions) String() string {
	var tests []string
	for _, fact := range slices.Sorted(maps.Keys(c)) {
		name := fact
		if strings.Contains(name, ".") {
			name = `"` + name + `"`
		}
		var values []string
		for _, value := range c[fact] {
			values = append(values, fmt.Sprintf("%q", value))
		}
		tests = append(tests, fmt.Sprintf("fact.%s = [%s]", name, strings.Join(values, ", ")))
	}
	return "{ " + strings.Join(tests, ", ") + " }"
}
