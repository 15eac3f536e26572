package system

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// KeepMemoryIn has the kernel write no core dump of this process, which may hold
// secrets, and let nobody but root look into it. The limit alone is nothing to a
// program that core dumps are piped to (core(5)). The commands that are run inherit
// the limit, and nothing else of this.
func KeepMemoryIn() error {
	if err := errors.Join(unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}), undumpable()); err != nil {
		return fmt.Errorf("cannot keep the memory out of core dumps: %w", err)
	}
	return nil
}

func undumpable() error { return unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0) }
