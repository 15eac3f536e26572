// Package own says what on a machine is the agent's own, for all who have to agree on it.
package own

import (
	"path"
	"strings"
)

// Where the agent keeps what it knows: in StateDir for as long as the machine is, in RunDir
// until the next boot.
const (
	StateDir = "/var/lib/soe-agent"
	RunDir   = "/run/soe-agent"
)

// Keeps says whether a path is one of a file there.
func Keeps(name string) bool {
	return strings.HasPrefix(name, StateDir+"/") || strings.HasPrefix(name, RunDir+"/")
}

const temporary = ".soe.swp"

// Temporary is the name under which a file is written before it takes its
// place: one that readers of ".d" directories skip, for it begins with a dot,
// and that logrotate, which does not mind dots, has on its taboo list.
func Temporary(name string) string {
	dir, base := path.Split(name)
	return dir + "." + base + temporary
}

// IsTemporary says whether Temporary made a name, and of which one.
func IsTemporary(name string) (of string, is bool) {
	dir, base := path.Split(name)
	inner, ends := strings.CutSuffix(base, temporary)
	if !ends || !strings.HasPrefix(inner, ".") {
		return "", false
	}
	return dir + inner[1:], true
}
