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

// bringsAdministrator says whether the policy makes an account or group that may
// administer, so that only a repair, which comes after theirs, can tell.
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

// administrated returns an error when the policy would leave the machine without
// an administrator: root cannot log in to a desktop.
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

// lockedDownFor says whether the denial that stands is one for all but these: there was an
// administrator among them when it was written, and what others were given since takes
// nothing from them when it goes.
func (k *Kind) lockedDownFor(allow []string) bool {
	content, err := k.system.FS.ReadFile(denialPath)
	return err == nil && bytes.Contains(content, denialLine(allow))
}

// unknown says why a subject brings no administrator, or "" when it does.
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
