package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/test/box"
)

// shows is a property of a unit.
func (d *desktop) shows(t *testing.T, property, unit string) string {
	t.Helper()
	_, value, _ := strings.Cut(strings.TrimSpace(d.MustExec(t, "systemctl", "show", "-p", property, unit)), "=")
	return value
}

// mounted are the options of a mount, as findmnt says.
func (d *desktop) mounted(t *testing.T, point string) []string {
	t.Helper()
	return strings.Split(strings.TrimSpace(d.MustExec(t, "findmnt", "-no", "OPTIONS", point)), ",")
}

func TestWhatRunsOnTheOldTextOfItsUnitTakesInTheNewOneOrIsPending(t *testing.T) {
	t.Parallel()
	d := newDesktop(t, box.WithFiles(map[string]box.File{
		unitDir + "many@.service":    unit(stays, ""),
		unitDir + "often.service":    unit("Type=oneshot\nExecStart=/bin/true", ""),
		unitDir + "often.timer":      {Content: "[Timer]\nOnCalendar=2099-01-01\n"},
		unitDir + "seen.service":     unit("Type=oneshot\nExecStart=/bin/true", ""),
		unitDir + "seen.path":        {Content: "[Path]\nPathExists=/nowhere\n"},
		unitDir + "called.service":   unit(stays, ""),
		unitDir + "called.socket":    {Content: "[Socket]\nListenStream=/run/called\n"},
		unitDir + "idle.service":     unit(stays, ""),
		unitDir + "idle.socket":      {Content: "[Socket]\nListenStream=/run/idle\n"},
		unitDir + "srv-the_x.mount":  {Content: "[Mount]\nWhat=tmpfs\nWhere=/srv/the_x\nType=tmpfs\nOptions=nosuid\n"},
		unitDir + "srv-hand.mount":   {Content: "[Mount]\nWhat=tmpfs\nWhere=/srv/hand\nType=tmpfs\n"},
		unitDir + "dies.service":     unit(stays, ""),
		unitDir + "resting@.service": unit(stays, ""),
	}))
	d.MustExec(t, "systemctl", "daemon-reload")
	d.MustExec(t, "systemctl", "start", "many@one", "many@two", "often.timer", "seen.path", "called.socket", "called.service", "idle.socket", "srv-the_x.mount", "srv-hand.mount", "dies")
	session, err := d.Login(t.Context(), box.DesktopUser, "XDG_SESSION_TYPE=x11")
	if err != nil {
		t.Fatal(err)
	}
	etc := func(dir, content string) string {
		return fmt.Sprintf("[dropins.\"/etc/systemd/system/%s.d/10.conf\"]\ncontent = %q\n", dir, content)
	}
	toml := etc("many@.service", "[Service]\nEnvironment=NEW=1\n") + etc("resting@.service", "[Service]\nEnvironment=NEW=1\n") +
		etc("often.timer", "[Timer]\nOnCalendar=\nOnCalendar=2098-01-01\n") + etc("seen.path", "[Path]\nPathExists=\nPathExists=/elsewhere\n") +
		etc("called.socket", "[Socket]\nListenStream=/run/called2\n") + etc("idle.socket", "[Socket]\nListenStream=/run/idle2\n") +
		etc("srv-the_x.mount", "[Mount]\nOptions=nosuid,noexec,size=1m\n") + etc("srv-hand.mount", "[Mount]\nOptions=nodev\n") +
		etc("dies.service", "[Service]\nExecStart=\nExecStart=/bin/sh -c 'sleep 0.5; exit 7'\n")
	id := func(dir string) policy.ID { return policy.ID("dropin/etc/systemd/system/" + dir + ".d/10.conf") }
	o := d.apply(t, toml)
	o.wants(t, map[policy.ID]converge.State{
		id("many@.service"): converge.Pending, id("resting@.service"): converge.Corrected, id("often.timer"): converge.Corrected, id("seen.path"): converge.Corrected,
		id("called.socket"): converge.Pending, id("idle.socket"): converge.Pending, id("srv-the_x.mount"): converge.Corrected,
		id("srv-hand.mount"): converge.Corrected, id("dies.service"): converge.Pending,
	})
	if got := d.mounted(t, "/srv/the_x"); !slices.Contains(got, "noexec") || !slices.Contains(got, "nosuid") {
		t.Errorf("it is mounted with %s", got)
	}
	if got := d.shows(t, "NextElapseUSecRealtime", "often.timer"); !strings.Contains(got, "2098") {
		t.Errorf("the timer elapses at %s", got)
	}
	d.MustExec(t, "mount", "-o", "remount,exec", "/srv/the_x")
	d.plan(t).wants(t, map[policy.ID]converge.State{id("srv-the_x.mount"): converge.Drifted})
	if err := session.Logout(t.Context()); err != nil {
		t.Fatal(err)
	}
	o = d.apply(t, toml)
	o.wants(t, map[policy.ID]converge.State{
		id("many@.service"): converge.Corrected, id("idle.socket"): converge.Corrected, id("srv-the_x.mount"): converge.Corrected,
		id("called.socket"): converge.Pending, id("dies.service"): converge.Failed,
	})
	if r := o.resource(id("called.socket")); !strings.Contains(r.Reason, "called.service is running, which it has started") {
		t.Error(r.Reason)
	}
	for _, instance := range []string{"many@one", "many@two"} {
		pid := d.shows(t, "MainPID", instance)
		if environment := d.MustExec(t, "cat", "/proc/"+pid+"/environ"); !strings.Contains(environment, "NEW=1") {
			t.Errorf("%s runs with %q", instance, environment)
		}
	}
	d.MustExec(t, "test", "-S", "/run/idle2")
	d.MustExec(t, "systemctl", "stop", "called.service")
	toml = strings.ReplaceAll(toml, etc("dies.service", "[Service]\nExecStart=\nExecStart=/bin/sh -c 'sleep 0.5; exit 7'\n"), "")
	d.apply(t, toml).wants(t, map[policy.ID]converge.State{id("called.socket"): converge.Corrected})
	d.MustExec(t, "test", "-S", "/run/called2")
	d.apply(t, "services.\"none.service\" = { enabled = false }\n") // all of them go
	if got := d.mounted(t, "/srv/the_x"); slices.Contains(got, "noexec") || !slices.Contains(got, "nosuid") {
		t.Errorf("once its file has gone it is mounted with %s", got)
	}
	if got := d.shows(t, "NextElapseUSecRealtime", "often.timer"); !strings.Contains(got, "2099") {
		t.Errorf("once its file has gone the timer elapses at %s", got)
	}
	d.converged(t)
}

func TestAUnitWhoseFileLeavesThePolicyEndsWithItAndLeavesNoLink(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	file := func(name, content string) string {
		return fmt.Sprintf("[dropins.\"/etc/systemd/system/%s\"]\ncontent = %q\n", name, content)
	}
	service := "[Service]\n" + stays + "\n" + wanted
	both := file("ours.service", service+"Alias=ours-too.service\n") + file("ours.timer", "[Timer]\nOnCalendar=2099-01-01\n[Install]\nWantedBy=timers.target\n") +
		file("used.service", service) + file("each@.service", service) +
		"[services]\n\"ours.service\" = { enabled = true, running = true }\n\"ours.timer\" = { enabled = true, running = true }\n" +
		"\"used.service\" = { enabled = true, running = true }\n\"each@one.service\" = { enabled = true, running = true }\n"
	d.apply(t, both)
	d.converged(t)
	session, err := d.Login(t.Context(), box.DesktopUser, "XDG_SESSION_TYPE=x11")
	if err != nil {
		t.Fatal(err)
	}
	const nothing = "services.\"none.service\" = { enabled = false }\n"
	o := d.apply(t, nothing)
	const id = "dropin/etc/systemd/system/ours.service"
	if r := o.resource(id); r.State != converge.Pending || !strings.Contains(r.Reason, "runs though its file has gone, and user is logged in") {
		t.Errorf("under a session it is %s: %s", r.State, r.Reason)
	}
	if d.fails(t.Context(), "systemctl", "is-active", "ours.service") {
		t.Error("it was stopped while somebody was logged in")
	}
	if err := session.Logout(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.apply(t, nothing)
	for _, name := range []string{"ours.service", "ours.timer", "used.service", "each@one.service"} {
		if !d.fails(t.Context(), "systemctl", "is-active", name) {
			t.Errorf("%s runs on", name)
		}
	}
	if left := d.MustExec(t, "find", "/etc/systemd/system", "-xtype", "l", "(", "-name", "*ours*", "-o", "-name", "used*", "-o", "-name", "each*", ")"); left != "" {
		t.Errorf("links that lead to nothing: %s", left)
	}
	d.converged(t)
}
