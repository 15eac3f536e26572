// Package sudo18 is what stands in for sudo 1.8.23, that of Amazon Linux 2, in a box: the programs
// "sudo" and "visudo", which refuse what that version cannot read as it did, and leave
// all else to the sudo that is installed; and the records of what the real one did, to
// which a test holds them. What it does not stand in for is how 1.8.23 lists rights:
// that is in the records, and held by the tests of internal/sudoers.
package sudo18

import (
	_ "embed"
	"fmt"
	"strings"
)

//go:embed sudo
var script string

//go:embed records.txt
var records string

// Programs are the files of the stand-in: they come before the real ones in the path
// of a box.
func Programs() map[string]string {
	return map[string]string{"/usr/local/bin/sudo": script, "/usr/local/sbin/visudo": script}
}

// A Record is what sudo 1.8.23 did with a file /etc/sudoers.d/a, which it reads from
// an /etc/sudoers with nothing but a grant to root.
type Record struct {
	File   string
	Visudo string // what visudo -c printed, errors first, and its exit code
	Sudo   string // the same of sudo -n -l -U root
}

// Records are all that were recorded.
func Records() ([]Record, error) {
	var all []Record
	for part := range strings.SplitSeq(strings.TrimPrefix(records, "== file\n"), "== file\n") {
		file, rest, ok := strings.Cut(part, "== visudo\n")
		visudo, sudo, ok2 := strings.Cut(rest, "== sudo\n")
		if !ok || !ok2 {
			return nil, fmt.Errorf("cannot read the records of sudo 1.8.23: %q has no part for visudo or sudo", part)
		}
		all = append(all, Record{file, visudo, sudo})
	}
	return all, nil
}
