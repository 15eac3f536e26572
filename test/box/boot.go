package box

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Boots and shutdowns that take longer than this have failed.
const patience = 90 * time.Second

// The signals by which systemd as PID 1 is told to go down: SIGRTMIN+4 and SIGRTMIN+5.
const (
	powerOff = unix.Signal(34 + 4)
	restart  = unix.Signal(34 + 5)
)

// nspawnScript gives systemd-nspawn the cgroup mounts of a host with that cgroup version, without
// changing the host's mounts, and a cgroup of its own, because the box's PID 1 would otherwise
// settle in the host's root cgroup. Its arguments: the box's folder, v1 or v2, and those of
// systemd-nspawn.
const nspawnScript = `set -e
dir=$1 version=$2 name=${1##*/} cg=/sys/fs/cgroup
shift 2
echo $$ >"$dir/nspawn.pid"
umount -R $cg
if [ "$version" = v2 ]; then
  mount -t cgroup2 cgroup2 $cg
  trees=$cg
  export UNIFIED_CGROUP_HIERARCHY=1
else
  mount -t tmpfs -o mode=755 tmpfs $cg
  mkdir $cg/systemd
  mount -t cgroup -o none,name=systemd cgroup $cg/systemd
  trees=$cg/systemd
  export UNIFIED_CGROUP_HIERARCHY=0
fi
for tree in $trees; do mkdir -p "$tree/$name"; echo $$ >"$tree/$name/cgroup.procs"; done
exec systemd-nspawn "$@"
`

// boot is one run of a box, from power on to power off.
type boot struct {
	leader int           // the PID of PID 1 on the host
	ended  chan struct{} // closed when all its processes have ended
}

// Boot starts a box that is off and returns when systemd has reached its default target.
func (b *Box) Boot(ctx context.Context) error {
	if b.running.Load() != nil {
		return fmt.Errorf("cannot boot %s: it is running", b.Name)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	// nspawn sends the PID of the box's PID 1 and forwards its READY=1. An abstract socket leaves
	// nothing behind.
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: "@" + b.Name, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("cannot boot %s: %w", b.Name, err)
	}
	defer notify.Close()
	cmd, err := b.startNspawn("@" + b.Name)
	if err != nil {
		return fmt.Errorf("cannot boot %s: %w", b.Name, err)
	}
	run := &boot{ended: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // the console has more information than the exit code
		_ = os.Remove(filepath.Join(b.dir, "nspawn.pid"))
		b.running.CompareAndSwap(run, nil)
		close(run.ended)
	}()
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		select {
		case <-run.ended:
		case <-ctx.Done():
		case <-stop:
		}
		notify.Close() // ends the await below
	}()
	if err := run.await(notify); err != nil {
		if run.leader != 0 {
			_ = unix.Kill(run.leader, unix.SIGKILL)
		} else {
			_ = cmd.Process.Kill()
		}
		<-run.ended
		return fmt.Errorf("cannot boot %s: it did not reach its default target: %w; its console says:\n%s",
			b.Name, errors.Join(err, ctx.Err()), b.Console())
	}
	b.running.Store(run)
	return nil
}

func (b *Box) startNspawn(notify string) (*exec.Cmd, error) {
	version := "v2"
	if b.conf.CgroupV1 {
		version = "v1"
	}
	args := []string{
		"--mount", "--propagation", "private", "bash", "-c", nspawnScript, "nspawn", b.dir, version,
		"--machine=" + b.Name, "--directory=" + b.Root, "--boot", "--quiet", "--console=pipe",
		"--register=no", "--keep-unit", "--notify-ready=yes",
		// The host's own settings must not affect a test.
		"--settings=no", "--link-journal=no", "--resolv-conf=off", "--timezone=off",
		// Containers may not use fanotify to learn who changes files; desktops may.
		"--system-call-filter=fanotify_init fanotify_mark name_to_handle_at",
	}
	for guest, host := range b.conf.Binds {
		args = append(args, "--bind-ro="+escapeColon(host)+":"+escapeColon(guest))
	}
	if b.conf.Network {
		args = append(args, "--network-namespace-path=/run/netns/"+b.Name, "--capability=CAP_NET_ADMIN")
	}
	console, err := os.OpenFile(filepath.Join(b.dir, "console"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer console.Close()
	cmd := exec.Command("unshare", args...)
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+notify)
	cmd.Stdout, cmd.Stderr = console, console
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	return cmd, cmd.Start()
}

func escapeColon(path string) string { return strings.ReplaceAll(path, ":", `\:`) }

// await returns when both the PID and READY=1 have arrived.
func (run *boot) await(notify *net.UnixConn) error {
	ready, buf := false, make([]byte, 4096)
	for run.leader == 0 || !ready {
		n, err := notify.Read(buf)
		if errors.Is(err, net.ErrClosed) {
			return errors.New("it went down or took too long")
		} else if err != nil {
			return err
		}
		for line := range bytes.Lines(buf[:n]) {
			field := strings.TrimSpace(string(line))
			if pid, ok := strings.CutPrefix(field, "X_NSPAWN_LEADER_PID="); ok {
				if run.leader, err = strconv.Atoi(pid); err != nil {
					return err
				}
			}
			ready = ready || field == "READY=1"
		}
	}
	return nil
}

// Leader returns the PID of the box's PID 1 on the host, or 0 if the box is off.
func (b *Box) Leader() int {
	if run := b.running.Load(); run != nil {
		return run.leader
	}
	return 0
}

// Off shuts the box down as a user would, and returns when it is off.
func (b *Box) Off(ctx context.Context) error { return b.goDown(ctx, powerOff) }

// Reboot shuts the box down as a user would and boots it again.
func (b *Box) Reboot(ctx context.Context) error {
	if err := b.goDown(ctx, restart); err != nil {
		return err
	}
	return b.Boot(ctx)
}

// Kill ends all processes of the box immediately, so that they cannot write anything more. The box
// can be booted again.
func (b *Box) Kill() {
	if run := b.running.Load(); run != nil {
		_ = unix.Kill(run.leader, unix.SIGKILL)
		<-run.ended
	}
}

// Wait returns when the box has gone down by itself, for a shutdown or a reboot, or immediately if
// it is off.
func (b *Box) Wait(ctx context.Context) error {
	run := b.running.Load()
	if run == nil {
		return nil
	}
	select {
	case <-run.ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("cannot wait for %s any longer, it is still up: %w", b.Name, ctx.Err())
	}
}

func (b *Box) goDown(ctx context.Context, how unix.Signal) error {
	leader := b.Leader()
	if leader == 0 {
		return fmt.Errorf("cannot shut %s down: it is off", b.Name)
	}
	if err := unix.Kill(leader, how); err != nil {
		return fmt.Errorf("cannot shut %s down: %w", b.Name, err)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return b.Wait(ctx)
}

// Console returns what the box wrote to its console in all its boots.
func (b *Box) Console() string {
	text, _ := os.ReadFile(filepath.Join(b.dir, "console"))
	return string(text)
}
