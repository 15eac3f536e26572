package watch

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/godbus/dbus/v5"

	"github.com/soe-agent/soe-agent/internal/system"
)

// news is what the bus tells, by whichever connection.
type news struct {
	unit    chan string   // names of units that changed
	session chan struct{} // somebody logged in or out
	woken   chan struct{} // the machine has woken from sleep or hibernation
	joined  chan struct{} // there is a connection, and was none before
}

func makeNews() news {
	return news{unit: make(chan string), session: make(chan struct{}), woken: make(chan struct{}), joined: make(chan struct{})}
}

// signals are those of systemd and logind that matter, by one connection.
type signals struct {
	news
	conn  *dbus.Conn
	ended chan struct{}

	owners map[string]string // well-known name → who has it now; of sort alone once that runs

	mu       sync.Mutex
	followed map[dbus.ObjectPath]string // path of a unit → its name
}

const (
	busName        = "org.freedesktop.DBus"
	systemdName    = "org.freedesktop.systemd1"
	logindName     = "org.freedesktop.login1"
	systemdManager = "org.freedesktop.systemd1.Manager"
	logindManager  = "org.freedesktop.login1.Manager"
	properties     = "org.freedesktop.DBus.Properties"
)

// Pauses between attempts to reach the bus. dbus-daemon is back soon when it is
// restarted; without it little else works.
const (
	firstPause   = 50 * time.Millisecond
	longestPause = time.Minute
	// goodJoin is how long a connection lasts that was worth having. A bus that ends
	// each at once, as one does whose quota somebody has used up, is left in peace.
	goodJoin = 10 * time.Second
)

// followBus hands on what the bus tells until ctx is done, and connects again when
// the bus has gone away.
func (w *Watcher) followBus(ctx context.Context, news news) {
	pauses := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(firstPause), backoff.WithMaxInterval(longestPause), backoff.WithMaxElapsedTime(0))
	said := false
	for ctx.Err() == nil {
		bus, err := connect(ctx, news)
		switch {
		case err == nil:
			said = false
			joined := time.Now()
			w.join(ctx, bus)
			if time.Since(joined) > goodJoin {
				pauses.Reset()
			}
			if ctx.Err() == nil {
				w.log.Warn("the system bus has gone away; connecting again")
			}
		case !said && ctx.Err() == nil:
			w.log.Warn("cannot follow services and sessions; drift of them is found by the next verify", "err", err)
			said = true
		}
		select {
		case <-ctx.Done():
		case <-time.After(pauses.NextBackOff()):
		}
	}
}

// join follows the units by a new connection until it ends.
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

// connect subscribes to the signals, until ctx is done. A match on a sender's
// well-known name is kept by the bus, but for signals that somebody sends to this
// very connection, which everybody may and no match holds back. So each is looked at
// once more when it is here.
func connect(ctx context.Context, news news) (*signals, error) {
	conn, err := system.DialBus(ctx, system.MaxAnswer, nil, dbus.WithContext(ctx),
		dbus.WithSignalHandler(dbus.NewSequentialSignalHandler())) // who has a name is told in time
	if err != nil {
		return nil, fmt.Errorf("cannot reach the system bus: %w", err)
	}
	s := &signals{news: news, conn: conn, ended: make(chan struct{}), owners: map[string]string{}, followed: map[dbus.ObjectPath]string{}}
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

// busTimeout is how long the bus and systemd may take over an answer.
const busTimeout = 10 * time.Second

func (s *signals) subscribe(ctx context.Context) error {
	for _, name := range []string{systemdName, logindName} {
		if err := s.conn.AddMatchSignalContext(ctx, ownerMatch(name)...); err != nil {
			return fmt.Errorf("cannot subscribe to signals: %w", err)
		}
		var owner string
		if s.conn.BusObject().CallWithContext(ctx, busName+".GetNameOwner", 0, name).Store(&owner) == nil {
			s.owners[name] = owner // otherwise nobody has it yet
		}
	}
	for _, match := range [][]dbus.MatchOption{
		{dbus.WithMatchSender(logindName), dbus.WithMatchInterface(logindManager), dbus.WithMatchMember("SessionNew")},
		{dbus.WithMatchSender(logindName), dbus.WithMatchInterface(logindManager), dbus.WithMatchMember("SessionRemoved")},
		{dbus.WithMatchSender(logindName), dbus.WithMatchInterface(logindManager), dbus.WithMatchMember("PrepareForSleep")},
		{dbus.WithMatchSender(systemdName), dbus.WithMatchInterface(systemdManager), dbus.WithMatchMember("UnitFilesChanged")},
	} {
		if err := s.conn.AddMatchSignalContext(ctx, match...); err != nil {
			return fmt.Errorf("cannot subscribe to signals: %w", err)
		}
	}
	// systemd sends signals about units only while somebody has subscribed.
	if err := s.conn.Object(systemdName, "/org/freedesktop/systemd1").CallWithContext(ctx, systemdManager+".Subscribe", 0).Err; err != nil {
		return fmt.Errorf("cannot subscribe to systemd: %w", err)
	}
	return nil
}

func ownerMatch(name string) []dbus.MatchOption {
	return []dbus.MatchOption{
		dbus.WithMatchSender(busName), dbus.WithMatchInterface(busName), dbus.WithMatchMember("NameOwnerChanged"), dbus.WithMatchArg(0, name),
	}
}

// sort hands the signals on until the connection ends.
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
	from := func(name string) bool { return signal.Sender != "" && signal.Sender == s.owners[name] }
	switch {
	case signal.Sender == busName: // which the bus alone can be
		s.ownerChanged(signal)
	case from(logindName) && (signal.Name == logindManager+".SessionNew" || signal.Name == logindManager+".SessionRemoved"):
		select {
		case s.session <- struct{}{}:
		case <-done:
		}
	case from(logindName) && signal.Name == logindManager+".PrepareForSleep" && slices.Equal(signal.Body, []any{false}):
		select {
		case s.woken <- struct{}{}:
		case <-done:
		}
	case from(systemdName) && signal.Name == properties+".PropertiesChanged":
		if name, ok := s.name(signal.Path); ok {
			s.tell(name, done)
		}
	case from(systemdName) && signal.Name == systemdManager+".UnitFilesChanged":
		for _, name := range s.names() {
			s.tell(name, done)
		}
	}
}

// ownerChanged notes who has a name now; "" is nobody.
func (s *signals) ownerChanged(signal *dbus.Signal) {
	var name, before, after string
	if signal.Name != busName+".NameOwnerChanged" || dbus.Store(signal.Body, &name, &before, &after) != nil {
		return
	}
	if name == systemdName || name == logindName {
		s.owners[name] = after
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

// followUnits makes the units followed by a connection those of the kinds. The
// watcher's lock is not held meanwhile: the bus may take its time.
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
			_ = s.conn.AddMatchSignalContext(ctx, unitMatch(path)...) // without it, the next verify finds out
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

// unitPath is the object of a unit: its name with every byte that is no letter
// or digit written as _xx (sd_bus_path_encode(3)).
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
