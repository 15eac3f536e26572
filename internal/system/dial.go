package system

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
)

// A Link describes what may pass over a connection to the system bus, to which everybody on the
// machine may send. Signals that are not listed never arrive.
type Link struct {
	// Services are the names that are called over the connection.
	Services []string
	// Signals are the signals that are received over the connection.
	Signals []Signal
	// Calls handles incoming calls before anything else sees them. Without it they are dropped.
	Calls func(*dbus.Message)
	// MaxMessage is the largest message, in bytes; 0 means MaxAnswer.
	MaxMessage int
	// TooLarge is called with the sender of a call that was larger. Nothing else is read during the
	// call, but it may send. It may be nil.
	TooLarge func(sender string, serial uint32)
}

// A Signal is a signal that the caller relies on, and the name that must have sent it.
type Signal struct {
	From string // the well-known name; only its current owner is believed
	Name string // interface and member
}

// ErrSilent is wrapped by errors about a bus that accepts a connection, or a question to itself,
// and does not answer.
var ErrSilent = errors.New("the bus accepts connections and does not answer")

// DialBus connects to the system bus and guards the connection:
//   - Signals arrive only from the services named in link, as the bus reports their owners, and
//     answers only from whoever was called. A match rule does not achieve that: it does not
//     hold back messages that somebody sends to this connection directly. NameOwnerChanged of
//     the bus tells when another process takes one of the names.
//   - Connecting, the handshake and each question to the bus itself have a deadline, after
//     which the connection is closed and the error is ErrSilent. How long a service may
//     take is up to the caller.
//   - File descriptors are not negotiated, so that the bus delivers no message with
//     descriptors: godbus would leave them open.
//   - A message that is too large is skipped without being kept in memory.
//   - A connection to which nothing could be written for half a minute is closed: somebody who
//     does not receive answers has used up the bus's space for it.
func DialBus(ctx context.Context, link Link, options ...dbus.ConnOption) (*dbus.Conn, error) {
	socket, err := busSocket()
	if err != nil {
		return nil, err
	}
	return dialAt(ctx, socket, link, options...)
}

func dialAt(ctx context.Context, socket string, link Link, options ...dbus.ConnOption) (*dbus.Conn, error) {
	guarded, err := dialGuarded(ctx, socket, link)
	if err != nil {
		return nil, err
	}
	keeper := newGatekeeper(link, guarded.fallSilent)
	// The connection must outlive the request that opens it.
	options = append([]dbus.ConnOption{dbus.WithContext(context.WithoutCancel(ctx))}, options...)
	options = append(options, dbus.WithIncomingInterceptor(keeper.in), dbus.WithOutgoingInterceptor(keeper.out))
	return shakeHands(ctx, guarded, func(conn *dbus.Conn) error {
		if err := conn.Hello(); err != nil {
			return err
		}
		return keeper.follow(ctx, conn)
	}, options)
}

// systemdSocket is systemd's private socket. Only root may connect to it.
const systemdSocket = "/run/systemd/private"

// dialSystemd connects to systemd without a bus.
func dialSystemd(ctx context.Context) (*dbus.Conn, error) {
	guarded, err := dialGuarded(ctx, systemdSocket, Link{})
	if err != nil {
		return nil, err
	}
	// There is no third party on such a connection, and its messages name no sender.
	keeper := &gatekeeper{silent: guarded.fallSilent, private: true, calls: map[uint32]pending{}}
	return shakeHands(ctx, guarded, func(*dbus.Conn) error { return nil }, []dbus.ConnOption{
		dbus.WithContext(context.WithoutCancel(ctx)), dbus.WithIncomingInterceptor(keeper.in), dbus.WithOutgoingInterceptor(keeper.out),
	})
}

// shakeHands performs the handshake of a new connection. It calls begin after the authentication.
func shakeHands(ctx context.Context, guarded *guardedConn, begin func(*dbus.Conn) error, options []dbus.ConnOption) (*dbus.Conn, error) {
	if err := guarded.SetReadDeadline(time.Now().Add(busPatience)); err != nil {
		return nil, errors.Join(err, guarded.Close())
	}
	goOn := context.AfterFunc(ctx, func() { _ = guarded.Close() })
	conn, err := dbus.NewConn(guarded, options...)
	if err != nil {
		goOn()
		return nil, errors.Join(err, guarded.Close())
	}
	if err = conn.Auth(nil); err == nil {
		err = begin(conn)
	}
	if err == nil {
		err = guarded.SetReadDeadline(time.Time{})
	}
	if !goOn() { // the connection was closed
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = conn.Close() // the error of Close does not matter any more
		return nil, err
	}
	return conn, nil
}

func dialGuarded(ctx context.Context, socket string, link Link) (*guardedConn, error) {
	dialer := net.Dialer{Timeout: busPatience}
	raw, err := dialer.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	most := link.MaxMessage
	if most == 0 {
		most = MaxAnswer
	}
	return &guardedConn{Conn: raw, in: bufio.NewReaderSize(raw, headerRoom), max: most, refused: link.TooLarge}, nil
}

// busSocket returns the address of the system bus (D-Bus specification, "Well-known Message Bus
// Instances"), if it is a socket of this machine.
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

// MaxAnswer is larger than any message of systemd or logind. It is so small that anybody may cause
// a message of that size to be kept in memory for a moment.
const MaxAnswer = 1 << 20

// busPatience limits how long the bus itself may take to answer.
const busPatience = 10 * time.Second
