package system

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"syscall"
)

// Members returns the processes in a control group of systemd's, such as system.slice/a.scope, and
// in those below it. It works with either version of the hierarchy, wherever that is mounted, since
// it goes by what /proc says of each process. A zombie does not count. The answer can differ from
// systemd's, which may call a scope active that has no process left: with the old hierarchy it is
// not always told when the last one ends.
func Members(files FileReader, group string) ([]string, error) {
	first, err := files.ReadFile("/proc/1/cgroup")
	if err != nil {
		return nil, fmt.Errorf("cannot tell what runs in %s: %w", group, err)
	}
	wanted := map[string]string{} // by hierarchy
	for hierarchy, root := range groupsOf(first) {
		// Process 1 is in the root of all groups, or directly below it.
		wanted[hierarchy] = strings.TrimSuffix(strings.TrimSuffix(root, "/init.scope"), "/") + "/" + group
	}
	names, err := files.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("cannot tell what runs in %s: %w", group, err)
	}
	var members []string
	for _, name := range names {
		if _, err := strconv.Atoi(name); err != nil {
			continue
		}
		content, err := files.ReadFile("/proc/" + name + "/cgroup")
		if hasGone(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("cannot tell what runs in %s: %w", group, err)
		}
		for hierarchy, in := range groupsOf(content) {
			base, followed := wanted[hierarchy]
			if followed && (in == base || strings.HasPrefix(in, base+"/")) && alive(files, name) {
				members = append(members, name)
				break
			}
		}
	}
	return members, nil
}

func hasGone(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) }

// groupsOf returns the control groups of a process in the hierarchies that systemd keeps
// (proc_pid_cgroup in cgroups(7)), by hierarchy.
func groupsOf(content []byte) map[string]string {
	groups := map[string]string{}
	for line := range strings.Lines(string(content)) {
		fields := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(fields) == 3 && (fields[1] == "name=systemd" || fields[0] == "0" && fields[1] == "") {
			groups[fields[1]] = strings.TrimSuffix(fields[2], " (deleted)")
		}
	}
	return groups
}

// alive reports whether a process exists and is not a zombie. It returns true if it cannot tell.
func alive(files FileReader, pid string) bool {
	stat, err := files.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return !hasGone(err)
	}
	_, rest, found := strings.Cut(string(stat[strings.LastIndexByte(string(stat), ')')+1:]), " ")
	return !found || !strings.HasPrefix(rest, "Z") && !strings.HasPrefix(rest, "X")
}
