package policy

import (
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/protected"
)

func usersSection() section {
	return section{"users", named("local accounts", "NAME", accountName.String(), userForm()), (*decoder).users, `[users.backup]
uid = 4100
group = "backup"
home = "/var/lib/backup"
shell = "/sbin/nologin"
system = true
expires = "2099-12-31"
`, []Spec{User{}}}
}

// User is a local account of /etc/passwd. An empty field is not managed.
type User struct {
	Ensure  Ensure   `json:"ensure"`
	UID     *int     `json:"uid,omitempty"`
	Group   string   `json:"group,omitempty"`  // the primary group's name
	Groups  []string `json:"groups,omitempty"` // supplementary groups that the user must be in; others are left alone
	Comment string   `json:"comment,omitempty"`
	Home    string   `json:"home,omitempty"`
	Shell   string   `json:"shell,omitempty"`
	System  bool     `json:"system,omitempty"`
	Lifetime
	// Expires is the first day, in UTC, on which the account cannot be used, or NeverExpires.
	Expires string `json:"expires,omitempty"`
	// Registered is set for an entry of the registry [ids].
	Registered bool `json:"registered,omitempty"`
}

// Kind implements Spec.
func (User) Kind() string { return "user" }

// Expand implements Spec.
func (u User) Expand(func(string) string) Spec { return u }

func userForm() *form {
	keys := []key{
		ensureKey(),
		{name: "uid", form: whole("the fixed id", 1, greatestID)},
		{name: "group", form: text("the primary group")},
		{name: "groups", form: texts("groups that the user must also be in; others are left alone", text(""))},
		{name: "comment", form: text("as in passwd(5)")},
		{name: "home", form: like("as in passwd(5). Unless it is a service account, it is there and the user's; it is never deleted", absolutePath)},
		{name: "shell", form: like("as in passwd(5)", absolutePath)},
		{name: "system", form: yesOrNo("it is a service account: no home is made, and nobody logs in to it")},
	}
	expires := like("the first day, in UTC, on which the account cannot be used, or `never`; as in shadow(5). It is not set for administrators", `^(never|[0-9]{4}-[0-9]{2}-[0-9]{2})$`).eg(`"2027-01-31"`)
	return record("a local account; what is left out is not managed", append(append(keys, lifetimeKeys()...), key{name: "expires", form: expires})...)
}

func (d *decoder) users(t *table) {
	d.each(t, func(name string, u *table) {
		d.set(t, name, NewID("user", name), User{
			Ensure: u.ensure(), UID: u.number("uid"), Group: u.text("group"), Groups: u.texts("groups"),
			Comment: u.text("comment"), Home: u.text("home"), Shell: u.text("shell"), System: u.isSet("system"),
			Lifetime: u.lifetime(), Expires: u.text("expires"),
		})
	})
}

func (u User) validate(v *validator) {
	why := protected.Account(v.name)
	if u.Registered {
		why = protected.Registered(v.name)
	}
	v.account(u.UID, "uid", why)
	v.ensure(u.Ensure)
	if u.Home != "" {
		v.absolute("home", u.Home)
		if why := badHome(u.Home); why != "" && !u.System {
			v.wrong("home %q is nobody's: %s", u.Home, why)
		}
	}
	if u.Shell != "" {
		v.absolute("shell", u.Shell)
	}
	v.refuse(strings.Contains(u.Comment, ":") || breaksLine(u.Comment), "the comment may hold neither a colon nor a line break")
	v.refuse(v.name == AgeingPeople, "%s is the name of no account: [ageing] means all local persons by it", v.name)
	v.lifetime(u.Lifetime)
	v.expires(u.Expires)
	groups := u.Groups
	if u.Group != "" {
		groups = append(slices.Clone(groups), u.Group)
	}
	for _, g := range groups {
		v.short(g, mostOfAccount)
		v.refuse(g == "" || strings.ContainsAny(g, ",:") || breaksLine(g) || strings.HasPrefix(g, "-"), "%q is not the name of a group", g)
	}
}

func (u User) entry(name string) entry {
	if u.Registered {
		return inTable("ids", "uid."+pair(name, *u.UID))
	}
	return ownTable("users", name, append(pairs("ensure", u.Ensure.unlessPresent(), "uid", u.UID, "group", u.Group, "groups", u.Groups,
		"comment", u.Comment, "home", u.Home, "shell", u.Shell, "system", u.System, "expires", u.Expires), u.pairs()...)...)
}

func (u User) absence() (is bool, alone Spec) { return u.Ensure == Absent, User{Ensure: Absent} }
