package e2e

import (
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/test/box"
)

func TestAFileThatItsReaderRefusesStaysOut(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	o := d.apply(t, `
[dropins."/etc/sudoers.d/60-bad"]
content = "dadmin ALL ALL\n"
[dropins."/etc/profile.d/bad.sh"]
content = "if true; then\n"
[dropins."/etc/systemd/system/bad.service"]
content = "[Unit]\nDescription=x\n[Service]\nType=simple\n"
[dropins."/etc/systemd/system/systemd-hostnamed.service.d/60-bad.conf"]
content = "[Service]\nExecStart=/bin/true\n"
[dropins."/etc/systemd/system/ssh.service.d/10-clear.conf"]
content = "[Service]\nExecStart=\n"
[dropins."/etc/systemd/system/ssh.service.d/20-set.conf"]
content = "[Service]\nExecStart=/usr/sbin/sshd -D\n"
[dropins."/etc/ssh/sshd_config.d/10-some.conf"]
content = "Match User nobody\n  PasswordAuthentication no\n"
[dropins."/etc/sudoers.d/61-good"]
content = "Defaults:dadmin !lecture\n"
[dropins."/etc/profile.d/good.sh"]
content = "export GOOD=1\n"
`)
	o.wants(t, map[policy.ID]converge.State{
		"dropin/etc/sudoers.d/60-bad":                                       converge.Failed,
		"dropin/etc/profile.d/bad.sh":                                       converge.Failed,
		"dropin/etc/systemd/system/bad.service":                             converge.Failed,
		"dropin/etc/systemd/system/systemd-hostnamed.service.d/60-bad.conf": converge.Failed,
		"dropin/etc/systemd/system/ssh.service.d/10-clear.conf":             converge.Corrected,
		"dropin/etc/systemd/system/ssh.service.d/20-set.conf":               converge.Corrected,
		"dropin/etc/ssh/sshd_config.d/10-some.conf":                         converge.Corrected,
		"dropin/etc/sudoers.d/61-good":                                      converge.Corrected,
		"dropin/etc/profile.d/good.sh":                                      converge.Corrected,
	})
	for _, name := range []string{"/etc/sudoers.d/60-bad", "/etc/profile.d/bad.sh", "/etc/systemd/system/bad.service", "/etc/systemd/system/systemd-hostnamed.service.d/60-bad.conf"} {
		if !d.fails(t.Context(), "test", "-e", name) {
			t.Errorf("%s was written", name)
		}
	}
	d.MustExec(t, "visudo", "-c")
	if reason := o.resource("dropin/etc/sudoers.d/60-bad").Reason; !strings.Contains(reason, "/etc/sudoers.d/60-bad:1") {
		t.Errorf("the reason is %q", reason)
	}
}

func TestAUnitIsKnownToSystemdOnceItIsWritten(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	const toml = `
[dropins."/etc/systemd/system/soe-test.service"]
content = "[Unit]\nDescription=one\n[Service]\nType=oneshot\nExecStart=/bin/true\n"
[dropins."/etc/systemd/system/soe-test.service.d/10.conf"]
content = "[Unit]\nDescription=two\n"
`
	d.apply(t, toml).wants(t, map[policy.ID]converge.State{"dropin/etc/systemd/system/soe-test.service": converge.Corrected})
	d.converged(t)
	if got := d.MustExec(t, "systemctl", "show", "-p", "Description", "soe-test.service"); strings.TrimSpace(got) != "Description=two" {
		t.Errorf("systemd says %s", got)
	}
}

func TestSomebodyElsesFileIsKeptBeforeItIsReplaced(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	d.MustWriteFile(t, "/etc/rsyslog.d/60-token.conf", box.File{Content: "# somebody else's\n"})
	d.apply(t, "[dropins.\"/etc/rsyslog.d/60-token.conf\"]\ncontent = \"# plain\\n\"\nmode = \"0640\"\n").wants(t,
		map[policy.ID]converge.State{"dropin/etc/rsyslog.d/60-token.conf": converge.Corrected})
	if got := d.MustExec(t, "stat", "-c", "%a %U:%G", "/etc/rsyslog.d/60-token.conf"); strings.TrimSpace(got) != "640 root:root" {
		t.Errorf("it has %s", got)
	}
	if got := d.MustExec(t, "sh", "-c", "ls /var/lib/soe-agent/backups | wc -l"); strings.TrimSpace(got) != "1" {
		t.Errorf("somebody else's file was backed up %s times", strings.TrimSpace(got))
	}
}

func TestABrokenFileOfSomebodyElsesIsNamedAndBlocksNoneOfThePolicy(t *testing.T) {
	t.Parallel()
	const theirs, id = "/etc/sudoers.d/50-theirs", "dropin/etc/sudoers.d/60-good"
	const toml = "[dropins.\"/etc/sudoers.d/60-good\"]\ncontent = \"Defaults:dadmin !lecture\\n\"\n" +
		"[dropins.\"/etc/sudoers.d/70-bad\"]\ncontent = \"dadmin ALL ALL\\n\"\n"
	d := oldSudo(t) // a newer one passes over the line, and nothing is blocked
	d.MustWriteFile(t, theirs, box.File{Content: "alice may do this\n", Mode: 0o440})
	o := d.apply(t, toml)
	o.wants(t, map[policy.ID]converge.State{id: converge.Failed, "dropin/etc/sudoers.d/70-bad": converge.Failed})
	if reason := o.resource(id).Reason; !strings.Contains(reason, "the change is made") || !strings.Contains(reason, theirs+", which is somebody else's") {
		t.Errorf("the reason is %q", reason)
	}
	if reason := o.resource("dropin/etc/sudoers.d/70-bad").Reason; strings.Contains(reason, "somebody") {
		t.Errorf("of the bad one the reason is %q", reason)
	}
	d.MustExec(t, "rm", theirs)
	d.apply(t, toml).wants(t, map[policy.ID]converge.State{id: converge.Corrected})
	d.MustExec(t, "visudo", "-c")
}

func TestWhatTakesEffectLaterIsPendingUntilThen(t *testing.T) {
	t.Parallel()
	const logind, limits = "dropin/etc/systemd/logind.conf.d/60.conf", "dropin/etc/security/limits.d/60.conf"
	d := newDesktop(t)
	session, err := d.Login(t.Context(), box.DesktopUser)
	if err != nil {
		t.Fatal(err)
	}
	pid := d.MustExec(t, "systemctl", "show", "-p", "MainPID", "systemd-logind.service")
	o := d.apply(t, `
[dropins."/etc/systemd/logind.conf.d/60.conf"]
content = "[Login]\nKillUserProcesses=no\n"
[dropins."/etc/security/limits.d/60.conf"]
content = "* soft nofile 1000\n"
`)
	for id, effect := range map[policy.ID]converge.Effect{logind: converge.Reboot, limits: converge.NextSession} {
		if r := o.resource(id); r.State != converge.Pending || r.Effect != effect {
			t.Errorf("%s is %s until %s: %s", id, r.State, r.Effect, r.Reason)
		}
	}
	if got := d.MustExec(t, "systemctl", "show", "-p", "MainPID", "systemd-logind.service"); got != pid {
		t.Errorf("logind was restarted: %s, then %s", pid, got)
	}
	if err := session.Logout(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.plan(t).wants(t, map[policy.ID]converge.State{logind: converge.Pending, limits: converge.Compliant})
	if err := d.Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.plan(t).wants(t, map[policy.ID]converge.State{logind: converge.Compliant, limits: converge.Compliant})
}
