// Package bus is the agent on the system bus: what programs and people on the machine
// may ask of it, and who may.
//
// Everybody may read: Status, Report, the properties, the signal Changed. Root's Report is
// the whole one, with the details that not everybody on the machine may read. The rest is
// for root, and for whoever polkit lets do one of the actions org.soeagent.agent1.*; a
// user id is what the bus says about a connection and never what a message says.
//
// Everybody may also try to do harm. So calls are taken in by one goroutine, which
// refuses at once what is malformed, what is too large, and what is too much: a few
// calls of each caller wait, and some hundreds in all, which is more than one user's
// connections together may have. They are answered one after the other. What takes
// longer than to read something is done beside that, once at a time for each user.
// The agent itself never waits for the bus.
package bus

import (
	"context"
	_ "embed" // for the introspection data
	"errors"

	"github.com/godbus/dbus/v5"
)

// Where the agent is found.
const (
	Name      = "org.soeagent.Agent1"
	Path      = dbus.ObjectPath("/org/soeagent/Agent1")
	Interface = Name
)

// The errors of the methods, besides those of the D-Bus specification.
const (
	NotAllowed  = Interface + ".Error.NotAllowed"
	BadArgument = Interface + ".Error.BadArgument"
	Failed      = Interface + ".Error.Failed"
)

// Interfaces describes the interfaces of the object in the introspection format.
//
//go:embed org.soeagent.Agent1.xml
var Interfaces string

// Documents are what the agent tells. They may be asked for at the same time.
type Documents interface {
	// State is cheap.
	State() State
	// Status and Report are JSON, free of secrets. Status is for everybody; Report is the
	// whole one, which quotes what not everybody may read, if it is ForRoot.
	Status(ctx context.Context) ([]byte, error)
	Report(ctx context.Context) ([]byte, error)
}

// Orders are what the agent does when it is asked to, by several at the same time too.
type Orders interface {
	// Apply makes a pass over these kinds, all if there are none, and returns when it has ended.
	Apply(ctx context.Context, kinds []string) error
	// Reload makes the daemon read configuration and policy again, and does not wait for it.
	Reload()
	// CarryOutPending carries out what waits for a session's end or for the window, as
	// far as no live session is disrupted, and returns when that has been tried.
	CarryOutPending(ctx context.Context) error
	// SetDebug makes the log say more, or no more than usual.
	SetDebug(on bool)
}

// rootKey is that of a context in which it is root who asks.
type rootKey struct{}

// ForRoot says whether it is root who asks, as the bus tells.
func ForRoot(ctx context.Context) bool { return ctx.Value(rootKey{}) != nil }

// State is what the properties say.
type State struct {
	Version   string
	Phase     string
	Verdict   string // report.Verdict
	Compliant bool
	Serial    int64 // of the published policy in force, 0 when there is none
}

func (s State) properties() map[string]dbus.Variant {
	return map[string]dbus.Variant{
		"Version":   dbus.MakeVariant(s.Version),
		"Phase":     dbus.MakeVariant(s.Phase),
		"Verdict":   dbus.MakeVariant(s.Verdict),
		"Compliant": dbus.MakeVariant(s.Compliant),
		"Serial":    dbus.MakeVariant(s.Serial),
	}
}

// errGone is why serving ends when the bus does.
var errGone = errors.New("the bus has closed the connection")
