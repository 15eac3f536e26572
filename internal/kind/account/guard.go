package account

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/public"
	"github.com/soe-agent/soe-agent/internal/system"
)

var errLastAdministrator = public.Error(errors.New("it would leave no administrator: nobody else of [sudo] allow is known to this machine"))

// keepsAdministrator returns an error if removing an account or a group would leave the machine
// without anybody whom [sudo] allow names. People in the directory count only if the directory can
// be queried now. Root does not count, because it cannot log in to a desktop.
func keepsAdministrator(ctx context.Context, s *system.System, p *policy.Policy, db database, account, group string) error {
	if why := unknownAllow(p); why != "" {
		return fmt.Errorf("cannot tell whether that leaves an administrator: %s", why)
	}
	g := guard{ctx: ctx, system: s, db: db, account: account, group: group}
	for _, want := range policy.Of[policy.Sudo](p) {
		concerned := false
		for _, subject := range want.Spec.Allow {
			if g.is(subject) {
				concerned = true
				continue
			}
			left, err := g.leaves(subject)
			if err != nil {
				return fmt.Errorf("cannot tell whether that leaves an administrator: %w", err)
			}
			if left {
				return nil
			}
		}
		if concerned || g.inAllowed(want.Spec.Allow) {
			return errLastAdministrator
		}
	}
	return nil
}

// unknownAllow returns why it is not known whom [sudo] allow names, or "".
func unknownAllow(p *policy.Policy) string {
	switch r, _ := p.Lookup(policy.NewID("sudo", "allow")); {
	case r.Undecided != "":
		return fmt.Sprintf("it cannot be told whether %s is for this machine: %s", r.ID, r.Undecided)
	case len(r.Missing) > 0:
		return fmt.Sprintf("%s is not known in full: the value of %s is not", r.ID, r.Missing[0])
	}
	return ""
}

// A guard evaluates the machine without an account or a group.
type guard struct {
	ctx            context.Context //nolint:containedctx // lives no longer than the question
	system         *system.System
	db             database
	account, group string // one of the two is empty
}

// is reports whether a subject of [sudo] allow is the account or group to be removed.
func (g guard) is(subject string) bool {
	name, isGroup := strings.CutPrefix(subject, "%")
	return isGroup && g.group != "" && name == g.group || !isGroup && g.account != "" && strings.EqualFold(name, g.account)
}

// leaves reports whether a subject still includes somebody who can administer.
func (g guard) leaves(subject string) (bool, error) {
	name, isGroup := strings.CutPrefix(subject, "%")
	if !isGroup {
		return g.stays(name)
	}
	group, local := g.db.group(name)
	if !local {
		_, found, err := facts.LookupGroup(g.ctx, g.system, name)
		return found, err
	}
	for _, member := range g.members(group) {
		if stays, err := g.stays(member); stays || err != nil {
			return stays, err
		}
	}
	return false, nil
}

func (g guard) stays(name string) (bool, error) {
	if name == "root" || name == g.account {
		return false, nil
	}
	if account, local := g.db.account(name); local {
		return !endsAtOnce(account.Shell), nil
	}
	_, found, err := facts.LookupUser(g.ctx, g.system, name)
	return found, err
}

func (g guard) members(group facts.Group) []string {
	members := slices.Clone(group.Members)
	for _, a := range g.db.accounts {
		if a.GID == group.GID {
			members = append(members, a.Name)
		}
	}
	return members
}

// inAllowed reports whether the account to be removed is in a local group of [sudo] allow.
func (g guard) inAllowed(allow []string) bool {
	return slices.ContainsFunc(allow, func(subject string) bool {
		name, isGroup := strings.CutPrefix(subject, "%")
		group, local := g.db.group(name)
		return isGroup && local && g.account != "" && slices.Contains(g.members(group), g.account)
	})
}
