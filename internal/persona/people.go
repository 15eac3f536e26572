package persona

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/system"
)

// patience limits each query to the directory.
const patience = 5 * time.Second

// people are those who may use the desktop. AWS does not say to whom it was assigned, so everybody
// who has a home or is logged in counts, and it is enough that one of them is in a group.
type people struct {
	known  []person
	doubts []string // why there may be more people, or more groups of them
}

type person struct {
	name  string
	local bool // in /etc/passwd, so not the person whom a machine of a directory was assigned to
	gids  []int
}

func desktopPeople(ctx context.Context, s *system.System) (p people) {
	uids, err := facts.DesktopUIDs(ctx, s)
	if err != nil {
		p.doubts = append(p.doubts, err.Error())
	}
	accounts, err := facts.LocalAccounts(s)
	if err != nil {
		p.doubts = append(p.doubts, err.Error())
	}
	for _, uid := range uids {
		one, err := lookUp(ctx, s, accounts, uid)
		if err != nil {
			p.doubts = append(p.doubts, err.Error())
			continue
		}
		p.known = append(p.known, one)
	}
	return p
}

func lookUp(ctx context.Context, s *system.System, local []facts.Account, uid int) (p person, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if i := slices.IndexFunc(local, func(a facts.Account) bool { return a.UID == uid }); i >= 0 {
		p.name, p.local = local[i].Name, true
	} else {
		account, found, err := facts.LookupUser(ctx, s, strconv.Itoa(uid))
		if err != nil {
			return p, err
		}
		if !found {
			return p, fmt.Errorf("cannot tell who has the uid %d: getent finds nobody", uid)
		}
		p.name = account.Name
	}
	p.gids, err = facts.GroupIDs(ctx, s, p.name)
	return p, err
}

// member determines whether one of the people is in one of the groups.
func (l *look) member(ctx context.Context, groups []string) answer {
	var doubts []string
	for _, name := range groups {
		switch who, doubt := l.memberOf(ctx, name); {
		case who != "":
			return holds("%s is in the group %s", who, name)
		case doubt != "" && !slices.Contains(doubts, doubt):
			doubts = append(doubts, doubt)
		}
	}
	if len(doubts) > 0 {
		return untellable("%s", strings.Join(doubts, "; "))
	}
	return answer{}
}

// memberOf returns one of the people who is in the group. If there is none, doubt says why there
// may be one anyway: a directory that does not answer finds no group and no user.
func (l *look) memberOf(ctx context.Context, name string) (who, doubt string) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	p := l.people()
	group, found, err := facts.LookupGroup(ctx, l.system, name)
	if err != nil {
		return "", err.Error()
	}
	var gids []int
	assigned := l.isLocal(name) // whether the person the desktop was assigned to is known: for a local group anybody will do, otherwise it must be somebody of the directory
	for _, one := range p.known {
		if found && slices.Contains(one.gids, group.GID) {
			return one.name, ""
		}
		gids = append(gids, one.gids...)
		assigned = assigned || !one.local
	}
	switch {
	case len(p.doubts) > 0:
		return "", strings.Join(p.doubts, "; ")
	case len(p.known) == 0 || !assigned:
		return "", "group " + name + ": its user has no home here yet and is not logged in"
	case !found:
		return "", l.doubtNames(ctx, name, gids)
	}
	return "", ""
}

// doubtNames returns why somebody may be in a group that was not found, or "". If one of their
// groups has no name, the directory does not return everything it knows.
func (l *look) doubtNames(ctx context.Context, name string, gids []int) string {
	slices.Sort(gids)
	gids = slices.Compact(gids)
	groups, err := facts.GroupsByID(ctx, l.system, gids)
	if err != nil {
		return err.Error()
	}
	for _, gid := range gids {
		if !slices.ContainsFunc(groups, func(g facts.Group) bool { return g.GID == gid }) {
			return fmt.Sprintf("group %s: getent finds neither it nor a name for the group %d of the desktop's user", name, gid)
		}
	}
	return ""
}

func (l *look) isLocal(name string) bool {
	groups, err := facts.LocalGroups(l.system)
	return err == nil && slices.ContainsFunc(groups, func(g facts.Group) bool { return g.Name == name })
}
