package account

import (
	"context"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/policy"
)

// isOfAge reports whether an aspect of a user is one of ageing.
func isOfAge(name string) bool {
	for field := range aspects {
		if field.String() == name {
			return true
		}
	}
	return false
}

// describeAge adds to a user what is to be done about how long the password lasts.
func (u *Users) describeAge(r *converge.Resource, have facts.Account, look func() (*ageLook, error)) {
	mark := u.Mark()
	l, err := look()
	var a *ageAim
	if err == nil {
		a, err = l.aim(have, func(id policy.ID) bool { return id == r.ID })
	}
	if err == nil {
		err = u.Since(mark)
	}
	if err != nil {
		if r.State == converge.Compliant {
			r.SetUnknownErr(err)
		}
		return
	}
	held := a.describe(r, false)
	switch {
	case r.State != converge.Compliant:
	case len(held) > 0:
		r.SetFailed(joined(held))
	case a.notes[r.ID] != "":
		r.Reason = a.notes[r.ID] // for root to read, as all that /etc/shadow and sudoers say
	}
}

// keepAge sets how long the password of a user lasts. Somebody who is logged in notices nothing of that.
func (u *Users) keepAge(ctx context.Context, id policy.ID) error {
	l, err := u.ages.look()
	if err == nil {
		err = u.Since(u.mark)
	}
	if err != nil {
		return err
	}
	return l.keep(ctx, id)
}
