package system

import (
	"testing"

	"github.com/godbus/dbus/v5"
)

// arrived returns a message as the bus delivers it.
func arrived(kind dbus.Type, sender string, headers map[dbus.HeaderField]any, body ...any) *dbus.Message {
	m := &dbus.Message{Type: kind, Body: body, Headers: map[dbus.HeaderField]dbus.Variant{dbus.FieldSender: dbus.MakeVariant(sender)}}
	for field, value := range headers {
		m.Headers[field] = dbus.MakeVariant(value)
	}
	return m
}

func signalOf(sender, iface, member string, body ...any) *dbus.Message {
	return arrived(dbus.TypeSignal, sender, map[dbus.HeaderField]any{dbus.FieldInterface: iface, dbus.FieldMember: member}, body...)
}

func passes(g *gatekeeper, m *dbus.Message) bool {
	g.in(m)
	return m.Type != 0
}

// isNow simulates the bus reporting the owner of a name.
func isNow(g *gatekeeper, name, owner string) {
	g.in(signalOf(busName, busName, "NameOwnerChanged", name, "", owner))
}

func TestASignalPassesFromWhoHasTheNameAtThatMomentAndFromNobodyElse(t *testing.T) {
	g := newGatekeeper(Link{Signals: JobSignals()}, func() {})
	removed := func(sender string) *dbus.Message {
		return signalOf(sender, systemdManager, "JobRemoved", uint32(1), dbus.ObjectPath("/job/1"), "a.service", "canceled")
	}
	for _, step := range []struct {
		owner, sender string
		want          bool
	}{
		{"", ":1.5", false},
		{"", "", false},
		{":1.1", ":1.1", true},
		{":1.1", ":1.5", false},
		{":1.2", ":1.2", true},
		{":1.2", ":1.1", false},
		{"", ":1.2", false},
		{"", "", false},
	} {
		isNow(g, systemdName, step.owner)
		if got := passes(g, removed(step.sender)); got != step.want {
			t.Errorf("while %q is systemd, a signal of %q passes: %t", step.owner, step.sender, got)
		}
	}
	isNow(g, systemdName, ":1.1")
	if passes(g, signalOf(":1.1", systemdManager, "UnitNew", "a.service", dbus.ObjectPath("/a"))) {
		t.Error("a signal passes that nobody has asked for")
	}
	if g.in(signalOf(":1.5", busName, "NameOwnerChanged", systemdName, ":1.1", ":1.5")); passes(g, removed(":1.5")) || !passes(g, removed(":1.1")) {
		t.Error("anybody may say who systemd is")
	}
	isNow(g, logindName, ":1.9") // nothing is expected from this owner
	if passes(g, removed(":1.9")) {
		t.Error("a signal of systemd's passes from logind")
	}
}

func TestAnAnswerPassesFromWhoWasAskedAndOnceAlone(t *testing.T) {
	g := newGatekeeper(Link{Services: []string{logindName}}, func() { t.Error("the bus is taken for silent") })
	isNow(g, logindName, ":1.1")
	ask := func(serial uint32, to string) { g.calls[serial] = pending{to: to} }
	for _, kind := range []dbus.Type{dbus.TypeMethodReply, dbus.TypeError} {
		answer := func(sender string, serial uint32) bool {
			return passes(g, arrived(kind, sender, map[dbus.HeaderField]any{dbus.FieldReplySerial: serial}))
		}
		ask(7, logindName)
		if answer(":1.5", 7) || answer("", 7) || answer(":1.1", 8) {
			t.Error("an answer passes of who was not asked, or to what was not")
		}
		if !answer(":1.1", 7) || answer(":1.1", 7) {
			t.Error("the answer does not pass, or passes twice")
		}
		ask(8, logindName)
		isNow(g, logindName, ":1.2") // it was restarted: either process may have received the call
		if !answer(":1.1", 8) {
			t.Error("the answer of who had the name does not pass")
		}
		ask(9, logindName)
		if !answer(busName, 9) { // "nobody has that name"
			t.Error("the bus does not answer in somebody's place")
		}
		ask(10, ":1.7")
		if answer(":1.8", 10) || !answer(":1.7", 10) {
			t.Error("whoever is called by a unique name is not who answers")
		}
		ask(11, "org.freedesktop.hostname1") // not a service of the link
		if answer(":1.1", 11) {
			t.Error("anybody answers in the place of who is not followed")
		}
		isNow(g, logindName, ":1.1")
	}
	if passes(g, arrived(dbus.TypeMethodCall, ":1.1", nil)) {
		t.Error("a call passes where nobody serves")
	}
}
