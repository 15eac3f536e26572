package bus

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/godbus/dbus/v5"
)

// virtual is the clock of a bubble of synctest.
type virtual struct{}

func (virtual) Now() time.Time { return time.Now() }
func (virtual) Sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// As dbus-daemon says it to an agent without its file in system.d.
func TestWithoutLeaveToHaveItsNameItTriesAndSaysSoMoreAndMoreSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var agent agentDouble
		s := Server{Clock: virtual{}, Log: slog.New(slog.NewTextHandler(&agent, nil))}
		ctx, cancel := context.WithCancel(t.Context())
		const served = 60
		var attempts atomic.Int64
		go s.retry(ctx, func(context.Context) (bool, error) {
			n := attempts.Add(1)
			return n == served, fmt.Errorf(`cannot have the name: Connection ":1.%d" is not allowed to own the service`, n)
		})
		in := func(d time.Duration) (tried, said int) {
			so := func() (int, int) {
				synctest.Wait()
				agent.mu.Lock()
				defer agent.mu.Unlock()
				return int(attempts.Load()), strings.Count(agent.log.String(), "cannot join the system bus")
			}
			tried, said = so()
			time.Sleep(d)
			triedThen, saidThen := so()
			return triedThen - tried, saidThen - said
		}
		if tried, said := in(10 * time.Second); tried < 3 || tried > 7 || said > 3 {
			t.Errorf("in the first ten seconds it tries %d times, and says so %d times", tried, said)
		}
		in(20 * time.Minute)
		if tried, said := in(time.Hour); tried < 8 || tried > 24 || said > 1 {
			t.Errorf("in an hour it tries %d times, and says so %d times", tried, said)
		}
		for attempts.Load() < served {
			in(time.Second)
		}
		if tried, said := in(10 * time.Second); tried < 2 || said == 0 {
			t.Errorf("after it was there it tries %d times, and says so %d times", tried, said)
		}
		cancel()
		synctest.Wait()
		if tried, _ := in(time.Hour); tried != 0 {
			t.Error("it goes on when it is to end")
		}
	})
}

func TestABurstOfChangesIsSignalledOnceASecondAtMostAndTheNewestAtLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		conn, err := dbus.NewConn(here)
		if err != nil {
			t.Fatal(err)
		}
		type signal struct {
			at   time.Time
			what string
		}
		var signals []signal
		go func() {
			for wire := bufio.NewReader(there); ; {
				message, err := dbus.DecodeMessage(wire)
				if err != nil {
					return
				}
				if member := message.Headers[dbus.FieldMember].Value(); member == "Changed" {
					signals = append(signals, signal{time.Now(), fmt.Sprint(message.Body...)})
				}
			}
		}()
		agent := &agentDouble{status: "0", state: State{Phase: "0"}}
		changed := make(chan struct{}, 1)
		c := connection{Server: &Server{Documents: agent, Changed: changed, Clock: virtual{}}, conn: conn}
		ctx, cancel := context.WithCancel(t.Context())
		go c.announce(ctx)
		const changes, lasting = 1000, 5 * time.Second
		for i := range changes {
			agent.mu.Lock()
			agent.status, agent.state = fmt.Sprint(i), State{Phase: fmt.Sprint("phase ", i), Compliant: i == changes-1}
			agent.mu.Unlock()
			select {
			case changed <- struct{}{}:
			default:
			}
			time.Sleep(lasting / changes)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(signals) < 2 || len(signals) > 1+int((lasting+quiet)/quiet) {
			t.Errorf("%d changes are signalled %d times", changes, len(signals))
		}
		for i := range signals[1:] {
			if apart := signals[i+1].at.Sub(signals[i].at); apart < quiet {
				t.Errorf("signals %d and %d are %s apart", i, i+1, apart)
			}
		}
		if last := signals[len(signals)-1].what; last != fmt.Sprint(fmt.Sprint("phase ", changes-1), true) {
			t.Errorf("the last signal tells %q", last)
		}
		cancel()
		if err := errors.Join(conn.Close(), there.Close()); err != nil {
			t.Error(err)
		}
	})
}
