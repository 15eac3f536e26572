package system

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// datagrams sends to a socket of systemd or journald by its path, so that whoever listens there at
// that time receives it. net.UnixConn would retry without a pause while the receiver's queue is
// full.
type datagrams struct {
	to string

	mu sync.Mutex
	fd int // -1: none
}

func newDatagrams(to string) *datagrams { return &datagrams{to: to, fd: -1} }

const (
	sendBuffer = 8 << 20     // as large as sd-journal's
	sendWait   = time.Second // for space in the receiver's queue; the kernel wakes us when there is some
)

// send sends one datagram. The error wraps errLater if the receiver does not exist, or does not
// accept it within a second.
func (d *datagrams) send(content []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fd < 0 {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("%w: %w", errLater, err)
		}
		if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, sendBuffer) != nil {
			_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, sendBuffer) // a smaller buffer works too
		}
		wait := unix.NsecToTimeval(sendWait.Nanoseconds())
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &wait); err != nil {
			_ = unix.Close(fd)
			return fmt.Errorf("%w: %w", errLater, err)
		}
		d.fd = fd
	}
	err := unix.Sendto(d.fd, content, unix.MSG_NOSIGNAL, &unix.SockaddrUnix{Name: d.to})
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EMSGSIZE): // it never fits
		return err
	}
	return fmt.Errorf("%w: %w", errLater, err)
}
