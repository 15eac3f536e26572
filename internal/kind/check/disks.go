package check

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

const (
	worldWrites = 0o002
	othersWrite = 0o022
	othersAny   = 0o077
	sticky      = 0o1000
	setIDs      = 0o6000
)

// exploreDisks goes through the local disks. What is found is only named: no file is opened.
func (k *Kind) exploreDisks(ctx context.Context, wants []policy.Want[policy.Search], p *progress) (ended bool, err error) {
	a := k.readAccounts()
	var judges []func(dir, entry string, info system.Info)
	for _, want := range wants {
		j := judge{finds: p.of(want.ID), spec: want.Spec}
		switch want.Spec.For {
		case policy.WorldWritable:
			judges = append(judges, j.worldWritable)
		case policy.Unowned:
			if err := errors.Join(a.usersErr, a.groupsErr); err != nil {
				return false, err
			}
			judges = append(judges, j.unowned(a, k.ranges("/etc/subuid"), k.ranges("/etc/subgid")))
		case policy.SetID:
			judges = append(judges, j.setID)
		case policy.DotFiles:
			if a.usersErr != nil {
				return false, a.usersErr
			}
			homes, err := k.localHomes(a.users)
			if err != nil {
				return false, err
			}
			judges = append(judges, j.dotFile(homes))
		}
	}
	walked, err := k.system.FS.Walk(ctx, system.Walk{From: p.Place, Each: func(dir, entry string, info system.Info) {
		for _, judge := range judges {
			judge(dir, entry, info)
		}
	}})
	p.Place = walked.Next
	p.miss(walked.Unseen, walked.Missed)
	return err == nil && p.Place.IsStart(), err
}

// where is the place that a search has come to, for people.
func (p *progress) where() string {
	if p.Package != "" {
		return p.Package
	}
	if len(p.Place.Entry) > 0 {
		return plain(string(p.Place.Entry))
	}
	return plain(string(p.Place.Volume))
}

// A judge says of each entry whether it is searched for.
type judge struct {
	finds *finds
	spec  policy.Search
}

func (j judge) add(name string, info system.Info, what string, values ...any) {
	if !j.spec.PassesOver(name) {
		j.finds.add(info.UID, func() string { return plain(name) + " " + fmt.Sprintf(what, values...) })
	}
}

func (j judge) worldWritable(dir, entry string, info system.Info) {
	switch {
	case info.Mode&worldWrites == 0:
	case info.IsRegular():
		j.add(path.Join(dir, entry), info, "may be written by everybody")
	case info.IsDir() && info.Mode&sticky == 0:
		j.add(path.Join(dir, entry), info, "is a directory in which everybody may replace files")
	}
}

// A setID is a set-id program, of which it has to be asked whether a package brought it.
type setID struct {
	Path string `json:"path"`
	UID  int    `json:"uid"`
	GID  int    `json:"gid"`
	Mode uint32 `json:"mode"`
}

// mostSetIDs is of how many set-id programs it is asked. No machine brings so many.
const mostSetIDs = 500

func (j judge) setID(dir, entry string, info system.Info) {
	if !info.IsRegular() || info.Mode&setIDs == 0 {
		return
	}
	name := path.Join(dir, entry)
	switch {
	case j.spec.PassesOver(name):
	case plain(name) != name || system.IsPersonal(info.UID) || len(j.finds.SetIDs) >= mostSetIDs: // no package brings such a one
		j.add(name, info, "has the mode %04o and belongs to the uid %d", uint32(info.Mode), info.UID)
	default:
		j.finds.SetIDs = append(j.finds.SetIDs, setID{name, info.UID, info.GID, uint32(info.Mode)})
	}
}

const (
	ofUser  = "uid"
	ofGroup = "gid"
	// mostNameless is how many ids the name service is asked about.
	mostNameless = 64
)

// unowned knows the local ids, and those that people have for their containers (subuid(5)). It may be
// asked of the others.
func (j judge) unowned(a accounts, subUIDs, subGIDs ranges) func(dir, entry string, info system.Info) {
	users, groups := map[int]bool{}, map[int]bool{}
	for _, u := range a.users {
		users[u.id] = true
	}
	for _, g := range a.groups {
		groups[g.id] = true
	}
	return func(dir, entry string, info system.Info) {
		if !users[info.UID] && !subUIDs.has(info.UID) {
			j.nameless(ofUser, info.UID, dir, entry)
		}
		if !groups[info.GID] && !subGIDs.has(info.GID) {
			j.nameless(ofGroup, info.GID, dir, entry)
		}
	}
}

func (j judge) nameless(what string, id int, dir, entry string) {
	name := path.Join(dir, entry)
	if j.spec.PassesOver(name) {
		return
	}
	text := func() string {
		return plain(name) + " has the " + what + " " + strconv.Itoa(id) + ", which has no name"
	}
	key := what + " " + strconv.Itoa(id)
	f := j.finds.Nameless[key]
	if f == nil {
		if len(j.finds.Nameless) >= mostNameless {
			j.finds.add(id, text)
			return
		}
		if f = (&finds{}); j.finds.Nameless == nil {
			j.finds.Nameless = map[string]*finds{}
		}
		j.finds.Nameless[key] = f
	}
	if f.add(id, text); len(f.Others) > mostOfNameless {
		f.Others = f.Others[:mostOfNameless]
	}
}

// mostOfNameless is how many files of one such id are named.
const mostOfNameless = 3

// A home is a directory on a local disk, and whose it is.
type home struct{ uid int }

// localHomes returns the homes of people by their paths. It is an error if it cannot tell what is there.
func (k *Kind) localHomes(users []entry) (map[string]home, error) {
	homes := map[string]home{}
	var errs []error
	for _, u := range users {
		if len(u.fields) < 6 || !system.IsPersonal(u.id) || !path.IsAbs(u.fields[5]) || path.Clean(u.fields[5]) == "/" {
			continue
		}
		dir := path.Clean(u.fields[5])
		if _, err := k.system.FS.DescribeHome(dir); err == nil {
			homes[dir] = home{u.id}
		} else if !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return homes, errors.Join(errs...)
}

// lettingIn are files that let others in, or hold passwords.
func lettingIn(entry string) (always, ifOpen bool) {
	switch entry {
	case ".rhosts", ".shosts", ".forward":
		return true, false
	case ".netrc", ".pgpass":
		return false, true
	}
	return false, false
}

func (j judge) dotFile(homes map[string]home) func(dir, entry string, info system.Info) {
	return func(dir, entry string, info system.Info) {
		home, is := homes[dir]
		if !is || !strings.HasPrefix(entry, ".") || !info.IsRegular() {
			return
		}
		name := path.Join(dir, entry)
		always, ifOpen := lettingIn(entry)
		switch {
		case always:
			j.add(name, info, "lets others in, or sends mail away")
		case ifOpen && info.Mode&othersAny != 0:
			j.add(name, info, "holds passwords and has the mode %04o, and 0600 is the most", uint32(info.Mode))
		case info.Mode&othersWrite != 0:
			j.add(name, info, "may be written by others than its owner: it has the mode %04o", uint32(info.Mode))
		case info.UID != home.uid && info.UID != 0:
			j.add(name, info, "belongs to the uid %d, and the home to the uid %d", info.UID, home.uid)
		}
	}
}

// ranges are ids of subuid(5) or subgid(5).
type ranges [][2]int

func (r ranges) has(id int) bool {
	for _, one := range r {
		if id >= one[0] && id < one[0]+one[1] {
			return true
		}
	}
	return false
}

func (k *Kind) ranges(file string) (found ranges) {
	content, _ := k.system.FS.ReadFile(file) // without it nobody has any
	for line := range strings.Lines(string(content)) {
		fields := strings.Split(strings.TrimSpace(line), ":")
		if len(fields) != 3 {
			continue
		}
		first, isFirst := facts.ParseID(fields[1])
		count, isCount := facts.ParseID(fields[2])
		if isFirst && isCount {
			found = append(found, [2]int{first, count})
		}
	}
	return found
}
