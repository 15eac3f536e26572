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

// A failure that no policy can end does not exist: what leaves the policy while its tool
// fails, or is not there, is gone, or it is left in fact and named.
func TestWhatLeavesThePolicyWithoutItsToolsIsGoneOrNamedAndAPurgeEnds(t *testing.T) {
	t.Parallel()
	d := newDesktop(t, box.WithNetwork(), box.WithFiles(map[string]box.File{unitDir + "kept.service": unit(stays, wanted)}))
	settings := func() string { return d.MustExec(t, "sh", "-c", "find /etc/dconf -type f | sort") }
	before := settings()
	const tools = "nft iptables-save iptables-restore ip6tables-save ip6tables-restore dconf gsettings useradd userdel usermod groupadd groupdel groupmod gpasswd chage rpm rpmkeys dnf yum yum-config-manager systemctl systemd-run sysctl timedatectl udevadm modprobe restorecon visudo sudo cvtsudoers pkaction pkcheck"
	for _, without := range []struct{ how, take, give string }{
		{
			"fails", "for t in " + tools + "; do printf '#!/bin/sh\necho it is broken >&2\nexit 1\n' >/usr/local/sbin/$t; chmod 755 /usr/local/sbin/$t; done",
			"for t in " + tools + "; do rm /usr/local/sbin/$t; done",
		},
		{
			"is not there", "for t in " + tools + "; do p=/usr/bin/$t; [ -e $p ] || p=/usr/sbin/$t; [ ! -e $p ] || mv $p $p.away; done",
			"for p in /usr/bin/*.away /usr/sbin/*.away; do mv $p ${p%.away}; done",
		},
	} {
		d.apply(t, d.repository()+onlyDomainAdmins+`
[system]
timezone = "Europe/Berlin"
[groups]
soe-here = { gid = 5101 }
[packages]
soe-pkg-01 = "present"
[dropins."/etc/modprobe.d/soe.conf"]
content = "# managed\n"
[dropins."/etc/soe-tell.d/tell.conf"]
content = "tells\n"
activate = ["/usr/bin/systemctl", "try-restart", "kept.service"]
[firewall.inbound]
action = "deny"
[pcoip]
maximum_frame_rate = 30
[dconf."org/mate/screensaver"]
lock-enabled = { value = true, lock = true }
[services."kept.service"]
enabled = true
`).wants(t, map[policy.ID]converge.State{"package/soe-pkg-01": converge.Corrected, "dconf/org/mate/screensaver/lock-enabled": converge.Corrected})
		d.MustExec(t, "sh", "-c", without.take)
		o := d.apply(t, "")
		var left []string
		for _, r := range o.Resources {
			if !r.State.InLine() {
				left = append(left, fmt.Sprintf("%s: %s", r.ID, r.Reason))
			}
		}
		// The package is there, for nobody can take it away, and so is what it came from; and the rules are in the kernel.
		really := func(text string) bool {
			return strings.HasPrefix(text, "package") || strings.HasPrefix(text, "repository") || strings.HasPrefix(text, "firewall/rules: rules are in force")
		}
		if i := slices.IndexFunc(left, func(text string) bool { return !really(text) }); i >= 0 {
			t.Errorf("a tool %s: under a policy that wants nothing there is still %s", without.how, strings.Join(left, "\n"))
		}
		result, err := d.Exec(t.Context(), "soe-agent", "purge", "--yes")
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(result.Stdout) {
			if name, is := strings.CutPrefix(line, "left: "); is && !strings.Contains(name, "package") && !strings.Contains(name, "repository") && !strings.Contains(name, "firewall/rules") && !strings.Contains(name, "sudoers") {
				t.Errorf("a tool %s: a purge leaves %s", without.how, line)
			}
		}
		t.Logf("a tool %s: %v\npurge exits %d: %s%s", without.how, left, result.Code, result.Stdout, result.Stderr)
		d.MustExec(t, "sh", "-c", without.give)
		if result, err = d.Exec(t.Context(), "soe-agent", "purge", "--yes"); err != nil || result.Code != 0 {
			t.Errorf("with the tools a purge exits %d: %s%s", result.Code, result.Stdout, result.Stderr)
		}
		if after := settings(); after != before {
			t.Errorf("a tool %s: of dconf there was\n%s\nand is\n%s", without.how, before, after)
		}
		d.MustExec(t, "sh", "-c", "groupdel soe-here 2>/dev/null; rm -f /etc/localtime; exit 0")
	}
}
