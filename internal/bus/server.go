package bus

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"math/bits"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/godbus/dbus/v5"

	"github.com/soe-agent/soe-agent/internal/system"
)

// Server serves the agent's documents, and takes its orders.
type Server struct {
	Documents Documents
	Orders    Orders
	Kinds     []string        // that Apply knows
	Changed   <-chan struct{} // says that the status may be another
	Clock     system.Clock
	Log       *slog.Logger

	root uint32 // may do everything; another one in tests, which root runs
}

const (
	firstPause = time.Second // before the next attempt to have the name, on average
	lastPause  = 5 * time.Minute
	quiet      = time.Second // between two signals at least
)

// Run serves until ctx is done. When the bus goes, it comes back with the bus.
func (s *Server) Run(ctx context.Context) { s.retry(ctx, s.serve) }

// retry serves again and again. Without the bus, or the leave to have the name, it says
// so of the first attempt, the second, the fourth and so on: the errors differ, by the
// name that each connection has, and say the same.
func (s *Server) retry(ctx context.Context, serve func(context.Context) (served bool, err error)) {
	pauses := backoff.NewExponentialBackOff(backoff.WithInitialInterval(firstPause),
		backoff.WithMultiplier(2), backoff.WithMaxInterval(lastPause), backoff.WithMaxElapsedTime(0))
	for attempts := uint(1); ; attempts++ {
		served, err := serve(ctx)
		if ctx.Err() != nil {
			return
		}
		if served {
			pauses.Reset()
			attempts = 1
		}
		pause := pauses.NextBackOff()
		if bits.OnesCount(attempts) == 1 {
			s.Log.Warn("cannot join the system bus; it is tried again", "err", err, "attempts", attempts, "next", pause.Round(time.Second))
		}
		if s.Clock.Sleep(ctx, pause) != nil {
			return
		}
	}
}

// serve has one connection, until it ends. served says whether the name was had.
func (s *Server) serve(ctx context.Context) (served bool, err error) {
	c := &connection{
		Server: s, methods: methods(), calls: make(chan call, maxWaiting),
		waiting: map[string]int{}, working: map[uint32]int{},
	}
	conn, err := system.DialBus(ctx, system.Link{Services: []string{polkitName}, Calls: c.takeIn, MaxMessage: maxMessage, TooLarge: c.tooLarge}, c.attach)
	if err != nil {
		return false, fmt.Errorf("cannot reach the system bus: %w", err)
	}
	defer conn.Close()
	reply, err := conn.RequestName(Name, dbus.NameFlagDoNotQueue)
	if err != nil {
		return false, fmt.Errorf("cannot have the name %s: %w", Name, err)
	}
	if reply != dbus.RequestNameReplyPrimaryOwner {
		return false, fmt.Errorf("cannot have the name %s: another process has it; another soe-agent runs", Name)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer c.group.Wait() // whose last answers are sent before the connection is closed
	defer cancel()
	c.group.Go(func() { c.announce(ctx) })
	for {
		select {
		case <-ctx.Done():
			return true, ctx.Err()
		case <-conn.Context().Done():
			return true, errGone
		case one := <-c.calls:
			c.answer(ctx, one)
		}
	}
}

// connection is one to the bus.
type connection struct {
	*Server
	conn    *dbus.Conn
	methods map[string]map[string]method
	calls   chan call // taken in, not answered
	group   sync.WaitGroup

	mu      sync.Mutex
	waiting map[string]int // of calls, by sender
	working map[uint32]int // what takes long, by user
}

// attach notes the connection before anything can come from it.
func (c *connection) attach(conn *dbus.Conn) error {
	c.conn = conn
	return nil
}

// announce signals what has changed.
func (c *connection) announce(ctx context.Context) {
	var told State
	var last [sha256.Size]byte
	for {
		// If it changes in between, the state is the newer one, and Changed comes once more.
		status, err := c.Documents.Status(ctx)
		state := c.Documents.State()
		if state != told {
			changed := state.properties()
			delete(changed, "Version")
			_ = c.conn.Emit(Path, propertiesInterface+".PropertiesChanged", Interface, changed, []string{}) // if not, the connection has ended
		}
		if digest := sha256.Sum256(status); state != told || err == nil && digest != last {
			_ = c.conn.Emit(Path, Interface+".Changed", state.Phase, state.Compliant)
			last = digest
		}
		told = state
		if c.Clock.Sleep(ctx, quiet) != nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-c.Changed:
		}
	}
}
