package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/test/box"
)

// dconfFiles are all files of dconf's but people's own, with their content.
func (d *desktop) dconfFiles(t *testing.T) string {
	t.Helper()
	return d.MustExec(t, "sh", "-c", "find /etc/dconf /run/dconf ! -type d -printf '%p %m %u %l ' -exec md5sum {} \\; 2>/dev/null | sort; ls -A /run/dconf 2>/dev/null; true")
}

// watchSession starts a program on the user's desktop that is told of every
// change of org.mate.session, and returns a wait for a line that it writes then.
func (d *desktop) watchSession(t *testing.T) (until func(line string)) {
	t.Helper()
	const watched = "/home/" + box.DesktopUser + "/watched"
	d.MustExecAs(t, box.DesktopUser, "sh", "-c", "setsid gsettings monitor org.mate.session > ~/watched 2>&1 < /dev/null &")
	poll := func(line string, meanwhile func(i int)) bool {
		for i := range 2400 {
			meanwhile(i)
			if strings.Contains(d.MustReadFile(t, watched), line+"\n") {
				return true
			}
			time.Sleep(25 * time.Millisecond)
		}
		return false
	}
	// It listens when it has heard of a change of the user's own.
	listens := poll("gnome-compat-startup: ['ping']", func(i int) {
		d.asUser(t, "gsettings", "set", "org.mate.session", "gnome-compat-startup", []string{"['ping']", "['pong']"}[i%2])
	})
	if !listens {
		t.Fatal("the program is told of nothing")
	}
	return func(line string) {
		t.Helper()
		if !poll(line, func(int) {}) {
			t.Errorf("a running program did not hear of %q, but of:\n%s", line, d.MustReadFile(t, watched))
		}
	}
}

func TestARunningSessionSeesEveryChangeOfSettingsAndTheirEnd(t *testing.T) {
	t.Parallel()
	const lockEnabled = "\n[dconf.\"org/mate/screensaver\"]\nlock-enabled = true\n"
	d := newDesktop(t)
	d.asUser(t, "dbus-run-session", "dconf", "write", "/org/mate/screensaver/lock-enabled", "false")
	before := d.dconfFiles(t)
	d.apply(t, desktopSettings+lockEnabled).wants(t, allSettings(converge.Corrected))
	if _, err := d.Login(t.Context(), box.DesktopUser, "XDG_SESSION_TYPE=x11"); err != nil {
		t.Fatal(err)
	}
	until := d.watchSession(t)
	if got := d.asUser(t, "gsettings", "get", "org.mate.screensaver", "lock-enabled"); got != "true" {
		t.Errorf("the user's own value wins over a lock: %s", got)
	}

	changed := strings.NewReplacer("idle-delay = 10", "idle-delay = 20", `"zoom", lock = false`, `"zoom", lock = true`).Replace(desktopSettings)
	d.apply(t, changed+lockEnabled).wants(t, map[policy.ID]converge.State{
		"dconf/org/mate/desktop/session/idle-delay": converge.Corrected,
		"dconf/profile": converge.Compliant,
	})
	until("idle-delay: 20")
	if got := d.asUser(t, "gsettings", "get", "org.mate.session", "idle-delay"); got != "20" {
		t.Errorf("the idle delay is %s", got)
	}
	if d.isWritable(t, "org.mate.background", "picture-options") {
		t.Error("what has been locked since the login is not")
	}

	d.apply(t, "").wants(t, map[policy.ID]converge.State{"dconf/database": converge.Corrected})
	until("idle-delay: 5")
	for _, key := range [][2]string{{"org.mate.background", "picture-filename"}, {"org.mate.session", "idle-delay"}} {
		if !d.isWritable(t, key[0], key[1]) {
			t.Errorf("%s is still locked", key[1])
		}
	}
	if got := d.asUser(t, "gsettings", "get", "org.mate.session", "idle-delay"); got != "5" {
		t.Errorf("the idle delay is %s and not the default", got)
	}
	if got := d.asUser(t, "gsettings", "get", "org.mate.screensaver", "lock-enabled"); got != "false" {
		t.Errorf("the user's own value is %s", got)
	}
	if after := d.dconfFiles(t); after != before {
		t.Errorf("before the settings:\n%s\nafter them:\n%s", before, after)
	}
	d.converged(t)
	if o := d.apply(t, ""); len(o.Resources) != 0 {
		t.Errorf("a second apply reports %v", o.Resources)
	}
	d.apply(t, desktopSettings)
	if d.isWritable(t, "org.mate.background", "picture-filename") {
		t.Error("settings that come back are not locked")
	}
}

func TestAProfileIsGivenBackAsItWas(t *testing.T) {
	t.Parallel()
	const (
		profile = "/etc/dconf/profile/user"
		site    = "# site\r\nuser-db:user   # people's own\r\nsystem-db:local\r\nfile-db:/opt/site/defaults\r\n"
		ours    = "# site\r\nuser-db:user   # people's own\r\nsystem-db:soe\nsystem-db:local\r\nfile-db:/opt/site/defaults\r\n"
	)
	d := newDesktop(t)
	d.MustExec(t, "sh", "-c", "mkdir -p /opt/site/d /etc/dconf/db/local.d /run/dconf/user; printf '[com/example/site]\nword=1\n' > /opt/site/d/a; dconf compile /opt/site/defaults /opt/site/d; dconf update")
	d.MustWriteFile(t, profile, box.File{Content: site})
	d.MustWriteFile(t, "/run/dconf/user/4711", box.File{Content: "user-db:user\n"})
	list := d.dconfFiles(t)
	d.apply(t, desktopSettings)
	if got := d.MustReadFile(t, profile); got != ours {
		t.Errorf("the profile is\n%q", got)
	}
	if got := d.asUser(t, "dconf", "read", "/com/example/site/word"); got != "1" {
		t.Errorf("the site's file-db is not in force: %q", got)
	}
	d.apply(t, "").wants(t, map[policy.ID]converge.State{"dconf/database": converge.Corrected})
	if after := d.dconfFiles(t); after != list {
		t.Errorf("before the settings:\n%s\nafter them:\n%s", list, after)
	}

	// Of a profile that has been changed since, only the agent's line goes.
	d.apply(t, desktopSettings)
	d.MustExec(t, "sh", "-c", "echo system-db:more >> "+profile)
	d.apply(t, "").wants(t, map[policy.ID]converge.State{"dconf/database": converge.Corrected})
	if got := d.MustReadFile(t, profile); got != site+"system-db:more\n" {
		t.Errorf("the profile is\n%q", got)
	}
	d.converged(t)
}

func TestWithoutDconfAndItsLedgerTheSettingsGoAllTheSame(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	d.apply(t, desktopSettings)
	d.MustExec(t, "sh", "-c", "rm -r /var/lib/soe-agent; mv /usr/bin/dconf /usr/bin/dconf.away")
	d.apply(t, "").wants(t, map[policy.ID]converge.State{"dconf/database": converge.Corrected})
	if got := d.dconfFiles(t); strings.Contains(got, "soe") || strings.Contains(got, "/run/dconf") {
		t.Errorf("it has left\n%s", got)
	}
	if got := d.MustReadFile(t, "/etc/dconf/profile/user"); got != "user-db:user\n" {
		t.Errorf("the profile is %q", got)
	}
	if !d.isWritable(t, "org.mate.background", "picture-filename") {
		t.Error("the background is still locked")
	}
	d.converged(t)
}

func TestWhoeverIsLoggedInHasAMandatoryProfileAndADirectoryIsNotRemoved(t *testing.T) {
	t.Parallel()
	const guest = "/run/dconf/user/990"
	d := newDesktop(t)
	d.MustExec(t, "useradd", "--system", "--uid", "990", "--create-home", "--home-dir", "/srv/guest", "--shell", "/bin/sh", "guest")
	d.apply(t, desktopSettings).wants(t, allSettings(converge.Corrected))
	if !d.fails(t.Context(), "test", "-e", guest) {
		t.Fatal("there is a mandatory profile before the login, so that this test tests nothing")
	}
	if _, err := d.Login(t.Context(), "guest", "XDG_SESSION_TYPE=x11"); err != nil {
		t.Fatal(err)
	}
	d.apply(t, desktopSettings).wants(t, map[policy.ID]converge.State{"dconf/profile": converge.Corrected})
	if got := d.MustReadFile(t, guest); got != "user-db:user\nsystem-db:soe\n" {
		t.Errorf("the mandatory profile is %q", got)
	}
	d.converged(t)

	d.MustExec(t, "sh", "-c", "rm /etc/dconf/db/soe; mkdir /etc/dconf/db/soe; echo precious > /etc/dconf/db/soe/file")
	o := d.apply(t, desktopSettings)
	o.wants(t, map[policy.ID]converge.State{"dconf/database": converge.Failed})
	if reason := o.resource("dconf/database").Reason; !strings.Contains(reason, "/etc/dconf/db/soe") {
		t.Errorf("the reason is %q", reason)
	}
	if got := d.MustReadFile(t, "/etc/dconf/db/soe/file"); got != "precious\n" {
		t.Errorf("what is in the directory is %q", got)
	}
	d.MustExec(t, "rm", "-r", "/etc/dconf/db/soe")
	d.apply(t, desktopSettings).wants(t, map[policy.ID]converge.State{"dconf/database": converge.Corrected})
	d.converged(t)
}

const laterSchema = `<schemalist><schema id="com.example.later" path="/com/example/later/">
<key name="size" type="u"><range min="1" max="9"/><default>1</default></key>
</schema></schemalist>
`

func TestAKeyWhoseSchemaComesWithAPackageIsSetInTheSameApply(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	settings := desktopSettings + "[dconf.\"com/example/later\"]\nsize = 7\n"
	o := d.apply(t, settings)
	o.wants(t, map[policy.ID]converge.State{
		"dconf/com/example/later/size":              converge.Failed,
		"dconf/org/mate/desktop/session/idle-delay": converge.Corrected,
	})
	if reason := o.resource("dconf/com/example/later/size").Reason; !strings.Contains(reason, "no installed schema has this path") {
		t.Errorf("the reason is %q", reason)
	}
	// What a package with schemas does when it is installed.
	d.MustWriteFile(t, "/root/later.gschema.xml", box.File{Content: laterSchema})
	d.MustExec(t, "systemd-run", "--quiet", "sh", "-c", `until [ -e /run/soe-slow.started ]; do sleep 0.05; done
cp /root/later.gschema.xml /usr/share/glib-2.0/schemas && glib-compile-schemas /usr/share/glib-2.0/schemas && touch /run/soe-slow.release`)
	o = d.apply(t, settings+d.repository()+"[packages]\nsoe-slow = \"present\"\n")
	if state := o.resource("dconf/com/example/later/size").State; !state.InLine() {
		t.Errorf("it is %s: %s", state, o.resource("dconf/com/example/later/size").Reason)
	}
	o.wants(t, map[policy.ID]converge.State{"package/soe-slow": converge.Corrected})
	if got := d.asUser(t, "gsettings", "get", "com.example.later", "size"); got != "uint32 7" {
		t.Errorf("the value is %s", got)
	}
	d.converged(t)
}
