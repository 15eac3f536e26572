package system

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// MountChanges calls changed whenever something is mounted, unmounted or remounted on the machine,
// and once at the beginning, for earlier changes. It returns when ctx is done, with its error, or
// when the kernel cannot tell.
//
// It waits for the kernel (poll(2) of mountinfo, proc_pid_mountinfo(5)) in a thread of its own,
// because systemd does not report mounts that it makes for itself, such as /dev/shm.
func MountChanges(ctx context.Context, changed func()) error {
	// The process's mounts, because threads may temporarily have their own.
	mountinfo, err := unix.Open("/proc/self/mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("cannot follow what is mounted: %w", err)
	}
	defer func() { _ = unix.Close(mountinfo) }()
	over, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("cannot follow what is mounted: %w", err)
	}
	var told sync.WaitGroup
	told.Add(1)
	stop := context.AfterFunc(ctx, func() {
		defer told.Done()
		_, _ = unix.Write(over, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // the eventfd's counter has space
	})
	defer func() {
		if !stop() {
			told.Wait()
		}
		_ = unix.Close(over)
	}()
	changed()
	for {
		waits := []unix.PollFd{{Fd: int32(mountinfo), Events: unix.POLLPRI}, {Fd: int32(over), Events: unix.POLLIN}}
		_, err := unix.Poll(waits, -1)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("cannot follow what is mounted: %w", err)
		case waits[0].Revents&unix.POLLNVAL != 0:
			return errors.New("cannot follow what is mounted: the kernel does not tell")
		case waits[0].Revents != 0:
			changed()
		}
	}
}
