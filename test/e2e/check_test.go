package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/test/box"
)

func TestChecksAreReportedAndNothingElse(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	const checks = `
[checks]
root-is-root = { run = ["/usr/bin/id", "-u"], stdout = "^0$" }
as-the-user  = { run = ["/usr/bin/id", "-un"], user = "user", stdout = "^user$" }
writes       = { run = ["/bin/sh", "-c", "touch /etc/written /tmp/written /run/written /home/user/written 2>&1; exit 0"], stdout = "(Read-only file system[^$]*){4}" }
home-is-disk = { run = ["/usr/bin/findmnt", "-no", "SOURCE", "/home"], stdout = "^/dev/mapper/" }
in-own-time  = { run = ["/bin/sh", "-c", "nice; cat /proc/uptime"], stdout = "^19 a while ago", every = "6h" }
same-ids     = { find = "duplicate-uids" }
no-password  = { find = "empty-passwords" }
open-files   = { find = "world-writable", except = ["/tmp/*", "/var/tmp/*"], every = "6h" }
set-id       = { find = "set-id", except = ["/usr/bin/*", "/usr/sbin/*", "/usr/lib/*", "/usr/libexec/*"], every = "6h" }
altered      = { find = "altered-files", every = "6h" }
by-a-user    = { run = ["/bin/sh", "-c", "nice; ionice"], user = "user", stdout = "(?s)^19.best-effort: prio 7$", every = "6h" }
`
	d.MustExec(t, "sh", "-ec", "useradd --uid 1900 one; useradd --non-unique --uid 1900 other; useradd --uid 1901 open; passwd -d open")
	d.MustWriteFile(t, "/root/spec/brought.spec", box.File{Content: broughtSpec})
	d.MustExec(t, "sh", "-ec", `cd /root/spec && rpmbuild -bb --quiet --define '_topdir /root/spec' brought.spec && rpm --force-debian -i RPMS/noarch/*.rpm
		chmod u+s /opt/brought/made; echo more >> /opt/brought/altered; chmod 666 /opt/brought/altered; echo more >> /opt/brought/config`)
	o := d.apply(t, checks)
	for id, want := range map[policy.ID]string{
		"check/open-files": "1 found: /opt/brought/altered may be written by everybody",
		"check/set-id":     "1 found: /opt/brought/made has the mode 4755, and no package brought it so",
		"check/altered":    "2 found: /opt/brought/altered differs from its package: content, mode; /opt/brought/made differs from its package: mode",
	} {
		if r := o.resource(id); r.State != converge.Failed || !strings.HasSuffix(r.Reason, want) {
			t.Errorf("%s is %s: %s", id, r.State, r.Reason)
		}
	}
	first := o.resource("check/in-own-time")
	again := d.apply(t, checks).resource("check/in-own-time")
	if first.Reason != again.Reason || first.AsOf.IsZero() || !again.AsOf.Equal(first.AsOf) || !strings.Contains(first.Reason, `its stdout is "19\n`) {
		t.Errorf("a check in its own time was run again: %s as of %s, and %s as of %s", first.Reason, first.AsOf, again.Reason, again.AsOf)
	}
	o.wants(t, map[policy.ID]converge.State{
		"check/root-is-root": converge.Compliant, "check/as-the-user": converge.Compliant, "check/writes": converge.Compliant,
		"check/home-is-disk": converge.Failed, "check/in-own-time": converge.Failed, "check/by-a-user": converge.Compliant,
		"check/same-ids": converge.Failed, "check/no-password": converge.Failed,
	})
	if same, none := o.resource("check/same-ids").Reason, o.resource("check/no-password").Reason; !strings.Contains(same, "one, other have the uid 1900") || !strings.Contains(none, "open has an empty password") {
		t.Errorf("%s; %s", same, none)
	}
	for _, dir := range []string{"/etc", "/tmp", "/run", "/home/user"} {
		if !d.fails(t.Context(), "test", "-e", dir+"/written") {
			t.Errorf("a check has written to %s", dir)
		}
	}
	if o.Code != 2 {
		t.Errorf("apply exits %d", o.Code)
	}
	d.apply(t, lookedAtAfterwards).wants(t, map[policy.ID]converge.State{
		"check/file-is-there": converge.Compliant, "check/file-is-there-all-day": converge.Compliant, "check/account-is-there": converge.Failed,
	})
	if o := d.plan(t); o.Code != 2 {
		t.Errorf("plan exits %d", o.Code)
	}
	d.MustExec(t, "sh", "-ec", "userdel other; userdel open")
	d.apply(t, checks+`
[[rules]]
match  = ["check/home-is-disk", "check/in-own-time", "check/open-files", "check/set-id", "check/altered"]
mode   = "audit"
until  = 2999-12-31
reason = "TICKET-1"
`).wants(t, map[policy.ID]converge.State{"check/home-is-disk": converge.Waived})
	d.converged(t)
}

// broughtSpec is a package with a set-id program.
const broughtSpec = `Name: brought
Version: 1
Release: 1
Summary: Files of which some are changed
License: Apache-2.0
BuildArch: noarch
%description
Files of which some are changed.
%install
mkdir -p %{buildroot}/opt/brought
for name in setid made altered config; do echo $name > %{buildroot}/opt/brought/$name; done
%files
%attr(4755,root,root) /opt/brought/setid
%attr(0755,root,root) /opt/brought/made
%attr(0644,root,root) /opt/brought/altered
%config %attr(0644,root,root) /opt/brought/config
`

// What the kernel and services tell is asked as on any machine, and nothing is changed
// by the same ways, though it is root that asks.
// lookedAtAfterwards has checks that look at what the same policy brings. The account breaks what one of them wants.
const lookedAtAfterwards = `
[dropins."/etc/soe-looked.d/at"]
content  = "here\n"
activate = []
[users.late]
[checks]
file-is-there         = { run = ["/usr/bin/cat", "/etc/soe-looked.d/at"], stdout = "^here" }
file-is-there-all-day = { run = ["/usr/bin/cat", "/etc/soe-looked.d/at"], stdout = "^here", every = "24h" }
account-is-there      = { run = ["/usr/bin/id", "late"], exit = 1 }
`

func TestACheckAsksServicesAndTheKernelAndChangesNothingThere(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	const standIn = "#!/bin/sh\ngrep CapEff /proc/self/status\n"
	d.MustWriteFile(t, "/usr/sbin/nft", box.File{Content: standIn, Mode: 0o755})
	d.MustWriteFile(t, "/usr/sbin/auditctl", box.File{Content: standIn, Mode: 0o755})
	d.MustWriteFile(t, "/etc/systemd/system/victim.service", box.File{Content: "[Service]\nExecStart=/bin/sleep infinity\n"})
	d.MustExec(t, "sh", "-c", "systemctl daemon-reload; systemctl start victim.service")
	asks := map[string]string{
		"is-active":  `run = ["/usr/bin/systemctl", "is-active", "victim.service"]` + "\nstdout = '^active$'",
		"in-a-shell": `run = ["/bin/sh", "-c", "systemctl is-active victim.service; systemctl is-enabled victim.service; systemctl show -p MainPID victim.service"]` + "\nstdout = '(?s)^active.static.MainPID=[1-9]'",
		"status":     `run = ["/usr/bin/systemctl", "status", "--no-pager", "victim.service"]`,
		"lists":      `run = ["/usr/bin/systemctl", "list-units", "--no-pager"]` + "\nstdout = 'victim'",
		"files":      `run = ["/usr/bin/systemctl", "list-unit-files", "--no-pager", "victim.service"]`,
		"logins":     `run = ["/usr/bin/loginctl", "list-sessions", "--no-pager"]`,
		"journal":    `run = ["/usr/bin/journalctl", "-n", "1", "--no-pager"]`,
		"a-property": `run = ["/usr/bin/busctl", "get-property", "org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager", "Version"]`,
		"nft":        `run = ["/usr/sbin/nft", "list", "ruleset"]` + "\nstdout = '0000000400081004$'",
		"auditctl":   `run = ["/usr/sbin/auditctl", "-s"]` + "\nstdout = '0000000440080004$'",
	}
	changes := map[string]string{
		"stops":         `systemctl stop victim.service`,
		"restarts":      `systemctl restart victim.service`,
		"kills":         `systemctl kill victim.service`,
		"masks":         `systemctl mask --runtime victim.service`,
		"sets":          `systemctl set-property --runtime victim.service CPUWeight=10`,
		"sets-raw":      `busctl set-property org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager LogLevel s debug`,
		"environment":   `systemctl set-environment A=b`,
		"runs":          `systemd-run --quiet /bin/true`,
		"powers-off":    `busctl call org.freedesktop.login1 /org/freedesktop/login1 org.freedesktop.login1.Manager PowerOff b false`,
		"by-the-bus":    `busctl call org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager StopUnit ss victim.service replace`,
		"by-its-own":    `busctl --address=unix:path=/run/systemd/private call org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager StopUnit ss victim.service replace`,
		"signals":       `kill $(systemctl show -p MainPID --value victim.service)`,
		"asks-and-more": `/usr/sbin/nft list ruleset | grep -q 0000000400081004`,
	}
	var toml strings.Builder
	toml.WriteString("[checks]\n")
	for name, line := range asks {
		fmt.Fprintf(&toml, "[checks.%s]\n%s\n", name, line)
	}
	for name, line := range changes {
		fmt.Fprintf(&toml, "[checks.%s]\nrun = [\"/bin/sh\", \"-c\", %q]\n", name, line)
	}
	o := d.apply(t, toml.String())
	states := map[policy.ID]converge.State{}
	for name := range asks {
		states[policy.NewID("check", name)] = converge.Compliant
	}
	for name := range changes {
		states[policy.NewID("check", name)] = converge.Failed
	}
	o.wants(t, states)
	if got := d.MustExec(t, "sh", "-c", "systemctl is-active victim.service; systemctl show -p UnitFileState --value victim.service; systemctl show-environment | grep -c ^A=b || :; ls /run/dbus/system_bus_socket"); got != "active\nstatic\n0\n/run/dbus/system_bus_socket\n" {
		t.Errorf("a check has changed something: %q", got)
	}
	d.MustExec(t, "busctl", "--no-pager", "list") // the machine's own bus is as it was
}
