package policy

import (
	"slices"
	"strings"
)

// Search is what the agent itself looks for among the machine's own accounts. Each that is found
// is reported, and nothing is repaired.
type Search struct {
	For    string   `json:"find"`             // a word of Searches
	Except []string `json:"except,omitempty"` // names of accounts or groups
}

// What a Search may look for: in /etc/passwd, /etc/group and /etc/shadow, and at the homes of who
// is in there.
const (
	DuplicateUsers  = "duplicate-users"  // entries of one name
	DuplicateUIDs   = "duplicate-uids"   // accounts of one id
	DuplicateGroups = "duplicate-groups" // entries of one name
	DuplicateGIDs   = "duplicate-gids"   // groups of one id
	UnknownGroups   = "unknown-groups"   // accounts with a group that there is not
	OtherRoots      = "other-roots"      // accounts that are root by their id
	EmptyPasswords  = "empty-passwords"  // accounts that want none
	Homes           = "homes"            // that are not there, somebody else's, or open to others
)

func searches() []string {
	return []string{DuplicateUsers, DuplicateUIDs, DuplicateGroups, DuplicateGIDs, UnknownGroups, OtherRoots, EmptyPasswords, Homes}
}

// Kind implements Spec.
func (Search) Kind() string { return Check{}.Kind() }

// Expand implements Spec.
func (s Search) Expand(func(string) string) Spec { return s }

func (d *decoder) search(t *table, name string, c *table) {
	for _, key := range c.keys() {
		if known := c.form.known(); slices.Contains(known, key) && !slices.Contains([]string{"find", "except", severityWord, controlsWord}, key) {
			c.problem(key, "it is of a command, and find is none")
		}
	}
	d.set(t, name, NewID("check", name), Search{For: c.text("find"), Except: c.texts("except")})
}

func (s Search) validate(v *validator) {
	v.match(checkName, v.name, "is not a name for a check")
	v.refuse(!slices.Contains(searches(), s.For), "%q is nothing that can be looked for; that is one of %s", s.For, strings.Join(searches(), ", "))
	for _, name := range s.Except {
		v.refuse(name == "" || strings.Contains(name, ":") || breaksLine(name), "%q is not the name of an account or a group", name)
	}
}

func (s Search) entry(name string) entry {
	return ownTable("checks", name, pairs("find", s.For, "except", s.Except)...)
}
