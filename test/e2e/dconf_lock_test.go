package e2e

import (
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/test/box"
)

// Of several databases that lock a key, dconf reads it from the lowest: whatever
// stands above is passed over.
func TestALockOfADatabaseBelowIsNotTakenForOurs(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	const key, free = "dconf/org/mate/desktop/background/picture-filename", "dconf/org/mate/desktop/background/picture-options"
	site := func(keyfile, locks string) {
		d.MustWriteFile(t, "/etc/dconf/db/site.d/00-site", box.File{Content: keyfile})
		d.MustWriteFile(t, "/etc/dconf/db/site.d/locks/00-site", box.File{Content: locks})
		d.MustExec(t, "sh", "-c", "touch /etc/dconf/db/site.d && dconf update")
	}
	d.MustWriteFile(t, "/etc/dconf/profile/user", box.File{Content: "user-db:user\nsystem-db:local\nsystem-db:site\n"})
	site("[org/mate/desktop/background]\npicture-filename='/usr/share/backgrounds/site.png'\n", "/org/mate/desktop/background/picture-filename\n")
	o := d.apply(t, desktopSettings)
	o.wants(t, map[policy.ID]converge.State{key: converge.Failed, free: converge.Corrected})
	if r := o.resource(key); !strings.Contains(r.Reason, "/etc/dconf/db/site") {
		t.Errorf("the reason does not name the database: %s", r.Reason)
	}
	if got := d.asUser(t, "gsettings", "get", "org.mate.background", "picture-filename"); got != "'/usr/share/backgrounds/site.png'" {
		t.Fatalf("the user's background is %s, so that this test tests nothing", got)
	}
	site("[org/mate/desktop/background]\npicture-filename='/usr/share/backgrounds/soe.png'\n", "/org/mate/desktop/background/picture-filename\n")
	d.converged(t) // the same, so that it does not matter whose it is
	site("", "/org/mate/desktop/background/picture-filename\n/org/mate/desktop/background/picture-options\n")
	// Locked without a value is locked to the default of the schema.
	d.plan(t).wants(t, map[policy.ID]converge.State{key: converge.Failed, free: converge.Failed})
	// dconf follows a link, whoever has turned it.
	d.MustExec(t, "sh", "-ec", "rm -r /etc/dconf/db/site.d; mkdir -p /opt/site; mv /etc/dconf/db/site /opt/site/db; ln -s /opt/site/db /etc/dconf/db/site")
	d.plan(t).wants(t, map[policy.ID]converge.State{key: converge.Failed, free: converge.Failed})
	d.MustExec(t, "rm", "/opt/site/db")
	d.converged(t)
	d.MustExec(t, "chown", box.DesktopUser, "/opt/site")
	o = d.plan(t)
	o.wants(t, map[policy.ID]converge.State{key: converge.Failed, free: converge.Compliant})
	if r := o.resource(key); !strings.Contains(r.Reason, "/etc/dconf/db/site") || !strings.Contains(r.Reason, "others may change it") {
		t.Errorf("the reason does not say who may lock it: %s", r.Reason)
	}
	d.MustExec(t, "rm", "/etc/dconf/db/site")
	d.converged(t)
}

// dconf looks for a profile in /etc, and then where the machine's own programs have theirs; and follows links.
func TestTheSourcesOfAProfileStayWhereverDconfFindsIt(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	const profile = "user-db:user\nsystem-db:site\n"
	for _, prepare := range []string{
		"mkdir -p /usr/local/share/dconf/profile; printf '%s' >/usr/local/share/dconf/profile/user",
		"mkdir -p /etc/dconf/profile; printf '%s' >/opt/profile; ln -s /opt/profile /etc/dconf/profile/user",
	} {
		d.MustExec(t, "sh", "-ec", "rm -rf /etc/dconf/profile /usr/local/share/dconf /run/dconf; "+strings.ReplaceAll(prepare, "%s", strings.ReplaceAll(profile, "\n", "\\n")))
		d.apply(t, desktopSettings).wants(t, map[policy.ID]converge.State{"dconf/profile": converge.Corrected})
		const want = "user-db:user\nsystem-db:soe\nsystem-db:site\n"
		for _, file := range []string{"/etc/dconf/profile/user", "/run/dconf/user/1000"} {
			if got := d.MustReadFile(t, file); got != want {
				t.Errorf("after %s %s is %q", prepare, file, got)
			}
		}
		d.converged(t)
	}
	// A person's own that others may write is not everybody's to believe.
	d.MustExec(t, "sh", "-ec", "printf 'user-db:user\nsystem-db:mine\n' >/etc/dconf/profile/user2; useradd --uid 1500 --create-home user2; chown user2 /etc/dconf/profile/user2")
	d.apply(t, desktopSettings)
	if got := d.MustReadFile(t, "/run/dconf/user/1500"); strings.Contains(got, "mine") {
		t.Errorf("the mandatory profile is %q", got)
	}
	if r := d.plan(t).resource("dconf/profile"); !strings.Contains(r.Reason, "/etc/dconf/profile/user2 has no effect, for others than root may write it") {
		t.Errorf("that it does not count is not said: %s", r.Reason)
	}
}

func TestAProfileInTheRuntimeDirectoryDoesNotWalkAroundALock(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	d.MustExecAs(t, box.DesktopUser, "sh", "-c", "mkdir -p ~/run/dconf && echo user-db:user > ~/run/dconf/profile")
	bypass := "XDG_RUNTIME_DIR=/home/" + box.DesktopUser + "/run"
	d.MustExec(t, "sh", "-ec", `useradd --uid 1500 --create-home alice; mkdir -p /etc/dconf/profile /etc/dconf/db/kiosk.d/locks
		printf 'user-db:user\nsystem-db:kiosk\n' >/etc/dconf/profile/alice; printf 'user-db:user\nsystem-db:other\n' >/etc/dconf/profile/exam
		printf '[com/example/kiosk]\nmenu=false\n' >/etc/dconf/db/kiosk.d/0; echo /com/example/kiosk/menu >/etc/dconf/db/kiosk.d/locks/0; dconf update`)
	const terminal = "org/gnome/terminal/legacy/profiles:/:b1dcc9dd-5262-4d8d-a863-c897e6d979b9"
	o := d.apply(t, desktopSettings+"\n[dconf.\""+terminal+"\"]\nfont = { gvariant = \"'Monospace 12'\" }\n")
	o.wants(t, map[policy.ID]converge.State{"dconf/" + terminal + "/font": converge.Corrected})
	d.converged(t)
	// What somebody keeps for one person stays theirs, locks and all, below ours.
	if got := d.MustReadFile(t, "/run/dconf/user/1500"); got != "user-db:user\nsystem-db:soe\nsystem-db:kiosk\n" {
		t.Errorf("the mandatory profile of alice is %q", got)
	}
	locks := d.MustExecAs(t, "alice", "env", "DCONF_PROFILE=alice", "dconf", "list-locks", "/")
	for _, lock := range []string{"/com/example/kiosk/menu\n", "/" + terminal + "/font\n", "/org/mate/desktop/background/picture-filename\n"} {
		if !strings.Contains(locks, lock) {
			t.Errorf("%q is not locked for alice: %s", lock, locks)
		}
	}
	if got := d.MustExecAs(t, "alice", "dconf", "read", "/"+terminal+"/font"); got != "'Monospace 12'\n" {
		t.Error(got)
	}
	if r := d.plan(t).resource("dconf/profile"); !strings.Contains(r.Reason, "system-db:other of /etc/dconf/profile/exam has no effect") {
		t.Errorf("what is lost is not named: %s", r.Reason)
	}
	if d.isWritable(t, "org.mate.background", "picture-filename", bypass) {
		t.Error("with a profile of the user's own the user can change the locked background")
	}
	d.MustExec(t, "rm", "-r", "/run/dconf")
	if !d.isWritable(t, "org.mate.background", "picture-filename", bypass) {
		t.Fatal("the bypass does not work at all, so that this test tests nothing")
	}
}

// A program that is started with another backend asks dconf for nothing: no lock holds it.
func TestSettingsOfSomebodysOwnInPlaceOfLockedOnesAreFoundAndReported(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	const finding, key = "dconf/keyfiles", "dconf/org/mate/desktop/background/picture-filename"
	const file = "/home/" + box.DesktopUser + "/.config/glib-2.0/settings/keyfile"
	d.apply(t, desktopSettings)
	as := func(script string) { d.MustExecAs(t, box.DesktopUser, "sh", "-c", script) }
	as("GSETTINGS_BACKEND=keyfile gsettings set org.mate.background picture-filename /home/user/mine.png")
	if got := d.asUser(t, "env", "GSETTINGS_BACKEND=keyfile", "gsettings", "get", "org.mate.background", "picture-filename"); !strings.Contains(got, "mine.png") {
		t.Fatalf("the lock holds for %s all the same, and this test shows nothing", got)
	}
	o := d.plan(t)
	o.wants(t, map[policy.ID]converge.State{finding: converge.Failed, key: converge.Compliant})
	if r := o.resource(finding); o.Code != 2 || !strings.Contains(r.Reason, file) || !strings.Contains(r.Reason, "picture-filename") || strings.Contains(r.Reason, "mine.png") {
		t.Errorf("exit code %d: %s", o.Code, r.Reason)
	}

	// What stands there is believed of nobody else, and holds up nothing.
	for hostile, script := range map[string]string{
		"a link to what root alone may read": "ln -s /etc/shadow " + file,
		"a pipe":                             "mkfifo " + file,
		"a huge file":                        "truncate -s 1T " + file,
		"a link in place of the directory":   "rm -r /home/user/.config/glib-2.0 && ln -s /etc /home/user/.config/glib-2.0",
	} {
		as("rm -rf /home/user/.config/glib-2.0 && mkdir -p /home/user/.config/glib-2.0/settings && " + script)
		o := d.plan(t)
		r := o.resource(finding)
		if r.State != converge.Unknown && r.State != "" || strings.Contains(r.Reason, "root:") || o.resource(key).State != converge.Compliant || len(o.Resources) > 20 {
			t.Errorf("%s: %s %s, and the key is %s", hostile, r.State, r.Reason, o.resource(key).State)
		}
	}
	as("rm -rf /home/user/.config/glib-2.0")
	d.converged(t)
}
