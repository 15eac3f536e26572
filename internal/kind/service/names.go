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

// mostAliases is how many names in a row are followed: they may lead in a circle.
const mostAliases = 8

// names finds the own names of units, as long as a look or a repair takes.
type names struct {
	files     system.FS
	looked    time.Time
	known     *aliases
	installed map[string][]string // by alias, the units of which it is one once they are enabled; nil: not read yet
}

func (k *Kind) newNames() *names {
	return &names{files: k.system.FS, looked: k.system.Clock.Now(), known: &k.aliases}
}

// aliases are what unit files say of other names of their units (Alias=), by file. Each is read
// again when the kernel says that it has changed: to read them all takes longer than the look.
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

// young is how old the last change of a file has to be for its next one to bear another time.
const young = time.Second

// in are the aliases in a file that is as it was seen at a time.
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

// real is the own name of a unit, of which name may be an alias: a link to the file of
// another unit. The files are asked and not systemd, which knows an alias that somebody
// has masked as a unit of its own, while the real one runs on.
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

// leadsTo is the other unit to whose file a link of this name leads, "" when none does, and
// whether there is anything of this name.
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
		case target == "/dev/null": // a mask, which hides what the name is
		case base == name, path.Ext(base) != path.Ext(name), !slices.Contains(unitfiles.Dirs(), path.Dir(target)):
			return "", true
		default:
			return base, true
		}
	}
	return "", false
}

// installedAs is the unit whose file says that it is called so too while it is enabled
// (Alias=), if it is one: disabled, it is the same.
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
	for _, dir := range unitfiles.Dirs()[:4] { // the last is another name of that before it
		entries, _ := n.files.Entries(dir) // without it nothing is installed there
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
