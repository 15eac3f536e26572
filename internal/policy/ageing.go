package policy

import (
	"fmt"
	"time"
)

func ageingSection() section {
	return section{
		"ageing", named("how long passwords of local accounts last", "WHOSE", "^("+AgeingPeople+"|"+AgeingRoot+")$", ageingForm()), (*decoder).ageing,
		`[ageing.people]
min_days = 1
max_days = 365
warn_days = 7
inactive_days = 30
`,
		[]Spec{Ageing{}},
	}
}

// Names of the resources of [ageing]: all local persons with a password, and root.
const (
	AgeingPeople = "people"
	AgeingRoot   = "root"
)

// Ageing is how long passwords last, of the accounts that its name stands for.
type Ageing struct{ Lifetime }

// A Lifetime is how long the password of an account lasts, in days as in shadow(5). What is nil is not
// managed.
type Lifetime struct {
	MinDays      *int `json:"min_days,omitempty"`
	MaxDays      *int `json:"max_days,omitempty"`
	WarnDays     *int `json:"warn_days,omitempty"`
	InactiveDays *int `json:"inactive_days,omitempty"`
}

// NeverExpires is the value of User.Expires for an account that does not expire.
const NeverExpires = "never"

const (
	neverAges    = 99999 // what login.defs(5) has for passwords that do not age
	longestMin   = 365
	longestWarn  = 365
	longestGrace = 3650
)

// IsEmpty reports whether nothing is managed.
func (l Lifetime) IsEmpty() bool { return l == Lifetime{} }

// ExpiryDay returns Expires as a number of days since 1970-01-01, as in shadow(5); -1 for NeverExpires.
func (u User) ExpiryDay() int {
	day, err := time.Parse(time.DateOnly, u.Expires)
	if err != nil {
		return -1
	}
	return int(day.Unix() / (24 * 60 * 60))
}

// Kind implements Spec.
func (Ageing) Kind() string { return "ageing" }

// Expand implements Spec.
func (a Ageing) Expand(func(string) string) Spec { return a }

// lifetimeKeys are the keys of a Lifetime but for expires.
func lifetimeKeys() []key {
	return []key{
		{name: "max_days", form: whole("after how many days a password must be changed; 99999: never", 1, neverAges)},
		{name: "min_days", form: whole("how many days a new password cannot be changed", 0, longestMin)},
		{name: "warn_days", form: whole("how many days before that people are warned", 0, longestWarn)},
		{name: "inactive_days", form: whole("how many days an old password can still be changed; after that the account is locked. It is not set for administrators", 1, longestGrace)},
	}
}

func ageingForm() *form {
	return record("the passwords of all local persons who have one (`people`), or of `root`; what is left out is not managed", lifetimeKeys()...).
		needing([]string{"max_days"}, []string{"min_days"}, []string{"warn_days"}, []string{"inactive_days"})
}

func (d *decoder) ageing(t *table) {
	d.each(t, func(name string, a *table) {
		d.set(t, name, NewID("ageing", name), Ageing{a.lifetime()})
	})
}

func (t *table) lifetime() Lifetime {
	return Lifetime{MinDays: t.number("min_days"), MaxDays: t.number("max_days"), WarnDays: t.number("warn_days"), InactiveDays: t.number("inactive_days")}
}

func (a Ageing) validate(v *validator) {
	v.refuse(v.name != AgeingPeople && v.name != AgeingRoot, "it is neither %s nor %s; of one account say it in [users]", AgeingPeople, AgeingRoot)
	v.refuse(a.IsEmpty(), "it does not say how long passwords last: max_days, min_days, warn_days or inactive_days")
	v.refuse(v.name == AgeingRoot && a.InactiveDays != nil, "root's account is never locked: leave inactive_days out")
	v.lifetime(a.Lifetime)
}

func (v *validator) lifetime(l Lifetime) {
	for _, n := range []struct {
		name        string
		value       *int
		least, most int
	}{
		{"max_days", l.MaxDays, 1, neverAges},
		{"min_days", l.MinDays, 0, longestMin},
		{"warn_days", l.WarnDays, 0, longestWarn},
		{"inactive_days", l.InactiveDays, 1, longestGrace},
	} {
		v.refuse(n.value != nil && (*n.value < n.least || *n.value > n.most), "%s is not a number from %d to %d", n.name, n.least, n.most)
	}
	if l.MinDays != nil && l.MaxDays != nil && *l.MinDays >= *l.MaxDays {
		v.wrong("min_days %d is not less than max_days %d: nobody could change a password before it is too old", *l.MinDays, *l.MaxDays)
	}
}

func (v *validator) expires(text string) {
	if text == "" || text == NeverExpires {
		return
	}
	if day, err := time.Parse(time.DateOnly, text); err != nil || day.Year() < 2000 || day.Year() > 2200 {
		v.wrong(`expires %q is neither a date such as "2027-01-31" nor "never"`, text)
	}
}

func (l Lifetime) pairs() []string {
	return pairs("min_days", l.MinDays, "max_days", l.MaxDays, "warn_days", l.WarnDays, "inactive_days", l.InactiveDays)
}

func (a Ageing) entry(name string) entry { return ownTable("ageing", name, a.pairs()...) }

// advise warns of an account whose last day is over.
func (u User) advise(a *adviser, of Setting) {
	if u.Expires != "" && u.Expires != NeverExpires && u.Ensure == Present && u.ExpiryDay() <= int(a.now.Unix()/(24*60*60)) {
		a.warn(of.Line, fmt.Sprintf("%s has expired: %s is past, and no account is locked by a day that is past", of.ID, u.Expires), `say ensure = "absent" of who has left`)
	}
}
