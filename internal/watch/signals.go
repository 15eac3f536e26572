package watch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/godbus/dbus/v5"

	"github.com/soe-agent/soe-agent/internal/system"
)

// news are the events of the bus. The channels outlive a connection.
type news struct {
	unit    chan string   // names of units that changed
	session chan struct{} // somebody logged in or out
	woken   chan struct{} // the machine has woken up from sleep or hibernation
	joined  chan struct{} // signals arrive from now on; earlier ones were lost
}

func makeNews() news {
	return news{unit: make(chan string), session: make(chan struct{}), woken: make(chan struct{}), joined: make(chan struct{})}
}

// signals receives the signals of systemd and logind over one connection.
type signals struct {
	news
	conn  *dbus.Conn
	ended chan struct{}

	mu       sync.Mutex
	followed map[dbus.ObjectPath]string // path of a unit → its name
}

const (
	systemdName    = "org.freedesktop.systemd1"
	logindName     = "org.freedesktop.login1"
	systemdManager = systemdName + ".Manager"
	logindManager  = logindName + ".Manager"
	properties     = "org.freedesktop.DBus.Properties"

	sessionNew        = logindManager + ".SessionNew"
	sessionRemoved    = logindManager + ".SessionRemoved"
	prepareForSleep   = logindManager + ".PrepareForSleep"
	unitFilesChanged  = systemdManager + ".UnitFilesChanged"
	propertiesChanged = properties + ".PropertiesChanged"
	nameOwnerChanged  = "org.freedesktop.DBus.NameOwnerChanged"
)

// Pauses between attempts to connect to the bus. After a restart dbus-daemon is back soon; without
// it little else works.
const (
	firstPause   = 50 * time.Millisecond
	longestPause = time.Minute
	// longEnough is how long a connection must last for the pauses to start again at firstPause. A bus
	// that ends each connection at once, for instance because somebody has used up its quota, is tried
	// less and less often.
	longEnough = 10 * time.Second
)

// newPauses returns growing pauses between attempts, beginning with first.
func newPauses(first time.Duration) *backoff.ExponentialBackOff {
	return backoff.NewExponentialBackOff(backoff.WithInitialInterval(first), backoff.WithMaxInterval(longestPause), backoff.WithMaxElapsedTime(0))
}

// followBus passes the events of the bus on until ctx is done, and reconnects when the connection is lost.
func (w *Watcher) followBus(ctx context.Context, news news) {
	pauses := newPauses(firstPause)
	said := false
	for ctx.Err() == nil {
		bus, err := connect(ctx, news)
		switch {
		case err == nil:
			said = false
			w.setBusTrouble("")
			joined := time.Now()
			w.join(ctx, bus)
			if time.Since(joined) > longEnough {
				pauses.Reset()
			}
			if ctx.Err() == nil {
				w.log.Warn("the connection to the system bus is lost; it is made again")
			}
		case !said && ctx.Err() == nil:
			w.log.Warn("cannot watch services and sessions over the system bus; their drift is found by the periodic verify", "err", err)
			w.setBusTrouble(fmt.Sprintf("services and sessions (%v)", err))
			said = true
		}
		select {
		case <-ctx.Done():
		case <-time.After(pauses.NextBackOff()):
		}
	}
}

// join follows the units over a new connection until that ends.
func (w *Watcher) join(ctx context.Context, bus *signals) {
	defer bus.conn.Close()
	w.mu.Lock()
	w.bus = bus
	w.mu.Unlock()
	w.followUnits(bus)
	select {
	case bus.joined <- struct{}{}:
	case <-ctx.Done():
	}
	<-bus.ended
	w.mu.Lock()
	w.bus = nil
	w.mu.Unlock()
}

// Signals returns the signals that are followed. system.DialBus lets no others pass, and these only from
// their own senders.
func Signals() []system.Signal {
	return []system.Signal{
		{From: logindName, Name: sessionNew},
		{From: logindName, Name: sessionRemoved},
		{From: logindName, Name: prepareForSleep},
		{From: systemdName, Name: unitFilesChanged},
		{From: systemdName, Name: propertiesChanged},
	}
}

// connect connects to the bus and subscribes to the signals. The connection ends with ctx.
func connect(ctx context.Context, news news) (*signals, error) {
	conn, err := system.DialBus(ctx, system.Link{Signals: Signals()}, dbus.WithContext(ctx),
		dbus.WithSignalHandler(dbus.NewSequentialSignalHandler())) // keeps their order
	if err != nil {
		return nil, fmt.Errorf("cannot reach the system bus: %w", err)
	}
	s := &signals{news: news, conn: conn, ended: make(chan struct{}), followed: map[dbus.ObjectPath]string{}}
	incoming := make(chan *dbus.Signal, 256)
	conn.Signal(incoming)
	subscribing, cancel := context.WithTimeout(ctx, busTimeout)
	defer cancel()
	if err := s.subscribe(subscribing); err != nil {
		conn.Close()
		return nil, err
	}
	go s.sort(incoming)
	return s, nil
}

// busTimeout is how long the bus and systemd may take to answer.
const busTimeout = 10 * time.Second

func (s *signals) subscribe(ctx context.Context) error {
	for _, signal := range Signals() {
		if signal.Name == propertiesChanged {
			continue // of units: each unit has a subscription of its own
		}
		at, member := split(signal.Name)
		if err := s.conn.AddMatchSignalContext(ctx, dbus.WithMatchSender(signal.From), dbus.WithMatchInterface(at), dbus.WithMatchMember(member)); err != nil {
			return fmt.Errorf("cannot subscribe to signals: %w", err)
		}
	}
	return s.subscribeToSystemd(ctx)
}

// subscribeToSystemd makes systemd send signals about units. It sends them only while there are subscribers.
func (s *signals) subscribeToSystemd(ctx context.Context) error {
	err := s.conn.Object(systemdName, "/org/freedesktop/systemd1").CallWithContext(ctx, systemdManager+".Subscribe", 0).Err
	var answer dbus.Error
	if errors.As(err, &answer) && answer.Name == systemdName+".AlreadySubscribed" {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot subscribe to systemd: %w", err)
	}
	return nil
}

func split(name string) (at, member string) {
	dot := strings.LastIndexByte(name, '.')
	return name[:dot], name[dot+1:]
}

// sort passes the signals on until the connection ends.
func (s *signals) sort(incoming <-chan *dbus.Signal) {
	defer close(s.ended)
	for {
		select {
		case <-s.conn.Context().Done():
			return
		case signal, ok := <-incoming:
			if !ok {
				return
			}
			s.hand(signal)
		}
	}
}

func (s *signals) hand(signal *dbus.Signal) {
	done := s.conn.Context().Done()
	switch signal.Name {
	case nameOwnerChanged:
		s.ownerChanged(signal)
	case sessionNew, sessionRemoved:
		notify(s.session, done)
	case prepareForSleep:
		if slices.Equal(signal.Body, []any{false}) {
			notify(s.woken, done)
		}
	case propertiesChanged:
		if name, ok := s.name(signal.Path); ok {
			s.tell(name, done)
		}
	case unitFilesChanged:
		for _, name := range s.names() {
			s.tell(name, done)
		}
	}
}

// ownerChanged handles a restart of systemd or logind: it subscribes again, and reports that signals were
// lost in between.
func (s *signals) ownerChanged(signal *dbus.Signal) {
	var name, before, after string
	if dbus.Store(signal.Body, &name, &before, &after) != nil || after == "" {
		return
	}
	if name == systemdName {
		ctx, cancel := context.WithTimeout(s.conn.Context(), busTimeout)
		defer cancel()
		if s.subscribeToSystemd(ctx) != nil {
			s.conn.Close() // the next connection tries again, and logs why it cannot
			return
		}
	}
	notify(s.joined, s.conn.Context().Done())
}

func notify(who chan<- struct{}, done <-chan struct{}) {
	select {
	case who <- struct{}{}:
	case <-done:
	}
}

func (s *signals) tell(name string, done <-chan struct{}) {
	select {
	case s.unit <- name:
	case <-done:
	}
}

func (s *signals) name(path dbus.ObjectPath) (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name, ok := s.followed[path]
	return name, ok
}

func (s *signals) names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for _, name := range s.followed {
		names = append(names, name)
	}
	return names
}

// followUnits makes a connection follow the units that the kinds watch. It does not hold the watcher's
// lock while it waits for the bus.
func (w *Watcher) followUnits(s *signals) {
	ctx, cancel := context.WithTimeout(s.conn.Context(), busTimeout)
	defer cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	wanted := map[dbus.ObjectPath]string{}
	w.mu.Lock()
	for name := range w.units {
		wanted[unitPath(name)] = name
	}
	w.mu.Unlock()
	for path := range s.followed {
		if _, keep := wanted[path]; !keep {
			_ = s.conn.RemoveMatchSignalContext(ctx, unitMatch(path)...) // a signal too many does no harm
		}
	}
	for path := range wanted {
		if _, already := s.followed[path]; !already {
			_ = s.conn.AddMatchSignalContext(ctx, unitMatch(path)...) // without it, the next verify finds the drift
		}
	}
	s.followed = wanted
}

func unitMatch(path dbus.ObjectPath) []dbus.MatchOption {
	return []dbus.MatchOption{
		dbus.WithMatchSender(systemdName), dbus.WithMatchObjectPath(path),
		dbus.WithMatchInterface(properties), dbus.WithMatchMember("PropertiesChanged"),
	}
}

// unitPath returns the object path of a unit: its name with every byte that is not a letter or digit
// written as _xx, and so a leading digit (sd_bus_path_encode(3)).
func unitPath(name string) dbus.ObjectPath {
	const hex = "0123456789abcdef"
	escaped := []byte("/org/freedesktop/systemd1/unit/")
	for i := range len(name) {
		c := name[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		digit := c >= '0' && c <= '9' && i > 0
		if letter || digit {
			escaped = append(escaped, c)
		} else {
			escaped = append(escaped, '_', hex[c>>4], hex[c&15])
		}
	}
	return dbus.ObjectPath(escaped)
}
