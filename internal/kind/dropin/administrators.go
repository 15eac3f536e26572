package dropin

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/sudotext"
	"github.com/soe-agent/soe-agent/internal/system"
)

// mostKept limits how many of the allowed sudo is asked about. Each takes some milliseconds.
const mostKept = 16

// administratorsOf returns who is among the allowed, as far as the machine knows them, and not too many for sudo
// to be asked about: first whom the content names.
func administratorsOf(ctx context.Context, s *system.System, allow []string, content []byte) (users []string, err error) {
	add := func(names ...string) {
		for _, name := range names {
			if name != "" && !slices.Contains(users, name) {
				users = append(users, name)
			}
		}
	}
	accounts, err := facts.LocalAccounts(s)
	if err != nil {
		return nil, err
	}
	add("root")
	for _, subject := range allow {
		name, isGroup := strings.CutPrefix(subject, "%")
		if !isGroup {
			add(name)
			continue
		}
		group, found, err2 := facts.LookupGroup(ctx, s, name)
		err = errors.Join(err, err2)
		if !found {
			continue
		}
		add(group.Members...)
		for _, a := range accounts {
			if a.GID == group.GID {
				add(a.Name)
			}
		}
	}
	named := map[string]bool{}
	for _, line := range sudotext.Parse(content) {
		for _, subject := range slices.Concat(append(slices.Collect(maps.Values(line.Aliases)), line.Users, line.Defaults.Users)...) {
			named[subject.Name] = true
		}
	}
	slices.SortStableFunc(users, func(a, b string) int {
		switch {
		case named[a] == named[b]:
			return 0
		case named[a]:
			return -1
		}
		return 1
	})
	return users[:min(len(users), mostKept)], err
}
