package policy

import (
	"path"
	"slices"
	"strings"
	"time"
)

// Search is what the agent itself looks for: among the machine's own accounts, on its disks or among
// its packages. Everything found is reported, and nothing is repaired.
type Search struct {
	For string `json:"find"` // one of the constants below
	// Except is what is passed over: names of accounts or groups; for what searches files globs over
	// their paths, in which * matches slashes too.
	Except []string `json:"except,omitempty"`
	// Every and Timeout are as for a Check. They are set for what searches files, and for nothing
	// else.
	Every   time.Duration `json:"every,omitempty"`
	Timeout time.Duration `json:"timeout,omitempty"`
}

// What a Search may look for in /etc/passwd, /etc/group and /etc/shadow, and in the homes of the
// accounts.
const (
	DuplicateUsers  = "duplicate-users"  // entries with the same name
	DuplicateUIDs   = "duplicate-uids"   // accounts with the same id
	DuplicateGroups = "duplicate-groups" // entries with the same name
	DuplicateGIDs   = "duplicate-gids"   // groups with the same id
	UnknownGroups   = "unknown-groups"   // accounts whose group does not exist
	OtherRoots      = "other-roots"      // accounts with root's id
	EmptyPasswords  = "empty-passwords"  // accounts without a password
	Homes           = "homes"            // homes that are missing, belong to somebody else, or are open to others
)

// What a Search may look for among the files of the machine. It takes its time.
const (
	WorldWritable = "world-writable" // files that everybody may write, and directories where everybody may replace files
	Unowned       = "unowned"        // files whose owner or group has no name
	SetID         = "set-id"         // set-id programs that no package brought as such
	DotFiles      = "dot-files"      // files in homes that let others in, or that others may write
	AlteredFiles  = "altered-files"  // files that differ from what their package brought
)

func searches() []string {
	return append([]string{DuplicateUsers, DuplicateUIDs, DuplicateGroups, DuplicateGIDs, UnknownGroups, OtherRoots, EmptyPasswords, Homes}, fileSearches()...)
}

func fileSearches() []string {
	return []string{WorldWritable, Unowned, SetID, DotFiles, AlteredFiles}
}

// Kind implements Spec.
func (Search) Kind() string { return Check{}.Kind() }

// Expand implements Spec.
func (s Search) Expand(func(string) string) Spec { return s }

// OfFiles reports whether it searches files, in its own time.
func (s Search) OfFiles() bool { return slices.Contains(fileSearches(), s.For) }

// StaleAfter is how long the last result of a search with Every counts.
func (s Search) StaleAfter() time.Duration { return 2 * s.Every }

// PassesOver reports whether something is excepted: an account, a group, or a file by its path.
func (s Search) PassesOver(name string) bool {
	if s.OfFiles() {
		return slices.ContainsFunc(s.Except, func(glob string) bool { return matchGlob(glob, name) })
	}
	return slices.Contains(s.Except, name)
}

func (d *decoder) search(t *table, name string, c *table) {
	search := Search{For: c.text("find"), Except: c.texts("except")}
	allowed := []string{"find", "except", severityWord, controlsWord}
	if search.OfFiles() {
		allowed = append(allowed, "every", "timeout")
		search.Every, search.Timeout = c.rhythm(patientCheckTimeout)
	}
	for _, key := range c.keys() {
		if known := c.form.known(); slices.Contains(known, key) && !slices.Contains(allowed, key) {
			c.problem(key, "it is only for commands, and find is not one")
		}
	}
	d.set(t, name, NewID("check", name), search)
}

func (s Search) validate(v *validator) {
	v.match(checkName, v.name, "is not a name for a check")
	v.refuse(!slices.Contains(searches(), s.For), "%q cannot be searched for; choose one of %s", s.For, strings.Join(searches(), ", "))
	for _, name := range s.Except {
		if s.OfFiles() {
			v.short(name, mostOfPath)
			v.refuse(!path.IsAbs(name) || breaksLine(name), `%q is not the path of a file, such as "/opt/tool/*"`, name)
			v.refuse(strings.Trim(name, "/*") == "", "%q passes over everything", name)
			continue
		}
		v.short(name, mostOfDirectorys)
		v.refuse(name == "" || strings.Contains(name, ":") || breaksLine(name), "%q is not the name of an account or a group", name)
	}
	if s.OfFiles() {
		v.refuse(s.Every == 0, `it goes through the disk: say how often, such as every = "12h"`)
		v.often(s.Every, s.Timeout)
	}
}

func (s Search) entry(name string) entry {
	lines := pairs("find", s.For, "except", s.Except)
	if s.OfFiles() {
		lines = append(lines, pair("every", Days(s.Every)))
		if s.Timeout != patientCheckTimeout {
			lines = append(lines, pair("timeout", s.Timeout.String()))
		}
	}
	return ownTable("checks", name, lines...)
}
