package account

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/protected"
	"github.com/soe-agent/soe-agent/internal/public"
	"github.com/soe-agent/soe-agent/internal/system"
)

// An ager keeps how long the passwords of local accounts last. The kinds "user" and "ageing" share it, because
// one account may have some of its fields from [users] and the others from [ageing].
//
// The ledger has the previous value of each field before it is changed. It is restored when no policy names the
// field any more, unless somebody else has changed it since.
type ager struct {
	system *system.System
	policy *policy.Policy
	ledger *converge.Ledger
}

// An ageLook is what is known of all accounts at one moment.
type ageLook struct {
	ager
	db     database
	shadow map[string]shadowEntry
	broken map[string]error // by account
	admins administrators
	day    int
}

func (a ager) look() (*ageLook, error) {
	db, err := readDatabase(a.system)
	if err != nil {
		return nil, err
	}
	shadow, broken, err := readShadow(a.system)
	if err != nil {
		return nil, err
	}
	day, err := today(a.system)
	if err != nil {
		return nil, err
	}
	admins, err := readAdministrators(a.system, a.policy, db)
	return &ageLook{a, db, shadow, broken, admins, day}, err
}

// agedID is the ID under which the ledger has the fields of an account, and under which they are restored.
func agedID(name string) policy.ID { return policy.NewID(policy.Ageing{}.Kind(), name) }

// An ageWant is the value that the policy wants of a field, and the resource that says so.
type ageWant struct {
	value int
	by    policy.ID
}

// isPerson reports whether [ageing.people] is about an account.
func (l *ageLook) isPerson(account facts.Account) bool {
	r, _ := l.policy.Lookup(policy.NewID("user", account.Name))
	spec, _ := r.Spec.(policy.User)
	return system.IsPersonal(account.UID) && !spec.System && l.shadow[account.Name].hasPassword &&
		protected.Account(account.Name) == "" && account.Name != policy.AgeingPeople
}

// wants returns what the policy wants of an account, and notes about what does not apply to it.
func (l *ageLook) wants(account facts.Account) (wants map[aspect]ageWant, notes map[policy.ID]string) {
	wants, notes = map[aspect]ageWant{}, map[policy.ID]string{}
	_, aged := l.shadow[account.Name]
	ids := []policy.ID{}
	switch {
	case account.Name == "root":
		ids = append(ids, agedID(policy.AgeingRoot))
	case l.isPerson(account):
		ids = append(ids, agedID(policy.AgeingPeople))
	}
	ids = append(ids, policy.NewID("user", account.Name))
	for _, id := range ids {
		life, last, is := l.lifetime(id)
		if !is {
			continue
		}
		without := map[aspect]bool{}
		switch {
		case !aged:
			notes[id] = fmt.Sprintf("%s has no entry in %s, which has how long passwords last", account.Name, shadowFile)
			continue
		case !l.shadow[account.Name].hasPassword:
			without = map[aspect]bool{minDays: true, maxDays: true, warnDays: true, inactiveDays: true}
			if !life.IsEmpty() {
				notes[id] = account.Name + " has no password that could grow old"
			}
		case l.admins.has(account):
			if life.InactiveDays != nil {
				without[inactiveDays] = true
				notes[id] = "inactive_days is not set for " + account.Name + ", who administers the machine"
			}
			if life.MaxDays != nil { // useradd may have set some days
				wants[inactiveDays] = ageWant{none, id}
			}
		}
		values := valuesOf(life)
		if last != nil {
			values[expires] = *last
		}
		for a, value := range values {
			if !without[a] {
				wants[a] = ageWant{value, id}
			}
		}
	}
	return wants, notes
}

// lifetime returns what a resource says, and its value of expires, if it has one.
func (l *ageLook) lifetime(id policy.ID) (life policy.Lifetime, last *int, is bool) {
	r, _ := l.policy.Lookup(id)
	switch spec := r.Spec.(type) {
	case policy.User:
		if spec.Expires != "" {
			day := spec.ExpiryDay()
			last = &day
		}
		return spec.Lifetime, last, spec.Ensure == policy.Present && (last != nil || !spec.IsEmpty())
	case policy.Ageing:
		return spec.Lifetime, nil, true
	}
	return life, nil, false
}

func valuesOf(life policy.Lifetime) map[aspect]int {
	values := map[aspect]int{}
	for a, value := range map[aspect]*int{minDays: life.MinDays, maxDays: life.MaxDays, warnDays: life.WarnDays, inactiveDays: life.InactiveDays} {
		if value != nil {
			values[a] = *value
		}
	}
	return values
}

// An ageAim is what to do about the fields of one account.
type ageAim struct {
	converge.Retouching
	account    facts.Account
	have, goal days
	wants      map[aspect]ageWant
	held       map[aspect]string // why a field does not get its value now
	notes      map[policy.ID]string
}

// by returns the resource that an aspect is kept for.
func (a *ageAim) by(field aspect) policy.ID {
	if field == lastChange {
		field = maxDays
	}
	if want, named := a.wants[field]; named {
		return want.by
	}
	return agedID(a.account.Name)
}

// aim works out the fields of an account. Those of other resources than these are left as they are.
func (l *ageLook) aim(account facts.Account, of func(policy.ID) bool) (*ageAim, error) {
	if err := l.broken[account.Name]; err != nil {
		return nil, err
	}
	have := days{none, none, none, none, none, none}
	if entry, is := l.shadow[account.Name]; is {
		have = entry.days
	}
	a := &ageAim{Retouching: l.ledger.Retouching(string(agedID(account.Name))), account: account, have: have, goal: have, held: map[aspect]string{}}
	a.wants, a.notes = l.wants(account)
	for field := range lastChange {
		want, named := a.wants[field]
		if !of(a.by(field)) {
			if was, known := a.Before[field.String()]; known {
				a.After[field.String()] = was
			}
			continue
		}
		text := a.Goal(field.String(), strconv.Itoa(have[field]), strconv.Itoa(want.value), named)
		value, err := strconv.Atoi(text)
		if err != nil {
			return nil, fmt.Errorf("the ledger has %q as %s of %s", text, field, account.Name)
		}
		a.goal[field] = value
	}
	if _, named := a.wants[maxDays]; named && of(a.by(maxDays)) && have[lastChange] > l.day+1 {
		a.goal[lastChange] = l.day // a password with a date in the future would be new for longer than max_days
	}
	a.holdBack(l.day+1, l.admins.has(account))
	return a, nil
}

// holdBack leaves fields alone that would make the account worse off tomorrow: a password that would have to be
// changed at once, or could not be used any more. An administrator's password does not get too old by the policy
// later on either: what was there before is restored then.
func (a *ageAim) holdBack(day int, administers bool) {
	base := a.have
	for field := range lastChange {
		if was, known := a.Before[field.String()]; administers && known && was.Makes(strconv.Itoa(a.have[field])) {
			if value, err := strconv.Atoi(was.Was); err == nil {
				base[field] = value
			}
		}
	}
	base[lastChange] = a.goal[lastChange]
	stuck := base.isStuck() || a.have.isStuck()
	harm := func(d days) int {
		harm := 2 * int(d.at(day))
		if d.isStuck() && !stuck {
			harm++
		}
		return harm
	}
	wanted := a.goal
	bearable := min(harm(base), harm(a.have))
	if administers && a.wants[expires].value > 0 {
		a.hold(expires, base, "it would lock out somebody who administers the machine")
	}
	for _, field := range []aspect{expires, inactiveDays, maxDays, minDays} {
		without := a.goal
		without[field] = base[field]
		if harm(a.goal) > bearable && harm(without) < harm(a.goal) {
			a.hold(field, base, "")
		}
	}
	if harm(a.goal) > bearable {
		for field := range lastChange {
			if a.goal[field] != a.have[field] {
				a.hold(field, a.have, "")
			}
		}
		a.goal[lastChange] = a.have[lastChange]
	}
	for field, why := range a.held {
		if why == "" {
			a.held[field] = a.whyHeld(field, wanted, day)
		}
	}
}

// hold gives a field its value in base.
func (a *ageAim) hold(field aspect, base days, why string) {
	a.goal[field], a.held[field] = base[field], why
	delete(a.After, field.String())
	was, known := a.Before[field.String()]
	if known {
		a.During[field.String()] = was
	} else {
		delete(a.During, field.String())
	}
	if known && base[field] == a.have[field] && was.Was != strconv.Itoa(base[field]) {
		a.After[field.String()] = was // it is still the agent's value
	}
}

func (a *ageAim) whyHeld(field aspect, wanted days, day int) string {
	changed := "it has not been changed since accounts have dates for that"
	if a.have[lastChange] > 0 {
		changed = "it was last changed on " + lastChange.text(a.have[lastChange])
	}
	name := a.account.Name
	switch {
	case field == expires:
		return "that day is past, and it would lock " + name + " out at once; of who has left say ensure = \"absent\""
	case wanted.isStuck():
		return "the password would be too old before it can be changed"
	case wanted.at(day) == locked:
		return fmt.Sprintf("it would lock %s out at once: the password is too old; %s. Change it first (passwd %s)", name, changed, name)
	}
	return fmt.Sprintf("the password of %s would be too old at once; %s. Change it first (passwd %s)", name, changed, name)
}

// describe adds to a resource what is to be done about an account for it.
func (a *ageAim) describe(r *converge.Resource, prefixed bool) (held []string) {
	for field := range aspects {
		if a.by(field) != r.ID {
			continue
		}
		want, named := a.wants[field]
		name := field.String()
		if prefixed {
			name += " of " + a.account.Name
		}
		switch {
		case a.goal[field] != a.have[field]:
			r.AddDrift(name, field.text(a.goal[field]), field.text(a.have[field]))
		case field == lastChange:
		case named && want.value != a.have[field]:
			held = append(held, fmt.Sprintf("%s %s is not set for %s: %s", field, field.text(want.value), a.account.Name, a.held[field]))
		case !named && a.held[field] != "":
			held = append(held, fmt.Sprintf("%s of %s is not given back: %s", field, a.account.Name, a.held[field]))
		}
	}
	return held
}

// change runs chage. The previous values are in the ledger, on disk, before that.
func (l *ageLook) change(ctx context.Context, a *ageAim) error {
	argv := []string{"chage"}
	for field := range aspects {
		if a.goal[field] != a.have[field] {
			argv = append(argv, field.option(), strconv.Itoa(a.goal[field]))
		}
	}
	id := agedID(a.account.Name)
	if len(argv) > 1 {
		l.ledger.Own(id)
		l.ledger.Retouch(string(id), a.During)
		if err := l.ledger.Flush(); err != nil {
			return fmt.Errorf("cannot record its previous values: %w", err)
		}
		if err := run(ctx, l.system, append(argv, a.account.Name)...); err != nil {
			return err
		}
	}
	l.ledger.Retouch(string(id), a.After)
	if len(a.After) == 0 {
		l.ledger.Disown(id)
	}
	return nil
}

// keep changes all accounts for these resources.
func (l *ageLook) keep(ctx context.Context, of ...policy.ID) error {
	var errs []error
	for _, account := range l.db.accounts {
		a, err := l.aim(account, func(id policy.ID) bool { return slices.Contains(of, id) })
		if err == nil && (a.goal != a.have || len(a.Before) != len(a.After)) {
			err = l.change(ctx, a)
		}
		if err != nil && l.concerns(account, of) {
			errs = append(errs, public.Because("cannot set how long the password of "+account.Name+" lasts", err))
		}
	}
	return errors.Join(errs...)
}

// concerns reports whether one of the resources is about an account.
func (l *ageLook) concerns(account facts.Account, of []policy.ID) bool {
	wants, _ := l.wants(account)
	if slices.Contains(of, agedID(account.Name)) {
		return true
	}
	for _, want := range wants {
		if slices.Contains(of, want.by) {
			return true
		}
	}
	return false
}

// forget removes the record of an account that is gone, or new.
func (a ager) forget(name string) {
	a.ledger.Retouch(string(agedID(name)), nil)
	if a.ledger.Owns(agedID(name)) {
		a.ledger.Disown(agedID(name))
	}
}

func joined(parts []string) string { return strings.Join(parts, "; ") }
