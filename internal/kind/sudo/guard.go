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

// bringsAdministrator reports whether the policy creates an account or group that may administer. That
// kind is repaired first, so whether an administrator exists is only known at the repair.
func (k *Kind) bringsAdministrator(allow []string) bool {
	return slices.ContainsFunc(allow, func(subject string) bool {
		id := policy.NewID("user", subject)
		if name, isGroup := strings.CutPrefix(subject, "%"); isGroup {
			id = policy.NewID("group", name)
		}
		_, brings := k.policy.Lookup(id)
		return brings
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
//
// The directory does not always list the members of a group; the local file does.
func (k *Kind) unknown(ctx context.Context, subject string) (string, error) {
	// The directory does not always say who is in a group; the local file does.
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
		if slices.ContainsFunc(accounts, func(a facts.Account) bool { return a.Name == name }) {
			return "", nil
		}
		_, found, err := facts.LookupUser(ctx, k.system, name)
		if err != nil || found {
			return "", err
		}
		return fmt.Sprintf("the user %s is not known to this machine", name), nil
	}
	peopled := func(g facts.Group) bool {
		return len(g.Members) > 0 || slices.ContainsFunc(accounts, func(a facts.Account) bool { return a.GID == g.GID })
	}
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
	isLocal := slices.ContainsFunc(local, func(g facts.Group) bool { return g.Name == group.Name })
	if isLocal && !peopled(group) {
		return fmt.Sprintf("nobody is in the group %s", name), nil
	}
	return "", nil
}
