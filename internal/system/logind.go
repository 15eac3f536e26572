package system

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/godbus/dbus/v5"
)

const (
	logindName    = "org.freedesktop.login1"
	logindPath    = "/org/freedesktop/login1"
	logindManager = "org.freedesktop.login1.Manager"
	logindSession = "org.freedesktop.login1.Session"
	propertiesAll = "org.freedesktop.DBus.Properties.GetAll"
)

// FirstPersonalUID is where the ids of people begin: UID_MIN of login.defs(5).
const FirstPersonalUID = 1000

// IsPersonal reports whether a uid may belong to a person. 65534 is nobody and does not.
func IsPersonal(uid int) bool { return uid >= FirstPersonalUID && uid != 65534 }

// isPersons reports whether a session may be somebody's desktop or shell. PAM gives it the class
// "user" if it was told the type of the session. For an unspecified type pam_systemd(8) sets
// "background", even for a streaming agent. In that case every session counts that is not obviously
// one of cron or the like.
func isPersons(class, service string, uid uint32) bool {
	switch {
	case strings.HasPrefix(class, "user"):
		return true
	case class != "background" || !IsPersonal(int(uid)):
		return false
	}
	switch service {
	case "cron", "crond", "atd", "anacron", "systemd-user", "runuser", "runuser-l", "su", "su-l", "sudo":
		return false
	}
	return true
}

// hasEnded reports whether an error means that a session which logind has just listed has ended
// since.
func hasEnded(err error) bool {
	var answer dbus.Error
	return errors.As(err, &answer) && slices.Contains([]string{
		"org.freedesktop.DBus.Error.UnknownObject", "org.freedesktop.DBus.Error.UnknownMethod", // of systemd 219
		logindName + ".NoSuchSession",
	}, answer.Name)
}

type listedSession struct {
	ID   string
	UID  uint32
	User string
	Seat string
	Path dbus.ObjectPath
}

// listed returns the sessions that logind lists. A connection that was idle for days may be broken
// without a sign: then it asks again over a new one.
func (b *bus) listed(ctx context.Context) (conn *dbus.Conn, listed []listedSession, err error) {
	for _, anew := range []bool{false, true} {
		if conn, err = b.logind(ctx, anew); err != nil {
			return nil, nil, err
		}
		err = conn.Object(logindName, logindPath).CallWithContext(ctx, logindManager+".ListSessions", 0).Store(&listed)
		var answered dbus.Error
		if err == nil || errors.As(err, &answered) || ctx.Err() != nil {
			break
		}
	}
	if err != nil {
		return nil, nil, fmt.Errorf("cannot ask logind who is logged in: %w", err)
	}
	return conn, listed, nil
}

// sessionListKey is the key of a *sessionList in a context.
type sessionListKey struct{}

type sessionList struct {
	ctx      context.Context //nolint:containedctx // that of the look; who joins in may have less time
	once     sync.Once
	done     chan struct{} // closed when the fields below are set
	sessions []Session
	err      error
}

// WithSharedSessionList returns a context with which logind is asked only once who is logged in, so
// that all checks use the same answer. It is for checks only: a step that may end a session must
// ask again right before it.
func WithSharedSessionList(ctx context.Context) context.Context {
	return context.WithValue(ctx, sessionListKey{}, &sessionList{ctx: ctx, done: make(chan struct{})})
}

// List implements Sessions.
func (b *bus) List(ctx context.Context) ([]Session, error) {
	l, shared := ctx.Value(sessionListKey{}).(*sessionList)
	if !shared {
		return b.list(ctx)
	}
	return l.ask(ctx, b.list)
}

// ask asks once for all who share the list. Each waits no longer than its own context.
func (l *sessionList) ask(ctx context.Context, list func(context.Context) ([]Session, error)) ([]Session, error) {
	l.once.Do(func() {
		go func() {
			l.sessions, l.err = list(l.ctx)
			close(l.done)
		}()
	})
	select {
	case <-l.done:
		return slices.Clone(l.sessions), l.err
	case <-ctx.Done():
		return nil, fmt.Errorf("cannot tell in time who is logged in: %w", context.Cause(ctx))
	}
}

func (b *bus) list(ctx context.Context) (sessions []Session, err error) {
	switch ran, err := b.look.exists("/run/systemd/seats"); {
	case err != nil:
		return nil, fmt.Errorf("cannot tell who is logged in: %w", err)
	case !ran:
		return nil, nil // no logind has ever run, so nobody has logged in
	}
	if err := b.look.at("ask", "logind"); err != nil {
		return nil, fmt.Errorf("cannot ask logind who is logged in: %w", err)
	}
	err = b.question(ctx, logindName, answerPatience, func(ctx context.Context) error {
		conn, listed, err := b.listed(ctx)
		if err != nil {
			return err
		}
		sessions, err = describe(ctx, conn, listed, b.files)
		return err
	})
	if err != nil {
		return nil, err
	}
	return sessions, nil
}

// describe returns the sessions that belong to people. A person may have opened hundreds: logind is asked about many at
// a time, and the processes of each person are searched once.
func describe(ctx context.Context, conn *dbus.Conn, listed []listedSession, files FileReader) ([]Session, error) {
	var sessions []Session
	left := leftovers{files: files, known: map[uint32]bool{}}
	for some := range slices.Chunk(listed, askedAtOnce) {
		calls := make([]*dbus.Call, len(some))
		for i, l := range some {
			calls[i] = conn.Object(logindName, l.Path).GoWithContext(ctx, propertiesAll, 0, make(chan *dbus.Call, 1), logindSession)
		}
		for i, l := range some {
			var properties map[string]dbus.Variant
			err := (<-calls[i].Done).Store(&properties)
			if hasEnded(err) {
				continue
			}
			if err != nil { // it may be a person's session
				return nil, fmt.Errorf("cannot ask logind about session %s: %w", l.ID, err)
			}
			if one, is := sessionOf(l, properties); is && !left.isOver(l.UID, uint32(one.Leader)) {
				sessions = append(sessions, one)
			}
		}
	}
	return sessions, nil
}

// askedAtOnce is below what a connection may have unanswered (max_replies_per_connection of
// dbus-daemon(1)).
const askedAtOnce = 64

// sessionOf returns a session of logind's, if it is a person's.
func sessionOf(l listedSession, properties map[string]dbus.Variant) (Session, bool) {
	text := func(key string) string { s, _ := properties[key].Value().(string); return s }
	flag := func(key string) bool { b, _ := properties[key].Value().(bool); return b }
	leader, _ := properties["Leader"].Value().(uint32)
	return Session{
		ID: l.ID, UID: l.UID, User: l.User,
		Service: text("Service"), Type: text("Type"), Class: text("Class"), State: text("State"),
		Idle: flag("IdleHint"), Locked: flag("LockedHint"), Since: moment(properties["Timestamp"].Value()),
		Leader: int(leader),
	}, isPersons(text("Class"), text("Service"), l.UID)
}

// leftovers knows of which persons nothing runs any more.
type leftovers struct {
	files FileReader
	known map[uint32]bool
}

// isOver reports whether a session that logind still lists has ended: its leader process has gone,
// and the person runs nothing but what systemd runs for everybody who is logged in. logind may list
// such a session forever, because it waits for the end of its scope, of which systemd is not always
// notified. It returns false if it cannot tell.
func (l leftovers) isOver(uid, leader uint32) bool {
	if leader == 0 || alive(l.files, strconv.FormatUint(uint64(leader), 10)) {
		return false
	}
	if _, searched := l.known[uid]; !searched {
		l.known[uid] = nothingRuns(l.files, uid)
	}
	return l.known[uid]
}

// nothingRuns reports whether surely nothing of a person runs but what systemd runs for whoever is logged in.
func nothingRuns(files FileReader, uid uint32) bool {
	names, err := files.ReadDir("/proc")
	if err != nil {
		return false
	}
	for _, name := range names {
		if _, err := strconv.Atoi(name); err != nil {
			continue
		}
		info, err := files.Stat("/proc/" + name)
		if err != nil && !hasGone(err) {
			return false
		}
		if err != nil || info.UID != int(uid) || !alive(files, name) {
			continue
		}
		program, err := files.ReadFile("/proc/" + name + "/comm")
		if text := strings.TrimSpace(string(program)); !hasGone(err) && text != "systemd" && text != "(sd-pam)" {
			return false
		}
	}
	return true
}
