package policy

import (
	"io/fs"
	"path"
)

// An attrFile is one that decides who gets in, or that all need, and of which owner and mode are kept
// all the same: only what others may do beyond least is taken away, so that nobody who needs it is kept
// from it.
type attrFile struct {
	pattern string // of path.Match
	least   fs.FileMode
	// others says that its group is not root's everywhere: helpers of PAM, and of ssh, read it by that.
	others bool
}

func attrFiles() []attrFile {
	return []attrFile{
		{"/etc/group", 0o644, false},
		{"/etc/gshadow", 0o640, true},
		{"/etc/passwd", 0o644, false},
		{"/etc/securetty", 0o600, false},
		{"/etc/shadow", 0o640, true},
		{"/etc/shells", 0o644, false},
		{"/etc/ssh/ssh_host_*_key", 0o600, true},
		{"/etc/ssh/ssh_host_*_key.pub", 0o644, false},
		{"/usr/sbin/auditctl", 0o755, false},
		{"/usr/sbin/auditd", 0o755, false},
		{"/usr/sbin/augenrules", 0o755, false},
		{"/usr/sbin/aureport", 0o755, false},
		{"/usr/sbin/ausearch", 0o755, false},
		{"/usr/sbin/autrace", 0o755, false},
	}
}

func lookupAttrFile(file string) (attrFile, bool) {
	for _, a := range attrFiles() {
		if is, _ := path.Match(a.pattern, file); is {
			return a, true
		}
	}
	return attrFile{}, false
}

// IsKeptByAttributes says whether a file is one that decides who gets in, or that all need, and of which
// owner and mode are kept all the same.
func IsKeptByAttributes(file string) bool {
	_, is := lookupAttrFile(file)
	return is
}

// validateAttrs says what is wrong with owner, group and mode of such a file.
func (a attrFile) validateAttrs(v *validator, f File, file string) {
	v.refuse(f.Owner != "" && f.Owner != "root" && f.Owner != "0", "%s stays root's", file)
	v.refuse(f.Group != "" && (a.others || f.Group != "root" && f.Group != "0"), "the group of %s is not changed: what reads it by that would not be able to", file)
	v.refuse(f.Mode != nil && (!f.AtMost || *f.Mode&a.least != a.least),
		`of %s, which people need to get in or to work, only what goes beyond mode %04o is taken away: say mode = "at most %04o", or more`, file, a.least, a.least)
}
