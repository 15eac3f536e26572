package system

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/coreos/go-systemd/v22/journal"
)

// journald is a socket like journald's, which the test may read or not.
type journald struct {
	t    *testing.T
	conn *net.UnixConn
}

func startJournald(t *testing.T, socket string) *journald {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &journald{t, conn}
}

// line returns the next line that arrives.
func (j *journald) line() string {
	j.t.Helper()
	if err := j.conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		j.t.Fatal(err)
	}
	entry := make([]byte, 1<<17)
	n, err := j.conn.Read(entry)
	if err != nil {
		j.t.Fatalf("no line arrives: %v", err)
	}
	_, message, _ := strings.Cut(string(entry[:n]), "MESSAGE=")
	message, _, _ = strings.Cut(message, "\n")
	return message
}

func socketIn(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "journal") // the address of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "socket")
}

// cpu returns the processor time of this process.
func cpu(t *testing.T) time.Duration {
	t.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func say(b *journalBox, format string, args ...any) {
	b.post(b.letter(time.Now(), fmt.Sprintf(format, args...), journal.PriInfo, nil))
}

func TestAJournalThatTakesNothingHoldsUpNobodyAndHearsLaterWhatWasNotSaid(t *testing.T) {
	socket := socketIn(t)
	stopped := startJournald(t, socket)
	b := newJournalBox(socket)
	const said = outboxLetters + 3000
	start, before := time.Now(), cpu(t)
	for i := range said {
		say(b, "line %d", i)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("to say %d lines takes %s", said, took)
	}
	time.Sleep(3 * time.Second) // the receiver is stopped for that long, which must cost nothing
	if used := cpu(t) - before; used > time.Second {
		t.Errorf("a journal that takes nothing costs %s of processor time", used)
	}
	kept, last := 0, -1
	for {
		line := stopped.line()
		if !strings.HasPrefix(line, "line ") {
			if lost := said - kept; !strings.HasPrefix(line, fmt.Sprintf("lost %d log lines between ", lost)) || !strings.Contains(line, "delayed ") {
				t.Errorf("after %d lines of %d it says %q", kept, said, line)
			}
			break
		}
		// The scheduler decides which lines find no space; all that do must arrive in order.
		var number int
		if _, err := fmt.Sscanf(line, "line %d", &number); err != nil || number <= last {
			t.Fatalf("after line %d it says %q", last, line)
		}
		kept, last = kept+1, number
	}
	if kept < outboxLetters {
		t.Errorf("of %d lines that have room, %d arrive", outboxLetters, kept)
	}
	say(b, "as ever")
	if line := stopped.line(); line != "as ever" {
		t.Errorf("got %q", line)
	}
}

// delivers reports whether something is waiting.
func (o *outbox) delivers() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.done != nil
}

func TestTheLogComesBackWithTheJournal(t *testing.T) {
	socket := socketIn(t)
	b := newJournalBox(socket)
	say(b, "before there is one") // by now it has no socket
	first := startJournald(t, socket)
	if line := first.line(); line != "before there is one" {
		t.Errorf("got %q", line)
	}
	first.conn.Close()
	if err := os.Remove(socket); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	say(b, "while there is none")
	b.flush(100 * time.Millisecond)
	second := startJournald(t, socket)
	if line := second.line(); line != "while there is none" {
		t.Errorf("got %q", line)
	}
	b.flush(10 * time.Second)
	if b.delivers() {
		t.Error("it still waits for something")
	}
}

// A slow reader, and one that has gone.
func TestADaemonsTextHoldsUpNobodyEither(t *testing.T) {
	reader, writer := io.Pipe()
	log := LogTo(writer, slog.LevelInfo, true)
	const said = 3 * outboxLetters
	start := time.Now()
	for i := range said {
		slog.New(log).Info("said", "line", i)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("to say %d lines takes %s", said, took)
	}
	log.Flush(50 * time.Millisecond) // nobody reads any more
	var got bytes.Buffer
	go func() {
		log.Flush(20 * time.Second)
		writer.Close()
	}()
	if _, err := io.Copy(&got, reader); err != nil {
		t.Fatal(err)
	}
	kept := strings.Count(got.String(), "msg=said")
	if kept < outboxLetters || !strings.Contains(got.String(), fmt.Sprintf("lost %d log lines", said-kept)) {
		t.Errorf("%d of %d lines were said, and then: %s", kept, said, got.String()[max(0, got.Len()-300):])
	}

	closed, gone, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	defer gone.Close()
	log = LogTo(gone, slog.LevelInfo, true)
	slog.New(log).Info("to nobody")
	log.Flush(10 * time.Second)
	if log.box.delivers() {
		t.Error("it tries again and again to tell somebody who has gone")
	}
}

func TestSystemdIsToldOfEachKindOfNewsTheNewestAndNobodyWaits(t *testing.T) {
	socket := socketIn(t)
	t.Setenv("NOTIFY_SOCKET", socket)
	n := NewNotifier()
	start := time.Now()
	n.Tell("READY=1") // there is no socket yet
	for i := range 5000 {
		n.Tell(fmt.Sprintf("STATUS=%d", i))
	}
	n.Tell("WATCHDOG=1")
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("to tell takes %s", took)
	}
	conn := startJournald(t, socket).conn
	var told []string
	for len(told) == 0 || told[len(told)-1] != "WATCHDOG=1" {
		if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		state := make([]byte, 1<<10)
		size, err := conn.Read(state)
		if err != nil {
			t.Fatalf("after %q: %v", told, err)
		}
		told = append(told, string(state[:size]))
	}
	if strings.Join(told, " ") != "READY=1 STATUS=4999 WATCHDOG=1" {
		t.Errorf("told: %q", told)
	}
	t.Setenv("NOTIFY_SOCKET", "")
	NewNotifier().Tell("READY=1") // nobody to tell
}

func TestWhatIsDeliveredIsInOrderWhoeverPosts(t *testing.T) {
	t.Parallel()
	var delivered []int
	var tries atomic.Int64
	var o outbox
	for i := range 500 {
		o.post(letter{at: time.Now(), size: 1, send: func(bool) error {
			if tries.Add(1)%3 == 0 {
				return errLater
			}
			delivered = append(delivered, i)
			return nil
		}})
	}
	o.flush(30 * time.Second)
	for i, got := range delivered {
		if got != i {
			t.Fatalf("number %d is %d", i, got)
		}
	}
	if len(delivered) != 500 {
		t.Errorf("%d of 500 are delivered", len(delivered))
	}
}
