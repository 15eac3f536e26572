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

// A Link is what may go over a connection to the system bus, to which everybody on the
// machine may send. A signal that is not here never arrives, so none can be forgotten.
type Link struct {
	// Services are called over it, by these names.
	Services []string
	// Signals are heard over it.
	Signals []Signal
	// Calls takes in what others call, before anything else is done with it. Without it
	// what they call is passed over.
	Calls func(*dbus.Message)
	// MaxMessage is in bytes; 0 means MaxAnswer.
	MaxMessage int
	// TooLarge, unless nil, is told whose a call was that had more. It is called while
	// nothing else is read; it may send.
	TooLarge func(sender string, serial uint32)
}

// A Signal is one that somebody goes by, and whose it is.
type Signal struct {
	From string // the well-known name; only who has that at the time is believed
	Name string // interface and member
}

// ErrSilent is wrapped by the error of a bus that takes a connection, or a question of
// its own, and does not answer.
var ErrSilent = errors.New("the bus takes what it is sent and does not answer")

// DialBus connects to the system bus:
//   - What arrives is the word of those named in link, as the bus says who they are, and
//     answers come from who was asked; a match of the bus's holds back nothing that is
//     sent to this very connection. That another has one of the names is handed on as
//     the bus's NameOwnerChanged.
//   - Connection, handshake, and whatever the bus itself is asked later, have a deadline,
//     upon which the connection ends and the error is ErrSilent. How long a service may
//     take is for whoever calls it to say.
//   - File descriptors are never agreed on, so that the bus holds back messages with
//     some. godbus leaves open what comes with a message that nobody asked for.
//   - A message that is too large is skipped without being kept.
//   - What cannot be written for half a minute ends the connection: somebody who takes
//     no answers has used up what the bus keeps for it.
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
	// The connection must outlive the request that happens to need it first.
	options = append([]dbus.ConnOption{dbus.WithContext(context.WithoutCancel(ctx))}, options...)
	options = append(options, dbus.WithIncomingInterceptor(keeper.in), dbus.WithOutgoingInterceptor(keeper.out))
	return shakeHands(ctx, guarded, func(conn *dbus.Conn) error {
		if err := conn.Hello(); err != nil {
			return err
		}
		return keeper.follow(ctx, conn)
	}, options)
}

// systemdSocket is systemd's own, which root alone may connect to.
const systemdSocket = "/run/systemd/private"

// dialSystemd connects to systemd without a bus.
func dialSystemd(ctx context.Context) (*dbus.Conn, error) {
	guarded, err := dialGuarded(ctx, systemdSocket, Link{})
	if err != nil {
		return nil, err
	}
	// Nobody else is at the other end, and messages have no sender.
	keeper := &gatekeeper{silent: guarded.fallSilent, private: true, calls: map[uint32]pending{}}
	return shakeHands(ctx, guarded, func(*dbus.Conn) error { return nil }, []dbus.ConnOption{
		dbus.WithContext(context.WithoutCancel(ctx)), dbus.WithIncomingInterceptor(keeper.in), dbus.WithOutgoingInterceptor(keeper.out),
	})
}

// shakeHands makes a connection of one that has been accepted; begin is what comes after
// the authentication.
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
	if !goOn() { // it was closed
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = conn.Close() // it has failed already
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

// busPatience is how long the bus may take over an answer of its own.
const busPatience = 10 * time.Second
