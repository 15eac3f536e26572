package sudo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/public"
)

// bringsAdministrator reports whether the policy creates an account that may administer, or puts
// somebody into a group that may. Those kinds are repaired first, so whether an administrator exists
// is only known at the repair.
func (k *Kind) bringsAdministrator(allow []string) bool {
	return slices.ContainsFunc(allow, func(subject string) bool {
		if name, isGroup := strings.CutPrefix(subject, "%"); isGroup {
			return k.brings("group", name) && k.fills(name)
		}
		return k.brings("user", subject)
	})
}

// brings reports whether the policy has the agent create an account or a group that is not there. It
// does not where the policy wants it absent, keeps no more than its id, or has it only reported. A
// group that is there need not be brought.
func (k *Kind) brings(kind, name string) bool {
	id := policy.NewID(kind, name)
	r, named := k.policy.Lookup(id)
	creates := false
	switch want := r.Spec.(type) {
	case policy.User:
		creates = want.Ensure == policy.Present && !want.Registered
	case policy.Group:
		if want.Ensure == policy.Absent {
			return false
		}
		creates = !want.Registered
	}
	if named && creates && r.Enforceable() && !k.policy.Ruling(id, k.system.Clock.Now()).Audit {
		return true
	}
	if kind != "group" {
		return false
	}
	there, err := facts.LocalGroups(k.system)
	return err == nil && slices.ContainsFunc(there, func(g facts.Group) bool { return g.Name == name })
}

// fills reports whether the policy puts somebody into a group.
func (k *Kind) fills(group string) bool {
	return slices.ContainsFunc(policy.Of[policy.User](k.policy), func(want policy.Want[policy.User]) bool {
		return (want.Spec.Group == group || slices.Contains(want.Spec.Groups, group)) && k.brings("user", want.ID.Name())
	})
}

// administrated returns an error if the policy would leave the machine without an administrator. root
// does not count: root cannot log in to a desktop.
func (k *Kind) administrated(ctx context.Context, allow []string) error {
	var reasons []string
	for _, subject := range allow {
		if subject == "root" {
			continue
		}
		reason, err := k.unknown(ctx, subject)
		if err != nil && errors.Is(err, errSilent) && k.lockedDownFor(allow) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("cannot tell whether the policy leaves an administrator: %w", err)
		}
		if reason == "" {
			return nil
		}
		reasons = append(reasons, reason)
	}
	return public.Error(fmt.Errorf("it would leave no administrator: %s; nothing is changed until there is one", strings.Join(reasons, ", ")))
}

// lockedDownFor reports whether the current denial already exempts exactly these subjects. There was
// an administrator among them when it was written, so removing later grants to others takes nothing
// from them.
func (k *Kind) lockedDownFor(allow []string) bool {
	content, err := k.system.FS.ReadFile(denialPath)
	return err == nil && bytes.Contains(content, denialLine(allow))
}

// unknown returns why a subject brings no administrator, or "" if it does.
func (k *Kind) unknown(ctx context.Context, subject string) (string, error) {
	local, err := facts.LocalGroups(k.system)
	if err != nil {
		return "", err
	}
	accounts, err := facts.LocalAccounts(k.system)
	if err != nil {
		return "", err
	}
	name, isGroup := strings.CutPrefix(subject, "%")
	if !isGroup {
		return k.unknownUser(ctx, name, accounts)
	}
	peopled := func(g facts.Group) bool {
		return slices.ContainsFunc(membersOfGroup(g, local, accounts), func(member string) bool { return !cannotLogIn(accounts, member) })
	}
	// The directory does not always say who is in a group; the local file does.
	i := slices.IndexFunc(local, func(g facts.Group) bool { return g.Name == name })
	if i >= 0 && peopled(local[i]) {
		return "", nil
	}
	group, found, err := facts.LookupGroup(ctx, k.system, name)
	if err != nil {
		return "", err
	}
	if !found {
		return fmt.Sprintf("the group %s is not known to this machine", name), nil
	}
	if i >= 0 && !peopled(group) {
		return fmt.Sprintf("nobody who can log in is in the group %s", name), nil
	}
	return "", nil
}

func (k *Kind) unknownUser(ctx context.Context, name string, accounts []facts.Account) (string, error) {
	if slices.ContainsFunc(accounts, func(a facts.Account) bool { return a.Name == name }) {
		if cannotLogIn(accounts, name) {
			return fmt.Sprintf("the user %s cannot log in", name), nil
		}
		return "", nil
	}
	_, found, err := facts.LookupUser(ctx, k.system, name)
	if err != nil || found {
		return "", err
	}
	return fmt.Sprintf("the user %s is not known to this machine", name), nil
}
