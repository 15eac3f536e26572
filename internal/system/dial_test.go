package system

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"testing"

	"github.com/godbus/dbus/v5"
	"github.com/google/go-cmp/cmp"
)

// message returns a call as the bus delivers it.
func message(t testing.TB, order binary.ByteOrder, sender string, body ...any) []byte {
	t.Helper()
	m := dbus.Message{Type: dbus.TypeMethodCall, Body: body, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldPath: dbus.MakeVariant(dbus.ObjectPath("/a")), dbus.FieldMember: dbus.MakeVariant("B"),
		dbus.FieldSender: dbus.MakeVariant(sender),
	}}
	if len(body) > 0 {
		m.Headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(body...))
	}
	var encoded bytes.Buffer
	if err := m.EncodeTo(&encoded, order); err != nil {
		t.Fatal(err)
	}
	order.PutUint32(encoded.Bytes()[8:], 77) // its serial
	return encoded.Bytes()
}

// stream returns a connection from which content can be read.
func stream(t testing.TB, content []byte) net.Conn {
	t.Helper()
	near, far := net.Pipe()
	go func() {
		_, _ = far.Write(content)
		far.Close()
	}()
	t.Cleanup(func() { near.Close() })
	return near
}

func TestALargeMessageIsSkippedAndItsSenderKnown(t *testing.T) {
	for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		const line = "OK 0123456789abcdef\r\n"
		small, large := message(t, order, ":1.1", "hello"), message(t, order, ":1.2", bytes.Repeat([]byte("x"), 100_000))
		sent := bytes.Join([][]byte{[]byte(line), small, large, small}, nil)
		raw := stream(t, sent)
		var refused []string
		guarded := &guardedConn{
			Conn: raw, in: bufio.NewReaderSize(raw, headerRoom), max: 4096,
			refused: func(sender string, serial uint32) {
				if serial != 77 {
					t.Errorf("the serial is %d", serial)
				}
				refused = append(refused, sender)
			},
		}
		handshake := make([]byte, len(line))
		if _, err := io.ReadFull(guarded, handshake); err != nil || string(handshake) != line {
			t.Fatalf("the handshake is %q, %v", handshake, err)
		}
		got, err := io.ReadAll(guarded)
		if err != nil {
			t.Fatal(err)
		}
		if want := append(bytes.Clone(small), small...); !bytes.Equal(got, want) {
			t.Errorf("handed on: %d bytes, want %d", len(got), len(want))
		}
		if diff := cmp.Diff([]string{":1.2"}, refused); diff != "" {
			t.Error(diff)
		}
	}
}

func TestTheSocketOfTheBusIsTheOneThatIsSet(t *testing.T) {
	for address, want := range map[string]string{
		"":                        "/run/dbus/system_bus_socket",
		"unix:path=/a/b":          "/a/b",
		"unix:guid=1,path=/a,x=y": "/a",
		"unix:abstract=/a":        "@/a",
		"unix:path=/a;tcp:host=b": "/a",
	} {
		t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
		if got, err := busSocket(); err != nil || got != want {
			t.Errorf("%q is at %q, %v", address, got, err)
		}
	}
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "tcp:host=example.com,port=1")
	if got, err := busSocket(); err == nil {
		t.Errorf("a bus of another machine is at %q", got)
	}
}

func FuzzWhateverTheBusSendsIsHandedOnOrSkipped(f *testing.F) {
	f.Add(message(f, binary.LittleEndian, ":1.1", "hello"))
	f.Add(message(f, binary.BigEndian, ":1.1", bytes.Repeat([]byte("x"), 5000)))
	f.Fuzz(func(t *testing.T, content []byte) {
		raw := stream(t, content)
		guarded := &guardedConn{Conn: raw, in: bufio.NewReaderSize(raw, headerRoom), max: 512, refused: func(string, uint32) {}}
		got, err := io.ReadAll(guarded)
		if err == nil && len(got) > len(content) {
			t.Errorf("%d bytes of %d", len(got), len(content))
		}
	})
}
