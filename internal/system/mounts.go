package system

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// A mount is one line of mountinfo.
type mount struct {
	device string // major:minor
	root   string // of the file system, which is at point
	point  string
	kind   string // of the file system, such as ext4
}

// aliases returns all paths below the root by which the file at name can be reached without a link:
// its file system, or a directory of it, may be mounted in several places. The first is name
// itself.
func (d *disk) aliases(name string) ([]string, error) {
	// Of this thread: another one may run a confined command and have other mounts.
	content, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("cannot tell what is mounted where: %w", err)
	}
	names := []string{name}
	for _, alias := range aliasesOf(filepath.Join(d.root, name), mountsOf(string(content))) {
		if below, is := under(alias, d.root); is && !slices.Contains(names, "/"+below) {
			names = append(names, "/"+below)
		}
	}
	return names, nil
}

func aliasesOf(name string, mounts []mount) []string {
	var on mount
	for _, m := range mounts { // of those at one point the last lies on top
		if _, is := under(name, m.point); is && len(m.point) >= len(on.point) {
			on = m
		}
	}
	below, _ := under(name, on.point)
	inside := path.Join(on.root, below)
	var names []string
	for _, m := range mounts {
		if rest, is := under(inside, m.root); is && m.device == on.device && m != on {
			names = append(names, path.Join(m.point, rest))
		}
	}
	return names
}

// under says whether name is dir or below it, and returns the path relative to dir.
func under(name, dir string) (below string, is bool) {
	if dir == "/" {
		return strings.TrimPrefix(name, "/"), strings.HasPrefix(name, "/")
	}
	below, is = strings.CutPrefix(name, dir)
	if !is || below != "" && below[0] != '/' {
		return "", false
	}
	return strings.TrimPrefix(below, "/"), true
}

// mountsOf reads mountinfo (proc_pid_mountinfo(5)).
func mountsOf(text string) []mount {
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	var mounts []mount
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) <= 5 {
			continue
		}
		m := mount{device: fields[2], root: unescape.Replace(fields[3]), point: unescape.Replace(fields[4])}
		if dash := slices.Index(fields[5:], "-"); dash >= 0 && len(fields) > 5+dash+1 {
			m.kind = fields[5+dash+1]
		}
		mounts = append(mounts, m)
	}
	return mounts
}
