package system

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// CloseToOthers removes everybody's access to a file except root's, because whoever can open it,
// even only to read, can lock it. It is for empty lock files. closed reports whether somebody had
// access before. A file that does not belong to root, or that has a second name, is not changed,
// and is an error.
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
