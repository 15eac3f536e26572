package policy

import "github.com/soe-agent/soe-agent/internal/protected"

func groupsSection() section {
	return section{"groups", named("local groups", "NAME", accountName.String(), groupForm()), (*decoder).groups, `[groups.soe-admins]
gid = 4000
`, []Spec{Group{}}}
}

// Group is a local group of /etc/group.
type Group struct {
	Ensure Ensure `json:"ensure"`
	GID    *int   `json:"gid,omitempty"` // nil: any id that groupadd chooses
	System bool   `json:"system,omitempty"`
	// Registered is set for an entry of the registry [ids]: only the id is wanted, because some
	// software creates the rest itself.
	Registered bool `json:"registered,omitempty"`
}

// Kind implements Spec.
func (Group) Kind() string { return "group" }

// Expand implements Spec.
func (g Group) Expand(func(string) string) Spec { return g }

func groupForm() *form {
	return record("a local group",
		ensureKey(),
		key{name: "gid", form: whole("the fixed id; left out: whichever groupadd chooses", 1, greatestID)},
		key{name: "system", form: yesOrNo("it is a system group")},
	)
}

func (d *decoder) groups(t *table) {
	d.each(t, func(name string, g *table) {
		d.set(t, name, NewID("group", name), Group{
			Ensure: g.ensure(), GID: g.number("gid"), System: g.isSet("system"),
		})
	})
}

func (g Group) validate(v *validator) {
	why := protected.Registered(v.name)
	if g.Ensure == Absent {
		why = protected.Group(v.name)
	}
	v.account(g.GID, "gid", why)
	v.ensure(g.Ensure)
}

func (g Group) entry(name string) entry {
	if g.Registered {
		return inTable("ids", "gid."+pair(name, *g.GID))
	}
	return ownTable("groups", name, pairs("ensure", g.Ensure.unlessPresent(), "gid", g.GID, "system", g.System)...)
}

func (g Group) absence() (is bool, alone Spec) { return g.Ensure == Absent, Group{Ensure: Absent} }
