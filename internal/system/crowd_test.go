package system

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

// A patientLogind answers nobody before everything that may be asked at once has been asked, and refuses what is more
// than dbus-daemon lets a connection ask.
type patientLogind struct{ sessions int }

func (p patientLogind) serve(t *testing.T) *dbus.Conn {
	t.Helper()
	dir, err := os.MkdirTemp("", "bus") // the address of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		if wire, err := listener.Accept(); err == nil {
			p.speak(wire)
			wire.Close()
		}
	}()
	conn, err := dbus.Dial("unix:path=" + socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.Auth(nil); err != nil {
		t.Fatal(err)
	}
	return conn
}

func (p patientLogind) speak(conn net.Conn) {
	wire := bufio.NewReader(conn)
	for {
		line, err := wire.ReadString('\n')
		if err != nil {
			return
		}
		switch strings.Trim(line, "\x00\r\n") {
		case "BEGIN":
			p.answer(conn, wire)
			return
		case "AUTH":
			_, _ = conn.Write([]byte("REJECTED EXTERNAL\r\n"))
		case "NEGOTIATE_UNIX_FD":
			_, _ = conn.Write([]byte("ERROR\r\n"))
		default:
			_, _ = conn.Write([]byte("OK 0123456789abcdef0123456789abcdef\r\n"))
		}
	}
}

func (p patientLogind) answer(conn net.Conn, wire *bufio.Reader) {
	for left := p.sessions; left > 0; {
		var waiting []*dbus.Message
		for range min(left, askedAtOnce) {
			call, err := dbus.DecodeMessage(wire)
			if err != nil {
				return
			}
			waiting = append(waiting, call)
		}
		left -= len(waiting)
		for _, call := range waiting {
			reply := dbus.Message{Type: dbus.TypeMethodReply, Body: []any{map[string]dbus.Variant{
				"Class": dbus.MakeVariant("user"), "Service": dbus.MakeVariant("sshd"), "State": dbus.MakeVariant("closing"),
				"Leader": dbus.MakeVariant(uint32(1 << 30)), // which has ended
			}}}
			reply.Headers = map[dbus.HeaderField]dbus.Variant{
				dbus.FieldReplySerial: dbus.MakeVariant(call.Serial()), dbus.FieldSignature: dbus.MakeVariant(dbus.SignatureOf(reply.Body...)),
			}
			if err := reply.EncodeTo(conn, binary.LittleEndian); err != nil {
				return
			}
		}
	}
}

// searches counts how often all processes are listed.
type searches struct {
	FileReader
	n int
}

func (s *searches) ReadDir(name string) ([]string, error) {
	if name == "/proc" {
		s.n++
	}
	return s.FileReader.ReadDir(name)
}

// A person may open hundreds of sessions, and leave each with a process in it. Who is logged in is told
// for each correction: neither as many rounds of questions nor as many searches of all processes may be needed for that.
func TestHundredsOfSessionsAreAskedAboutAtOnceAndTheirProcessesSearchedOnce(t *testing.T) {
	s, err := Open(Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	const person, another = 54321, 54322
	listed := make([]listedSession, 300)
	for i := range listed {
		listed[i] = listedSession{ID: fmt.Sprintf("c%d", i), UID: person + uint32(i%2), Path: dbus.ObjectPath(fmt.Sprintf("/org/freedesktop/login1/session/c%d", i))}
	}
	files := &searches{FileReader: s.FS}
	sessions, err := describe(ctx, patientLogind{len(listed)}.serve(t), listed, files)
	if err != nil || len(sessions) > 0 || files.n != 2 {
		t.Errorf("%v; %d sessions of people of whom nothing runs; the processes were listed %d times for %d and %d", err, len(sessions), files.n, person, another)
	}
}
