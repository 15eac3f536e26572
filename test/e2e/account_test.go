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
	d.MustExec(t, "sed", "-i", "s/^#*HOME_MODE.*/HOME_MODE 0755/", "/etc/login.defs")
	d.MustExec(t, "sh", "-ec", "useradd --uid 1702 --create-home mover; echo thesis >/home/mover/file; useradd --uid 1703 --no-create-home homeless; useradd --uid 1704 --no-create-home stranger; mkdir /home/stranger")
	o := d.apply(t, `
[groups]
soe-scan = { gid = 5101 }
moved    = { gid = 710 }
[users]
soe-scan = { uid = 5102, group = "soe-scan", groups = ["users"], comment = "Scanner", system = true }
helpdesk = { uid = 1700, shell = "/bin/bash" }
moved    = { uid = 711, shell = "/bin/sh" }
leaver   = { ensure = "absent" }
mover    = { home = "/srv/people/mover" }
homeless = { home = "/home/homeless" }
stranger = { home = "/home/stranger" }
Jane     = {}
"john.doe" = {}
[ids]
uid.mysql = 527
gid.mysql = 527
`)
	// On a machine whose cores are busy one pass does not come to the end of the files: a later one goes on.
	moved := o.resource("group/moved")
	await(t, func() bool {
		if moved.State == converge.Pending {
			moved = d.command(t, "apply", "--policy", policyDir).resource("group/moved")
		}
		return moved.State != converge.Pending
	})
	if moved.State != converge.Corrected {
		t.Errorf("the group that has moved is %s: %s", moved.State, moved.Reason)
	}
	o.wants(t, map[policy.ID]converge.State{
		"group/soe-scan": converge.Corrected, "group/mysql": converge.Corrected,
		"user/soe-scan": converge.Corrected, "user/helpdesk": converge.Corrected, "user/moved": converge.Corrected,
		"user/leaver": converge.Corrected, "user/mysql": converge.Corrected,
		"user/mover": converge.Corrected, "user/homeless": converge.Corrected, "user/stranger": converge.Corrected,
		"user/Jane": converge.Corrected, "user/john.doe": converge.Corrected,
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
	for home, want := range map[string]string{"/srv/people/mover": "1702 755", "/home/homeless/.bashrc": "1703 644", "/home/homeless": "1703 700", "/home/helpdesk": "1700 700", "/home/stranger": "1704 755"} {
		if got := strings.TrimSpace(d.MustExec(t, "stat", "--format=%u %a", home)); got != want {
			t.Errorf("%s is of %s and not %s", home, got, want)
		}
	}
	if got := d.MustExec(t, "setpriv", "--reuid=1702", "--clear-groups", "sh", "-c", "cat ~mover/file"); got != "thesis\n" {
		t.Error(got)
	}
	d.converged(t)
	before := d.MustExec(t, "stat", "--format=%i %Y", "/etc/passwd", "/etc/group", "/etc/shadow")
	if o := d.command(t, "apply", "--policy", policyDir); o.Code != 0 {
		t.Errorf("a second apply exits %d: %s", o.Code, o.Stderr)
	}
	if after := d.MustExec(t, "stat", "--format=%i %Y", "/etc/passwd", "/etc/group", "/etc/shadow"); after != before {
		t.Errorf("a second apply wrote: %s, %s", before, after)
	}
	d.MustExec(t, "sh", "-ec", "mkdir /far; mount -t tmpfs -o mode=755 none /far")
	o = d.apply(t, "users.mover = { home = \"/far/mover\" }\n")
	o.wants(t, map[policy.ID]converge.State{"user/mover": converge.Failed})
	if r := o.resource("user/mover"); !strings.Contains(r.Reason, "its home /srv/people/mover is on another file system than /far/mover, and is not copied") {
		t.Error(r.Reason)
	}
	if got := d.MustExec(t, "sh", "-c", "cat ~mover/file"); got != "thesis\n" {
		t.Errorf("the home is not what it was: %s", got)
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
	if r := o.resource("user/worker"); !strings.Contains(r.Reason, "processes of worker are running: sleep (") {
		t.Error(r.Reason)
	}
	d.MustExec(t, "systemctl", "stop", "work.service")
	d.apply(t, moved).wants(t, map[policy.ID]converge.State{"user/worker": converge.Corrected})
}

func TestAccountsOfAnImageThatDoesNotRunAreMade(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	d.MustExec(t, "sh", "-c", `mkdir /image && cd / && cp -a --parents bin sbin lib lib64 usr/bin usr/sbin usr/lib usr/lib64 etc var/lib/dpkg/status /image 2>/dev/null; mkdir -p /image/home /image/dev /image/tmp /image/run /image/var/lib; mknod -m 666 /image/dev/null c 1 3`)
	d.MustExec(t, "chroot", "/image", "useradd", "--system", "--uid", "731", "moved")
	d.MustExec(t, "sh", "-c", "mkdir /image/srv && touch /image/srv/file && chown 731 /image/srv/file")
	d.setPolicy(t, "users.soe-scan = { uid = 5102, system = true }\nusers.moved = { uid = 732 }\n")
	o := d.command(t, "apply", "--root", "/image", "--policy", policyDir)
	o.wants(t, map[policy.ID]converge.State{"user/soe-scan": converge.Corrected, "user/moved": converge.Corrected})
	if owner := d.MustExec(t, "stat", "--format=%u", "/image/srv/file"); owner != "732\n" {
		t.Errorf("the file in the image belongs to %s", owner)
	}
	if !d.fails(t.Context(), "getent", "passwd", "soe-scan") {
		t.Error("the running machine has the account of the image")
	}
}

func TestFilesFollowTheirAccountAndTheirGroup(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	d.MustExec(t, "sh", "-ec", `
groupadd --gid 700 data
useradd --system --uid 720 --gid data --create-home worker
mkdir -p /srv/data/deep /opt/tool
touch /srv/data/deep/file /home/worker/own "/opt/tool/a name"
ln -s /etc/shadow /srv/data/link
ln /etc/hostname /srv/data/hardlink
install -m 4755 /bin/true /opt/tool/true
chown -hR worker:data /srv/data/deep /srv/data/link /home/worker /opt/tool
chown :data /var/log
chmod 4755 /opt/tool/true
touch /run/elsewhere
chown worker:data /run/elsewhere`)
	const moved = "groups.data = { gid = 710 }\nusers.worker = { uid = 721 }\n"
	d.MustExec(t, "systemd-run", "--quiet", "--unit=work", "--property=SupplementaryGroups=data", "sleep", "infinity")
	o := d.apply(t, moved)
	o.wants(t, map[policy.ID]converge.State{"group/data": converge.Pending, "user/worker": converge.Corrected})
	if r := o.resource("group/data"); !strings.Contains(r.Reason, "processes of group data are running: sleep (") {
		t.Error(r.Reason)
	}
	d.MustExec(t, "systemctl", "stop", "work.service")
	d.apply(t, moved).wants(t, map[policy.ID]converge.State{"group/data": converge.Corrected, "user/worker": converge.Compliant})
	if left := d.MustExec(t, "find", "/", "-xdev", "-uid", "720", "-o", "-gid", "700"); left != "" {
		t.Errorf("the old ids keep %s", left)
	}
	for file, want := range map[string]string{
		"/srv/data/deep/file": "721:710 644", "/srv/data/link": "721:710 777", "/opt/tool/a name": "721:710 644", "/opt/tool/true": "721:710 755",
		"/home/worker/own": "721:710 644", "/etc/shadow": "0:42 640", "/srv/data/hardlink": "0:0 644", "/var/log": "0:710 755", "/run/elsewhere": "720:700 644",
	} {
		if got := strings.TrimSpace(d.MustExec(t, "stat", "--format=%u:%g %a", file)); got != want {
			t.Errorf("%s is %s and not %s", file, got, want)
		}
	}
	if !strings.Contains(o.Stderr, "/opt/tool/true") {
		t.Errorf("nobody was told of the set-uid bit: %s", o.Stderr)
	}
	d.converged(t)
}

func TestSoftwareFindsItsAccountWithTheRegisteredId(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	d.MustExec(t, "useradd", "--system", "--uid", "555", "stray")
	o := d.apply(t, d.repository()+`
[packages]
soe-account = "present"
[ids]
uid.soe-account     = 477
gid.soe-account     = 477
report_unregistered = true
`)
	o.wants(t, map[policy.ID]converge.State{
		"package/soe-account": converge.Corrected, "user/soe-account": converge.Corrected, "group/soe-account": converge.Corrected,
		"user/unregistered": converge.Failed,
	})
	if r := o.resource("user/unregistered"); !strings.Contains(r.Reason, "stray (555)") || strings.Contains(r.Reason, "soe-account") {
		t.Error(r.Reason)
	}
	if id := d.MustExec(t, "id", "soe-account"); !strings.HasPrefix(id, "uid=477(soe-account) gid=477(soe-account)") {
		t.Error(id)
	}
}

func TestNamesFromADirectoryConfuseNobody(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	const people = `EXAMPLE\jane doe:x:20001:20001:Doe, Jane:/home/jane doe:/bin/bash
EXAMPLE\j.doe#1:x:20002:20001::/home/j.doe#1:/bin/bash
#former:x:20003:20003::/home/former:/bin/bash
`
	const group = `EXAMPLE\linux admins:x:20010:EXAMPLE\jane doe,EXAMPLE\j.doe#1` + "\n"
	passwd, groups := d.MustReadFile(t, "/etc/passwd"), d.MustReadFile(t, "/etc/group")
	d.MustWriteFile(t, "/etc/passwd", box.File{Content: passwd + people})
	d.MustWriteFile(t, "/etc/group", box.File{Content: groups + group})
	o := d.apply(t, `
users.scan   = { uid = 20001, system = true }
users.scan2  = { uid = 20002, system = true }
users.scan3  = { uid = 20003, system = true }
groups.scans = { gid = 20010 }
`)
	o.wants(t, map[policy.ID]converge.State{
		"user/scan": converge.Failed, "user/scan2": converge.Failed, "user/scan3": converge.Corrected, "group/scans": converge.Failed,
	})
	for id, holder := range map[policy.ID]string{
		"user/scan": `uid 20001 is held by EXAMPLE\jane doe`, "user/scan2": `uid 20002 is held by EXAMPLE\j.doe#1`,
		"group/scans": `gid 20010 is held by group EXAMPLE\linux admins`,
	} {
		if r := o.resource(id); !strings.Contains(r.Reason, holder) {
			t.Errorf("%s: %s", id, r.Reason)
		}
	}
	if after := d.MustReadFile(t, "/etc/passwd"); !strings.Contains(after, people) {
		t.Errorf("the people are changed:\n%s", after)
	}
	if after := d.MustReadFile(t, "/etc/group"); !strings.Contains(after, group) {
		t.Errorf("the group is changed:\n%s", after)
	}
}

// userdel takes the account's own group with it.
func TestAGroupThatWentWithItsAccountIsMadeAgain(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	d.MustExec(t, "useradd", "--uid", "1700", "--user-group", "leaver")
	o := d.apply(t, "groups.leaver = { gid = 1700 }\nusers.leaver = { ensure = \"absent\" }\n")
	o.wants(t, map[policy.ID]converge.State{"user/leaver": converge.Corrected})
	if got := d.MustExec(t, "getent", "group", "leaver"); got != "leaver:x:1700:\n" {
		t.Errorf("the group is %q", got)
	}
	d.converged(t)
}

func TestNobodyIsLockedOutByAShellThatIsMissingOrAnAdministratorWhoIsRemoved(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	d.MustExec(t, "sh", "-ec", "groupadd --gid 700 ops; useradd --uid 1700 --groups ops keeper; useradd --uid 1701 --groups ops helper")
	const policyOf = `
sudo.allow = ["root", "%ops", "%nobody-is-here"]
users.helper = { ensure = "absent" }
users.keeper = { `
	const shell = "/opt/soe-pkg-07/version"
	o := d.apply(t, policyOf+`shell = "`+shell+`" }`)
	o.wants(t, map[policy.ID]converge.State{"user/keeper": converge.Failed, "user/helper": converge.Corrected, "sudo/allow": converge.Corrected})
	if r := o.resource("user/keeper"); !strings.Contains(r.Reason, "there is no "+shell+" on this machine") {
		t.Error(r.Reason)
	}
	o = d.apply(t, policyOf+`ensure = "absent" }`)
	o.wants(t, map[policy.ID]converge.State{"user/keeper": converge.Failed, "sudo/allow": converge.Compliant})
	if r := o.resource("user/keeper"); !strings.Contains(r.Reason, "it would leave no administrator") {
		t.Error(r.Reason)
	}
	d.MustExec(t, "sudo", "-n", "-l", "-U", "keeper", "/usr/bin/id")
	o = d.apply(t, d.repository()+"[packages]\nsoe-pkg-07 = \"present\"\n[users]\nkeeper = { shell = \""+shell+"\" }\n")
	o.wants(t, map[policy.ID]converge.State{"package/soe-pkg-07": converge.Corrected, "user/keeper": converge.Corrected})
	d.converged(t)
}

// shadow are the fields of an account behind its password.
func (d *desktop) shadow(t *testing.T, name string) string {
	t.Helper()
	return strings.TrimSpace(d.MustExec(t, "sh", "-c", "getent shadow "+name+" | cut -d: -f4-8"))
}

// getsIn says whether somebody gets in by su, with a password.
func (d *desktop) getsIn(t *testing.T, name, password string) bool {
	t.Helper()
	result, err := d.Exec(t.Context(), "runuser", "-u", "nobody", "--", "sh", "-c", "echo "+password+" | su "+name+" -c 'id -un'")
	if err != nil {
		t.Fatal(err)
	}
	return result.Code == 0 && strings.HasSuffix(strings.TrimSpace(result.Stdout), name)
}

func TestPasswordsLastAsLongAsThePolicySaysAndNobodyIsLockedOutByIt(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	d.MustExec(t, "sh", "-ec", `
for name in ann old boss svc; do useradd --create-home --shell /bin/sh $name; echo $name:right-$name | chpasswd; done
usermod -aG sudo boss
chage -d 2020-01-01 old
echo root:right-root | chpasswd`)
	const toml = `
[ageing.people]
min_days = 1
max_days = 365
warn_days = 7
inactive_days = 30
[ageing.root]
max_days = 180
[users.svc]
max_days = 90
expires = "2199-01-01"
`
	o := d.apply(t, toml)
	o.wants(t, map[policy.ID]converge.State{"ageing/people": converge.Failed, "ageing/root": converge.Corrected, "user/svc": converge.Corrected})
	if r := o.resource("ageing/people"); !strings.Contains(r.Reason, "max_days 365 is not set for old: it would lock old out at once") {
		t.Error(r.Reason)
	}
	in := func(when string) {
		t.Helper()
		for _, name := range []string{"ann", "old", "boss", "svc", "root"} {
			if !d.getsIn(t, name, "right-"+name) || d.getsIn(t, name, "wrong") {
				t.Errorf("%s %s does not get in with the right password, or does with a wrong one", when, name)
			}
		}
	}
	in("at first")
	agree := func(when string, want map[string]string) {
		t.Helper()
		for name, fields := range want {
			if got := d.shadow(t, name); got != fields {
				t.Errorf("%s shadow(5) has of %s %s, want %s", when, name, got, fields)
			}
		}
	}
	kept := map[string]string{"ann": "1:365:7:30:", "old": "1:99999:7::", "boss": "1:365:7::", "svc": "1:90:7:30:83641", "root": "0:180:7::"}
	agree("at first", kept)
	d.MustExec(t, "sh", "-ec", "chage -M 99999 -I -1 ann; chage -E -1 svc; chage -M 9 root; echo old:right-old | chpasswd")
	d.apply(t, toml).wants(t, map[policy.ID]converge.State{"ageing/people": converge.Corrected, "ageing/root": converge.Corrected, "user/svc": converge.Corrected})
	kept["old"] = "1:365:7:30:"
	agree("after drift", kept)
	d.converged(t)
	in("after drift")

	result, err := d.Exec(t.Context(), "soe-agent", "purge", "--yes")
	if err != nil || result.Code != 0 {
		t.Fatalf("%v, exit code %d: %s%s", err, result.Code, result.Stdout, result.Stderr)
	}
	for name := range kept {
		kept[name] = "0:99999:7::"
	}
	agree("after a purge", kept)
	in("after a purge")
}
