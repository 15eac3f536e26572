package e2e

import (
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/kind/sudo"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
	"github.com/soe-agent/soe-agent/test/box"
)

// At boot the directory may come long after the agent: until it knows one of the
// administrators, everybody keeps what they have.
func TestNothingIsTakenAwayBeforeTheDirectoryKnowsAnAdministratorAndThenAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t)
	for name, file := range map[string]box.File{
		"/etc/soe-agent/policy.d/90-here.toml": {Content: "schema = 1\n[sudo]\nallow = [\"root\", \"%EXAMPLE\\\\Later Admins\"]\n"},
		// winbind as the agent sees it: a unit, and answers of getent.
		"/etc/systemd/system/winbind.service": {Content: "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n"},
		"/usr/local/sbin/getent": {Mode: 0o755, Content: `#!/bin/sh
case "$*" in
*Later*) systemctl is-active --quiet winbind || exit 2; echo 'EXAMPLE\Later Admins:x:70000:EXAMPLE\anna' ;;
*) exec /usr/bin/getent "$@" ;;
esac
`},
	} {
		w.MustWriteFile(t, name, file)
	}
	w.boot(t)
	w.until(t, "the report says whom the machine does not know", func() bool {
		r := w.report(t).resource("sudo/allow")
		return r.State == converge.Failed && strings.Contains(r.Reason, `EXAMPLE\Later Admins`)
	})
	if w.fails(t, "sudo", "-n", "-l", "-U", box.DesktopUser, "/usr/bin/id") || !w.fails(t, "ls", "/etc/sudoers.d/zz-soe-sudo") {
		t.Error("something was taken away before anybody else has it")
	}
	w.MustExec(t, "systemctl", "start", "winbind")
	w.until(t, "the machine is locked down", func() bool {
		return w.fails(t, "sudo", "-n", "-l", "-U", box.DesktopUser, "/usr/bin/id")
	})
	if w.fails(t, "sudo", "-n", "-l", "-U", "root", "/usr/bin/id") {
		t.Error("root has no sudo")
	}
}

func TestAChangeAfterWhichSudoDoesNotWorkIsPutBack(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	d.sh(t, "ln -s /opt/target /etc/sudoers.d/50-link; echo 'user ALL=(ALL) ALL' > /opt/target; chmod 640 /etc/sudoers.d/01-ws-admin-user")
	const state = "cd /etc/sudoers.d; stat -c '%n %F %a %u %g %N' *; head -n 50 *"
	const changed = "[ ! -e /etc/sudoers.d/zz-soe-sudo ] || grep -q ' /etc/sudoers.d ' /proc/self/mountinfo || "
	before := d.sh(t, state)
	for name, shim := range map[string]struct{ path, content string }{
		// It works as it does, and in what is asked beforehand too, until the change has been made.
		"sudo refuses root":              {"/usr/local/bin/sudo", changed + "exit 1\nexec /usr/bin/sudo \"$@\"\n"},
		"sudo refuses the administrator": {"/usr/local/bin/sudo", "case \"$*\" in *dadmin*) " + changed + "exit 1 ;; esac\nexec /usr/bin/sudo \"$@\"\n"},
	} {
		d.MustWriteFile(t, shim.path, box.File{Mode: 0o755, Content: "#!/bin/sh\n" + shim.content})
		o := d.apply(t, onlyDomainAdmins)
		o.wants(t, map[policy.ID]converge.State{"sudo/allow": converge.Failed})
		if reason := o.resource("sudo/allow").Reason; !strings.Contains(reason, "put back") {
			t.Errorf("%s: the reason is %q", name, reason)
		}
		if after := d.sh(t, state); after != before {
			t.Errorf("%s: before:\n%s\nafter:\n%s", name, before, after)
		}
		d.sh(t, "rm "+shim.path)
	}
	d.apply(t, onlyDomainAdmins).wants(t, map[policy.ID]converge.State{"sudo/allow": converge.Corrected})
	d.wantsSudo(t)
}

// Whichever write fails, and wherever the machine dies, visudo accepts the tree.
func TestNoFaultLeavesATreeThatSudoCannotRead(t *testing.T) {
	t.Parallel()
	b := newBox(t, box.ThinImage(), box.NotBooted())
	p := &policy.Policy{Resources: []policy.Resource{{ID: "sudo/allow", Spec: policy.Sudo{Allow: []string{"root", "%domain-admins"}}}}}
	b.MustExec(t, "cp", "-a", "/etc/sudoers.d", "/root/kept")
	pass := func(gate system.Gate) converge.Resource {
		s, err := system.Open(system.Options{Root: b.Root, Gate: gate})
		if err != nil {
			t.Fatal(err)
		}
		quiet, err := system.Open(system.Options{Root: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		ledger, err := converge.OpenLedger(quiet.FS, "/var/lib/soe-agent", facts.Identity{MachineID: "machine"})
		if err != nil {
			t.Fatal(err)
		}
		result := converge.New(p, []converge.Kind{sudo.New(p, s)}, ledger, s.Clock, slog.New(slog.DiscardHandler)).Pass(t.Context())
		return result.Resources[0]
	}
	valid := func() bool {
		return exec.Command("chroot", b.Root, "visudo", "-c", "-f", "/etc/sudoers").Run() == nil
	}
	for _, fault := range []func(int) system.Gate{system.FailNth, system.FailFrom} {
		for n, hit := 1, true; hit; n++ {
			b.MustExec(t, "sh", "-ec", "rm -rf /etc/sudoers.d /etc/polkit-1/rules.d/00-soe*; cp -a /root/kept /etc/sudoers.d; rm /etc/sudoers.d/README; echo 'User_Alias A = user' > /etc/sudoers.d/50-once; echo 'A ALL=(ALL) ALL' >> /etc/sudoers.d/50-once")
			hit = false
			gate := fault(n)
			pass(func(c system.Change) error {
				err := gate(c)
				hit = hit || err != nil
				if c.Op == "rename" && !valid() {
					t.Errorf("fault %d: before %s visudo refuses the tree", n, c)
				}
				return err
			})
			if !valid() {
				t.Errorf("fault %d: visudo refuses what is left", n)
			}
			if r := pass(nil); !r.State.InLine() || !valid() {
				t.Fatalf("fault %d: the pass after it leaves %s: %s", n, r.State, r.Reason)
			}
		}
	}
}

func TestAnImageThatDoesNotRunIsLockedDownByWhatItsFilesSay(t *testing.T) {
	t.Parallel()
	d := newDesktop(t, box.NotBooted())
	d.MustWriteFile(t, "/etc/sudoers.d/zzz-stray", box.File{Content: "user ALL=(ALL) ALL\n", Mode: 0o440})
	dir := t.TempDir()
	content := "schema = 1\n" + strings.TrimSuffix(onlyDomainAdmins, "\n") + "\nroot_groups = [\"sudo\"]\n"
	if err := os.WriteFile(filepath.Join(dir, "50-test.toml"), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	apply := func(verb string) (string, error) {
		out, err := exec.Command(binary, "--root", d.Root, verb, "--policy", dir).CombinedOutput()
		return string(out), err
	}
	if out, err := apply("apply"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := apply("plan"); err != nil {
		t.Errorf("the second time there is something to do: %v\n%s", err, out)
	}
	if got := d.MustReadFile(t, "/etc/group"); strings.Contains(got, "sudo:x:27:user") {
		t.Error("the desktop user is still in the group")
	}
	if err := d.Boot(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.wantsSudo(t)
}

func TestPeopleAreTakenOutOfTheGroupsThatAreAsGoodAsRoot(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	d.sh(t, `groupadd -g 990 docker; groupadd -g 991 disk2; useradd -r -u 980 builder
for who in user dadmin ec2-user builder; do gpasswd -a $who docker; done; gpasswd -a user disk2
sed -i '/^docker:/s/$/,EXAMPLE\\jane/' /etc/group`)
	const toml = onlyDomainAdmins + "root_groups = [\"docker\", \"disk2\", \"not-there\"]\n"
	session, err := d.Login(t.Context(), box.DesktopUser, "XDG_SESSION_TYPE=x11")
	if err != nil {
		t.Fatal(err)
	}
	o := d.apply(t, toml)
	// The session that is there keeps the group, and is not ended for it.
	o.wants(t, map[policy.ID]converge.State{"sudo/root_groups": converge.Pending, "sudo/allow": converge.Corrected})
	if r := o.resource("sudo/root_groups"); r.Effect != converge.NextSession || !strings.Contains(r.Reason, "user is logged in") {
		t.Errorf("it is pending %s: %s", r.Effect, r.Reason)
	}
	if got := d.sh(t, "getent group docker disk2"); got != "docker:x:990:dadmin,ec2-user,builder\ndisk2:x:991:\n" {
		t.Errorf("the groups are %s", got)
	}
	if err := session.Logout(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.converged(t)
	d.sh(t, "usermod -g docker user")
	o = d.plan(t)
	o.wants(t, map[policy.ID]converge.State{"sudo/root_groups": converge.Failed})
	if reason := o.resource("sudo/root_groups").Reason; !strings.Contains(reason, "primary group of user") {
		t.Errorf("the reason is %q", reason)
	}
}

// What counts to the kernel is the number, and gpasswd and newgrp let people in by
// themselves whom /etc/gshadow says to.
func TestNobodyGetsIntoAGroupThatGivesRootByAnyOtherWay(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	d.sh(t, "groupadd -g 990 docker; useradd -m -s /usr/sbin/nologin kiosk")
	const toml = onlyDomainAdmins + "root_groups = [\"docker\", \"disk\"]\n"
	d.apply(t, toml).wants(t, sudoInLine)
	d.converged(t)
	const asUser = "runuser -u user -- "
	const groups, allow = "sudo/root_groups", "sudo/allow"
	for name, test := range map[string]struct {
		do, proof string // which succeeds for somebody who is in, or may come in
		id        policy.ID
		state     converge.State
	}{
		"another name of the number":           {"echo 'moby:x:990:user' >>/etc/group", "id user | grep 990", groups, converge.Corrected},
		"a member by gshadow alone":            {"sed -i '/^docker:/s/.*/docker:!::user/' /etc/gshadow", asUser + "newgrp docker </dev/null", groups, converge.Corrected},
		"an administrator of the group":        {"gpasswd -A user docker", asUser + "gpasswd -a user docker", groups, converge.Corrected},
		"one of another name of the number":    {"groupadd -o -g 990 moby; gpasswd -A user moby", asUser + "gpasswd -a user moby", groups, converge.Corrected},
		"a password":                           {"echo docker:docker | chgpasswd", "grep -q '^docker:[^!*:]' /etc/gshadow", groups, converge.Corrected},
		"a password in /etc/group":             {"sed -i '/^docker:/d' /etc/gshadow; sed -i \"s|^docker:x|docker:$(openssl passwd -6 docker)|\" /etc/group", "grep -q '^docker:[^x!*:]' /etc/group", groups, converge.Corrected},
		"an administrator of an allowed group": {"gpasswd -A user domain-admins", asUser + "gpasswd -a user domain-admins", allow, converge.Corrected},
		"a password of an allowed group":       {"echo domain-admins:x1 | chgpasswd", "grep -q '^domain-admins:[^!*:]' /etc/gshadow", allow, converge.Corrected},
		"one's primary group, without a shell": {"usermod -g docker kiosk", "id kiosk | grep 990", groups, converge.Failed},
		"given at login":                       {"echo '*;*;user;Al0000-2400;docker' >>/etc/security/group.conf; echo 'auth optional pam_group.so' >/etc/pam.d/x", "grep docker /etc/security/group.conf", groups, converge.Failed},
	} {
		t.Run(name, func(t *testing.T) {
			d.sh(t, "rm -rf /root/was; mkdir /root/was; touch /etc/security/group.conf; cp -a /etc/group /etc/gshadow /etc/passwd /etc/security/group.conf /root/was/; "+test.do)
			o := d.apply(t, toml)
			o.wants(t, map[policy.ID]converge.State{test.id: test.state})
			if test.state == converge.Corrected {
				d.converged(t)
				if out := d.sh(t, "if "+test.proof+"; then echo still; fi"); strings.Contains(out, "still") {
					t.Errorf("it is still so: %s", out)
				}
			}
			d.sh(t, "cd /root/was; cp -a group gshadow passwd /etc/; cp -a group.conf /etc/security/; rm -f /etc/pam.d/x")
			d.converged(t)
		})
	}
}

// It sees what the agent's own parser would have to be wrong about, which is why
// the test asks it for what that one reports as well.
func TestSudosOwnParserGivesASecondOpinion(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	d.sh(t, knowsPerson+`echo '#includedir /opt/more.d' >> /etc/sudoers`)
	o := d.apply(t, onlyDomainAdmins+`
[dropins."/opt/more.d/x"]
mode = "0440"
content = '''%EXAMPLE\\domain\ users ALL=(ALL) ALL
'''
`)
	o.wants(t, map[policy.ID]converge.State{"sudo/allow": converge.Failed})
	if reason := o.resource("sudo/allow").Reason; !strings.Contains(reason, `by cvtsudoers, a line behind /etc/sudoers.d/zz-soe-sudo grants something to group EXAMPLE\domain users`) {
		t.Errorf("the reason is %q", reason)
	}
}
