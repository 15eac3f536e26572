package system

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	systemd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
)

// bus asks systemd and logind over the system bus. It connects on first use, and again when the
// connection is lost, because the agent starts early and runs for long.
type bus struct {
	gate   Gate
	look   Looker
	files  FileReader
	scopes scopes

	dialing turn // held by whoever connects, which may take as long as the bus takes

	mu      sync.Mutex // never held while waiting for anybody
	manager *manager
	system  *dbus.Conn
	mute    map[string]muteness // by service, or busName for the bus itself
}

// manager is a connection to systemd.
type manager struct {
	*systemd.Conn
	object dbus.BusObject  // systemd's object, for methods that Conn does not have
	lost   <-chan struct{} // closed when signals about jobs do not arrive any more
	direct bool            // connected without the bus
}

// A muteness is why a service has not answered, and until when it is not asked again.
type muteness struct {
	until time.Time
	err   error
}

// How long a service may take to answer, and systemd to reload its units; and how long a service
// that has not answered is left alone, so that work that does not need it is not delayed.
const (
	answerPatience = 20 * time.Second
	reloadPatience = 90 * time.Second // as long as systemctl(1) waits
	muteFor        = 30 * time.Second
)

// question asks a service and waits for the answer for at most patience.
func (b *bus) question(ctx context.Context, service string, patience time.Duration, ask func(context.Context) error) error {
	if err := b.isMute(service); err != nil {
		return err
	}
	tooLong := fmt.Errorf("%s has not answered within %s", service, patience)
	asked, cancel := context.WithTimeoutCause(ctx, patience, tooLong)
	defer cancel()
	err := ask(asked)
	if err == nil || ctx.Err() != nil {
		return err
	}
	if asked.Err() != nil {
		err = fmt.Errorf("%w: %w", err, tooLong)
	}
	if asked.Err() != nil || errors.Is(err, ErrSilent) {
		b.leaveAlone(service, err)
	}
	return err
}

// isMute returns why a service is currently not asked, or nil.
func (b *bus) isMute(service string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if m := b.mute[service]; time.Now().Before(m.until) {
		return m.err
	}
	if m := b.mute[busName]; service != systemdName && time.Now().Before(m.until) {
		return m.err
	}
	return nil
}

// leaveAlone records that a service has not answered, and closes the connection. If it may be the
// bus that does not answer, the bus is recorded, and systemd is next asked without it.
func (b *bus) leaveAlone(service string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case service == systemdName && b.manager != nil && !b.manager.direct:
		service = busName
	case service == logindName && errors.Is(err, ErrSilent):
		service = busName
	}
	b.mute[service] = muteness{time.Now().Add(muteFor), err}
	if service != logindName {
		b.hangUpSystemd()
	}
	if service != systemdName {
		b.hangUpLogind()
	}
}

// hangUpSystemd closes the connection to systemd. The caller holds mu.
func (b *bus) hangUpSystemd() {
	if b.manager != nil {
		b.manager.Close()
		b.manager = nil
	}
}

// hangUpLogind closes the connection to logind. The caller holds mu.
func (b *bus) hangUpLogind() {
	if b.system != nil {
		_ = b.system.Close() // the connection is not used any more
		b.system = nil
	}
}

const (
	systemdName    = "org.freedesktop.systemd1"
	systemdManager = systemdName + ".Manager"
)

// JobSignals are the signals that tell how jobs ended.
func JobSignals() []Signal {
	return []Signal{{From: systemdName, Name: systemdManager + ".JobRemoved"}}
}

// A turn is a mutex. Waiting for it ends with the context.
type turn chan struct{}

func newTurn() turn { return make(turn, 1) }

func (t turn) take(ctx context.Context) error {
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (t turn) end() { <-t }

// systemd returns a connection to systemd, over the bus or, if that does not work, without it.
func (b *bus) systemd(ctx context.Context) (*manager, error) {
	if err := b.dialing.take(ctx); err != nil {
		return nil, err
	}
	defer b.dialing.end()
	if m := b.connected(); m != nil {
		return m, nil
	}
	if runs, err := b.look.exists(systemdRuns); err != nil {
		return nil, err
	} else if !runs {
		return nil, ErrNotRunning
	}
	var err error
	if b.bearable() {
		var m *manager
		if m, err = openManager(func() (*dbus.Conn, error) { return DialBus(ctx, Link{Signals: JobSignals()}) }); err == nil {
			return b.holdOn(m), nil
		}
		b.noteSilence(err)
	}
	direct, failed := openManager(func() (*dbus.Conn, error) { return dialSystemd(ctx) })
	if failed != nil {
		return nil, fmt.Errorf("cannot reach systemd: %w", errors.Join(err, failed))
	}
	direct.direct = true
	return b.holdOn(direct), nil
}

// connected returns the open connection to systemd, or nil.
func (b *bus) connected() *manager {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.manager != nil && b.manager.Connected() {
		return b.manager
	}
	b.hangUpSystemd()
	return nil
}

func (b *bus) holdOn(m *manager) *manager {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.manager = m
	return m
}

// noteSilence records that the bus does not answer, if err says so.
func (b *bus) noteSilence(err error) {
	if !errors.Is(err, ErrSilent) {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mute[busName] = muteness{time.Now().Add(muteFor), err}
}

// bearable reports whether the bus may be asked, that is, it is not recorded as silent.
func (b *bus) bearable() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !time.Now().Before(b.mute[busName].until)
}

func openManager(dial func() (*dbus.Conn, error)) (*manager, error) {
	m := &manager{}
	conn, err := systemd.NewConnection(func() (*dbus.Conn, error) {
		one, err := dial()
		if err == nil {
			m.lost = one.Context().Done() // of the second of two connections, which receives the signals about jobs
			m.object = one.Object(systemdName, "/org/freedesktop/systemd1")
		}
		return one, err
	})
	if err != nil {
		return nil, err
	}
	m.Conn = conn
	return m, nil
}

// logind returns a connection to the bus for questions to logind. It opens a new one if anew is set
// or none is open.
func (b *bus) logind(ctx context.Context, anew bool) (*dbus.Conn, error) {
	if err := b.dialing.take(ctx); err != nil {
		return nil, fmt.Errorf("cannot reach logind: %w", err)
	}
	defer b.dialing.end()
	b.mu.Lock()
	if b.system != nil && (anew || !b.system.Connected()) {
		b.hangUpLogind()
	}
	conn := b.system
	b.mu.Unlock()
	if conn != nil {
		return conn, nil
	}
	if err := b.isMute(logindName); err != nil { // whoever had the turn before may have found out
		return nil, err
	}
	conn, err := DialBus(ctx, Link{Services: []string{logindName}})
	if err != nil {
		b.noteSilence(err)
		return nil, fmt.Errorf("cannot reach logind: %w", err)
	}
	b.mu.Lock()
	b.system = conn
	b.mu.Unlock()
	return conn, nil
}
