package watch_test

import (
	"bufio"
	"encoding/binary"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

// A bus that lets every client in and throws it out again, as one does whose quota somebody has used up.
func TestABusThatThrowsTheAgentOutIsJoinedMoreAndMoreSeldom(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "bus")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+socket)
	var joined atomic.Int64
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			if letIn(conn) {
				joined.Add(1)
			}
			conn.Close()
		}
	}()
	var log logged
	run(t, slog.New(slog.NewTextHandler(&log, nil)), func(string) {})
	time.Sleep(3 * time.Second)
	if n := joined.Load(); n < 2 || n > 20 {
		t.Errorf("in three seconds it is joined %d times", n)
	}
	if n := strings.Count(log.String(), "the connection to the system bus is lost"); n > 20 {
		t.Errorf("it is said %d times", n)
	}
}

// letIn answers everything that a client asks until it has subscribed to systemd.
func letIn(conn net.Conn) bool {
	wire := bufio.NewReader(conn)
	for {
		line, err := wire.ReadString('\n')
		if err != nil {
			return false
		}
		switch word := strings.Trim(line, "\x00\r\n"); {
		case word == "BEGIN":
			return answers(conn, wire)
		case word == "AUTH":
			conn.Write([]byte("REJECTED EXTERNAL\r\n"))
		case strings.HasPrefix(word, "AUTH "):
			conn.Write([]byte("OK 0123456789abcdef0123456789abcdef\r\n"))
		default:
			conn.Write([]byte("ERROR\r\n"))
		}
	}
}

func answers(conn net.Conn, wire *bufio.Reader) bool {
	for {
		call, err := dbus.DecodeMessage(wire)
		if err != nil {
			return false
		}
		reply := dbus.Message{Type: dbus.TypeMethodReply, Flags: dbus.FlagNoReplyExpected, Headers: map[dbus.HeaderField]dbus.Variant{
			dbus.FieldReplySerial: dbus.MakeVariant(call.Serial()), dbus.FieldSender: dbus.MakeVariant("org.freedesktop.DBus"),
		}}
		member := call.Headers[dbus.FieldMember].Value()
		if member == "Hello" || member == "GetNameOwner" {
			reply.Body = []any{":1.1"}
			reply.Headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(""))
		}
		if err := reply.EncodeTo(conn, binary.LittleEndian); err != nil {
			return false
		}
		if member == "Subscribe" {
			return true
		}
	}
}
