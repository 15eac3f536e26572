package system

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

// A silentBus accepts every connection and stops answering at some point.
type silentBus struct {
	socket  string
	answers []string // the methods that it still answers, after the handshake
	greets  bool     // it completes the handshake
}

func (s silentBus) serve(t *testing.T) {
	t.Helper()
	listener, err := net.Listen("unix", s.socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				s.speak(conn)
			}()
		}
	}()
}

func (s silentBus) speak(conn net.Conn) {
	wire := bufio.NewReader(conn)
	for s.greets {
		line, err := wire.ReadString('\n')
		if err != nil {
			return
		}
		switch strings.Trim(line, "\x00\r\n") {
		case "BEGIN":
			s.answer(conn, wire)
			return
		case "AUTH":
			_, _ = conn.Write([]byte("REJECTED EXTERNAL\r\n"))
		default:
			_, _ = conn.Write([]byte("OK 0123456789abcdef0123456789abcdef\r\n"))
		}
	}
	_, _ = wire.ReadString(0xff) // until the other side gives up
	_, _ = wire.ReadString(0xff)
}

func (s silentBus) answer(conn net.Conn, wire *bufio.Reader) {
	for {
		call, err := dbus.DecodeMessage(wire)
		if err != nil {
			return
		}
		member, _ := call.Headers[dbus.FieldMember].Value().(string)
		if !slices.Contains(s.answers, member) {
			continue
		}
		reply := dbus.Message{Type: dbus.TypeMethodReply, Flags: dbus.FlagNoReplyExpected, Headers: map[dbus.HeaderField]dbus.Variant{
			dbus.FieldReplySerial: dbus.MakeVariant(call.Serial()), dbus.FieldSender: dbus.MakeVariant(busName),
		}}
		if member != "AddMatch" {
			reply.Body = []any{":1.1"}
			reply.Headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(""))
		}
		if err := reply.EncodeTo(conn, binary.LittleEndian); err != nil {
			return
		}
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// The dials of all stages run in parallel, because each takes as long as the bus may take.
func TestABusThatTakesConnectionsAndSaysNothingHoldsUpNobodyForLongAndLeavesNothingBehind(t *testing.T) {
	stages := map[string]silentBus{
		"says nothing":                             {},
		"says nothing after the handshake":         {greets: true},
		"says nothing after Hello":                 {greets: true, answers: []string{"Hello"}},
		"says nothing to who asks who has a name":  {greets: true, answers: []string{"Hello", "AddMatch"}},
		"lets everybody in and says nothing since": {greets: true, answers: []string{"Hello", "AddMatch", "GetNameOwner"}},
	}
	dir, err := os.MkdirTemp("", "bus") // the address of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	for stage, bus := range stages {
		bus.socket = filepath.Join(dir, strconv.Itoa(len(stage)))
		stages[stage] = bus
		bus.serve(t)
	}
	const tries = 20
	goroutines, files := runtime.NumGoroutine(), descriptors(t)
	type outcome struct {
		stage string
		took  time.Duration
		err   error
	}
	outcomes := make(chan outcome)
	for stage, bus := range stages {
		for range tries {
			go func() {
				start := time.Now()
				conn, err := dialAt(t.Context(), bus.socket, Link{Services: []string{logindName}})
				if err == nil {
					err = conn.RemoveMatchSignal(dbus.WithMatchMember("A")) // a call without a deadline of its own
					conn.Close()
				}
				outcomes <- outcome{stage, time.Since(start), err}
			}()
		}
	}
	for range tries * len(stages) {
		if o := <-outcomes; !errors.Is(o.err, ErrSilent) || o.took > 2*busPatience+5*time.Second {
			t.Errorf("a bus that %s is given up after %s: %v", o.stage, o.took, o.err)
		}
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		more, open := runtime.NumGoroutine()-goroutines, descriptors(t)-files
		if more <= 2 && open <= 2 {
			return
		}
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<16)
			t.Fatalf("of %d tries there are %d goroutines and %d descriptors left:\n%s", tries*len(stages), more, open, stacks[:runtime.Stack(stacks, true)])
		}
	}
}

func TestWhoeverNoLongerWantsTheBusDoesNotWaitForIt(t *testing.T) {
	bus := silentBus{socket: "@soe-agent-test-" + strconv.Itoa(os.Getpid())}
	bus.serve(t)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	start := time.Now()
	conn, err := dialAt(ctx, bus.socket, Link{})
	if err == nil {
		conn.Close()
	}
	if !errors.Is(err, context.Canceled) || time.Since(start) > busPatience/2 {
		t.Errorf("it waits for %s: %v", time.Since(start), err)
	}
}

// One caller dials the bus with unlimited time. Others with less time must not wait for it: those
// asking a service, polkit, or for the shared list of sessions.
func TestWhoHasLittleTimeDoesNotWaitForWhoDialsTheBusWithMore(t *testing.T) {
	silent := silentBus{socket: "@soe-agent-turn-" + strconv.Itoa(os.Getpid())}
	silent.serve(t)
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:abstract="+strings.TrimPrefix(silent.socket, "@"))
	b := &bus{dialing: newTurn(), mute: map[string]muteness{}}
	a := &authority{asking: newTurn()}
	patient, stop := context.WithCancel(t.Context())
	defer stop()
	one := &sessionList{ctx: patient, done: make(chan struct{})}
	const little = 100 * time.Millisecond
	for what, ask := range map[string]func(context.Context) error{
		"logind": func(ctx context.Context) error { _, err := b.logind(ctx, false); return err },
		"polkit": func(ctx context.Context) error { _, err := a.Instance(ctx); return err },
		"the sessions of one look": func(ctx context.Context) error {
			_, err := one.ask(ctx, func(ctx context.Context) ([]Session, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			})
			return err
		},
	} {
		begun := make(chan struct{})
		go func() { close(begun); _ = ask(patient) }()
		<-begun
		time.Sleep(little) // so that the other has its turn, or not: the test must pass in both cases
		soon, enough := context.WithTimeout(t.Context(), little)
		start := time.Now()
		err := ask(soon)
		enough()
		if took := time.Since(start); err == nil || took > busPatience/4 {
			t.Errorf("%s: who has %s waits for %s: %v", what, little, took, err)
		}
	}
}
