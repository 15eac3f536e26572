package box

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/soe-agent/soe-agent/test/internal/cache"
)

// benchmarking is the network that RFC 2544 reserves for tests; nobody routes it. Each box gets
// four of its addresses: the first is the host's and the second its own.
var benchmarking = netip.MustParsePrefix("198.18.0.0/15")

// LinkDown cuts the box's network like a pulled cable: connections stall, and new ones fail after
// three seconds because there is no route. It works only for a box with WithNetwork.
func (b *Box) LinkDown() error { return b.setLink("down") }

// LinkUp undoes LinkDown. When it returns, packets arrive again.
func (b *Box) LinkUp() error {
	if err := b.setLink("up"); err != nil {
		return err
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		state, err := exec.Command("ip", "-netns", b.Name, "link", "show", "dev", "eth0", "up").Output()
		if err != nil {
			return fmt.Errorf("cannot tell whether the link of %s is up: %w", b.Name, err)
		}
		if strings.Contains(string(state), " state UP ") {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("cannot set the link of %s up: it has no carrier after ten seconds: %s", b.Name, state)
		}
	}
	// Both ends keep failed neighbour entries for some seconds, so flush them.
	return ip("neighbour flush dev "+b.link(), "-netns "+b.Name+" neighbour flush dev eth0")
}

func (b *Box) setLink(state string) error {
	if !b.conf.Network {
		return fmt.Errorf("cannot set the link of %s %s: it was made without WithNetwork", b.Name, state)
	}
	return ip("link set " + b.link() + " " + state)
}

// link returns the name of the host's end of the cable. Link names have at most 15 characters.
func (b *Box) link() string { return "soe" + strings.TrimPrefix(b.Name, "box-") }

func (b *Box) addNetwork() error {
	// Another test may be choosing free addresses at the same time, in another process.
	lock, err := os.OpenFile(filepath.Join(cache.Dir(), "network.lock"), os.O_CREATE|os.O_WRONLY|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return err
	}
	if b.HostAddr, err = freeAddr(); err != nil {
		return err
	}
	b.Addr = b.HostAddr.Next()
	return ip(
		"netns add "+b.Name,
		"link add "+b.link()+" type veth peer name eth0 netns "+b.Name,
		"address add "+b.HostAddr.String()+"/30 dev "+b.link(),
		"link set "+b.link()+" up",
		"-netns "+b.Name+" link set lo up",
		"-netns "+b.Name+" address add "+b.Addr.String()+"/30 dev eth0",
		"-netns "+b.Name+" link set eth0 up",
	)
}

// freeAddr returns the host's address of a group of four that no link of the host uses.
func freeAddr() (netip.Addr, error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return netip.Addr{}, err
	}
	used := map[netip.Addr]bool{}
	for _, addr := range addrs {
		if prefix, err := netip.ParsePrefix(addr.String()); err == nil {
			used[prefix.Addr()] = true
		}
	}
	first := benchmarking.Addr().As4()
	for n := binary.BigEndian.Uint32(first[:]) + 1; ; n += 4 {
		var raw [4]byte
		binary.BigEndian.PutUint32(raw[:], n)
		addr := netip.AddrFrom4(raw)
		if !benchmarking.Contains(addr) {
			return netip.Addr{}, fmt.Errorf("cannot find a free address in %s", benchmarking)
		}
		if !used[addr] {
			return addr, nil
		}
	}
}

func ip(commands ...string) error {
	for _, command := range commands {
		if out, err := exec.Command("ip", strings.Fields(command)...).CombinedOutput(); err != nil {
			return fmt.Errorf("cannot run ip %s: %w: %s", command, err, out)
		}
	}
	return nil
}
