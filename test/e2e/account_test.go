package e2e

import (
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/test/box"
)

func TestAccountsAndGroupsAreMadeChangedAndRemoved(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	d.MustExec(t, "groupadd", "--gid", "700", "moved")
	d.MustExec(t, "useradd", "--uid", "701", "--no-create-home", "moved", "--gid", "moved")
	d.MustExec(t, "useradd", "--uid", "1700", "--create-home", "leaver")
	o := d.apply(t, `
[groups]
soe-scan = { gid = 5101 }
moved    = { gid = 710 }
[users]
soe-scan = { uid = 5102, group = "soe-scan", groups = ["users"], comment = "Scanner", system = true }
helpdesk = { uid = 1700, shell = "/bin/bash" }
moved    = { uid = 711, shell = "/bin/sh" }
leaver   = { ensure = "absent" }
[ids]
uid.mysql = 527
gid.mysql = 527
`)
	o.wants(t, map[policy.ID]converge.State{
		"group/soe-scan": converge.Corrected, "group/moved": converge.Corrected, "group/mysql": converge.Corrected,
		"user/soe-scan": converge.Corrected, "user/helpdesk": converge.Corrected, "user/moved": converge.Corrected,
		"user/leaver": converge.Corrected, "user/mysql": converge.Corrected,
	})
	for account, want := range map[string]string{
		"soe-scan": "soe-scan:x:5102:5101:Scanner:/home/soe-scan:/usr/sbin/nologin",
		"helpdesk": "helpdesk:x:1700:1700::/home/helpdesk:/bin/bash",
		"moved":    "moved:x:711:710::/home/moved:/bin/sh",
		"mysql":    "mysql:x:527:527::/home/mysql:/usr/sbin/nologin",
	} {
		if got := strings.TrimSpace(d.MustExec(t, "getent", "passwd", account)); got != want {
			t.Errorf("%s and not %s", got, want)
		}
	}
	if groups := d.MustExec(t, "id", "-Gn", "soe-scan"); groups != "soe-scan users\n" {
		t.Errorf("soe-scan is in %s", groups)
	}
	for path, there := range map[string]bool{"/home/helpdesk": true, "/home/soe-scan": false, "/home/mysql": false, "/home/leaver": true} {
		if d.fails(t.Context(), "test", "-d", path) == there {
			t.Errorf("%s is there: %v", path, !there)
		}
	}
	d.converged(t)
	before := d.MustExec(t, "stat", "--format=%i %Y", "/etc/passwd", "/etc/group", "/etc/shadow")
	if o := d.command(t, "apply", "--policy", policyDir); o.Code != 0 {
		t.Errorf("a second apply exits %d: %s", o.Code, o.Stderr)
	}
	if after := d.MustExec(t, "stat", "--format=%i %Y", "/etc/passwd", "/etc/group", "/etc/shadow"); after != before {
		t.Errorf("a second apply wrote: %s, %s", before, after)
	}
}

func TestAnIdHeldByAPersonIsNotTaken(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	o := d.apply(t, "users.soe-scan = { uid = 1000, system = true }\nusers.other = { system = true }\n")
	o.wants(t, map[policy.ID]converge.State{"user/soe-scan": converge.Failed, "user/other": converge.Corrected})
	if r := o.resource("user/soe-scan"); !strings.Contains(r.Reason, "uid 1000 is held by "+box.DesktopUser) {
		t.Error(r.Reason)
	}
	if o.Code != 2 {
		t.Errorf("apply exits %d", o.Code)
	}
}

func TestWhoeverIsLoggedInKeepsTheAccountAsItIs(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	session, err := d.Login(t.Context(), box.DesktopUser, "XDG_SESSION_TYPE=x11")
	if err != nil {
		t.Fatal(err)
	}
	const shell = "users." + box.DesktopUser + " = { shell = \"/bin/sh\" }\n"
	o := d.apply(t, shell)
	o.wants(t, map[policy.ID]converge.State{"user/user": converge.Pending})
	if r := o.resource("user/user"); r.Effect != converge.NextSession || !strings.Contains(r.Reason, "logged in") {
		t.Error(r.Effect, r.Reason)
	}
	if err := session.Logout(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.apply(t, shell).wants(t, map[policy.ID]converge.State{"user/user": converge.Corrected})
	d.converged(t)
}

func TestAnAccountWhoseProcessesRunWaits(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	d.MustExec(t, "useradd", "--system", "--uid", "720", "worker")
	d.MustExec(t, "systemd-run", "--quiet", "--unit=work", "--uid=worker", "sleep", "infinity")
	const moved = "users.worker = { uid = 721 }\n"
	o := d.apply(t, moved)
	o.wants(t, map[policy.ID]converge.State{"user/worker": converge.Pending})
	if r := o.resource("user/worker"); !strings.Contains(r.Reason, "processes of worker are running") {
		t.Error(r.Reason)
	}
	d.MustExec(t, "systemctl", "stop", "work.service")
	d.apply(t, moved).wants(t, map[policy.ID]converge.State{"user/worker": converge.Corrected})
}

func TestAccountsOfAnImageThatDoesNotRunAreMade(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	d.MustExec(t, "sh", "-c", `mkdir /image && cd / && cp -a --parents bin sbin lib lib64 usr/bin usr/sbin usr/lib usr/lib64 etc var/lib/dpkg/status /image 2>/dev/null; mkdir -p /image/home /image/dev /image/tmp /image/run /image/var/lib; mknod -m 666 /image/dev/null c 1 3`)
	d.setPolicy(t, "users.soe-scan = { uid = 5102, system = true }\n")
	o := d.command(t, "apply", "--root", "/image", "--policy", policyDir)
	o.wants(t, map[policy.ID]converge.State{"user/soe-scan": converge.Corrected})
	if !d.fails(t.Context(), "getent", "passwd", "soe-scan") {
		t.Error("the running machine has the account of the image")
	}
}
