package account

import (
	"context"
	"slices"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/public"
	"github.com/soe-agent/soe-agent/internal/system"
)

// Ageing implements the kind "ageing": how long the passwords of local persons, and root's, last. It also
// restores what an account had, after the policy no longer names it here or in [users].
type Ageing struct {
	*system.Unanswered
	ages ager
}

// NewAgeing returns the kind "ageing".
func NewAgeing(p *policy.Policy, s *system.System, l *converge.Ledger) *Ageing {
	s, unanswered := s.Observe()
	return &Ageing{unanswered, ager{s, p, l}}
}

// Name implements converge.Kind.
func (*Ageing) Name() string { return policy.Ageing{}.Kind() }

// Watches implements converge.Watcher. Who administers is looked at in each pass.
func (*Ageing) Watches() []converge.Watch {
	return []converge.Watch{{Dir: "/etc", Names: []string{"passwd", "shadow", "group", "sudoers"}}, {Dir: "/etc/sudoers.d"}}
}

// Check implements converge.Kind.
func (k *Ageing) Check(context.Context) ([]converge.Resource, error) {
	wants, owned := policy.Of[policy.Ageing](k.ages.policy), k.ages.ledger.Owned(k.Name())
	if len(wants)+len(owned) == 0 {
		return nil, nil
	}
	var resources []converge.Resource
	mark := k.Mark()
	l, err := k.ages.look()
	for _, want := range wants {
		r := converge.Wanted(want.Resource)
		if err != nil {
			r.SetUnknownErr(err)
		} else {
			l.describe(&r)
			r.SetUnknownIf(k.Since(mark))
		}
		resources = append(resources, r)
	}
	if err != nil && len(owned) > 0 {
		return resources, err
	}
	for _, id := range owned {
		account, there := l.db.account(id.Name())
		if !there {
			resources = append(resources, converge.Unwanted(id, "the account is gone, and so is what its password had"))
			continue
		}
		if _, named := k.ages.policy.Lookup(id); named {
			continue
		}
		a, err := l.aim(account, func(of policy.ID) bool { return of == id })
		if err != nil {
			return resources, err
		}
		if r, left := leftOver(id, a); left {
			resources = append(resources, r)
		}
	}
	return resources, nil
}

// leftOver describes fields of an account that the ledger has and the policy no longer names, also those that
// somebody else has changed since: they are forgotten.
func leftOver(id policy.ID, a *ageAim) (converge.Resource, bool) {
	r := converge.Unwanted(id, "the policy no longer says how long this password lasts, so it gets back what it had")
	left := slices.ContainsFunc([]aspect{minDays, maxDays, warnDays, inactiveDays, expires}, func(field aspect) bool {
		_, known := a.Before[field.String()]
		return known && a.by(field) == id
	})
	if held := a.describe(&r, false); len(held) > 0 && a.goal == a.have {
		r.SetFailed(joined(held))
	}
	return r, left
}

// describe adds to a wanted resource what is to be done about all accounts that it is about.
func (l *ageLook) describe(r *converge.Resource) {
	var held, notes []string
	about := 0
	for _, account := range l.db.accounts {
		if !l.isAbout(r.ID, account) {
			continue
		}
		about++
		a, err := l.aim(account, func(id policy.ID) bool { return id == r.ID })
		if err != nil {
			held = append(held, err.Error())
			continue
		}
		held = append(held, a.describe(r, r.ID != agedID(policy.AgeingRoot))...)
		if note := a.notes[r.ID]; note != "" {
			notes = append(notes, note)
		}
	}
	switch {
	case r.State == converge.Drifted:
	case len(held) > 0:
		r.SetFailed(joined(held))
	case about == 0: // for root to read, as all that /etc/shadow and sudoers say
		r.Reason = "there is nobody whose password that could be: no local person has one"
	default:
		r.Reason = joined(notes)
	}
}

func (l *ageLook) isAbout(id policy.ID, account facts.Account) bool {
	if id.Name() == policy.AgeingRoot {
		return account.Name == "root"
	}
	return l.isPerson(account)
}

// Repair implements converge.Kind.
func (k *Ageing) Repair(ctx context.Context, drifted []converge.Resource) (outcomes []converge.Outcome) {
	for _, r := range drifted {
		mark := k.Mark()
		l, err := k.ages.look()
		if unsure := k.Since(mark); err == nil && unsure != nil {
			err = unsure
		}
		if err == nil {
			err = l.keep(ctx, r.ID)
			if _, there := l.db.account(r.ID.Name()); !there && k.ages.ledger.Owns(r.ID) {
				k.ages.forget(r.ID.Name())
			}
		}
		if err != nil {
			outcomes = append(outcomes, converge.Outcome{ID: r.ID, Err: public.Because("cannot keep "+string(r.ID), err)})
		}
	}
	return outcomes
}
