// Package mounts reads what is mounted where (proc_pid_mountinfo(5)), and reads and edits what is to
// be mounted at boot (fstab(5)).
package mounts

import (
	"slices"
	"strconv"
	"strings"
)

// A Mount is one line of mountinfo.
type Mount struct {
	ID, Parent int
	Device     string   // major:minor
	Root       string   // of the file system, which is at Point
	Point      string   // where it is mounted
	Flags      []string // of this mount alone, such as rw and nosuid; the file system has others
	Kind       string   // of the file system, such as ext4
	Source     string
}

// Parse reads mountinfo. What it cannot read is left out.
func Parse(mountinfo string) []Mount {
	var all []Mount
	for line := range strings.Lines(mountinfo) {
		fields := strings.Fields(line)
		if len(fields) <= 5 {
			continue
		}
		m := Mount{Device: fields[2], Root: Unescape(fields[3]), Point: Unescape(fields[4]), Flags: strings.Split(fields[5], ",")}
		m.ID, _ = strconv.Atoi(fields[0])
		m.Parent, _ = strconv.Atoi(fields[1])
		if dash := slices.Index(fields[5:], "-"); dash >= 0 {
			rest := fields[5+dash+1:]
			if len(rest) > 0 {
				m.Kind = rest[0]
			}
			if len(rest) > 1 {
				m.Source = Unescape(rest[1])
			}
		}
		all = append(all, m)
	}
	return all
}

// At is what whoever looks at a path comes to, if that path is a mount point: of those mounted there
// the one on top, and none that another mount hides.
func At(all []Mount, point string) (m Mount, is bool) {
	on, found := top(all)
	if !found {
		return Mount{}, false
	}
	// The way to the path leads from each mount to that of its children which is met first.
	for range all {
		next := -1
		for i, child := range all {
			if child.Parent != on.ID || child.ID == on.ID || !isAbove(child.Point, point) {
				continue
			}
			if next < 0 || len(child.Point) <= len(all[next].Point) {
				next = i
			}
		}
		if next < 0 {
			break
		}
		on = all[next]
	}
	return on, on.Point == point
}

// top is the mount of the root directory whose parent is not told of.
func top(all []Mount) (m Mount, found bool) {
	known := map[int]bool{}
	for _, m := range all {
		known[m.ID] = true
	}
	for _, m := range all {
		if m.Point == "/" && (!known[m.Parent] || m.Parent == m.ID) {
			return m, true
		}
	}
	return Mount{}, false
}

// isAbove says whether a directory is a path, or on the way to it.
func isAbove(dir, name string) bool {
	below, is := strings.CutPrefix(name, dir)
	return dir == "/" || is && (below == "" || below[0] == '/')
}

// escapes are made once: mountinfo is read before each change, and has three names in a line.
var escapes = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

// Unescape reads a name as mountinfo and fstab write it.
func Unescape(name string) string {
	return escapes.Replace(name)
}
