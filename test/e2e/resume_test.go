package e2e

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/soe-agent/soe-agent/internal/bus"
	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/system"
	"github.com/soe-agent/soe-agent/internal/watch"
	"github.com/soe-agent/soe-agent/test/box"
)

// sleepless lets logind send the machine to sleep, and lets it wake at once: the
// kernel below is shared.
const sleepless = `set -e
mkdir -p /run/power /run/systemd/system/systemd-suspend.service.d
printf '[Service]\nExecStart=\nExecStart=/bin/true\n' > /run/systemd/system/systemd-suspend.service.d/sleepless.conf
systemctl daemon-reload
echo 'freeze mem' > /run/power/state
echo '[s2idle]' > /run/power/mem_sleep
mount --bind /run/power /sys/power`

func suspend(t *testing.T, b *box.Box) {
	t.Helper()
	b.MustExec(t, "busctl", "call", "org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager", "Suspend", "b", "false")
}

// watcher watches a unit and the sessions.
type watcher struct{}

func (watcher) Name() string                                                   { return "watcher" }
func (watcher) Check(context.Context) ([]converge.Resource, error)             { return nil, nil }
func (watcher) Repair(context.Context, []converge.Resource) []converge.Outcome { return nil }
func (watcher) Watches() []converge.Watch {
	return []converge.Watch{{Unit: "soe-probe.service"}, {Sessions: true}}
}

// followBus follows a box's own bus from here, and returns what is told and a
// connection that asks for no signals.
func followBus(t *testing.T, b *box.Box) (told <-chan string, bystander *dbus.Conn) {
	t.Helper()
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", fmt.Sprintf("unix:path=/proc/%d/root/run/dbus/system_bus_socket", b.Leader()))
	bystander, err := dbus.ConnectSystemBus()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { bystander.Close() })
	s, err := system.Open(system.Options{})
	if err != nil {
		t.Fatal(err)
	}
	changes := make(chan string, 1000)
	w := watch.New(s.FS, slog.New(slog.NewTextHandler(os.Stderr, nil)), func(kind string) {
		if kind != watch.WatchesChanged { // the bus goes away and comes back
			changes <- kind
		}
	})
	w.Follow([]converge.Kind{watcher{}}, t.TempDir(), "/etc/soe-agent/agent.toml")
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		w.Run(ctx)
		close(ended)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return changes, bystander
}

func next(t *testing.T, told <-chan string, want string) {
	t.Helper()
	select {
	case got := <-told:
		if got != want {
			t.Fatalf("told of %q, want %q", got, want)
		}
	case <-time.After(3 * soon):
		t.Fatalf("told of nothing, want %q", want)
	}
}

func TestAResumeIsWhatLogindSaysAndNobodyElse(t *testing.T) {
	b := newBox(t, box.ThinImage(), withTool(t, "forge"), box.WithFiles(map[string]box.File{
		"/etc/systemd/system/soe-probe.service": {Content: "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n"},
	}))
	b.MustExec(t, "sh", "-c", sleepless)
	told, bystander := followBus(t, b)
	for following := false; !following; {
		b.MustExec(t, "systemctl", "restart", "soe-probe.service")
		select {
		case <-told:
			following = true
		case <-time.After(200 * time.Millisecond):
		}
	}
	suspend(t, b)
	for what := ""; what != watch.Resumed; { // by then all of the restarts has been told
		select {
		case what = <-told:
		case <-time.After(3 * soon):
			t.Fatal("the resume is not told")
		}
	}

	received := make(chan *dbus.Signal, 100)
	bystander.Signal(received)
	b.MustExecAs(t, box.DesktopUser, "forge", "1", "/org/freedesktop/systemd1/unit/soe_2dprobe_2eservice")
	missing := map[string]bool{"org.freedesktop.DBus.NameOwnerChanged": true}
	for _, signal := range slices.Concat(system.JobSignals(), watch.Signals(), bus.Signals()) {
		missing[signal.Name] = true
	}
	for len(missing) > 0 {
		select {
		case signal := <-received:
			delete(missing, signal.Name)
		case <-time.After(3 * soon):
			t.Fatalf("the bus holds back what is sent to one connection, and this test shows nothing: %v", missing)
		}
	}

	for range 2 {
		suspend(t, b)
		next(t, told, watch.Resumed) // and before it nothing
		b.MustExec(t, "systemctl", "restart", "systemd-logind.service")
		for range 2 { // for the unit and for the sessions: nobody told of anything meanwhile
			next(t, told, "watcher")
		}
	}
	b.MustExec(t, "systemctl", "stop", "soe-probe.service")
	next(t, told, "watcher")
}

func TestAfterAResumeEverythingIsLookedAtAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t)
	// Nobody watches what a check looks at: it runs when the agent starts and from time to time.
	const fragment = "schema = 1\n[checks.flag]\nrun = [\"/usr/bin/test\", \"-e\", \"/root/flag\"]\n"
	w.publishOnly(t, 1, map[string]string{"10-base": fragment})
	w.MustWriteFile(t, "/root/flag", box.File{})
	w.activate(t)
	w.boot(t)
	w.converged(t, 1)
	w.MustExec(t, "sh", "-c", sleepless)
	w.MustExec(t, "rm", "/root/flag")
	suspend(t, w.Box)
	w.until(t, "the check is seen not to hold", func() bool { return w.report(t).resource("check/flag").State == converge.Failed })
	if journal := w.MustExec(t, "journalctl", "--no-pager", "-u", "soe-agent"); strings.Count(journal, "the machine has resumed") != 1 {
		t.Errorf("the journal does not tell of one resume:\n%s", journal)
	}
}
