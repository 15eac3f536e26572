package system

import (
	"errors"
	"path"
	"strings"
	"syscall"
)

// maxLinks is how many absolute links are followed on the way to a file.
const maxLinks = 40

// reach calls look with the name, and again with another name for it when an
// absolute link is on the way: os.Root refuses those, and real machines have
// them. As in a chroot, they lead from the root. last says whether a link at the
// very end is followed too.
func (d *disk) reach(name string, last bool, look func(relative string) error) error {
	name = path.Clean(name)
	for range maxLinks {
		err := look(rel(name))
		var errno syscall.Errno
		if err == nil || errors.As(err, &errno) {
			return err
		}
		next, ok := d.followAbsolute(name, last)
		if !ok {
			return err
		}
		name = next
	}
	return syscall.ELOOP
}

// followAbsolute replaces the first absolute link in name by where it leads.
func (d *disk) followAbsolute(name string, last bool) (string, bool) {
	prefix := ""
	parts := strings.Split(strings.TrimPrefix(name, "/"), "/")
	for i, part := range parts {
		prefix += "/" + part
		if i == len(parts)-1 && !last {
			break
		}
		target, err := d.root.Readlink(rel(prefix))
		switch {
		case err != nil: // no link
		case path.IsAbs(target):
			return path.Join(target, path.Join(parts[i+1:]...)), true
		default: // it may lead to one that is absolute
			return path.Join(path.Dir(prefix), target, path.Join(parts[i+1:]...)), true
		}
	}
	return "", false
}
