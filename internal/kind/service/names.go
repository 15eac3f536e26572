package service

import (
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/soe-agent/soe-agent/internal/system"
	"github.com/soe-agent/soe-agent/internal/unitfiles"
)

// mostAliases limits the length of a chain of aliases, which may be a loop.
const mostAliases = 8

// names resolves unit names to the units' own names during one check or repair.
type names struct {
	files     system.FS
	looked    time.Time
	known     *aliases
	installed map[string][]string // by alias, the units that have it once they are enabled (Alias=); nil: not read yet
}

func (k *Kind) newNames() *names {
	return &names{files: k.system.FS, looked: k.system.Clock.Now(), known: &k.aliases}
}

// aliases are the Alias= settings of unit files, by file. A file is read again if its stat data have
// changed; reading all files takes longer than the check.
type aliases struct {
	mu   sync.Mutex
	seen map[string]aliasesOf
}

type aliasesOf struct {
	inode   uint64
	size    int64
	changed time.Time
	names   []string
}

// young is the age below which a file may change again without getting another time.
const young = time.Second

// in are the aliases in a file, and the state in which it was read.
func (a *aliases) in(files system.FS, file string, info system.Info, at time.Time) (names []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if last, seen := a.seen[file]; seen && last.inode == info.Inode && last.size == info.Size && last.changed.Equal(info.Changed) {
		return last.names
	}
	content, err := files.ReadFile(file)
	for line := range strings.Lines(string(content)) {
		if after, found := strings.CutPrefix(strings.TrimSpace(line), "Alias="); found {
			names = append(names, strings.Fields(after)...)
		}
	}
	if a.seen == nil {
		a.seen = map[string]aliasesOf{}
	}
	delete(a.seen, file)
	if err == nil && at.Sub(info.Changed) > young {
		a.seen[file] = aliasesOf{info.Inode, info.Size, info.Changed, names}
	}
	return names
}

// real returns the unit's own name for a name that may be an alias: a link to another unit's file. It
// reads the files instead of asking systemd, which treats a masked alias as a unit of its own while
// the real unit keeps running.
func (n *names) real(name string) string {
	for range mostAliases {
		next, there := n.leadsTo(name)
		if template := unitfiles.TemplateOf(name); !there && template != "" {
			var other string
			if other, there = n.leadsTo(template); unitfiles.IsTemplate(other) {
				next = strings.Replace(other, "@", "@"+instanceOf(name), 1)
			}
		}
		if !there && !unitfiles.IsTemplate(name) {
			next = n.installedAs(name)
		}
		if next == "" {
			return name
		}
		name = next
	}
	return name
}

// leadsTo returns the unit to whose file the link of this name points, "" if it does not, and whether
// anything of this name exists.
func (n *names) leadsTo(name string) (unit string, there bool) {
	for _, dir := range unitfiles.Dirs() {
		file := path.Join(dir, name)
		target, err := n.files.Readlink(file)
		if err != nil {
			if _, err := n.files.Stat(file); err == nil {
				return "", true // a file of its own
			}
			continue
		}
		if !path.IsAbs(target) {
			target = path.Join(dir, target)
		}
		switch base := path.Base(target); {
		case target == "/dev/null": // a mask, which hides what the name stands for
		case base == name, path.Ext(base) != path.Ext(name), !slices.Contains(unitfiles.Dirs(), path.Dir(target)):
			return "", true
		default:
			return base, true
		}
	}
	return "", false
}

// installedAs returns the unit that has this name as an Alias= while it is enabled. If it is disabled
// it is still the same unit.
func (n *names) installedAs(name string) string {
	if n.installed == nil {
		n.readInstalled()
	}
	if units := n.installed[name]; len(units) == 1 && units[0] != name {
		return units[0]
	}
	return ""
}

func (n *names) readInstalled() {
	n.installed = map[string][]string{}
	for _, dir := range unitfiles.Dirs()[:4] { // the last is an alias of the one before it
		entries, _ := n.files.Entries(dir) // without the directory nothing is installed there
		for unit, info := range entries {
			if !info.IsRegular() || unitfiles.IsTemplate(unit) {
				continue
			}
			for _, alias := range n.known.in(n.files, path.Join(dir, unit), info, n.looked) {
				if !slices.Contains(n.installed[alias], unit) {
					n.installed[alias] = append(n.installed[alias], unit)
				}
			}
		}
	}
}

func instanceOf(name string) string {
	_, instance, _ := strings.Cut(strings.TrimSuffix(name, path.Ext(name)), "@")
	return instance
}
