package system

import (
	"bufio"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/godbus/dbus/v5"
)

const (
	headerRoom   = 4096 // how much of a skipped message's header is examined
	writeTimeout = 30 * time.Second
)

// guardedConn is the connection below a dbus.Conn. See DialBus.
type guardedConn struct {
	net.Conn
	in      *bufio.Reader
	max     int
	refused func(sender string, serial uint32) // may be nil

	silent atomic.Bool // it was closed because an awaited answer did not come

	begun bool // the handshake is over
	left  int  // bytes left of the message being passed on
}

// Write implements net.Conn.
func (c *guardedConn) Write(p []byte) (int, error) {
	err := c.SetWriteDeadline(time.Now().Add(writeTimeout))
	if err != nil {
		return 0, err
	}
	n, err := c.Conn.Write(p)
	if err != nil {
		_ = c.Close() // the rest of a partial message cannot be sent later
	}
	return n, err
}

// fallSilent closes the connection because an answer did not come in time.
func (c *guardedConn) fallSilent() {
	c.silent.Store(true)
	_ = c.Close()
}

// Read implements net.Conn. The error is ErrSilent if fallSilent was called.
func (c *guardedConn) Read(p []byte) (int, error) {
	n, err := c.read(p)
	if err != nil && (c.silent.Load() || errors.Is(err, os.ErrDeadlineExceeded)) {
		err = ErrSilent
	}
	return n, err
}

func (c *guardedConn) read(p []byte) (int, error) {
	for c.left == 0 {
		first, err := c.in.Peek(1)
		if err != nil {
			return 0, err
		}
		// No handshake line of a server begins with the byte that a message begins with (its byte
		// order).
		if c.begun = c.begun || first[0] == 'l' || first[0] == 'B'; !c.begun {
			return c.in.Read(p)
		}
		if err := c.next(); err != nil {
			return 0, err
		}
	}
	n, err := c.in.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

// next reads the header of a message, and decides whether to pass it on or skip it.
func (c *guardedConn) next() error {
	const fixed = 16 // bytes before the header fields
	head, err := c.in.Peek(fixed)
	if err != nil {
		return err
	}
	var order binary.ByteOrder = binary.LittleEndian
	if head[0] == 'B' {
		order = binary.BigEndian
	}
	kind, serial := dbus.Type(head[1]), order.Uint32(head[8:])
	fields := int(order.Uint32(head[12:]))
	size := fixed + (fields+7)&^7 + int(order.Uint32(head[4:]))
	if size <= c.max {
		c.left = size
		return nil
	}
	head, err = c.in.Peek(min(fixed+fields, headerRoom))
	if err != nil {
		return err
	}
	sender := senderIn(head, fixed, order)
	if _, err := c.in.Discard(size); err != nil {
		return err
	}
	if c.refused != nil && kind == dbus.TypeMethodCall && sender != "" {
		c.refused(sender, serial)
	}
	return nil
}

// senderIn finds the sender among the header fields of a message, beginning at pos. Each field
// begins at a multiple of eight bytes, and is its code, a signature and a value of that signature.
func senderIn(message []byte, pos int, order binary.ByteOrder) string {
	for {
		pos = (pos + 7) &^ 7
		if pos+8 > len(message) {
			return ""
		}
		code, kind := dbus.HeaderField(message[pos]), message[pos+2]
		pos += 4
		switch kind {
		case 's', 'o':
			end := pos + 4 + int(order.Uint32(message[pos:]))
			if end >= len(message) {
				return ""
			}
			if code == dbus.FieldSender {
				return string(message[pos+4 : end])
			}
			pos = end + 1
		case 'u':
			pos += 4
		case 'g':
			pos += 2 + int(message[pos])
		default:
			return ""
		}
	}
}
