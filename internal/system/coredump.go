package system

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// KeepMemoryIn keeps the kernel from writing core dumps of this process, which may contain secrets,
// and lets only root read its memory. The resource limit alone is not enough if core dumps are
// piped to a program (core(5)). Commands that the agent runs inherit only the limit.
func KeepMemoryIn() error {
	if err := errors.Join(unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}), undumpable()); err != nil {
		return fmt.Errorf("cannot keep the memory out of core dumps: %w", err)
	}
	return nil
}

func undumpable() error { return unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0) }
