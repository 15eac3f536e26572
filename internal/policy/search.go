package policy

import (
	"slices"
	"strings"
)

// Search is what the agent itself looks for among the machine's own accounts. Everything found is
// reported, and nothing is repaired.
type Search struct {
	For    string   `json:"find"`             // one of Searches
	Except []string `json:"except,omitempty"` // names of accounts or groups to ignore
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
			c.problem(key, "it is only for commands, and find is not one")
		}
	}
	d.set(t, name, NewID("check", name), Search{For: c.text("find"), Except: c.texts("except")})
}

func (s Search) validate(v *validator) {
	v.match(checkName, v.name, "is not a name for a check")
	v.refuse(!slices.Contains(searches(), s.For), "%q cannot be searched for; choose one of %s", s.For, strings.Join(searches(), ", "))
	for _, name := range s.Except {
		v.short(name, mostOfDirectorys)
		v.refuse(name == "" || strings.Contains(name, ":") || breaksLine(name), "%q is not the name of an account or a group", name)
	}
}

func (s Search) entry(name string) entry {
	return ownTable("checks", name, pairs("find", s.For, "except", s.Except)...)
}
