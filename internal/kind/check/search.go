package check

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/public"
)

// searches are the resources for which the agent itself searches the machine. The files are read once
// for all of them.
func (k *Kind) searches() []converge.Resource {
	wants := slices.DeleteFunc(policy.Of[policy.Search](k.policy), func(want policy.Want[policy.Search]) bool { return want.Spec.OfFiles() })
	if len(wants) == 0 {
		return nil
	}
	a := k.readAccounts()
	resources := make([]converge.Resource, len(wants))
	for i, want := range wants {
		resources[i] = k.search(want, a)
	}
	return resources
}

func (k *Kind) search(want policy.Want[policy.Search], a accounts) converge.Resource {
	r := converge.Wanted(want.Resource)
	found, err := k.find(want.Spec.For, a, want.Spec.PassesOver)
	switch {
	case len(found) > 0:
		what := errors.New(told(found))
		if err != nil {
			what = fmt.Errorf("%w; and %w", what, err)
		}
		if slices.Contains(forEverybody(), want.Spec.For) {
			what = public.Error(what)
		}
		r.SetFailedErr(public.Because("the check does not hold", what))
	case err != nil:
		r.SetUnknownErr(public.Because("cannot tell", err))
	}
	return r
}

// forEverybody are the searches whose findings everybody may read, because they use files that
// everybody may read.
func forEverybody() []string {
	return []string{policy.DuplicateUsers, policy.DuplicateUIDs, policy.DuplicateGroups, policy.DuplicateGIDs, policy.UnknownGroups, policy.OtherRoots}
}

// mostTold is how many findings are named.
const mostTold = 20

func told(found []string) string {
	for i := range found {
		found[i] = excerpt(found[i])
	}
	text := strings.Join(found[:min(mostTold, len(found))], "; ")
	if more := len(found) - mostTold; more > 0 {
		text += fmt.Sprintf("; and %d more", more)
	}
	return text
}

// An entry is a line of passwd(5) or group(5), as tolerant a reader as any sees it.
type entry struct {
	name, password string
	id             int // -1: none
	fields         []string
}

// accounts are the local accounts, and the errors of reading their files.
type accounts struct {
	users, groups, shadow          []entry
	usersErr, groupsErr, shadowErr error
}

func (k *Kind) readAccounts() (a accounts) {
	a.users, a.usersErr = k.entries("/etc/passwd")
	a.groups, a.groupsErr = k.entries("/etc/group")
	if a.shadow, a.shadowErr = k.entries("/etc/shadow"); errors.Is(a.shadowErr, fs.ErrNotExist) {
		a.shadowErr = nil // then all passwords are in /etc/passwd
	}
	return a
}

// entries are those of a file of accounts. A line that a strict reader passes over may count for
// another one: of what it ends before, nothing is said. What begins with + or - stands for entries of
// NIS (nsswitch.conf(5)).
func (k *Kind) entries(file string) ([]entry, error) {
	content, err := k.system.FS.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var all []entry
	for line := range strings.SplitSeq(string(content), "\n") {
		fields := strings.Split(strings.TrimLeft(line, " \t\v\f\r"), ":")
		if len(fields) < 2 || fields[0] == "" || strings.ContainsRune("#+-", rune(fields[0][0])) {
			continue
		}
		e := entry{name: fields[0], password: fields[1], id: -1, fields: fields}
		if len(fields) > 2 {
			e.id = idOf(fields[2])
		}
		all = append(all, e)
	}
	return all, nil
}

// idOf is the id in a field, or -1.
func idOf(field string) int {
	if id, is := facts.ParseID(strings.TrimSpace(field)); is {
		return id
	}
	return -1
}

// find is what a search found, and what it could not read.
func (k *Kind) find(what string, a accounts, passed func(name string) bool) (found []string, err error) {
	switch what {
	case policy.DuplicateUsers:
		return sameName(a.users, "/etc/passwd", passed), a.usersErr
	case policy.DuplicateGroups:
		return sameName(a.groups, "/etc/group", passed), a.groupsErr
	case policy.DuplicateUIDs:
		return sameID(a.users, "uid", passed), a.usersErr
	case policy.DuplicateGIDs:
		return sameID(a.groups, "gid", passed), a.groupsErr
	case policy.UnknownGroups:
		return groupless(a, passed), errors.Join(a.usersErr, a.groupsErr)
	case policy.OtherRoots:
		for _, u := range a.users {
			if u.id == 0 && u.name != "root" && !passed(u.name) {
				found = append(found, u.name+" has the uid 0")
			}
		}
		return found, a.usersErr
	case policy.EmptyPasswords:
		return withoutPassword(a, passed), errors.Join(a.usersErr, a.shadowErr)
	case policy.Homes:
		found, err = k.homes(a.users, passed)
		return found, errors.Join(a.usersErr, err)
	}
	return nil, fmt.Errorf("this agent does not know how to look for %s", what)
}

func sameName(entries []entry, file string, passed func(string) bool) (found []string) {
	times := map[string]int{}
	for _, e := range entries {
		if times[e.name]++; times[e.name] == 2 && !passed(e.name) {
			found = append(found, e.name+" is more than once in "+file)
		}
	}
	return found
}

func sameID(entries []entry, what string, passed func(string) bool) (found []string) {
	names := map[int][]string{}
	var ids []int
	for _, e := range entries {
		if e.id < 0 || passed(e.name) || slices.Contains(names[e.id], e.name) {
			continue
		}
		if names[e.id] = append(names[e.id], e.name); len(names[e.id]) == 2 {
			ids = append(ids, e.id)
		}
	}
	for _, id := range ids {
		found = append(found, fmt.Sprintf("%s have the %s %d", strings.Join(names[id], ", "), what, id))
	}
	return found
}

func groupless(a accounts, passed func(string) bool) (found []string) {
	if a.groupsErr != nil {
		return nil
	}
	known := map[int]bool{}
	for _, g := range a.groups {
		known[g.id] = g.id >= 0
	}
	for _, u := range a.users {
		if len(u.fields) > 3 && !known[idOf(u.fields[3])] && !passed(u.name) {
			found = append(found, fmt.Sprintf("%s has the group %s, which there is not", u.name, u.fields[3]))
		}
	}
	return found
}

// withoutPassword are accounts that need no password, if PAM allows that.
func withoutPassword(a accounts, passed func(string) bool) (found []string) {
	for _, file := range [][]entry{a.users, a.shadow} {
		for _, e := range file {
			if text := e.name + " has an empty password"; e.password == "" && !passed(e.name) && !slices.Contains(found, text) {
				found = append(found, text)
			}
		}
	}
	return found
}

// The range of people's accounts (useradd(8)), and the mode bits that others must not have on their
// homes.
const (
	firstPerson = 1000
	nobody      = 65534
	forOthers   = 0o027
)

// homes are home directories of people that are not as they should be. Homes on remote file systems
// are not checked.
func (k *Kind) homes(users []entry, passed func(string) bool) (found []string, err error) {
	var errs []error
	for _, u := range users {
		if len(u.fields) < 4 || u.id < firstPerson || u.id == nobody || passed(u.name) {
			continue
		}
		rest := append(slices.Clone(u.fields[4:]), "", "", "") // the default shell is sh, the default home /
		home, shell := rest[1], rest[2]
		if !facts.CanLogIn(strings.TrimSpace(shell)) {
			continue
		}
		if !path.IsAbs(home) || path.Clean(home) == "/" {
			found = append(found, fmt.Sprintf("%s has the home %q", u.name, home))
			continue
		}
		info, err := k.system.FS.DescribeHome(path.Clean(home))
		switch mode := info.Mode.Perm(); {
		case errors.Is(err, fs.ErrNotExist):
			found = append(found, fmt.Sprintf("%s has no home: there is no %s", u.name, home))
		case err != nil:
			errs = append(errs, err)
		case !info.IsDir():
			found = append(found, fmt.Sprintf("%s, the home of %s, is no directory", home, u.name))
		case info.UID != u.id:
			found = append(found, fmt.Sprintf("%s, the home of %s, belongs to the uid %d", home, u.name, info.UID))
		case mode&forOthers != 0:
			found = append(found, fmt.Sprintf("%s, the home of %s, has the mode %04o, and 0750 is the most", home, u.name, mode))
		}
	}
	return found, errors.Join(errs...)
}
