package service

import (
	"path"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

// links are the symbolic links among the unit files of this machine and this boot.
// They tell most of what UnitFileState does, and systemd takes a millisecond to
// work that out for each unit: it reads these directories anew every time.
type links struct {
	wanted map[string]bool     // units that another one wants or requires, by a link of their own name
	of     map[string][]string // by unit, the links that are named after it, or its instances, or lead to it; no masks
}

func (k *Kind) readLinks() links {
	l := links{wanted: map[string]bool{}, of: map[string][]string{}}
	for _, base := range unitDirs()[:2] {
		entries, _ := k.system.FS.ReadDir(base) // without it there are no links
		for _, entry := range entries {
			l.add(k.system.FS, path.Join(base, entry), false)
			if !strings.HasSuffix(entry, ".wants") && !strings.HasSuffix(entry, ".requires") {
				continue
			}
			dir := path.Join(base, entry)
			inside, _ := k.system.FS.ReadDir(dir) // it may be a file of that name
			for _, name := range inside {
				l.add(k.system.FS, path.Join(dir, name), strings.HasPrefix(base, "/etc/"))
			}
		}
	}
	return l
}

func (l links) add(files system.FS, name string, enables bool) {
	target, err := files.Readlink(name)
	if err != nil || target == "/dev/null" {
		return // no link, or a mask
	}
	own, leadsTo := path.Base(name), path.Base(target)
	units := []string{own, leadsTo, templateOf(own)}
	slices.Sort(units)
	for _, unit := range slices.Compact(units) {
		l.of[unit] = append(l.of[unit], name)
	}
	if enables && own == leadsTo {
		l.wanted[own] = true
	}
}

// tell sets what the links say for certain of a unit's file, and says whether
// that is enough to judge the unit by.
func (l links) tell(want policy.Service, u *system.Unit) bool {
	switch {
	case u.LoadState != "loaded", strings.Contains(u.Name, "@"):
		return want.Enabled == nil && want.Masked == nil && u.LoadState != "masked"
	case want.Enabled == nil:
		return true // what is loaded is not masked
	case *want.Enabled && l.wanted[u.Name]:
		u.UnitFileState = "enabled"
		return true
	case !*want.Enabled && len(l.of[u.Name]) == 0:
		u.UnitFileState = "disabled"
		return true
	}
	return false
}

// left are the links by which a unit would be enabled if it had a file, or were not masked.
// systemd says nothing of them.
func (l links) left(u system.Unit) []string {
	if u.LoadState != "not-found" && !masked(u) {
		return nil
	}
	return l.of[u.Name]
}
