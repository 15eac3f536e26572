package system

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// KeepMemoryIn makes the kernel write no core dump of this process, which may hold secrets, and
// lets nobody but root read its memory. The resource limit alone is not enough where core dumps are
// piped to a program (core(5)). Commands that the agent runs inherit the limit and nothing else of
// this.
func KeepMemoryIn() error {
	if err := errors.Join(unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}), undumpable()); err != nil {
		return fmt.Errorf("cannot keep the memory out of core dumps: %w", err)
	}
	return nil
}

func undumpable() error { return unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0) }
