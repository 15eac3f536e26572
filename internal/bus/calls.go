package bus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/godbus/dbus/v5"

	"github.com/soe-agent/soe-agent/internal/own"
)

// The bounds. A user may have 256 connections to the system bus (max_connections_per_user
// of dbus-daemon(1)), which together do not fill what waits.
const (
	maxMessage  = 16 << 10 // bytes of a message to us
	maxWaiting  = 1280     // calls in all
	maxPerName  = 4        // calls of one connection
	maxWorking  = 8        // long calls of those who are not root
	maxRootsOwn = 16       // long calls of root
	maxDocument = 1 << 20  // bytes of JSON in a reply
)

const (
	propertiesInterface     = "org.freedesktop.DBus.Properties"
	introspectableInterface = "org.freedesktop.DBus.Introspectable"
	peerInterface           = "org.freedesktop.DBus.Peer"
	standardError           = "org.freedesktop.DBus.Error."
)

// A call is what came of a message.
type call struct {
	method
	sender      string
	serial      uint32
	path        dbus.ObjectPath
	args        []any
	silent      bool // no answer is wanted
	interactive bool // whoever calls may be asked for a password
}

// A method answers calls. What has an action takes as long as it takes, and is for those
// who may.
type method struct {
	signature string
	action    string
	anywhere  bool // on every object
	answer    func(context.Context, *connection, call) ([]any, error)
}

// methods are all there are, by interface and name.
func methods() map[string]map[string]method {
	return map[string]map[string]method{
		Interface: {
			"Status":          {answer: status},
			"Report":          {answer: report},
			"Apply":           {signature: "as", action: "apply", answer: apply},
			"Reload":          {action: "reload", answer: reload},
			"CarryOutPending": {action: "carry-out-pending", answer: carryOutPending},
			"SetDebug":        {signature: "b", action: "set-debug", answer: setDebug},
		},
		propertiesInterface: {
			"Get":    {signature: "ss", answer: getProperty},
			"GetAll": {signature: "s", answer: getAllProperties},
			"Set":    {signature: "ssv", answer: setProperty},
		},
		introspectableInterface: {"Introspect": {anywhere: true, answer: describe}},
		peerInterface:           {"Ping": {anywhere: true, answer: ping}},
	}
}

func refusal(name, format string, args ...any) *dbus.Error {
	return &dbus.Error{Name: name, Body: []any{fmt.Sprintf(format, args...)}}
}

func errTooMuch(what string) *dbus.Error {
	return refusal(standardError+"LimitsExceeded", "cannot take the call: %s; try again in a moment", what)
}

// takeIn has a method call wait for its answer, or refuses it. It is called before
// godbus sees a message: godbus would answer each call in a goroutine of its own.
func (c *connection) takeIn(message *dbus.Message) {
	if message.Type != dbus.TypeMethodCall {
		return
	}
	message.Type = 0 // which godbus passes over
	one := call{
		serial: message.Serial(), args: message.Body,
		silent:      message.Flags&dbus.FlagNoReplyExpected != 0,
		interactive: message.Flags&dbus.FlagAllowInteractiveAuthorization != 0,
	}
	one.sender, _ = message.Headers[dbus.FieldSender].Value().(string)
	one.path, _ = message.Headers[dbus.FieldPath].Value().(dbus.ObjectPath)
	if one.sender == "" {
		return // the bus always tells; there is nobody to answer
	}
	if err := c.admit(&one, message); err != nil {
		c.refuse(one, err)
	}
}

// admit finds the method of a call and puts it with those that wait.
func (c *connection) admit(one *call, message *dbus.Message) *dbus.Error {
	iface, _ := message.Headers[dbus.FieldInterface].Value().(string)
	member, _ := message.Headers[dbus.FieldMember].Value().(string)
	signature, _ := message.Headers[dbus.FieldSignature].Value().(dbus.Signature)
	ours, ok := c.methods[iface]
	if !ok {
		return refusal(standardError+"UnknownInterface", "cannot call %q: there is no such interface; there is %s", iface, Interface)
	}
	if one.method, ok = ours[member]; !ok {
		return refusal(standardError+"UnknownMethod", "cannot call %q: %s has no such method", member, iface)
	}
	if one.path != Path && !one.anywhere {
		return refusal(standardError+"UnknownObject", "cannot call %s: it is at %s alone", member, Path)
	}
	if signature.String() != one.signature {
		return refusal(standardError+"InvalidArgs", "cannot call %s: its arguments are %q and not %q", member, one.signature, signature.String())
	}
	if err := c.bound(one); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting[one.sender] >= maxPerName {
		return errTooMuch("others of the same connection wait")
	}
	select {
	case c.calls <- *one:
		c.waiting[one.sender]++
		return nil
	default:
		return errTooMuch("too many others wait")
	}
}

// bound makes the arguments of Apply kinds that there are, each once.
func (c *connection) bound(one *call) *dbus.Error {
	if one.action != "apply" {
		return nil
	}
	kinds, _ := one.args[0].([]string)
	for _, kind := range kinds {
		if !slices.Contains(c.Kinds, kind) {
			return refusal(BadArgument, "cannot apply %.64q: it is no kind; kinds are %s", kind, strings.Join(c.Kinds, ", "))
		}
	}
	slices.Sort(kinds)
	one.args = []any{slices.Clone(slices.Compact(kinds))}
	return nil
}

// tooLarge is told of a call that was skipped.
func (c *connection) tooLarge(sender string, serial uint32) {
	c.refuse(call{sender: sender, serial: serial},
		refusal(standardError+"LimitsExceeded", "cannot take the call: it has more than %d bytes", maxMessage))
}

// answer answers a call, or begins to.
func (c *connection) answer(ctx context.Context, one call) {
	c.mu.Lock()
	if c.waiting[one.sender]--; c.waiting[one.sender] == 0 {
		delete(c.waiting, one.sender)
	}
	c.mu.Unlock()
	if one.action == "" {
		result, refused := c.perform(ctx, one)
		c.reply(one, result, refused)
		return
	}
	user, err := c.user(ctx, one.sender)
	if err != nil {
		return // whoever called has gone
	}
	if !c.begin(user) {
		c.refuse(one, errTooMuch("what this user asked for before is still being done"))
		return
	}
	c.group.Go(func() {
		var result []any
		refused := c.authorize(ctx, user, one)
		if refused == nil {
			c.Log.Info("a command arrived over the system bus", "for", one.action, "user", user)
			result, refused = c.perform(ctx, one)
		}
		c.end(user) // before whoever called knows, and calls again
		c.reply(one, result, refused)
	})
}

// begin reserves a place for what takes long: root has its own, others one each.
func (c *connection) begin(user uint32) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	others := len(c.working)
	if c.working[c.root] > 0 {
		others--
	}
	if user == c.root && c.working[user] >= maxRootsOwn || user != c.root && (c.working[user] > 0 || others >= maxWorking) {
		return false
	}
	c.working[user]++
	return true
}

func (c *connection) end(user uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.working[user]--; c.working[user] == 0 {
		delete(c.working, user)
	}
}

// perform does what a call asks for.
func (c *connection) perform(ctx context.Context, one call) ([]any, *dbus.Error) {
	result, err := one.answer(ctx, c, one)
	if err == nil {
		return result, nil
	}
	var ready *dbus.Error
	if !errors.As(err, &ready) {
		ready = refusal(Failed, "%s", err)
	}
	return nil, ready
}

func (c *connection) reply(one call, result []any, refused *dbus.Error) {
	if refused != nil {
		c.refuse(one, refused)
		return
	}
	c.send(one, dbus.TypeMethodReply, result, nil)
}

func (c *connection) refuse(one call, err *dbus.Error) {
	c.send(one, dbus.TypeError, err.Body, map[dbus.HeaderField]dbus.Variant{dbus.FieldErrorName: dbus.MakeVariant(err.Name)})
}

func (c *connection) send(one call, kind dbus.Type, body []any, headers map[dbus.HeaderField]dbus.Variant) {
	if one.silent {
		return
	}
	if headers == nil {
		headers = map[dbus.HeaderField]dbus.Variant{}
	}
	headers[dbus.FieldDestination] = dbus.MakeVariant(one.sender)
	headers[dbus.FieldReplySerial] = dbus.MakeVariant(one.serial)
	if len(body) > 0 {
		headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(body...))
	}
	c.conn.Send(&dbus.Message{Type: kind, Flags: dbus.FlagNoReplyExpected, Headers: headers, Body: body}, nil)
}

func status(ctx context.Context, c *connection, one call) ([]any, error) {
	return document(c.forWhoAsks(ctx, one), c.Documents.Status, own.RunDir+"/status.json")
}

func report(ctx context.Context, c *connection, one call) ([]any, error) {
	return document(c.forWhoAsks(ctx, one), c.Documents.Report, own.RunDir+"/report.json")
}

// forWhoAsks has root answered with the whole document, and everybody else with theirs: who
// asks is what the bus says of the connection.
func (c *connection) forWhoAsks(ctx context.Context, one call) context.Context {
	if user, err := c.user(ctx, one.sender); err == nil && user == c.root {
		return context.WithValue(ctx, rootKey{}, true)
	}
	return ctx
}

// document answers with one of the agent's documents, which is in a file too.
func document(ctx context.Context, read func(context.Context) ([]byte, error), file string) ([]any, error) {
	content, err := read(ctx)
	if err != nil {
		return nil, err
	}
	// The system bus carries 32 MiB and closes the connection of who sends more; and it
	// keeps on its own account what its receiver does not take.
	if len(content) > maxDocument {
		return nil, fmt.Errorf("cannot send what is asked for: it has %d bytes, which is much for the bus; read %s", len(content), file)
	}
	return []any{string(content)}, nil
}

func apply(ctx context.Context, c *connection, one call) ([]any, error) {
	kinds, _ := one.args[0].([]string)
	return nil, c.Orders.Apply(ctx, kinds)
}

func reload(_ context.Context, c *connection, _ call) ([]any, error) {
	c.Orders.Reload()
	return nil, nil
}

func carryOutPending(ctx context.Context, c *connection, _ call) ([]any, error) {
	return nil, c.Orders.CarryOutPending(ctx)
}

func setDebug(_ context.Context, c *connection, one call) ([]any, error) {
	on, _ := one.args[0].(bool)
	c.Orders.SetDebug(on)
	return nil, nil
}

func ping(context.Context, *connection, call) ([]any, error) { return nil, nil }

// describe is about the object, or the way to it.
func describe(_ context.Context, _ *connection, one call) ([]any, error) {
	if one.path == Path {
		return []any{Interfaces}, nil
	}
	below, ok := strings.CutPrefix(string(Path), strings.TrimSuffix(string(one.path), "/")+"/")
	if !ok {
		return nil, refusal(standardError+"UnknownObject", "cannot describe what is not there; there is %s", Path)
	}
	child, _, _ := strings.Cut(below, "/")
	return []any{"<node><node name=\"" + child + "\"/></node>"}, nil
}

func getProperty(_ context.Context, c *connection, one call) ([]any, error) {
	name, _ := one.args[1].(string)
	all, err := propertiesOf(c, one)
	if err != nil {
		return nil, err
	}
	value, ok := all[name]
	if !ok {
		return nil, refusal(standardError+"UnknownProperty", "cannot get %.64q: there is no such property", name)
	}
	return []any{value}, nil
}

func getAllProperties(_ context.Context, c *connection, one call) ([]any, error) {
	all, err := propertiesOf(c, one)
	if err != nil {
		return nil, err
	}
	return []any{all}, nil
}

// propertiesOf are those of the interface that is asked for; one that has none is as good as ours.
func propertiesOf(c *connection, one call) (map[string]dbus.Variant, error) {
	switch one.args[0] {
	case Interface, "":
		return c.Documents.State().properties(), nil
	case propertiesInterface, introspectableInterface, peerInterface:
		return map[string]dbus.Variant{}, nil
	}
	return nil, refusal(standardError+"UnknownInterface", "cannot get properties of an interface that is not there; there is %s", Interface)
}

func setProperty(context.Context, *connection, call) ([]any, error) {
	return nil, refusal(standardError+"PropertyReadOnly", "cannot set a property: they are read-only")
}
