package system

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
)

// DialBus connects to the system bus, over a connection to which anybody may send:
//   - File descriptors are never agreed on, so that the bus holds back messages with
//     some. godbus leaves open what comes with a message that nobody asked for.
//   - A message larger than max bytes is skipped without being kept; refused, unless
//     it is nil, is told whose it was if it was a call.
//   - What cannot be written for half a minute ends the connection: somebody who takes
//     no answers has used up what the bus keeps for it.
//
// refused is called while nothing else is read; it may send.
func DialBus(ctx context.Context, max int, refused func(sender string, serial uint32), options ...dbus.ConnOption) (*dbus.Conn, error) {
	socket, err := busSocket()
	if err != nil {
		return nil, err
	}
	var dialer net.Dialer
	raw, err := dialer.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	guarded := &guardedConn{Conn: raw, in: bufio.NewReaderSize(raw, headerRoom), max: max, refused: refused}
	// The connection must outlive the request that happens to need it first.
	options = append([]dbus.ConnOption{dbus.WithContext(context.WithoutCancel(ctx))}, options...)
	conn, err := dbus.NewConn(guarded, options...)
	if err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	if err = conn.Auth(nil); err == nil {
		err = conn.Hello()
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// busSocket is the address of the system bus as the D-Bus specification has it,
// "Well-known Message Bus Instances", as far as it is a socket of this machine.
func busSocket() (string, error) {
	address := os.Getenv("DBUS_SYSTEM_BUS_ADDRESS")
	if address == "" {
		return "/run/dbus/system_bus_socket", nil
	}
	first, _, _ := strings.Cut(address, ";")
	keys, ok := strings.CutPrefix(first, "unix:")
	for pair := range strings.SplitSeq(keys, ",") {
		switch key, value, _ := strings.Cut(pair, "="); {
		case ok && key == "path":
			return value, nil
		case ok && key == "abstract":
			return "@" + value, nil
		}
	}
	return "", fmt.Errorf("cannot reach the system bus at %q: it is no unix:path=… or unix:abstract=…", address)
}

// MaxAnswer is more than systemd or logind says in one message, and no more than
// anybody may have kept for a moment.
const MaxAnswer = 1 << 20

const (
	headerRoom   = 4096 // of a message that is skipped, the header is looked at as far as that
	writeTimeout = 30 * time.Second
)

// guardedConn is the connection below a dbus.Conn. See DialBus.
type guardedConn struct {
	net.Conn
	in      *bufio.Reader
	max     int
	refused func(sender string, serial uint32)

	begun bool // the lines of the handshake are over
	left  int  // bytes of the message that is being handed on
}

func (c *guardedConn) Write(p []byte) (int, error) {
	err := c.SetWriteDeadline(time.Now().Add(writeTimeout))
	if err != nil {
		return 0, err
	}
	n, err := c.Conn.Write(p)
	if err != nil {
		_ = c.Close() // half a message cannot be mended
	}
	return n, err
}

func (c *guardedConn) Read(p []byte) (int, error) {
	for c.left == 0 {
		first, err := c.in.Peek(1)
		if err != nil {
			return 0, err
		}
		// No line of a server's begins as a message does, with its byte order.
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

// next begins a message: it is to be handed on, or skipped.
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

// senderIn finds the sender among the header fields of a message, from pos on: each
// is on a multiple of eight, and is its code, a signature, and a value of that.
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
