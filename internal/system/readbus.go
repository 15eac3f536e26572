package system

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

// Services obey root by its user id, and do not check capabilities. So a confined command of root's
// finds, in place of the system bus, a socket of its own that passes only calls that read. The
// socket exists only in the command's mount namespace, and ends with it.

// readingCalls lists the calls that a confined command may make, by interface: nothing that sets,
// starts or stops something. "*" stands for every method.
func readingCalls() map[string][]string {
	return map[string][]string{
		"org.freedesktop.DBus": {
			"Hello", "AddMatch", "RemoveMatch", "GetNameOwner", "NameHasOwner", "ListNames", "ListActivatableNames", "ListQueuedOwners",
			"GetConnectionUnixUser", "GetConnectionUnixProcessID", "GetConnectionCredentials", "GetId",
		},
		"org.freedesktop.DBus.Introspectable": {"Introspect"},
		"org.freedesktop.DBus.ObjectManager":  {"GetManagedObjects"},
		"org.freedesktop.DBus.Peer":           {"Ping", "GetMachineId"},
		"org.freedesktop.DBus.Properties":     {"Get", "GetAll"},
		"org.freedesktop.systemd1.Manager": {
			"GetUnit", "GetUnitByPID", "GetUnitByInvocationID", "GetUnitByControlGroup", "LoadUnit", "GetJob", "GetUnitFileState", "GetUnitFileLinks",
			"GetUnitProcesses", "GetDefaultTarget", "ListUnits", "ListUnitsFiltered", "ListUnitsByPatterns", "ListUnitsByNames", "ListJobs",
			"ListUnitFiles", "ListUnitFilesByPatterns",
		},
		"org.freedesktop.login1.Manager": {
			"GetSession", "GetSessionByPID", "GetUser", "GetUserByPID", "GetSeat", "ListSessions", "ListSessionsEx", "ListUsers", "ListSeats", "ListInhibitors",
		},
		"org.freedesktop.hostname1": {"Describe"},
		"org.freedesktop.timedate1": {"ListTimezones"},
	}
}

// onlyReads reports whether a message may pass.
func onlyReads(message *dbus.Message) bool {
	return message.Type == dbus.TypeMethodCall &&
		slices.Contains(readingCalls()[text(message, dbus.FieldInterface)], text(message, dbus.FieldMember))
}

// refuse turns a call into one that the bus does not know, so that the bus answers with an error.
func refuse(message *dbus.Message) {
	const bus = "org.freedesktop.DBus"
	message.Headers = map[dbus.HeaderField]dbus.Variant{
		dbus.FieldDestination: dbus.MakeVariant(bus), dbus.FieldPath: dbus.MakeVariant(dbus.ObjectPath("/org/freedesktop/DBus")),
		dbus.FieldInterface: dbus.MakeVariant(bus), dbus.FieldMember: dbus.MakeVariant("AConfinedCommandOnlyReads"),
	}
	message.Body = nil
}

// readBus gives the calling thread, in its own mount namespace, a system bus that only reads, and
// hides the private socket of systemd. It returns nil if there is no bus.
func readBus() (net.Listener, error) {
	socket, err := busSocket()
	if err != nil {
		return nil, err
	}
	const private = "/run/systemd/private"
	if _, err := os.Lstat(private); err == nil {
		if err := unix.Mount("/dev/null", private, "", unix.MS_BIND, ""); err != nil {
			return nil, fmt.Errorf("cannot hide %s: %w", private, err)
		}
	}
	if _, err := os.Stat(socket); err != nil {
		return nil, nil // there is no bus to ask
	}
	socket, err = filepath.EvalSymlinks(socket)
	if err != nil {
		return nil, err
	}
	dir := filepath.Dir(socket)
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0755,size=64k"); err != nil {
		return nil, fmt.Errorf("cannot hide %s: %w", dir, err)
	}
	return listenHere(socket)
}

// listenHere listens at a path in the mount namespace of this thread. The listener of net.Listen
// would, when closed, remove that path in the machine's namespace: the real bus.
func listenHere(socket string) (net.Listener, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), socket)
	defer file.Close()
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: socket}), unix.Listen(fd, 16)); err != nil {
		return nil, err
	}
	return net.FileListener(file)
}

// serveReading serves the connections of a listener until it is closed.
func serveReading(listener net.Listener) {
	for {
		client, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer client.Close()
			_ = filterReading(client) // it ended, or does not speak the protocol
		}()
	}
}

// filterReading passes on the permitted calls of one client, and all answers.
func filterReading(client net.Conn) error {
	socket, err := busSocket()
	if err != nil {
		return err
	}
	bus, err := net.Dial("unix", socket)
	if err != nil {
		return err
	}
	defer bus.Close()
	answers := bufio.NewReader(bus)
	if err := authenticate(bus, answers); err != nil {
		return err
	}
	asks := bufio.NewReader(client)
	if err := letIn(client, asks); err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(client, answers)
		_ = client.Close() // the bus has ended
	}()
	for {
		message, order, err := nextMessage(asks)
		if err != nil {
			return err
		}
		if !onlyReads(message) {
			if message.Type != dbus.TypeMethodCall {
				continue // it expects no answer
			}
			refuse(message)
		}
		var out bytes.Buffer // send what was checked, and not the original bytes
		if err := message.EncodeTo(&out, order); err != nil {
			return err
		}
		if _, err := bus.Write(out.Bytes()); err != nil {
			return err
		}
	}
}

// maxQuestion is larger than any call that reads, in bytes.
const maxQuestion = 64 << 10

func nextMessage(from *bufio.Reader) (*dbus.Message, binary.ByteOrder, error) {
	head, err := from.Peek(16)
	if err != nil {
		return nil, nil, err
	}
	var order binary.ByteOrder = binary.LittleEndian
	if head[0] == 'B' {
		order = binary.BigEndian
	}
	fields, body := order.Uint32(head[12:]), order.Uint32(head[4:])
	if fields > maxQuestion || body > maxQuestion {
		return nil, nil, errors.New("a question is too long")
	}
	message, err := dbus.DecodeMessage(from)
	return message, order, err
}

// authenticate authenticates a connection to the bus as root, without file descriptor passing.
func authenticate(bus io.Writer, answers *bufio.Reader) error {
	if _, err := io.WriteString(bus, "\x00AUTH EXTERNAL 30\r\n"); err != nil { // "0" in hex
		return err
	}
	line, err := answers.ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "OK ") {
		return errors.Join(fmt.Errorf("the bus says %q", line), err)
	}
	_, err = io.WriteString(bus, "BEGIN\r\n")
	return err
}

// letIn answers a client's handshake (D-Bus specification, "Authentication Protocol").
func letIn(client io.Writer, asks *bufio.Reader) error {
	if zero, err := asks.ReadByte(); err != nil || zero != 0 {
		return errors.Join(errors.New("it does not begin as a client of the bus does"), err)
	}
	const in = "OK 00000000000000000000000000000000\r\n"
	for range 16 {
		line, err := asks.ReadSlice('\n')
		if err != nil {
			return err
		}
		words := strings.Fields(string(line))
		answer := "ERROR\r\n"
		switch {
		case len(words) == 0:
		case words[0] == "BEGIN":
			return nil
		case words[0] == "AUTH" && len(words) == 3 && words[1] == "EXTERNAL", words[0] == "DATA":
			answer = in
		case words[0] == "AUTH" && len(words) == 2 && words[1] == "EXTERNAL":
			answer = "DATA\r\n"
		case words[0] == "AUTH":
			answer = "REJECTED EXTERNAL\r\n"
		}
		if _, err := io.WriteString(client, answer); err != nil {
			return err
		}
	}
	return errors.New("it does not begin")
}
