// Package protected knows what on a WorkSpace nobody but AWS may change: files,
// accounts, packages and units without which a person cannot reach the desktop.
//
// The files are those of the WorkSpaces Administration Guide, "Required
// configuration and service components for WorkSpaces Linux", for Amazon Linux
// 2, Ubuntu, Rocky and Red Hat: do not delete, change, block or quarantine them.
// The rest follows from what those components need: the desktop, the directory join,
// name resolution, the network interfaces, the way in, and the system below them. The
// tables say of each name whose it is and why it is there.
package protected

import (
	"path"
	"slices"
	"strings"
)

// Path says why a path must not be written or removed, or "" when it may be.
// A protected directory protects all below it.
func Path(name string) string {
	name = merged(path.Clean(name))
	if name == "/etc/pcoip-agent/pcoip-agent.conf" || name == "/etc/pcoip-agent" {
		return "" // the one file there that its owner may change, and the way to it
	}
	for _, e := range files() {
		if e.holds(name) {
			return e.why
		}
	}
	if matched, _ := path.Match("/etc/udev/rules.d/*net*", name); matched {
		return "it names the network interfaces"
	}
	return unitFile(name)
}

// merged is the name of a file below /usr where it is known by an older one.
func merged(name string) string {
	for _, dir := range []string{"/bin", "/lib", "/lib64", "/sbin"} {
		if name == dir || strings.HasPrefix(name, dir+"/") {
			return "/usr" + name
		}
	}
	if below, ok := strings.CutPrefix(name, "/var/run/"); ok {
		return "/run/" + below
	}
	return name
}

func under(name string, roots []string) bool {
	return slices.ContainsFunc(roots, func(root string) bool {
		below, found := strings.CutPrefix(name, root)
		return found && (below == "" || below[0] == '/')
	})
}

// Mount says why a policy has no say in how something is mounted at a path, or "" when it has.
func Mount(point string) string {
	point = merged(path.Clean(point))
	switch {
	case point == "/" || under(point, []string{"/usr", "/etc"}):
		return "the machine does not work without what is on it"
	case under(point, []string{"/snap"}):
		return "snapd mounts its packages there, AWS's agent among them"
	case under(point, []string{"/home"}):
		return "AWS mounts the volume of the user there"
	case point != "/dev/shm" && under(point, []string{"/dev", "/proc", "/sys", "/run"}):
		return "the kernel, or systemd, mounts it as it has to be"
	}
	return Path(point)
}

// Programs says why programs have to go on running that are on what is mounted at a path, or "".
func Programs(point string) string {
	switch point = merged(path.Clean(point)); {
	case point == "/opt" || under("/var/lib/amazon/ssm", []string{point}):
		return "AWS runs programs from there"
	case under(point, []string{"/var/lib", "/opt", "/root"}):
		return "programs may be installed there"
	}
	return ""
}
