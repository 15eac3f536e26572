package system

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A Jumper is a Clock that can tell when wall time jumps.
type Jumper interface {
	// Jumps calls jumped each time wall time moves against monotonic time: the clock was set, or
	// the machine slept, during which monotonic time stands still. ahead is by how much since the
	// call before, or since Jumps began; it is negative when the clock was set back. Jumps returns
	// when ctx is done, with its error, or when the kernel cannot tell.
	Jumps(ctx context.Context, jumped func(ahead time.Duration)) error
}

// Jumps waits for a timer that never expires: the kernel cancels it when the offset between
// CLOCK_REALTIME and CLOCK_MONOTONIC changes by a step (TFD_TIMER_CANCEL_ON_SET in
// timerfd_create(2)), also when the machine wakes. Nothing is polled.
func (wallClock) Jumps(ctx context.Context, jumped func(ahead time.Duration)) error {
	last := time.Now()
	timer, err := cancelledWhenSet()
	if err != nil {
		return fmt.Errorf("cannot follow the clock: %w", err)
	}
	defer timer.Close()
	defer context.AfterFunc(ctx, func() { timer.Close() })()
	expirations := make([]byte, 8)
	for {
		_, err := timer.Read(expirations)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && !errors.Is(err, unix.ECANCELED):
			return fmt.Errorf("cannot follow the clock: %w", err)
		}
		now := time.Now()
		jumped(ahead(last, now))
		last = now
	}
}

// ahead returns how far wall time has moved against monotonic time between two readings.
func ahead(last, now time.Time) time.Duration {
	return now.Round(0).Sub(last.Round(0)) - now.Sub(last)
}

func cancelledWhenSet() (*os.File, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_REALTIME, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return nil, err
	}
	timer := os.NewFile(uintptr(fd), "timerfd")
	never := unix.ItimerSpec{Value: unix.Timespec{Sec: math.MaxInt64}}
	if err := unix.TimerfdSettime(fd, unix.TFD_TIMER_ABSTIME|unix.TFD_TIMER_CANCEL_ON_SET, &never, nil); err != nil {
		timer.Close()
		return nil, err
	}
	return timer, nil
}

// Uptime is how long the machine has been up, without the time that it slept (CLOCK_MONOTONIC).
// Nobody can set it, and it is the same for all processes since the boot. A clock that cannot tell
// it returns the wall time.
func Uptime(clock Clock) time.Duration {
	if c, tells := clock.(interface{ Uptime() time.Duration }); tells {
		return c.Uptime()
	}
	return time.Duration(clock.Now().UnixNano())
}

// Uptime implements the function Uptime.
func (wallClock) Uptime() time.Duration {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return 0
	}
	return time.Duration(now.Nano())
}
