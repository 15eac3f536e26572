package system

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// CloseToOthers takes from everybody but its owner, root, what they may do with a file:
// who can open it, to read even, can lock it. It is for files that hold nothing, of which
// nothing is kept. closed says whether that was necessary. Of what is no file of root's,
// or has another name too, nothing is changed.
func (s *System) CloseToOthers(name string) (closed bool, err error) {
	t, err := openTop(s.Root, nil)
	if err != nil {
		return false, cannot("close", name, err)
	}
	defer t.dir.Close()
	fd, err := t.openItself(name, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return false, cannot("close", name, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return false, cannot("close", name, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || int(st.Uid) != os.Geteuid() || st.Nlink != 1 {
		return false, fmt.Errorf("cannot close %s: it is not a file of root's with no other name", name)
	}
	if st.Mode&0o077 == 0 {
		return false, nil
	}
	if err := s.gate(Change{"chmod", name}); err != nil {
		return false, cannot("close", name, err)
	}
	if err := unix.Fchmod(fd, st.Mode&0o7700); err != nil {
		return false, cannot("close", name, err)
	}
	return true, nil
}
