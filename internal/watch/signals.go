package watch

import (
	"context"
	"fmt"
	"sync"

	"github.com/godbus/dbus/v5"
)

// signals are those of systemd and logind that matter.
type signals struct {
	conn    *dbus.Conn
	unit    chan string   // names of units that changed
	session chan struct{} // somebody logged in or out

	mu       sync.Mutex
	followed map[dbus.ObjectPath]string // path of a unit → its name
}

const (
	systemdName    = "org.freedesktop.systemd1"
	systemdManager = "org.freedesktop.systemd1.Manager"
	logindManager  = "org.freedesktop.login1.Manager"
	properties     = "org.freedesktop.DBus.Properties"
)

// connect subscribes to the signals. The bus checks for us who sends them: a
// match on the sender's well-known name is kept by the daemon, and a forged
// signal would make a kind look once more, no more than that.
func connect(ctx context.Context) (*signals, error) {
	conn, err := dbus.ConnectSystemBus(dbus.WithContext(context.WithoutCancel(ctx)))
	if err != nil {
		return nil, fmt.Errorf("cannot reach the system bus: %w", err)
	}
	s := &signals{
		conn: conn, unit: make(chan string), session: make(chan struct{}),
		followed: map[dbus.ObjectPath]string{},
	}
	incoming := make(chan *dbus.Signal, 256)
	conn.Signal(incoming)
	matches := [][]dbus.MatchOption{
		{dbus.WithMatchSender("org.freedesktop.login1"), dbus.WithMatchInterface(logindManager), dbus.WithMatchMember("SessionNew")},
		{dbus.WithMatchSender("org.freedesktop.login1"), dbus.WithMatchInterface(logindManager), dbus.WithMatchMember("SessionRemoved")},
		{dbus.WithMatchSender(systemdName), dbus.WithMatchInterface(systemdManager), dbus.WithMatchMember("UnitFilesChanged")},
	}
	for _, match := range matches {
		if err := conn.AddMatchSignalContext(ctx, match...); err != nil {
			conn.Close()
			return nil, fmt.Errorf("cannot subscribe to signals: %w", err)
		}
	}
	// systemd sends signals about units only while somebody has subscribed.
	if err := conn.Object(systemdName, "/org/freedesktop/systemd1").CallWithContext(ctx, systemdManager+".Subscribe", 0).Err; err != nil {
		conn.Close()
		return nil, fmt.Errorf("cannot subscribe to systemd: %w", err)
	}
	go s.sort(incoming)
	return s, nil
}

func (s *signals) close() { s.conn.Close() }

// sort hands the signals on until the connection ends.
func (s *signals) sort(incoming <-chan *dbus.Signal) {
	defer close(s.unit)
	defer close(s.session)
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
	case logindManager + ".SessionNew", logindManager + ".SessionRemoved":
		select {
		case s.session <- struct{}{}:
		case <-done:
		}
	case properties + ".PropertiesChanged":
		if name, ok := s.name(signal.Path); ok {
			s.tell(name, done)
		}
	case systemdManager + ".UnitFilesChanged":
		for _, name := range s.names() {
			s.tell(name, done)
		}
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

// follow makes the units followed these.
func (s *signals) follow(units map[string][]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	wanted := map[dbus.ObjectPath]string{}
	for name := range units {
		wanted[unitPath(name)] = name
	}
	for path := range s.followed {
		if _, keep := wanted[path]; !keep {
			_ = s.conn.RemoveMatchSignal(unitMatch(path)...) // a signal too many does no harm
		}
	}
	for path := range wanted {
		if _, already := s.followed[path]; !already {
			_ = s.conn.AddMatchSignal(unitMatch(path)...) // without it, the next verify finds out
		}
	}
	s.followed = wanted
}

func unitMatch(path dbus.ObjectPath) []dbus.MatchOption {
	return []dbus.MatchOption{
		dbus.WithMatchObjectPath(path), dbus.WithMatchInterface(properties), dbus.WithMatchMember("PropertiesChanged"),
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
