package system

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/mounts"
)

// aliases returns all paths below the root by which the file at name can be reached without a link:
// its file system, or a directory of it, may be mounted in several places. The first is name
// itself.
func (d *disk) aliases(name string) ([]string, error) {
	// This thread's mounts, because another thread may run a confined command and have others.
	content, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("cannot tell what is mounted where: %w", err)
	}
	names := []string{name}
	for _, alias := range aliasesOf(filepath.Join(d.root, name), mounts.Parse(string(content))) {
		if below, is := under(alias, d.root); is && !slices.Contains(names, "/"+below) {
			names = append(names, "/"+below)
		}
	}
	return names, nil
}

func aliasesOf(name string, all []mounts.Mount) []string {
	var on mounts.Mount
	for _, m := range all { // the last mount at a point is the visible one
		if _, is := under(name, m.Point); is && len(m.Point) >= len(on.Point) {
			on = m
		}
	}
	below, _ := under(name, on.Point)
	inside := path.Join(on.Root, below)
	var names []string
	for _, m := range all {
		if rest, is := under(inside, m.Root); is && m.Device == on.Device && m.ID != on.ID {
			names = append(names, path.Join(m.Point, rest))
		}
	}
	return names
}

// under reports whether name is dir or below it, and returns the path relative to dir.
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

// covers reports whether something is mounted at name itself.
func (d *disk) covers(name string) (bool, error) {
	content, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil {
		return false, fmt.Errorf("cannot tell what is mounted where: %w", err)
	}
	point := filepath.Join(d.root, name)
	return slices.ContainsFunc(mounts.Parse(string(content)), func(m mounts.Mount) bool { return m.Point == point }), nil
}

// MayHang returns a function that reports whether a path is on a file system that is served over
// the network or by a user's program, as mounted now. The kernel may block whoever accesses such a
// path forever.
func MayHang() (func(name string) bool, error) {
	content, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("cannot tell what is mounted where: %w", err)
	}
	points := hanging(mounts.Parse(string(content)))
	return func(name string) bool {
		return slices.ContainsFunc(points, func(point string) bool { _, is := under(name, point); return is })
	}, nil
}

// hanging returns the mount points at which the visible file system is such a one.
func hanging(all []mounts.Mount) (points []string) {
	top := map[string]string{}
	for _, m := range all {
		top[m.Point] = m.Kind
	}
	for point, kind := range top {
		kind, _, _ = strings.Cut(kind, ".") // for example fuse.sshfs
		if point != "/" && slices.Contains([]string{"9p", "afs", "autofs", "ceph", "cifs", "coda", "fuse", "fuseblk", "lustre", "nfs", "nfs4", "smb3", "smbfs", "virtiofs"}, kind) {
			points = append(points, point)
		}
	}
	return points
}
