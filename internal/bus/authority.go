package bus

import (
	"context"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
)

const (
	polkitName     = "org.freedesktop.PolicyKit1"
	polkitPath     = dbus.ObjectPath("/org/freedesktop/PolicyKit1/Authority")
	polkitMethod   = "org.freedesktop.PolicyKit1.Authority."
	actions        = "org.soeagent.agent1."
	busTimeout     = 10 * time.Second // for an answer that takes no person
	personsTimeout = 2 * time.Minute  // to type a password
)

// user is whose a connection is, as the bus tells.
func (c *connection) user(ctx context.Context, sender string) (uint32, error) {
	ctx, cancel := context.WithTimeout(ctx, busTimeout)
	defer cancel()
	var user uint32
	err := c.conn.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.GetConnectionUnixUser", 0, sender).Store(&user)
	return user, err
}

// authorize returns nil if the sender of a call may do what it asks for: root may, and
// whom polkit lets.
func (c *connection) authorize(ctx context.Context, user uint32, one call) *dbus.Error {
	if user == c.root {
		return nil
	}
	// polkit's interface, org.freedesktop.PolicyKit1.Authority: what it is asked, and what it says.
	type subject struct {
		Kind    string
		Details map[string]dbus.Variant
	}
	var result struct {
		Authorized, Challenge bool
		Details               map[string]string
	}
	var interaction uint32
	timeout := busTimeout
	if one.interactive {
		interaction, timeout = 1, personsTimeout // AllowUserInteraction
	}
	action := actions + one.action
	cancellation := one.sender
	asked, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	authority := c.conn.Object(polkitName, polkitPath)
	err := authority.CallWithContext(asked, polkitMethod+"CheckAuthorization", 0,
		subject{"system-bus-name", map[string]dbus.Variant{"name": dbus.MakeVariant(one.sender)}},
		action, map[string]string{}, interaction, cancellation).Store(&result)
	if asked.Err() != nil {
		authority.Go(polkitMethod+"CancelCheckAuthorization", dbus.FlagNoReplyExpected, nil, cancellation)
	}
	doing := "cannot " + strings.ReplaceAll(one.action, "-", " ")
	switch {
	case err != nil:
		return refusal(NotAllowed, "%s: only root may, for polkit cannot be asked: %v", doing, err)
	case result.Authorized:
		return nil
	case result.Challenge && !one.interactive:
		return refusal(NotAllowed, "%s: that takes an administrator's password, and the call does not let it be asked for; "+
			"try again with sudo, or allow interactive authorization", doing)
	}
	return refusal(NotAllowed, "%s: polkit does not allow %s; try again with sudo", doing, action)
}
