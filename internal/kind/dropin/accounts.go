package dropin

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"

	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/system"
)

// errNoSuchID is the error of a name that nobody has.
var errNoSuchID = errors.New("nobody has that name")

// accounts resolves names of owners and groups, each once.
type accounts struct {
	system *system.System

	mu   sync.Mutex
	uids map[string]int
	gids map[string]int
}

func newAccounts(s *system.System) *accounts {
	return &accounts{system: s, uids: map[string]int{"": 0, "root": 0}, gids: map[string]int{"": 0, "root": 0}}
}

func (a *accounts) uid(ctx context.Context, name string) (int, error) {
	return a.id(a.uids, name, "user", func() (int, bool, error) {
		local, err := facts.LocalAccounts(a.system)
		if err != nil {
			return 0, false, err
		}
		for _, account := range local {
			if account.Name == name {
				return account.UID, true, nil
			}
		}
		account, found, err := facts.LookupUser(ctx, a.system, name)
		return account.UID, found, err
	})
}

func (a *accounts) gid(ctx context.Context, name string) (int, error) {
	return a.id(a.gids, name, "group", func() (int, bool, error) {
		local, err := facts.LocalGroups(a.system)
		if err != nil {
			return 0, false, err
		}
		for _, group := range local {
			if group.Name == name {
				return group.GID, true, nil
			}
		}
		group, found, err := facts.LookupGroup(ctx, a.system, name)
		return group.GID, found, err
	})
}

func (a *accounts) id(known map[string]int, name, what string, lookUp func() (int, bool, error)) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if id, ok := known[name]; ok {
		return id, nil
	}
	id, found, err := lookUp()
	if err == nil && !found {
		if id, err = strconv.Atoi(name); err != nil || id < 0 {
			err = fmt.Errorf("%w: there is no %s %s", errNoSuchID, what, name)
		}
	}
	if err != nil {
		return 0, err
	}
	known[name] = id
	return id, nil
}
