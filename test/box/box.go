// Package box boots throw-away machines for tests: a real systemd as PID 1 with D-Bus, logind,
// sudo, polkit, dconf, rpm and dnf, up in half a second.
//
// A box is an overlay over a shared base root that test/setup.sh built, run by systemd-nspawn.
// Nothing that happens in it affects the base, the host or another box. Options say what a test
// needs:
//
//	func TestThePolicySurvivesAPowerCut(t *testing.T) {
//		t.Parallel()
//		b := box.New(t, box.ThinImage(), box.WithBind(agent, "/usr/bin/soe-agent"))
//		b.MustExec(t, "soe-agent", "apply")
//		b.Kill()
//		…
//	}
//
// A box shares the host's network, so that it reaches a server on the host's loopback; WithNetwork
// gives it a network of its own that can be cut. A box has no memory, CPU or task limits and has
// the host's clock. Killing it ends all its processes but keeps its page cache, so it is not like a
// loss of the disk's power.
//
// However the test's process ends, a box is removed with everything that belongs to it: a keeper
// process on the host waits for that. See keeper.sh.
package box

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/soe-agent/soe-agent/test/internal/cache"
)

//go:embed base.sh
var baseRecipe []byte

//go:embed older.sh
var olderRecipe []byte

//go:embed peers.sh
var peersRecipe []byte

//go:embed keeper.sh
var keeperScript string

// Config describes a box. The zero value is a bare machine on the host's network.
type Config struct {
	Binds     map[string]string         // read-only folders or files of the host: path in the box → path on the host
	Files     map[string]File           // written before the first boot
	Setup     []func(root string) error // called in order before the first boot, after Files, with the path of the box's root on the host
	Network   bool                      // see WithNetwork
	CgroupV1  bool                      // see CgroupV1
	NotBooted bool                      // see NotBooted
	OlderRPM  bool                      // see OlderRPM
	Peers     bool                      // see Peers
}

// Option changes a Config.
type Option func(*Config)

// WithBind mounts a folder or file of the host in the box, read-only. Missing parents in the box
// are created.
func WithBind(host, guest string) Option {
	return func(c *Config) {
		if c.Binds == nil {
			c.Binds = map[string]string{}
		}
		c.Binds[guest] = host
	}
}

// WithFiles writes files before the first boot. The last one given for a path wins.
func WithFiles(files map[string]File) Option {
	return func(c *Config) {
		if c.Files == nil {
			c.Files = map[string]File{}
		}
		for name, file := range files {
			c.Files[name] = file
		}
	}
}

// WithSetup calls setup before the first boot with the box's root folder on the host.
func WithSetup(setup func(root string) error) Option {
	return func(c *Config) { c.Setup = append(c.Setup, setup) }
}

// WithNetwork gives the box a network of its own, whose rules it may change. It reaches
// Box.HostAddr and nothing else; see LinkDown.
func WithNetwork() Option { return func(c *Config) { c.Network = true } }

// CgroupV1 boots the box with the cgroup hierarchies of systemd 219, as Amazon Linux 2 has them.
func CgroupV1() Option { return func(c *Config) { c.CgroupV1 = true } }

// NotBooted leaves the first boot to the caller of Boot.
func NotBooted() Option { return func(c *Config) { c.NotBooted = true } }

// OlderRPM uses a smaller base with rpm 4.16, whose database is a Berkeley DB as on Amazon Linux 2,
// and dnf 4.5. It has neither polkit nor dconf.
func OlderRPM() Option { return func(c *Config) { c.OlderRPM = true } }

// Peers uses a base that also has puppet and cfengine, to measure the agent against them.
// "test/setup.sh peers" prepares it.
func Peers() Option { return func(c *Config) { c.Peers = true } }

// Box is one machine. Its methods are safe for concurrent use, except those that start and stop it
// (Boot, Reboot, Off, Kill, Close): only one of these may run at a time.
type Box struct {
	Name     string     // also its hostname
	Root     string     // its root on the host, without the file systems mounted inside (/run, /tmp, /proc)
	HostAddr netip.Addr // the host's address for the box; 127.0.0.1 without WithNetwork
	Addr     netip.Addr // the box's address for the host; 127.0.0.1 without WithNetwork

	dir      string
	conf     Config
	keeper   *exec.Cmd
	lifeline io.Closer            // the keeper's standard input: closing it removes the box
	running  atomic.Pointer[boot] // nil: off
	logins   atomic.Uint64        // counts logins, for unique unit names
}

// New creates and boots a box for a test, and removes it when the test ends. It fails the test if
// it cannot; boxes need root and what test/setup.sh prepares. If the test fails, the end of the
// box's journal is logged.
func New(t testing.TB, opts ...Option) *Box {
	t.Helper()
	var conf Config
	for _, opt := range opts {
		opt(&conf)
	}
	b, err := Start(context.Background(), conf)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() && b.running.Load() != nil {
			if r, err := b.Exec(context.Background(), "journalctl", "--boot", "--lines=80", "--no-pager"); err == nil {
				t.Logf("journal of %s:\n%s", b.Name, r.Stdout)
			}
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// Start creates a box, and boots it unless conf says not to. The caller must Close it.
func Start(ctx context.Context, conf Config) (*Box, error) {
	if os.Getuid() != 0 {
		return nil, errors.New("cannot make a test machine: root is needed; run: sudo make test")
	}
	name, recipe := "base", baseRecipe
	switch {
	case conf.OlderRPM:
		name, recipe = "older", olderRecipe
	case conf.Peers:
		name, recipe = "peers", slices.Concat(baseRecipe, peersRecipe)
	}
	base, err := cache.Find(name, recipe)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(filepath.Join(cache.Dir(), "boxes"), "box-")
	if err != nil {
		return nil, fmt.Errorf("cannot make a test machine: %w", err)
	}
	loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	b := &Box{
		Name: filepath.Base(dir), Root: filepath.Join(dir, "root"),
		HostAddr: loopback, Addr: loopback, dir: dir, conf: conf,
	}
	if err := b.startKeeper(); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot make test machine %s: %w", b.Name, err), os.RemoveAll(dir))
	}
	if err := b.prepare(base); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot make test machine %s: %w", b.Name, err), b.Close())
	}
	if conf.NotBooted {
		return b, nil
	}
	if err := b.Boot(ctx); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

// Close kills the box if it is running and removes it. Closing it again does nothing.
func (b *Box) Close() error {
	if b.lifeline == nil {
		return nil
	}
	b.Kill()
	err := errors.Join(b.lifeline.Close(), b.keeper.Wait())
	b.lifeline = nil
	if _, gone := os.Stat(b.dir); gone == nil {
		err = errors.Join(err, fmt.Errorf("cannot remove test machine %s: %s is still there", b.Name, b.dir))
	}
	return err
}

func (b *Box) startKeeper() error {
	b.keeper = exec.Command("bash", "-c", keeperScript, "keeper", b.dir)
	// In a session of its own: Ctrl-C must end the tests but not the keeper, which then has to
	// clean up.
	b.keeper.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	stdin, err := b.keeper.StdinPipe()
	if err != nil {
		return err
	}
	b.lifeline = stdin
	return b.keeper.Start()
}

func (b *Box) prepare(base string) error {
	for _, name := range []string{"upper", "work", "root"} {
		if err := os.Mkdir(filepath.Join(b.dir, name), 0o755); err != nil {
			return err
		}
	}
	layers := fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%s/work", base, b.dir, b.dir)
	if err := unix.Mount("overlay", b.Root, "overlay", 0, layers); err != nil {
		return fmt.Errorf("cannot mount an overlay in %s: %w; in a container, set SOE_TEST_CACHE to a folder on a volume", b.dir, err)
	}
	if b.conf.Network {
		if err := b.addNetwork(); err != nil {
			return err
		}
	}
	// sudo complains about a machine that cannot resolve its own name.
	files := map[string]File{
		"/etc/hostname": {Content: b.Name + "\n"},
		"/etc/hosts":    {Content: "127.0.0.1 localhost\n::1 localhost\n127.0.1.1 " + b.Name + "\n"},
	}
	if err := errors.Join(b.WriteFiles(files), b.WriteFiles(b.conf.Files)); err != nil {
		return err
	}
	for _, setup := range b.conf.Setup {
		if err := setup(b.Root); err != nil {
			return err
		}
	}
	return nil
}
