package bus

import (
	"context"
	"errors"
	"fmt"

	"github.com/godbus/dbus/v5"

	"github.com/soe-agent/soe-agent/internal/system"
)

// ErrNotServed is the error of a Client when the daemon is not on the bus.
var ErrNotServed = errors.New("the daemon is not on the system bus")

// Client asks the daemon over the bus.
type Client struct {
	conn   *dbus.Conn
	object dbus.BusObject
}

// Dial connects to the system bus. The error is ErrNotServed if there is none, or if
// nobody serves there.
func Dial(ctx context.Context) (*Client, error) {
	const carried = 32 << 20 // max_message_size of the system bus
	conn, err := system.DialBus(ctx, system.Link{Signals: Signals(), MaxMessage: carried},
		dbus.WithSignalHandler(dbus.NewSequentialSignalHandler()))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotServed, err)
	}
	c := &Client{conn: conn, object: conn.Object(Name, Path)}
	ctx, cancel := context.WithTimeout(ctx, busTimeout)
	defer cancel()
	if err := c.object.CallWithContext(ctx, peerInterface+".Ping", dbus.FlagNoAutoStart).Err; err != nil {
		conn.Close()
		if errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("cannot ask the daemon, which does not answer: %w; see: systemctl status soe-agent", err)
		}
		return nil, plain(err)
	}
	return c, nil
}

// Close ends the connection.
func (c *Client) Close() error { return c.conn.Close() }

// Status is the daemon's status, as JSON.
func (c *Client) Status(ctx context.Context) (content []byte, err error) {
	return c.document(ctx, "Status")
}

// Report is the last report, as JSON.
func (c *Client) Report(ctx context.Context) (content []byte, err error) {
	return c.document(ctx, "Report")
}

func (c *Client) document(ctx context.Context, method string) ([]byte, error) {
	var content string
	err := c.object.CallWithContext(ctx, Interface+"."+method, dbus.FlagNoAutoStart).Store(&content)
	return []byte(content), plain(err)
}

// Apply makes the daemon make a pass over these kinds, all if there are none, and returns when it
// has ended.
// A person may be asked for an administrator's password.
func (c *Client) Apply(ctx context.Context, kinds []string) error {
	if kinds == nil {
		kinds = []string{}
	}
	// An Object's own calls leave out the flag for the password.
	message := &dbus.Message{
		Type: dbus.TypeMethodCall, Flags: dbus.FlagNoAutoStart | dbus.FlagAllowInteractiveAuthorization, Body: []any{kinds},
		Headers: map[dbus.HeaderField]dbus.Variant{
			dbus.FieldDestination: dbus.MakeVariant(Name), dbus.FieldPath: dbus.MakeVariant(Path),
			dbus.FieldInterface: dbus.MakeVariant(Interface), dbus.FieldMember: dbus.MakeVariant("Apply"),
			dbus.FieldSignature: dbus.MakeVariant(dbus.SignatureOf(kinds)),
		},
	}
	call := <-c.conn.SendWithContext(ctx, message, make(chan *dbus.Call, 1)).Done
	return plain(call.Err)
}

// Signals are those that a Client hears.
func Signals() []system.Signal { return []system.Signal{{From: Name, Name: Interface + ".Changed"}} }

// Changes tells when the status may be another; what came meanwhile is told once. The
// channel is closed when the daemon, or the bus, has gone.
func (c *Client) Changes(ctx context.Context) (<-chan struct{}, error) {
	signals := make(chan *dbus.Signal, 16)
	c.conn.Signal(signals)
	// Who has the name is told over every connection that hears of it.
	err := c.conn.AddMatchSignalContext(ctx, dbus.WithMatchSender(Name), dbus.WithMatchInterface(Interface), dbus.WithMatchMember("Changed"))
	if err != nil {
		return nil, fmt.Errorf("cannot follow the daemon: %w", err)
	}
	changes := make(chan struct{}, 1)
	go func() {
		defer close(changes)
		for signal := range signals {
			switch signal.Name {
			case "org.freedesktop.DBus.NameOwnerChanged":
				return
			case Interface + ".Changed":
			default:
				continue
			}
			select {
			case changes <- struct{}{}:
			default:
			}
		}
	}()
	return changes, nil
}

// plain makes an error of the bus one of the house.
func plain(err error) error {
	var answer dbus.Error
	if !errors.As(err, &answer) {
		return err
	}
	switch answer.Name {
	case standardError + "ServiceUnknown", standardError + "NameHasNoOwner":
		return ErrNotServed
	}
	return errors.New(answer.Error())
}
