package sudo

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/sudotext"
	"github.com/soe-agent/soe-agent/internal/system"
)

// A judge decides whether a subject may have a grant. If that cannot be told, the answer is no. It
// caches answers, because it may have to ask the directory.
type judge struct {
	ctx      context.Context //nolint:containedctx // lives no longer than the check that made it
	system   *system.System
	users    []string
	groups   []string
	aliases  map[string][]sudotext.Subject
	known    map[string]bool
	failed   map[string]error // why somebody's groups are not known
	unsure   []error          // why somebody was judged as not allowed without certainty
	groupsOf map[string][]string
	asked    int           // how many directory lookups were made
	local    []facts.Group // once readFiles has read them
	accounts []facts.Account
	read     bool
}

func newJudge(ctx context.Context, s *system.System, allow []string, aliases map[string][]sudotext.Subject) *judge {
	j := &judge{ctx: ctx, system: s, aliases: aliases, known: map[string]bool{}, failed: map[string]error{}, groupsOf: map[string][]string{}}
	for _, subject := range allow {
		if group, ok := strings.CutPrefix(subject, "%"); ok {
			j.groups = append(j.groups, group)
		} else {
			j.users = append(j.users, subject)
		}
	}
	return j
}

// maxAliases limits the nesting of aliases that is followed. Anything deeper is not allowed.
const maxAliases = 16

// allowsAll reports whether every subject that a list matches is allowed. A negated subject matches
// nobody, except an alias that itself contains a negation: a double negation matches.
func (j *judge) allowsAll(subjects []sudotext.Subject) bool {
	return j.allows(subjects, 0)
}

func (j *judge) allows(subjects []sudotext.Subject, depth int) bool {
	return depth < maxAliases && !slices.ContainsFunc(subjects, func(s sudotext.Subject) bool {
		if s.Negated {
			return s.ShutsOut(j.aliases)
		}
		return !j.allowsOne(s, depth)
	})
}

// meets reports whether a list contains an allowed subject, or may contain one.
func (j *judge) meets(subjects []sudotext.Subject) bool {
	return j.meetsIn(subjects, map[string]bool{})
}

// meetsIn follows each alias once.
func (j *judge) meetsIn(subjects []sudotext.Subject, followed map[string]bool) bool {
	return slices.ContainsFunc(subjects, func(s sudotext.Subject) bool {
		if s.Negated {
			return s.ShutsOut(j.aliases)
		}
		if s.Form == sudotext.All || j.allowsOne(s, 0) {
			return true
		}
		if s.Form != sudotext.Named || followed[s.Name] {
			return false
		}
		followed[s.Name] = true
		return j.meetsIn(j.aliases[s.Name], followed)
	})
}

func (j *judge) allowsOne(s sudotext.Subject, depth int) bool {
	switch s.Form {
	case sudotext.Named:
		if members, defined := j.aliases[s.Name]; defined {
			return j.allows(members, depth+1) && !slices.ContainsFunc(members, func(m sudotext.Subject) bool { return m.Negated })
		}
		return j.allowsUser(s.Name)
	case sudotext.User:
		return j.allowsUser(s.Name)
	case sudotext.UID:
		if s.Name == "0" {
			return true
		}
		account, found, err := j.userOf(s.Name)
		j.doubt(err)
		return err == nil && found && j.allowsUser(account.Name)
	case sudotext.Group:
		return containsFold(j.groups, s.Name)
	case sudotext.GID:
		group, found, err := j.groupOf(s.Name)
		j.doubt(err)
		return err == nil && found && containsFold(j.groups, group.Name)
	}
	return false
}

// namesOthers reports whether a list has nothing but names of users who are surely not allowed. sudo may
// take a name for another one that differs in capitals.
func (j *judge) namesOthers(subjects []sudotext.Subject) bool {
	return !slices.ContainsFunc(subjects, func(s sudotext.Subject) bool {
		_, isAlias := j.aliases[s.Name]
		if s.Form != sudotext.User && (s.Form != sudotext.Named || isAlias) {
			return true
		}
		allowed, err := j.tell(s.Name)
		return allowed || err != nil || containsFold(j.localMembers(), s.Name)
	})
}

// namesUser reports whether the policy allows a user by name.
func (j *judge) namesUser(name string) bool { return containsFold(j.users, name) }

// allowsUser reports whether the policy allows a user by name or by a group.
func (j *judge) allowsUser(name string) bool {
	if j.namesUser(name) {
		return true
	}
	allowed, known := j.known[name]
	if !known && j.isLocalMember(name) {
		return true
	}
	if !known && len(j.groups) > 0 {
		groups, err := j.memberships(name)
		allowed = err == nil && slices.ContainsFunc(groups, func(g string) bool { return containsFold(j.groups, g) })
		if errors.Is(err, facts.ErrNoAccount) {
			err = nil // and should somebody come by that name, the policy says what they may
		}
		if errors.Is(err, errTooMany) || errors.Is(err, errSilent) && j.isLocal(name) {
			err = nil // what the directory allows, its own line in the agent's file still grants
		}
		j.known[name], j.failed[name] = allowed, err
	}
	j.doubt(j.failed[name])
	return allowed
}

func (j *judge) doubt(why error) {
	if why != nil {
		j.unsure = append(j.unsure, why)
	}
}

// surely returns what ask returns, and an error if that answer may be wrong because a lookup failed.
func surely[T any](j *judge, ask func() T) (T, error) {
	before := len(j.unsure)
	answer := ask()
	return answer, errors.Join(j.unsure[before:]...)
}

// isLocal reports whether an account is in /etc/passwd.
func (j *judge) isLocal(name string) bool {
	return slices.ContainsFunc(j.localAccounts(), func(a facts.Account) bool { return a.Name == name })
}

// userOf and groupOf look up a number. Local entries are found without asking the directory.
func (j *judge) userOf(uid string) (facts.Account, bool, error) {
	accounts := j.localAccounts()
	if i := slices.IndexFunc(accounts, func(a facts.Account) bool { return strconv.Itoa(a.UID) == uid }); i >= 0 {
		return accounts[i], true, nil
	}
	if !j.mayAsk() {
		return facts.Account{}, false, nil
	}
	return facts.LookupUser(j.ctx, j.system, uid)
}

func (j *judge) groupOf(gid string) (facts.Group, bool, error) {
	groups := j.localGroups()
	if i := slices.IndexFunc(groups, func(g facts.Group) bool { return strconv.Itoa(g.GID) == gid }); i >= 0 {
		return groups[i], true, nil
	}
	if !j.mayAsk() {
		return facts.Group{}, false, nil
	}
	return facts.LookupGroup(j.ctx, j.system, gid)
}

// maxJudged limits the directory lookups of one judge, so that a line with a hundred thousand names is
// handled in seconds. Names beyond it count as not allowed by that line; administrators keep the grant
// in the agent's own file.
const maxJudged = 512

var errTooMany = errors.New("the directory has been asked about too many")

func (j *judge) mayAsk() bool {
	j.asked++
	return j.asked <= maxJudged
}

// memberships returns the groups that somebody is in.
func (j *judge) memberships(name string) ([]string, error) {
	if groups, known := j.groupsOf[name]; known {
		return groups, nil
	}
	if !j.mayAsk() {
		return nil, errTooMany
	}
	groups, err := facts.GroupsOf(j.ctx, j.system, name)
	if err == nil {
		j.groupsOf[name] = groups
	}
	return groups, err
}

// isMeant reports whether a subject of the policy is this user, or a group with this user in it.
func (j *judge) isMeant(name, subject string) (bool, error) {
	group, isGroup := strings.CutPrefix(subject, "%")
	if !isGroup {
		return strings.EqualFold(name, subject), nil
	}
	groups, err := j.memberships(name)
	return containsFold(groups, group), err
}

// tell is allowsUser with an error if it cannot be told.
func (j *judge) tell(name string) (bool, error) {
	if j.allowsUser(name) {
		return true, nil
	}
	return false, j.failed[name]
}

// administrators returns the allowed users who can log in, root first: those named in the policy and the
// local members of its groups.
func (j *judge) administrators() (names []string) {
	for _, name := range slices.Concat(j.users, j.localMembers()) {
		if !slices.Contains(names, name) && (name == "root" || !cannotLogIn(j.localAccounts(), name)) {
			names = append(names, name)
		}
	}
	return names
}

// localMembers are the members of the allowed groups, by /etc/group or because it is the primary group of
// their account in /etc/passwd.
func (j *judge) localMembers() (names []string) {
	for _, g := range j.localGroups() {
		if containsFold(j.groups, g.Name) {
			names = append(names, membersOfGroup(g, j.localGroups(), j.localAccounts())...)
		}
	}
	return names
}

// membersOfGroup are the members of a local group. Of two groups with the same number, the first is the
// primary group of an account with it, as for id(1) and sudo.
func membersOfGroup(g facts.Group, groups []facts.Group, accounts []facts.Account) []string {
	names := slices.Clone(g.Members)
	first := slices.IndexFunc(groups, func(other facts.Group) bool { return other.GID == g.GID })
	if first >= 0 && groups[first].Name != g.Name {
		return names
	}
	for _, a := range accounts {
		if a.GID == g.GID {
			names = append(names, a.Name)
		}
	}
	return names
}

// cannotLogIn reports whether a local account has a shell that lets nobody log in.
func cannotLogIn(accounts []facts.Account, name string) bool {
	i := slices.IndexFunc(accounts, func(a facts.Account) bool { return a.Name == name })
	return i >= 0 && !facts.CanLogIn(accounts[i].Shell)
}

// isLocalMember reports whether the local files have a user in an allowed group. That saves a directory
// lookup.
func (j *judge) isLocalMember(name string) bool { return slices.Contains(j.localMembers(), name) }

func (j *judge) localGroups() []facts.Group {
	j.readFiles()
	return j.local
}

func (j *judge) localAccounts() []facts.Account {
	j.readFiles()
	return j.accounts
}

func (j *judge) readFiles() {
	if j.read {
		return
	}
	j.local, _ = facts.LocalGroups(j.system)
	j.accounts, _ = facts.LocalAccounts(j.system)
	j.read = true
}

// containsFold compares as sudo does by default.
func containsFold(names []string, name string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, name) })
}
