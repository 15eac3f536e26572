// Package unitfiles knows the names of systemd's units, and the links among their files by
// which they are started at boot, as systemd.unit(5) has them.
package unitfiles

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/system"
)

// Dirs are where systemd looks for unit files, the first before the others. Of the first two,
// links count too: those that last and those of this boot.
func Dirs() []string {
	return []string{"/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"}
}

// IsTemplate says whether a name is that of a template, of which only instances run.
func IsTemplate(name string) bool {
	return strings.HasSuffix(strings.TrimSuffix(name, path.Ext(name)), "@")
}

// TemplateOf is the template of an instance, "" for other units.
func TemplateOf(name string) string {
	prefix, _, found := strings.Cut(name, "@")
	if !found || IsTemplate(name) {
		return ""
	}
	return prefix + "@" + path.Ext(name)
}

// Links are the symbolic links among the unit files of this machine and this boot, but
// masks.
type Links struct {
	wanted map[string]bool     // units that another one wants or requires for good, by a link of their own name
	of     map[string][]string // by unit
}

// ReadLinks reads them. What is not there has none.
func ReadLinks(files system.FileReader) Links {
	l := Links{wanted: map[string]bool{}, of: map[string][]string{}}
	for _, base := range Dirs()[:2] {
		entries, _ := files.ReadDir(base)
		for _, entry := range entries {
			l.add(files, path.Join(base, entry), false)
			if !strings.HasSuffix(entry, ".wants") && !strings.HasSuffix(entry, ".requires") {
				continue
			}
			dir := path.Join(base, entry)
			inside, _ := files.ReadDir(dir) // it may be a file of that name
			for _, name := range inside {
				l.add(files, path.Join(dir, name), strings.HasPrefix(base, "/etc/"))
			}
		}
	}
	return l
}

func (l Links) add(files system.FileReader, name string, enables bool) {
	target, err := files.Readlink(name)
	if err != nil || target == "/dev/null" {
		return // no link, or a mask
	}
	own, leadsTo := path.Base(name), path.Base(target)
	units := []string{own, leadsTo, TemplateOf(own)}
	slices.Sort(units)
	for _, unit := range slices.Compact(units) {
		l.of[unit] = append(l.of[unit], name)
	}
	if enables && own == leadsTo {
		l.wanted[own] = true
	}
}

// Of are the links that are named after a unit, or after an instance of it, or lead to it.
func (l Links) Of(unit string) []string { return l.of[unit] }

// Enable says whether a unit is wanted or required for good, by a link of its own name.
func (l Links) Enable(unit string) bool { return l.wanted[unit] }

// MountUnit is the name of the unit of a mount point (systemd.unit(5), "escaping").
func MountUnit(point string) string {
	point = strings.Trim(point, "/")
	if point == "" {
		return "-.mount"
	}
	var name strings.Builder
	for i := range len(point) {
		switch c := point[i]; {
		case c == '/':
			name.WriteByte('-')
		case c == '_' || c == ':' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '.' && i > 0:
			name.WriteByte(c)
		default:
			fmt.Fprintf(&name, `\x%02x`, c)
		}
	}
	return name.String() + ".mount"
}
