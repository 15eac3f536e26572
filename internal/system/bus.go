package system

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	systemd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
)

// bus asks systemd and logind over the system bus. It connects when first asked
// and again when the connection is lost: the agent starts early and lives long.
type bus struct {
	gate Gate
	look Looker

	mu      sync.Mutex
	manager *systemd.Conn
	system  *dbus.Conn
}

func (b *bus) systemd(ctx context.Context) (*systemd.Conn, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.manager != nil && b.manager.Connected() {
		return b.manager, nil
	}
	if runs, err := b.look.exists(systemdRuns); err != nil {
		return nil, err
	} else if !runs {
		return nil, ErrNotRunning
	}
	conn, err := systemd.NewConnection(func() (*dbus.Conn, error) { return DialBus(ctx, MaxAnswer, nil) })
	if err != nil { // systemd can be spoken to without a bus
		conn, err = systemd.NewSystemdConnectionContext(context.WithoutCancel(ctx))
	}
	if err != nil {
		return nil, fmt.Errorf("cannot reach systemd: %w", err)
	}
	b.manager = conn
	return conn, nil
}

func (b *bus) Unit(ctx context.Context, name string) (Unit, error) {
	conn, err := b.systemd(ctx)
	if err != nil {
		return Unit{}, err
	}
	err = b.look.at("ask", name)
	if err != nil {
		return Unit{}, fmt.Errorf("cannot ask systemd about %s: %w", name, err)
	}
	properties, err := conn.GetUnitPropertiesContext(ctx, name)
	if err != nil {
		return Unit{}, fmt.Errorf("cannot ask systemd about %s: %w", name, err)
	}
	text := func(key string) string { s, _ := properties[key].(string); return s }
	u := Unit{Name: name, LoadState: text("LoadState"), ActiveState: text("ActiveState"), UnitFileState: text("UnitFileState")}
	u.ActiveSince = moment(properties["ActiveEnterTimestamp"])
	u.Result = result(ctx, conn, u)
	names := func(keys ...string) (all []string) {
		for _, key := range keys {
			some, _ := properties[key].([]string) // none, where systemd is too old to know it
			all = append(all, some...)
		}
		return all
	}
	u.Dependents = names("RequiredBy", "RequiredByOverridable", "RequisiteOf", "BoundBy", "ConsistsOf", "PropagatesStopTo")
	u.Excluded = names("Conflicts", "ConflictedBy")
	u.Needs = names("Requires", "RequiresOverridable", "BindsTo", "Wants", "Upholds")
	u.Unstoppable, _ = properties["RefuseManualStop"].(bool)
	return u, nil
}

func (b *bus) States(ctx context.Context, names []string) ([]Unit, error) {
	conn, err := b.systemd(ctx)
	if err != nil {
		return nil, err
	}
	units := make([]Unit, len(names))
	listed, err := conn.ListUnitsByNamesContext(ctx, names)
	if err != nil || len(listed) != len(names) {
		listed = nil // systemd before 230 has no such method
	}
	errs := make([]error, len(names))
	var wg sync.WaitGroup
	for i, name := range names {
		wg.Go(func() {
			get := func(property string) any {
				var p *systemd.Property
				err := b.look.at("ask", name)
				if err == nil {
					p, err = conn.GetUnitPropertyContext(ctx, name, property)
				}
				if err != nil {
					errs[i] = fmt.Errorf("cannot ask systemd about %s: %w", name, err)
					return nil
				}
				return p.Value.Value()
			}
			u := Unit{Name: name}
			if listed != nil {
				u.LoadState, u.ActiveState = listed[i].LoadState, listed[i].ActiveState
			} else {
				u.LoadState, _ = get("LoadState").(string)
				u.ActiveState, _ = get("ActiveState").(string)
			}
			if u.ActiveState == "active" {
				u.ActiveSince = moment(get("ActiveEnterTimestamp"))
			}
			u.Result = result(ctx, conn, u)
			units[i] = u
		})
	}
	wg.Wait()
	return units, errors.Join(errs...)
}

// moment is a time of systemd's, in microseconds, which fit for 290,000 years.
func moment(value any) time.Time {
	if µs, ok := value.(uint64); ok && µs > 0 {
		return time.UnixMicro(int64(µs))
	}
	return time.Time{}
}

// result is why a service has failed, if it has and it can be told.
func result(ctx context.Context, conn *systemd.Conn, u Unit) string {
	if u.ActiveState != "failed" || !strings.HasSuffix(u.Name, ".service") {
		return ""
	}
	p, err := conn.GetServicePropertyContext(ctx, u.Name, "Result")
	if err != nil {
		return ""
	}
	text, _ := p.Value.Value().(string)
	return text
}

type job func(ctx context.Context, name, mode string, result chan<- string) (int, error)

// destructive is the error of systemd for a job that would cancel another one.
const destructive = "org.freedesktop.systemd1.TransactionIsDestructive"

// runJob starts a job and waits for its end. One that somebody else has asked for is
// never cancelled by it: the mode "fail" (org.freedesktop.systemd1(5)).
func (b *bus) runJob(ctx context.Context, verb, name string, method func(*systemd.Conn) job) error {
	conn, err := b.systemd(ctx)
	if err != nil {
		return err
	}
	if err := b.gate(Change{verb, name}); err != nil {
		return fmt.Errorf("cannot %s %s: %w", verb, name, err)
	}
	result := make(chan string, 1)
	if _, err := method(conn)(ctx, name, "fail", result); err != nil {
		if answer := (dbus.Error{}); errors.As(err, &answer) && answer.Name == destructive {
			err = fmt.Errorf("%w: %w", ErrBusy, err)
		}
		return fmt.Errorf("cannot %s %s: %w", verb, name, err)
	}
	select {
	case r := <-result:
		if r != "done" {
			return fmt.Errorf("cannot %s %s: systemd says %q; see: journalctl -u %s", verb, name, r, name)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("cannot %s %s: %w", verb, name, ctx.Err())
	}
}

func (b *bus) Start(ctx context.Context, name string) error {
	return b.runJob(ctx, "start", name, func(c *systemd.Conn) job { return c.StartUnitContext })
}

func (b *bus) Stop(ctx context.Context, name string) error {
	return b.runJob(ctx, "stop", name, func(c *systemd.Conn) job { return c.StopUnitContext })
}

func (b *bus) Restart(ctx context.Context, name string) error {
	return b.runJob(ctx, "restart", name, func(c *systemd.Conn) job { return c.RestartUnitContext })
}

// changeFiles changes links of unit files and makes systemd notice.
func (b *bus) changeFiles(ctx context.Context, verb, name string, change func(*systemd.Conn) error) error {
	conn, err := b.systemd(ctx)
	if err != nil {
		return err
	}
	if err := b.gate(Change{verb, name}); err != nil {
		return fmt.Errorf("cannot %s %s: %w", verb, name, err)
	}
	if err := errors.Join(change(conn), conn.ReloadContext(ctx)); err != nil {
		return fmt.Errorf("cannot %s %s: %w", verb, name, err)
	}
	return nil
}

func (b *bus) Enable(ctx context.Context, name string) error {
	return b.changeFiles(ctx, "enable", name, func(c *systemd.Conn) error {
		_, _, err := c.EnableUnitFilesContext(ctx, []string{name}, false, true)
		return err
	})
}

func (b *bus) Disable(ctx context.Context, name string) error {
	return b.changeFiles(ctx, "disable", name, func(c *systemd.Conn) error {
		_, err := c.DisableUnitFilesContext(ctx, []string{name}, false)
		return err
	})
}

func (b *bus) Mask(ctx context.Context, name string) error {
	return b.changeFiles(ctx, "mask", name, func(c *systemd.Conn) error {
		_, err := c.MaskUnitFilesContext(ctx, []string{name}, false, true)
		return err
	})
}

func (b *bus) Unmask(ctx context.Context, name string) error {
	return b.changeFiles(ctx, "unmask", name, func(c *systemd.Conn) error {
		_, err := c.UnmaskUnitFilesContext(ctx, []string{name}, false)
		return err
	})
}

func (b *bus) Reload(ctx context.Context) error {
	conn, err := b.systemd(ctx)
	if err != nil {
		return err
	}
	if err := b.gate(Change{"reload", "systemd"}); err != nil {
		return fmt.Errorf("cannot reload systemd: %w", err)
	}
	if err := conn.ReloadContext(ctx); err != nil {
		return fmt.Errorf("cannot reload systemd: %w", err)
	}
	return nil
}

const (
	logindName    = "org.freedesktop.login1"
	logindPath    = "/org/freedesktop/login1"
	logindManager = "org.freedesktop.login1.Manager"
	logindSession = "org.freedesktop.login1.Session"
	propertiesAll = "org.freedesktop.DBus.Properties.GetAll"
)

// isPersons says whether a session may be somebody's desktop or shell. Its class is
// "user" if PAM was told its type; of an unspecified one pam_systemd(8) makes
// "background", also for a streaming agent that does not tell. Then everything
// counts that is not plainly a job of cron's or the like.
func isPersons(class, service string, uid uint32) bool {
	const firstPersonalUID, nobody = 1000, 65534 // UID_MIN of login.defs(5)
	switch {
	case strings.HasPrefix(class, "user"):
		return true
	case class != "background" || uid < firstPersonalUID || uid == nobody:
		return false
	}
	switch service {
	case "cron", "crond", "atd", "anacron", "systemd-user", "runuser", "runuser-l", "su", "su-l", "sudo":
		return false
	}
	return true
}

// systemBus is a connection to the system bus, a new one if need be.
func (b *bus) systemBus(ctx context.Context, anew bool) (*dbus.Conn, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.system != nil && (anew || !b.system.Connected()) {
		_ = b.system.Close() // it is of no use any more
		b.system = nil
	}
	if b.system == nil {
		conn, err := DialBus(ctx, MaxAnswer, nil)
		if err != nil {
			return nil, fmt.Errorf("cannot reach logind: %w", err)
		}
		b.system = conn
	}
	return b.system, nil
}

// hasEnded says whether that is why logind does not describe a session that it has
// just listed.
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

// listed are the sessions that logind tells of. A connection that has idled for days
// may be broken, and nobody know it: then the question is asked again over another.
func (b *bus) listed(ctx context.Context) (conn *dbus.Conn, listed []listedSession, err error) {
	for _, anew := range []bool{false, true} {
		if conn, err = b.systemBus(ctx, anew); err != nil {
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

// lookKey is that of a *look in a context.
type lookKey struct{}

type look struct {
	once     sync.Once
	sessions []Session
	err      error
}

// OneLook returns a context in which it is asked once who is logged in, so that all
// that is judged with it is judged by the same answer. It is for looking alone: what
// may end a session has to ask right before.
func OneLook(ctx context.Context) context.Context {
	return context.WithValue(ctx, lookKey{}, &look{})
}

// List implements Sessions.
func (b *bus) List(ctx context.Context) ([]Session, error) {
	l, shared := ctx.Value(lookKey{}).(*look)
	if !shared {
		return b.list(ctx)
	}
	l.once.Do(func() { l.sessions, l.err = b.list(ctx) })
	return slices.Clone(l.sessions), l.err
}

func (b *bus) list(ctx context.Context) ([]Session, error) {
	switch ran, err := b.look.exists("/run/systemd/seats"); {
	case err != nil:
		return nil, fmt.Errorf("cannot tell who is logged in: %w", err)
	case !ran:
		return nil, nil // no logind has ever run, so nobody has logged in
	}
	if err := b.look.at("ask", "logind"); err != nil {
		return nil, fmt.Errorf("cannot ask logind who is logged in: %w", err)
	}
	conn, listed, err := b.listed(ctx)
	if err != nil {
		return nil, err
	}
	var sessions []Session
	for _, l := range listed {
		var properties map[string]dbus.Variant
		err := conn.Object(logindName, l.Path).CallWithContext(ctx, propertiesAll, 0, logindSession).Store(&properties)
		if hasEnded(err) {
			continue
		}
		if err != nil { // it may be anybody's
			return nil, fmt.Errorf("cannot ask logind about session %s: %w", l.ID, err)
		}
		text := func(key string) string { s, _ := properties[key].Value().(string); return s }
		if isPersons(text("Class"), text("Service"), l.UID) {
			flag := func(key string) bool { b, _ := properties[key].Value().(bool); return b }
			sessions = append(sessions, Session{
				ID: l.ID, UID: l.UID, User: l.User,
				Service: text("Service"), Type: text("Type"), Class: text("Class"), State: text("State"),
				Idle: flag("IdleHint"), Locked: flag("LockedHint"), Since: moment(properties["Timestamp"].Value()),
			})
		}
	}
	return sessions, nil
}
