package system

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"
)

const (
	busName          = "org.freedesktop.DBus" // only the bus itself can have it
	nameOwnerChanged = busName + ".NameOwnerChanged"
	getNameOwner     = "GetNameOwner"
)

// A gatekeeper lets messages pass only from the right sender. It sees each message before godbus
// does, in the order of the bus, and godbus ignores a message without a type. godbus itself accepts
// an answer from anybody who knows or guesses the number of a call, and a signal from anybody.
type gatekeeper struct {
	link    Link
	silent  func() // called if the bus does not answer
	private bool   // there is only one peer, and messages have no sender

	mu     sync.Mutex
	owners map[string]*owner // by well-known name
	calls  map[uint32]pending
}

// An owner is the unique name of the process that has a well-known name. A unique name is never
// used twice.
type owner struct {
	now  string   // "" if nobody has the name
	once []string // all owners during this connection: a call may have reached any of them
}

// pending is a call without an answer yet.
type pending struct {
	to       string
	about    string      // the name whose owner was asked for
	deadline *time.Timer // only for calls to the bus itself
}

func newGatekeeper(link Link, silent func()) *gatekeeper {
	g := &gatekeeper{link: link, silent: silent, owners: map[string]*owner{}, calls: map[uint32]pending{}}
	for _, name := range link.Services {
		g.owners[name] = &owner{}
	}
	for _, signal := range link.Signals {
		g.owners[signal.From] = &owner{}
	}
	return g
}

// follow makes the bus tell which process has each of the names, now and from now on.
func (g *gatekeeper) follow(ctx context.Context, conn *dbus.Conn) error {
	for name := range g.owners {
		match := []dbus.MatchOption{
			dbus.WithMatchSender(busName), dbus.WithMatchInterface(busName), dbus.WithMatchMember("NameOwnerChanged"), dbus.WithMatchArg(0, name),
		}
		if err := conn.AddMatchSignalContext(ctx, match...); err != nil {
			return fmt.Errorf("cannot follow who is %s: %w", name, err)
		}
		// in handles the answer too, in the order of all messages. An error is an answer: nobody
		// has the name.
		answer := conn.BusObject().CallWithContext(ctx, busName+"."+getNameOwner, 0, name)
		if !conn.Connected() {
			return fmt.Errorf("cannot ask who is %s: %w", name, answer.Err)
		}
	}
	return nil
}

// out records each call, so that its answer is accepted.
func (g *gatekeeper) out(message *dbus.Message) {
	if message.Type != dbus.TypeMethodCall || message.Flags&dbus.FlagNoReplyExpected != 0 {
		return
	}
	one := pending{to: text(message, dbus.FieldDestination)}
	if one.to == busName {
		one.deadline = time.AfterFunc(busPatience, g.silent)
		if text(message, dbus.FieldMember) == getNameOwner && len(message.Body) == 1 {
			one.about, _ = message.Body[0].(string)
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.calls[message.Serial()] = one
}

// in removes the type of a message from a wrong sender, which makes godbus ignore it.
func (g *gatekeeper) in(message *dbus.Message) {
	pass := false
	switch message.Type {
	case dbus.TypeMethodCall:
		if g.link.Calls != nil {
			g.link.Calls(message)
		}
	case dbus.TypeSignal:
		pass = g.private || g.signal(message)
	case dbus.TypeMethodReply, dbus.TypeError:
		pass = g.answer(message)
	}
	if !pass {
		message.Type = 0
	}
}

// answer reports whether an answer comes from the process that was called, or from the bus in its
// place.
func (g *gatekeeper) answer(message *dbus.Message) bool {
	serial, _ := message.Headers[dbus.FieldReplySerial].Value().(uint32)
	sender := text(message, dbus.FieldSender)
	g.mu.Lock()
	defer g.mu.Unlock()
	call, ok := g.calls[serial]
	if !ok {
		return false
	}
	if !g.private && sender != busName && sender != call.to && !g.had(call.to, sender) {
		return false
	}
	delete(g.calls, serial)
	if call.deadline != nil {
		call.deadline.Stop()
	}
	if call.about != "" && message.Type == dbus.TypeMethodReply && len(message.Body) == 1 {
		now, _ := message.Body[0].(string)
		g.has(call.about, now)
	}
	return true
}

// signal reports whether a signal is listed and from the right sender. The bus's own signals pass.
func (g *gatekeeper) signal(message *dbus.Message) bool {
	sender := text(message, dbus.FieldSender)
	name := text(message, dbus.FieldInterface) + "." + text(message, dbus.FieldMember)
	g.mu.Lock()
	defer g.mu.Unlock()
	if sender == busName {
		if name == nameOwnerChanged && len(message.Body) == 3 {
			of, _ := message.Body[0].(string)
			now, _ := message.Body[2].(string)
			g.has(of, now)
		}
		return true
	}
	return slices.ContainsFunc(g.link.Signals, func(s Signal) bool {
		return s.Name == name && sender != "" && g.owners[s.From].now == sender
	})
}

// has records which process has a name. The caller holds mu.
func (g *gatekeeper) has(name, now string) {
	o, followed := g.owners[name]
	if !followed {
		return
	}
	o.now = now
	if now != "" && !slices.Contains(o.once, now) {
		o.once = append(o.once, now)
	}
}

// had reports whether a process has, or had, a name. The caller holds mu.
func (g *gatekeeper) had(name, sender string) bool {
	o, followed := g.owners[name]
	return followed && slices.Contains(o.once, sender)
}

func text(message *dbus.Message, field dbus.HeaderField) string {
	s, _ := message.Headers[field].Value().(string)
	return s
}
