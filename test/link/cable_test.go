package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/soe-agent/soe-agent/internal/source"
	"github.com/soe-agent/soe-agent/test/awsfake"
)

// A namespace is a network of its own. It has no name, and nothing of the host's network is in it or is changed. It
// is gone, with its links and rules, when the last file and socket of it is closed, however the test ends.
type namespace struct{ file *os.File }

func newNamespace(t *testing.T) namespace {
	t.Helper()
	var n namespace
	err := onThread(func() (err error) {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("cannot make a network namespace: %w", err)
		}
		n.file, err = os.Open("/proc/thread-self/ns/net")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.file.Close() })
	return n
}

// onThread does something on a thread that nobody else uses, before or after.
func onThread(do func() error) error {
	ended := make(chan error)
	go func() {
		runtime.LockOSThread() // without an unlock, the thread ends with the goroutine
		ended <- do()
	}()
	return <-ended
}

// within does something in the namespace. Sockets that it makes, and programs that it runs, stay there.
func (n namespace) within(do func() error) error {
	return onThread(func() error {
		if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("cannot enter a network namespace: %w", err)
		}
		return do()
	})
}

// run runs a program, and gives it an input.
func (n namespace) run(input string, command ...string) (output string, err error) {
	err = n.within(func() error {
		cmd := exec.Command(command[0], command[1:]...)
		cmd.Stdin = strings.NewReader(input)
		out, err := cmd.CombinedOutput()
		output = string(out)
		if err != nil {
			return fmt.Errorf("cannot run %s: %w: %s", strings.Join(command, " "), err, out)
		}
		return nil
	})
	return output, err
}

const (
	// Addresses of the network that RFC 2544 sets aside for tests.
	network        = "198.18.0.0/30"
	desktopAddress = "198.18.0.2/30"
	awsAddress     = "198.18.0.1/30"
)

// A cable is between a desktop and AWS.
type cable struct{ desktop, aws namespace }

func newCable(t *testing.T) cable {
	t.Helper()
	c := cable{newNamespace(t), newNamespace(t)}
	there := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), c.aws.file.Fd())
	_, err1 := c.desktop.run("", "ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", there)
	_, err2 := c.desktop.run("", "ip", "address", "add", desktopAddress, "dev", "eth0")
	_, err3 := c.aws.run("", "ip", "address", "add", awsAddress, "dev", "eth0")
	err4 := c.each("", "ip", "link", "set", "eth0", "up")
	// TCP sends again what was lost after 200 ms at the least, and waits twice as long each time: the tests are not for that.
	err5 := c.each("", "ip", "route", "replace", network, "dev", "eth0", "rto_min", "20ms")
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		t.Fatal(err)
	}
	return c
}

// each runs a program at each end.
func (c cable) each(input string, command ...string) error {
	_, err1 := c.desktop.run(input, command...)
	_, err2 := c.aws.run(input, command...)
	return errors.Join(err1, err2)
}

// slow makes the cable let only so many kilobits a second through, each way.
func (c cable) slow(rate int) error {
	return c.each("", "tc", "qdisc", "add", "dev", "eth0", "root", "tbf", "rate", fmt.Sprint(rate, "kbit"), "burst", "4kb", "latency", "100ms")
}

// A loss is a rule of nftables for packets that arrive: who sent those that are dropped learns nothing of it.
type loss string

const (
	noPacket   loss = ""
	aQuarter   loss = "numgen random mod 4 < 1 counter drop"
	allPackets loss = "counter drop"
)

// lose makes the cable lose packets, each way, whatever it lost before.
func (c cable) lose(l loss) error {
	const rules = `table ip cable {}
delete table ip cable
table ip cable {
	chain arrival {
		type filter hook prerouting priority raw
		%s
	}
}
`
	return c.each(fmt.Sprintf(rules, l), "nft", "-f", "-")
}

// pull pulls the cable out of the desktop, and plug puts it in again.
func (c cable) pull() error { return c.carry("down") }

func (c cable) plug() error { return c.carry("up") }

func (c cable) carry(state string) error {
	_, err := c.desktop.run("", "ip", "link", "set", "eth0", state)
	return err
}

var counted = regexp.MustCompile(`counter packets ([0-9]+)`)

// lost is how many packets the cable has lost since the last call of lose, each way.
func (c cable) lost(t *testing.T) (toDesktop, toAWS int) {
	t.Helper()
	var lost [2]int
	for i, end := range []namespace{c.desktop, c.aws} {
		rules, err := end.run("", "nft", "list", "table", "ip", "cable")
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range counted.FindAllStringSubmatch(rules, -1) {
			n, err := strconv.Atoi(m[1])
			if err != nil {
				t.Fatal(err)
			}
			lost[i] += n
		}
	}
	return lost[0], lost[1]
}

// endpoint starts AWS at its end of the cable.
func (c cable) endpoint(t *testing.T) *awsfake.Server {
	t.Helper()
	host, _, _ := strings.Cut(awsAddress, "/")
	var s *awsfake.Server
	err := c.aws.within(func() (err error) {
		s, err = awsfake.Start(net.JoinHostPort(host, "0"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Down)
	return s
}

// client sends requests as the agent does, from the desktop's end of the cable. So that no test takes long, it has
// less patience: an answer must begin after this time, and end after twice as much.
func (c cable) client(t *testing.T, patience time.Duration) *http.Client {
	t.Helper()
	client, transport := source.Client(), source.Transport(nil)
	client.Transport = transport
	transport.Proxy = nil // the host's
	transport.ResponseHeaderTimeout, client.Timeout = patience, 2*patience
	dial := transport.DialContext
	transport.DialContext = func(ctx context.Context, network, address string) (conn net.Conn, err error) {
		err = c.desktop.within(func() (err error) {
			conn, err = dial(ctx, network, address)
			return err
		})
		return conn, err
	}
	return client
}
