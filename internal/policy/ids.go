package policy

func idsSection() section {
	return section{"ids", idsForm(), (*decoder).ids, `[ids]
uid.apache = 48
gid.apache = 48
report_unregistered = true
`, []Spec{User{}, Group{}, Registry{Of: "user"}, Registry{Of: "group"}}}
}

// Registry requests a report of accounts or groups that [ids] does not name.
type Registry struct {
	Of string `json:"of"` // "user" or "group"
}

// Kind implements Spec.
func (r Registry) Kind() string { return r.Of }

// Expand implements Spec.
func (r Registry) Expand(func(string) string) Spec { return r }

func idsForm() *form {
	return record("ids of accounts that software makes itself",
		key{name: "uid", form: named("of users", "NAME", accountName.String(), whole("", 1, greatestID)).eg("uid.apache = 48")},
		key{name: "gid", form: named("of groups", "NAME", accountName.String(), whole("", 1, greatestID)).eg("gid.apache = 48")},
		key{name: "report_unregistered", form: yesOrNo("local system accounts and groups that the policy does not name are reported")},
	)
}

func (d *decoder) ids(t *table) {
	if uids := t.child("uid"); uids != nil {
		for _, name := range uids.keys() {
			d.set(uids, name, NewID("user", name), User{
				Ensure: Present, UID: uids.number(name), System: true, Registered: true,
			})
		}
	}
	if gids := t.child("gid"); gids != nil {
		for _, name := range gids.keys() {
			d.set(gids, name, NewID("group", name), Group{
				Ensure: Present, GID: gids.number(name), System: true, Registered: true,
			})
		}
	}
	if t.isSet("report_unregistered") {
		for _, kind := range []string{"user", "group"} {
			d.set(t, "report_unregistered", NewID(kind, "unregistered"), Registry{Of: kind})
		}
	}
	t.close()
}

func (Registry) validate(*validator) {}

func (Registry) entry(string) entry { return inTable("ids", pair("report_unregistered", true)) }
