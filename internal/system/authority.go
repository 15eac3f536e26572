package system

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
)

// Authority is polkit, queried as root, so that no program of the person in question runs. If
// polkit is not installed, nobody is allowed anything, and errors wrap ErrNotRunning.
type Authority interface {
	// Instance identifies the polkit daemon that runs now: it differs after each start, and is ""
	// when none runs. Actions and Authorized start one.
	Instance(ctx context.Context) (string, error)
	// Actions returns all actions that are installed.
	Actions(ctx context.Context) ([]Action, error)
	// Authorized reports for each question whether polkit allows it without asking for a password.
	// An authorization kept from a password given earlier does not count. Nobody is prompted.
	Authorized(ctx context.Context, questions []Question) ([]bool, error)
}

// An Action is what polkit can allow, as its package describes it.
type Action struct {
	ID      string
	Program string   // the program that pkexec(1) runs with this action
	Implies []string // whoever may do this may do these
	// Any, Inactive and Active are what is allowed, unless a rule says otherwise, without a session
	// at this machine, in an inactive one, and in the active one.
	Any, Inactive, Active Default
}

// A Default is polkit's PolkitImplicitAuthorization.
type Default uint32

// OwnWord reports whether no administrator is needed: the action is allowed outright, or after the
// user's own password.
func (d Default) OwnWord() bool { return d == 1 || d == 3 || d == 5 }

// A Question is whether a user may do an action. polkit uses the process only to find the session.
type Question struct {
	Action  string
	Details map[string]string
	UID     int
	PID     int
	Start   uint64 // of the process, in ticks as in proc(5)
}

const (
	polkitName      = "org.freedesktop.PolicyKit1"
	polkitPath      = "/org/freedesktop/PolicyKit1/Authority"
	polkitAuthority = polkitName + ".Authority."
	// polkitPatience limits how long polkit may take over one batch of questions. polkit stops a
	// rule that does not return after 15 seconds, and answers nobody until then; versions 121 and
	// 122 now and then do the same for a rule that has returned.
	polkitPatience = 20 * time.Second
	// maxActions limits the size of a message from polkit: some hundreds of actions are installed
	// on a desktop, with half a kilobyte each.
	maxActions = 16 << 20
	atOnce     = 32
)

// authority queries polkit over its own connection.
type authority struct {
	look Looker

	asking turn // held by whoever asks; guards the fields below
	conn   *dbus.Conn
	mute   muteness
}

func (a *authority) Instance(ctx context.Context) (owner string, err error) {
	err = a.ask(ctx, func(ctx context.Context, conn *dbus.Conn) error {
		err := conn.BusObject().CallWithContext(ctx, busName+"."+getNameOwner, 0, polkitName).Store(&owner)
		var answer dbus.Error
		if errors.As(err, &answer) && answer.Name == "org.freedesktop.DBus.Error.NameHasNoOwner" {
			return nil
		}
		return err
	})
	return owner, err
}

func (a *authority) Actions(ctx context.Context) (actions []Action, err error) {
	var described []struct {
		ID, Description, Message, Vendor, VendorURL, Icon string
		Any, Inactive, Active                             uint32
		Annotations                                       map[string]string
	}
	err = a.ask(ctx, func(ctx context.Context, conn *dbus.Conn) error {
		return conn.Object(polkitName, polkitPath).CallWithContext(ctx, polkitAuthority+"EnumerateActions", 0, "").Store(&described)
	})
	for _, d := range described {
		actions = append(actions, Action{
			ID: d.ID, Program: d.Annotations[polkitExecPath], Implies: strings.Fields(d.Annotations[polkitImply]),
			Any: Default(d.Any), Inactive: Default(d.Inactive), Active: Default(d.Active),
		})
	}
	return actions, err
}

// The annotations of pkexec(1) and polkit(8).
const (
	polkitExecPath = "org.freedesktop.policykit.exec.path"
	polkitImply    = "org.freedesktop.policykit.imply"
)

// polkitSubject is a subject in polkit's interface. Never ask about the kind "unix-session": polkit
// 122 aborts.
type polkitSubject struct {
	Kind    string
	Details map[string]dbus.Variant
}

type polkitResult struct {
	Authorized, Challenge bool
	Details               map[string]string
}

func (a *authority) Authorized(ctx context.Context, questions []Question) (answers []bool, err error) {
	answers = make([]bool, len(questions))
	err = a.ask(ctx, func(ctx context.Context, conn *dbus.Conn) error {
		for from := 0; from < len(questions); from += atOnce {
			to := min(from+atOnce, len(questions))
			if err := authorized(ctx, conn, questions[from:to], answers[from:to]); err != nil {
				return err
			}
		}
		return nil
	})
	return answers, err
}

func authorized(ctx context.Context, conn *dbus.Conn, questions []Question, answers []bool) error {
	object := conn.Object(polkitName, polkitPath)
	calls := make([]*dbus.Call, len(questions))
	for i, q := range questions {
		subject := polkitSubject{"unix-process", map[string]dbus.Variant{
			"pid": dbus.MakeVariant(uint32(q.PID)), "start-time": dbus.MakeVariant(q.Start), "uid": dbus.MakeVariant(int32(q.UID)),
		}}
		details := q.Details
		if details == nil {
			details = map[string]string{}
		}
		calls[i] = object.GoWithContext(ctx, polkitAuthority+"CheckAuthorization", 0, make(chan *dbus.Call, 1), subject, q.Action, details, uint32(0), "")
	}
	for i, call := range calls {
		<-call.Done
		var result polkitResult
		if err := call.Store(&result); err != nil {
			return fmt.Errorf("about %s: %w", questions[i].Action, err)
		}
		answers[i] = result.Authorized && result.Details["polkit.temporary_authorization_id"] == ""
	}
	return nil
}

// ask calls ask with a connection to polkit, and waits for at most polkitPatience.
func (a *authority) ask(ctx context.Context, ask func(context.Context, *dbus.Conn) error) error {
	err := a.look.at("ask", "polkit")
	if err == nil {
		err = a.question(ctx, ask)
	}
	var answer dbus.Error
	switch {
	case errors.As(err, &answer) && answer.Name == "org.freedesktop.DBus.Error.ServiceUnknown":
		return fmt.Errorf("cannot ask polkit: %w", ErrNotRunning)
	case err != nil:
		return fmt.Errorf("cannot ask polkit: %w", err)
	}
	return nil
}

// question asks over the open connection. If no answer comes, it asks once more over a new one,
// because the connection may be broken.
func (a *authority) question(ctx context.Context, ask func(context.Context, *dbus.Conn) error) error {
	if err := a.asking.take(ctx); err != nil {
		return err
	}
	defer a.asking.end()
	if time.Now().Before(a.mute.until) {
		return a.mute.err
	}
	silent, err := a.once(ctx, ask)
	if silent {
		silent, err = a.once(ctx, ask)
	}
	if silent {
		a.mute = muteness{time.Now().Add(muteFor), err}
	}
	return err
}

// once asks once. silent means that no answer came in time. The caller holds asking.
func (a *authority) once(ctx context.Context, ask func(context.Context, *dbus.Conn) error) (silent bool, err error) {
	tooLong := fmt.Errorf("it has not answered within %s", polkitPatience)
	asked, cancel := context.WithTimeoutCause(ctx, polkitPatience, tooLong)
	defer cancel()
	if a.conn != nil && !a.conn.Connected() {
		a.hangUp()
	}
	if a.conn == nil {
		conn, err := DialBus(asked, Link{Services: []string{polkitName}, MaxMessage: maxActions})
		if err != nil {
			return false, err
		}
		a.conn = conn
	}
	err = ask(asked, a.conn)
	if err != nil && (asked.Err() != nil || errors.Is(err, ErrSilent)) {
		a.hangUp()
		return ctx.Err() == nil, fmt.Errorf("%w: %w", err, tooLong)
	}
	return false, err
}

// hangUp closes the connection. The caller holds asking.
func (a *authority) hangUp() {
	if a.conn != nil {
		_ = a.conn.Close() // the connection is not used any more
		a.conn = nil
	}
}
