package e2e

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/agent"
	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/system"
	"github.com/soe-agent/soe-agent/test/box"
)

func TestServicesAreFollowedOnAfterTheBusHasGoneAwayAndComeBack(t *testing.T) {
	b := newBox(t, box.ThinImage(), box.WithFiles(map[string]box.File{
		"/etc/systemd/system/soe-probe.service": {Content: "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n"},
	}))
	b.MustExec(t, "systemctl", "start", "soe-probe.service")
	told, _ := followBus(t, b)
	next(t, told, "watcher") // that the bus is there
	drain(told)
	for range 2 {
		b.MustExec(t, "systemctl", "kill", "--signal=KILL", "dbus.service")
		next(t, told, "watcher") // for nobody knows what has changed meanwhile
		drain(told)
		b.MustExec(t, "systemctl", "restart", "soe-probe.service")
		next(t, told, "watcher")
		drain(told)
	}
}

// drain takes out what is told of one change.
func drain(told <-chan string) {
	for {
		select {
		case <-told:
		case <-time.After(300 * time.Millisecond): // there may be one more signal to the same change
			return
		}
	}
}

func TestWhoWritesToAFileIsNamedHoweverItIsDone(t *testing.T) {
	s, err := system.Open(system.Options{})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	target := filepath.Join(dir, "a.conf")
	if err := os.WriteFile(target, []byte("right"), 0o600); err != nil {
		t.Fatal(err)
	}
	type seen struct {
		name string
		by   system.Writer
	}
	ctx, cancel := context.WithCancel(t.Context())
	all, ended := make(chan seen, 1000), make(chan error, 1)
	go func() {
		ended <- s.Writers.Monitor(ctx, []string{dir}, func(name string, by system.Writer) { all <- seen{name, by} })
	}()
	for _, script := range []string{
		"echo x >> " + target,
		"echo x > " + dir + "/.new; mv " + dir + "/.new " + target,
		"chmod 644 " + target,
		"rm " + target,
	} {
		// The shell waits, so that it can be asked who it is.
		other := exec.Command("/bin/bash", "-c", "while "+script+"; sleep 0.05; do touch "+target+"; done")
		if err := other.Start(); err != nil {
			t.Fatal(err)
		}
		timeout := time.After(3 * soon)
		for named := false; !named; {
			select {
			case one := <-all:
				named = one.name == target && strings.HasPrefix(one.by.Exe, "/")
			case err := <-ended:
				t.Fatal(err)
			case <-timeout:
				t.Fatalf("nobody is named for: %s", script)
			}
		}
		_ = other.Process.Kill()
		_ = other.Wait()
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("it ends with %v", err)
	}
}

// The other one is a service, as a forgotten script is, and does not look before it
// writes.
func TestAnOtherWriterIsLeftAloneNamedAndNotFoughtWhenItHasStopped(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t, box.WithFiles(map[string]box.File{
		"/usr/local/sbin/other":             {Mode: 0o755, Content: "#!/bin/sh\nwhile sleep 0.1; do cp /etc/hostname /etc/profile.d/soe-00.sh; done\n"},
		"/etc/systemd/system/other.service": {Content: "[Service]\nExecStart=/usr/local/sbin/other\n"},
	}))
	w.bootWith(t, 1, w.fleetPolicy())
	w.MustExec(t, "systemctl", "start", "other.service")
	var r converge.Resource
	w.until(t, "the other writer is named", func() bool {
		r = w.report(t).resource("dropin/etc/profile.d/soe-00.sh")
		return r.State == converge.Contested && strings.Contains(r.Reason, "other.service (pid ")
	})
	if !strings.HasPrefix(r.Reason, "something else keeps changing it back: other.service (pid ") {
		t.Errorf("the reason is %q", r.Reason)
	}
	// Everything else is kept as ever.
	before := time.Now()
	w.MustExec(t, "sh", "-c", "echo x > /etc/profile.d/soe-03.sh")
	w.mended(t, "dropin/etc/profile.d/soe-03.sh", before)
	if s, _ := w.status(t); s.Phase != agent.Keeping && s.Phase != agent.Converging {
		t.Errorf("it is %s", s.Phase)
	}
	before = time.Now()
	w.MustExec(t, "systemctl", "stop", "other.service")
	w.mended(t, "dropin/etc/profile.d/soe-00.sh", before)
	w.converged(t, 1)
}
