package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
	"github.com/soe-agent/soe-agent/test/box"
)

func TestASessionIsKnownAsLogindKnowsIt(t *testing.T) {
	b := newDesktop(t, box.WithFiles(map[string]box.File{
		"/etc/pam.d/sshd":                            {Content: "account required pam_permit.so\nsession required pam_systemd.so\n"},
		"/etc/pam.d/lightdm-greeter":                 {Content: "account required pam_permit.so\nsession required pam_systemd.so class=greeter\n"},
		"/etc/pam.d/crond":                           {Content: "account required pam_permit.so\nsession required pam_systemd.so\n"},
		"/var/lib/systemd/linger/" + box.DomainAdmin: {},
	}))
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", fmt.Sprintf("unix:path=/proc/%d/root/run/dbus/system_bus_socket", b.Leader()))
	s, err := system.Open(system.Options{})
	if err != nil {
		t.Fatal(err)
	}
	says := func(anybody, atDesktop string, want ...system.Session) {
		t.Helper()
		got, err := s.Sessions.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(system.Session{}, "Since", "Leader"), cmpopts.SortSlices(func(a, b system.Session) bool { return a.ID < b.ID })); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		for _, session := range got {
			if session.Leader <= 0 {
				t.Errorf("session %s is opened by nobody", session.ID)
			}
			if age := time.Since(session.Since); age < 0 || age > 10*time.Minute {
				t.Errorf("session %s has been there since %s", session.ID, session.Since)
			}
		}
		person, err := facts.LoggedIn(t.Context(), s)
		if err != nil || person != anybody {
			t.Errorf("logged in is %q, %v", person, err)
		}
		if person, err = facts.AtDesktop(t.Context(), s); err != nil || person != atDesktop {
			t.Errorf("at the desktop is %q, %v", person, err)
		}
	}
	logIn := func(service, user string, env ...string) *box.Session {
		t.Helper()
		session, err := b.LoginBy(t.Context(), service, user, env...)
		if err != nil {
			t.Fatal(err)
		}
		return session
	}
	// Somebody lingers; a greeter waits; a job runs.
	logIn("lightdm-greeter", box.DomainAdmin, "XDG_SESSION_TYPE=x11")
	logIn("crond", box.DesktopUser)
	says("", "")

	ssh := logIn("sshd", box.DomainAdmin, "XDG_SESSION_TYPE=tty")
	remote := system.Session{ID: ssh.ID, UID: 5001, User: box.DomainAdmin, Service: "sshd", Type: "tty", Class: "user", State: "active"}
	says(box.DomainAdmin, "", remote)

	desktop := logIn("login", box.DesktopUser, "XDG_SESSION_TYPE=x11")
	local := system.Session{ID: desktop.ID, UID: 1000, User: box.DesktopUser, Service: "login", Type: "x11", Class: "user", State: "active"}
	if err := ssh.Logout(t.Context()); err != nil {
		t.Fatal(err)
	}
	says(box.DesktopUser, box.DesktopUser, local)

	object := dbus.ObjectPath(strings.Fields(b.MustExec(t, "busctl", "call", "org.freedesktop.login1", "/org/freedesktop/login1",
		"org.freedesktop.login1.Manager", "GetSession", "s", desktop.ID))[1])
	for _, hint := range []string{"SetIdleHint", "SetLockedHint"} {
		b.MustExecAs(t, box.DesktopUser, "busctl", "call", "org.freedesktop.login1", strings.Trim(string(object), `"`), "org.freedesktop.login1.Session", hint, "b", "true")
	}
	local.Idle, local.Locked = true, true
	says(box.DesktopUser, box.DesktopUser, local)

	if err := desktop.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	local.State = "closing"
	says("", "", local)
}

func TestWhatASessionHangsOnByWayOfOtherUnitsIsNotStopped(t *testing.T) {
	t.Parallel()
	d := newDesktop(t, box.WithFiles(map[string]box.File{
		unitDir + "helper.service":          unit(stays, wanted),
		unitDir + "lens.service":            unit(stays, wanted),
		unitDir + "rival.service":           {Content: "[Unit]\nConflicts=accounts-daemon.service\n[Service]\n" + stays + "\n" + wanted},
		unitDir + "accounts-daemon.service": {Content: "[Unit]\nPartOf=lens.service\n[Service]\n" + stays + "\n" + wanted},
		unitDir + box.PCoIPService:          {Content: "[Unit]\nBindsTo=helper.service\nAfter=helper.service\n[Service]\n" + stays + "\n" + wanted},
	}))
	d.MustExec(t, "systemctl", "start", "lens.service", "accounts-daemon.service")
	process := d.agentProcess(t)
	session, err := d.Login(t.Context(), box.DesktopUser)
	if err != nil {
		t.Fatal(err)
	}
	const toml = `services."helper.service" = { running = false }
services."lens.service" = { running = false }
services."rival.service" = { running = true }
`
	o := d.apply(t, toml)
	o.wants(t, map[policy.ID]converge.State{
		"service/helper.service": converge.Failed, "service/lens.service": converge.Pending, "service/rival.service": converge.Pending,
	})
	for id, reason := range map[policy.ID]string{
		"service/helper.service": "pcoip.service would stop: it carries the streaming session",
		"service/lens.service":   "user is logged in, whose session would end with accounts-daemon.service, which goes with lens.service",
		"service/rival.service":  "accounts-daemon.service, which goes with rival.service",
	} {
		if r := o.resource(id); !strings.Contains(r.Reason, reason) {
			t.Errorf("%s: %s", id, r.Reason)
		}
	}
	if d.agentProcess(t) != process || d.fails(t.Context(), "systemctl", "is-active", "accounts-daemon.service") {
		t.Error("what carries the session was stopped")
	}
	if err := session.Logout(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.apply(t, toml).wants(t, map[policy.ID]converge.State{
		"service/helper.service": converge.Failed, "service/lens.service": converge.Corrected, "service/rival.service": converge.Corrected,
	})
	if d.agentProcess(t) != process || !d.fails(t.Context(), "systemctl", "is-active", "accounts-daemon.service") {
		t.Error("the streaming agent was stopped, or accounts-daemon was not")
	}
}
