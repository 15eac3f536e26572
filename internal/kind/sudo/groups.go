package sudo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/protected"
	"github.com/soe-agent/soe-agent/internal/system"
)

const groupFile = "/etc/group"

// A membership is one person in one group that is as good as root.
type membership struct{ person, group string }

// memberships holds the memberships of people who are not allowed: those in the local files, which the
// agent can remove, and in words those it cannot.
type memberships struct {
	openings []opening
	local    []membership
	stuck    []string
	gids     map[int]string // of the groups that there are
	unsure   []error        // why some stay: it is not known whether they are allowed
	told     map[membership]bool
}

// A rooted is a group of the policy with all its local names. The kernel compares only the number.
type rooted struct {
	facts.Group

	local []facts.Group // the lines of /etc/group with that number, under any name
}

// names returns the names of the group, its own first.
func (r rooted) names() []string {
	all := []string{r.Name}
	for _, g := range r.local {
		all = appendNew(all, g.Name)
	}
	return all
}

// rootedIn looks up a group of the policy. For a local group the directory is not asked.
func (k *Kind) rootedIn(ctx context.Context, name string, local []facts.Group) (r rooted, found bool, err error) {
	r.Group = facts.Group{Name: name}
	if i := slices.IndexFunc(local, func(g facts.Group) bool { return g.Name == name }); i >= 0 {
		r.GID, found = local[i].GID, true
	} else if k.hasDirectory() {
		r.Group, found, err = k.directoryGroup(ctx, name)
	}
	for _, g := range local {
		if found && (g.GID == r.GID || g.Name == name) {
			r.local = append(r.local, g)
		}
	}
	return r, found, err
}

// memberships reads the groups that the policy names. Service accounts, and the accounts that AWS uses
// to reach the machine, may be in them.
func (k *Kind) memberships(ctx context.Context, want policy.Sudo, people []facts.Account) (memberships, error) {
	local, err1 := facts.LocalGroups(k.system)
	accounts, err2 := facts.LocalAccounts(k.system)
	openings, err3 := facts.Openings(k.system)
	if err := errors.Join(err1, err2, err3); err != nil {
		return memberships{}, err
	}
	j := newJudge(ctx, k.directory, allowed(want), nil)
	m := memberships{gids: map[int]string{}, told: map[membership]bool{}}
	mayStay := func(name string) bool {
		i := slices.IndexFunc(accounts, func(a facts.Account) bool { return a.Name == name })
		if protected.KeepsRights(name) || (i >= 0 && accounts[i].UID < system.FirstPersonalUID) {
			return true
		}
		allowed, err := j.tell(name)
		if err != nil && i < 0 && !k.hasDirectory() && !k.fromElsewhere("passwd") {
			err = nil // no such account, and no other source to ask
		}
		if err != nil {
			m.unsure = append(m.unsure, err)
		}
		return allowed || err != nil
	}
	for _, name := range want.RootGroups {
		group, found, err := k.rootedIn(ctx, name, local)
		if err != nil {
			m.unsure = append(m.unsure, err)
		}
		if err != nil || !found {
			continue
		}
		m.gids[group.GID] = name
		m.find(group, openings, mayStay)
		for _, person := range slices.Concat(accounts, people) {
			if person.GID == group.GID && !mayStay(person.Name) {
				m.holds(membership{person.Name, name}, fmt.Sprintf("%s is the primary group of %s; give the account another one with usermod -g", name, person.Name))
			}
		}
		if k.hasDirectory() {
			m.findElsewhere(group, people, j, mayStay)
		}
	}
	m.unsure = append(m.unsure, j.unsure...)
	m.stuck = append(m.stuck, k.givenAtLogin(m.gids, local)...)
	return m, nil
}

// find finds the members of a group: in the local files, under any of its names, in the directory, and
// by the ways in which people can join the group themselves.
func (m *memberships) find(group rooted, openings map[string]facts.Opening, mayStay func(string) bool) {
	name := group.Name
	take := func(person, from string) {
		if in := (membership{person, from}); !mayStay(person) && !slices.Contains(m.local, in) {
			m.local = append(m.local, in)
			m.told[membership{person, name}] = true
		}
	}
	for _, line := range group.local {
		for _, person := range line.Members {
			take(person, line.Name)
		}
		for _, person := range openings[line.Name].Members {
			take(person, line.Name)
		}
	}
	m.openings = append(m.openings, openingsOf(group.names(), openings)...)
	for _, person := range group.Members {
		if !mayStay(person) {
			m.holds(membership{person, name}, fmt.Sprintf("%s is in %s by the directory; take that away there", person, name))
		}
	}
}

// findElsewhere finds members by what id(1) says, whatever the source.
func (m *memberships) findElsewhere(group rooted, people []facts.Account, j *judge, mayStay func(string) bool) {
	for _, person := range people {
		if mayStay(person.Name) {
			continue
		}
		in, err := j.memberships(person.Name)
		j.doubt(err)
		if slices.ContainsFunc(group.names(), func(name string) bool { return slices.Contains(in, name) }) {
			m.holds(membership{person.Name, group.Name}, fmt.Sprintf("%s is in %s by something else than /etc/group, such as the directory; take that away there", person.Name, group.Name))
		}
	}
}

// holds records a membership that the agent cannot remove, with the first reason only.
func (m *memberships) holds(in membership, why string) {
	if !m.told[in] {
		m.told[in] = true
		m.stuck = append(m.stuck, why)
	}
}

// hasDirectory reports whether groups may come from another source than /etc/group (nsswitch.conf(5)).
func (k *Kind) hasDirectory() bool { return k.fromElsewhere("group") }

func (k *Kind) fromElsewhere(database string) bool {
	content, _ := k.system.FS.ReadFile("/etc/nsswitch.conf")
	for line := range strings.SplitSeq(string(content), "\n") {
		sources, is := strings.CutPrefix(strings.TrimSpace(line), database+":")
		if is {
			return slices.ContainsFunc(strings.Fields(sources), func(source string) bool {
				return source != "files" && source != "compat" && source != "systemd" && !strings.HasPrefix(source, "[")
			})
		}
	}
	return false
}

// A lookup is the directory's last answer about a group.
type lookup struct {
	group facts.Group
	found bool
	at    time.Time
}

// directoryGroup asks the directory about a group. The answer is cached, because the directory is
// slow.
func (k *Kind) directoryGroup(ctx context.Context, name string) (facts.Group, bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.system.Clock.Now()
	if last, asked := k.lookups[name]; asked && now.Sub(last.at) < trusted {
		return last.group, last.found, nil
	}
	group, found, err := facts.LookupGroup(ctx, k.directory, name)
	if err == nil {
		k.lookups[name] = lookup{group, found, now}
	}
	return group, found, err
}

func (k *Kind) checkGroups(ctx context.Context, want policy.Sudo, people []facts.Account, r *converge.Resource) {
	m, err := k.memberships(ctx, want, people)
	if err != nil {
		r.SetUnknownErr(err)
		return
	}
	m.differ(r)
	switch {
	case r.State == converge.Drifted:
	case len(m.stuck) > 0:
		r.SetFailed(strings.Join(m.stuck, "\n")).ReasonIsPublic()
	case len(m.unsure) > 0:
		r.SetUnknownErr(errors.Join(m.unsure...))
	default:
		if holders := k.holders(ctx, want, m.gids); len(holders) > 0 {
			r.SetPending(converge.NextSession, strings.Join(holders, ", ")+"; it ends with the session").ReasonIsPublic()
		}
	}
}

// checkLocalGroups finds drift in the local files alone, without asking the directory, so that a slow
// directory does not delay the repair. It says nothing about what has not drifted.
func (k *Kind) checkLocalGroups(ctx context.Context, want policy.Sudo, r *converge.Resource) {
	if len(want.RootGroups) == 0 {
		return
	}
	if m, err := k.memberships(ctx, want, nil); err == nil {
		m.differ(r)
	}
}

// differ adds the memberships that the agent can remove as drift.
func (m *memberships) differ(r *converge.Resource) {
	differsByOpenings(r, m.openings)
	for _, in := range m.local {
		r.AddPublicDrift("members of "+in.group, "without "+in.person, in.person)
	}
}

// holders are people whose running session still has a group that they were removed from.
func (k *Kind) holders(ctx context.Context, want policy.Sudo, gids map[int]string) (holders []string) {
	if len(gids) == 0 {
		return nil
	}
	sessions, _ := k.system.Sessions.List(ctx) // without an answer, nothing is reported
	j := newJudge(ctx, k.system, allowed(want), nil)
	for _, session := range sessions {
		for gid := range k.groupsOfSession(session) {
			group, isRoots := gids[gid]
			if isRoots && !protected.KeepsRights(session.User) && !j.allowsUser(session.User) {
				holders = append(holders, fmt.Sprintf("%s is logged in and still in %s", session.User, group))
			}
		}
	}
	slices.Sort(holders)
	return slices.Compact(holders)
}

// groupsOfSession returns the groups of the processes in a session's scope.
func (k *Kind) groupsOfSession(session system.Session) map[int]bool {
	gids := map[int]bool{}
	scope := fmt.Sprintf("user.slice/user-%d.slice/session-%s.scope/cgroup.procs", session.UID, session.ID)
	for _, hierarchy := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/systemd"} {
		processes, _ := k.system.FS.ReadFile(path.Join(hierarchy, scope))
		for _, pid := range strings.Fields(string(processes)) {
			status, _ := k.system.FS.ReadFile("/proc/" + pid + "/status")
			if uid := statusIDs(status, "Uid:"); len(uid) == 0 || uid[0] != int(session.UID) {
				continue // the login process, which is root's
			}
			for _, gid := range statusIDs(status, "Groups:") {
				gids[gid] = true
			}
		}
	}
	return gids
}

// statusIDs returns the numbers on one line of /proc/PID/status (proc(5)).
func statusIDs(status []byte, key string) (ids []int) {
	for line := range bytes.SplitSeq(status, []byte("\n")) {
		if rest, ok := bytes.CutPrefix(line, []byte(key)); ok {
			for _, field := range strings.Fields(string(rest)) {
				if id, err := strconv.Atoi(field); err == nil {
					ids = append(ids, id)
				}
			}
		}
	}
	return ids
}

// repairGroups removes what the local files grant. It asks no directory who is in a group.
func (k *Kind) repairGroups(ctx context.Context, want policy.Sudo) error {
	mark := k.Mark()
	m, err := k.memberships(ctx, want, nil)
	if err = errors.Join(err, k.Since(mark)); err != nil {
		return err
	}
	errs := []error{k.close(ctx, m.openings)} // first, or people could join again
	var p *plan
	if installed, err := k.installed(); len(m.local) > 0 && k.system.Running() && (installed || err != nil) {
		if p, err = k.plan(ctx, want); err != nil {
			return errors.Join(append(errs, err)...)
		}
	}
	for _, in := range m.local {
		var err error
		if p != nil {
			err = k.keepsWithout(ctx, p, in)
		}
		if err == nil {
			err = k.gpasswd(ctx, "--delete", in.person, in.group)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("cannot take %s out of %s: %w", in.person, in.group, err))
		}
	}
	return errors.Join(errs...)
}

// keepsWithout returns an error if sudo, which goes by groups too, would let in nobody but root without a
// membership, while it lets in somebody now, or if it cannot be asked and the files do not show that
// somebody would be let in.
func (k *Kind) keepsWithout(ctx context.Context, p *plan, in membership) error {
	groups, err := k.system.FS.ReadFile(groupFile)
	if err != nil {
		return err
	}
	_, err = k.keeps(ctx, p, k.administrators(p), map[string][]byte{groupFile: withoutMembership(groups, in)})
	return err
}

// withoutMembership is /etc/group without a membership.
func withoutMembership(groups []byte, in membership) []byte {
	lines := strings.SplitAfter(string(groups), "\n")
	for i, line := range lines {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), ":")
		if len(fields) != 4 || fields[0] != in.group {
			continue
		}
		members := slices.DeleteFunc(strings.Split(fields[3], ","), func(name string) bool { return name == in.person })
		lines[i] = strings.Join(append(fields[:3], strings.Join(members, ",")), ":") + "\n"
	}
	return []byte(strings.Join(lines, ""))
}
