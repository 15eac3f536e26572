package facts

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"

	"github.com/soe-agent/soe-agent/internal/system"
)

// ErrNoSuchID is wrapped by the error of an unknown user or group name.
var ErrNoSuchID = errors.New("nobody has that name")

// IDs resolves names of owners and groups to ids, and looks up each name once. "" is root. It is
// safe for concurrent use.
type IDs struct {
	system *system.System

	mu   sync.Mutex
	uids map[string]int
	gids map[string]int
}

// NewIDs returns an IDs with nothing looked up yet.
func NewIDs(s *system.System) *IDs {
	return &IDs{system: s, uids: map[string]int{"": 0, "root": 0}, gids: map[string]int{"": 0, "root": 0}}
}

// UID returns the uid of a user, given by name or number.
func (ids *IDs) UID(ctx context.Context, name string) (int, error) {
	return ids.id(ids.uids, name, "user", func() (int, bool, error) {
		local, err := LocalAccounts(ids.system)
		if err != nil {
			return 0, false, err
		}
		for _, account := range local {
			if account.Name == name {
				return account.UID, true, nil
			}
		}
		account, found, err := LookupUser(ctx, ids.system, name)
		return account.UID, found, err
	})
}

// GID returns the gid of a group, given by name or number.
func (ids *IDs) GID(ctx context.Context, name string) (int, error) {
	return ids.id(ids.gids, name, "group", func() (int, bool, error) {
		local, err := LocalGroups(ids.system)
		if err != nil {
			return 0, false, err
		}
		for _, group := range local {
			if group.Name == name {
				return group.GID, true, nil
			}
		}
		group, found, err := LookupGroup(ctx, ids.system, name)
		return group.GID, found, err
	})
}

func (ids *IDs) id(known map[string]int, name, what string, lookUp func() (int, bool, error)) (int, error) {
	ids.mu.Lock()
	defer ids.mu.Unlock()
	if id, ok := known[name]; ok {
		return id, nil
	}
	id, found, err := lookUp()
	if err == nil && !found {
		if id, err = strconv.Atoi(name); err != nil || id < 0 {
			err = fmt.Errorf("%w: there is no %s %s", ErrNoSuchID, what, name)
		}
	}
	if err != nil {
		return 0, err
	}
	known[name] = id
	return id, nil
}
