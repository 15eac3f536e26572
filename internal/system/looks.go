package system

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// A Look is one step that reads from the machine, or asks it something, and changes nothing.
type Look struct {
	Op     string // "open", "stat", "read", "list", "readlink", "attribute", "find" (a program), "run", "ask" (systemd, logind, polkit)
	Target string // a path, a program, a command line or a unit
}

func (l Look) String() string { return l.Op + " " + l.Target }

// A Looker is called before every look. If it returns an error, the look returns that error instead
// of a result. Tests simulate a sick machine with it: only "it does not exist" may be taken for
// absence. It must be safe for concurrent use.
type Looker func(Look) error

// FailNthLook lets all looks pass except the n-th, counted from 1, which fails with err.
func FailNthLook(n int, err error) Looker {
	var mu sync.Mutex
	count := 0
	return func(l Look) error {
		mu.Lock()
		defer mu.Unlock()
		if count++; count == n {
			return fmt.Errorf("%w (%w at look %d: %s)", err, ErrInjected, count, l)
		}
		return nil
	}
}

func (look Looker) at(op, target string) error {
	if look == nil {
		return nil
	}
	return look(Look{op, target})
}

// exists reports whether there is a file, by a name outside any root. It returns an error if it
// cannot tell.
func (look Looker) exists(name string) (bool, error) {
	err := look.at("stat", name)
	if err == nil {
		_, err = os.Lstat(name)
	}
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	}
	return false, fmt.Errorf("cannot look at %s: %w", name, err)
}

// attribute reads an extended attribute of an open file. size is 0 if the file has no such
// attribute.
func (d *disk) attribute(fd int, file, name string, value []byte) (size int, err error) {
	if err := d.look.at("attribute", file); err != nil {
		return 0, err
	}
	size, err = unix.Fgetxattr(fd, name, value)
	if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.ENOTSUP) {
		return 0, nil
	}
	return size, err
}
