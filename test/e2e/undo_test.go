package e2e

import (
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/test/box"
)

// configuration describes every file that configures the machine, with its content.
func (d *desktop) configuration(t *testing.T) string {
	t.Helper()
	const list = `cd /etc; find . -type f ! -name 'passwd*' ! -name 'group*' ! -name '*shadow*' ! -name 'sub?id*' -printf '%p %m %u %g ' -exec sha256sum {} \;
find . -type l -printf '%p -> %l\n'`
	return d.MustExec(t, "sh", "-c", list+" | sort")
}

func TestAPurgeShowsWhatTheAgentDidAndThenUndoesIt(t *testing.T) {
	t.Parallel()
	d := newDesktop(t, box.WithNetwork())
	d.MustWriteFile(t, "/etc/modprobe.d/soe-was.conf", box.File{Content: "# somebody's\n", Mode: 0o640})
	d.MustExec(t, "chmod", "0664", "/etc/crontab")
	d.sh(t, "ln -s /run/somewhere /etc/soe-link; echo theirs >/etc/soe-gone; chmod 640 /etc/soe-gone; printf 'one\r\ntwo' >/etc/soe-lines; echo /usr/sbin/nologin >>/etc/shells; chmod 644 /etc/shadow")
	before := d.configuration(t)
	d.apply(t, d.repository()+`
[packages]
soe-pkg-01 = "present"
[sudo]
allow = ["root", "%wheel"]
[groups.wheel]
[users.ann]
group = "wheel"
[firewall.inbound]
action = "deny"
[pcoip]
maximum_frame_rate = 30
[dconf."org/mate/screensaver"]
lock-enabled = true
[dropins."/etc/modprobe.d/soe-was.conf"]
content = "# managed\n"
[dropins."/etc/modprobe.d/soe-is.conf"]
content = "# managed\n"
[files."/etc/crontab"]
group = "users"
mode = "at most 0600"
[files."/etc/soe-link"]
content = "ours"
[files."/etc/soe-new"]
content = "ours"
[files."/etc/issue.net"]
content = "Authorized use only.\n"
mode = "0640"
[files."/etc/soe-gone"]
ensure = "absent"
[files."/etc/soe-lines"]
lines = ["three"]
absent_lines = ["two"]
[files."/etc/shells"]
absent_lines = ["/usr/sbin/nologin"]
[files."/etc/shadow"]
owner = "root"
mode = "at most 0640"
`).wants(t, map[policy.ID]converge.State{
		"file/etc/crontab": converge.Corrected, "file/etc/soe-link": converge.Corrected, "file/etc/soe-new": converge.Corrected, "file/etc/issue.net": converge.Corrected,
		"file/etc/soe-gone": converge.Corrected, "file/etc/soe-lines": converge.Corrected, "file/etc/shells": converge.Corrected, "file/etc/shadow": converge.Corrected, "sudo/allow": converge.Corrected, "package/soe-pkg-01": converge.Corrected, "pcoip/maximum_frame_rate": converge.Corrected,
	})

	result, err := d.Exec(t.Context(), "soe-agent", "purge")
	if err != nil || result.Code != 2 {
		t.Fatalf("%v, exit code %d: %s%s", err, result.Code, result.Stdout, result.Stderr)
	}
	for _, want := range []string{
		"would give back /etc/modprobe.d/soe-was.conf\n", "would remove /etc/modprobe.d/soe-is.conf\n", "would give back /etc/sudoers.d/01-ws-admin-user\n",
		"would give up package/soe-pkg-01\n", "would give up repository/soe-test\n", "would give up file/etc/crontab\n", "would give up firewall/inbound\n", "nothing is done; soe-agent purge --yes does it\n",
	} {
		if !strings.Contains(result.Stdout, want) {
			t.Errorf("it does not say %q:\n%s", want, result.Stdout)
		}
	}
	d.converged(t)
	if got := d.MustExec(t, "sh", "-c", "cat /etc/soe-link /etc/soe-new /etc/issue.net; stat -c %a%F /etc/soe-link /etc/shadow; test -e /etc/soe-gone || echo gone; od -An -c /etc/soe-lines; grep -c nologin /etc/shells || true"); !strings.HasPrefix(got, "oursoursAuthorized use only.\n644regular file\n640regular file\ngone\n   o   n   e  \\r  \\n   t   h   r   e   e  \\r  \\n\n0") {
		t.Errorf("the files are %s", got)
	}

	result, err = d.Exec(t.Context(), "soe-agent", "purge", "--yes")
	if err != nil || result.Code != 0 {
		t.Fatalf("%v, exit code %d: %s%s", err, result.Code, result.Stdout, result.Stderr)
	}
	if after := d.configuration(t); after != before {
		t.Errorf("it is not as it was: %s; and the other way round %s", firstDifference(before, after), firstDifference(after, before))
	}
	if got := d.rpms(t, "soe-pkg-01"); got != "" {
		t.Errorf("there is %s", got)
	}
	if left := strings.TrimSpace(d.MustExec(t, "find", "/var/lib/soe-agent", "-type", "f")); left != "" {
		t.Errorf("it has not forgotten %s", left)
	}
	if !d.fails(t.Context(), "nft", "list", "table", "inet", "soe_agent") {
		t.Error("its rules are in force still")
	}
	d.MustExec(t, "visudo", "-c")
	d.MustExec(t, "id", "ann") // files may belong to her
	if out := d.MustExec(t, "soe-agent", "purge", "--yes"); out != "nothing is to be undone\n" {
		t.Errorf("the second purge says %s", out)
	}
}
