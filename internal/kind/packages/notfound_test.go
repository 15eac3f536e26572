package packages

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

func TestWhatKeepsAPackageFromBeingSeenIsTheReason(t *testing.T) {
	const unseen = "cannot install tool: "
	for _, c := range []struct {
		file, text, ensure, want string
	}{
		{"/etc/yum.conf", "[main]\nexclude=other*, to*\n", "present", "exclude = to* in [main] of /etc/yum.conf leaves it out (No package tool available.)"},
		{"/etc/yum.conf", "[main]\nexclude=\n other\n tool.noarch\n", "present", "exclude = tool.noarch in [main] of /etc/yum.conf leaves it out (No package tool available.)"},
		{"/etc/yum.conf", "[main]\nexclude=tool-3*\n", "3.0-1", "exclude = tool-3* in [main] of /etc/yum.conf leaves it out (No package tool-3.0-1 available.)"},
		{"/etc/yum.conf", "[main]\nexclude=other\n", "present", "No package tool available."},
		{"/etc/yum.repos.d/a.repo", "[a]\nenabled=1\nexclude=tool\n", "present", "exclude = tool in [a] of /etc/yum.repos.d/a.repo leaves it out (No package tool available.)"},
		{"/etc/yum.repos.d/a.repo", "[a]\nenabled=0\nexclude=tool\n", "present", "No package tool available."},
		{"/etc/yum.repos.d/a.repo", "[a]\nincludepkgs=kernel*\n", "present", "of the repository a only includepkgs = kernel* is seen, says /etc/yum.repos.d/a.repo (No package tool available.)"},
		{"/etc/yum.repos.d/a.repo", "[a]\nincludepkgs=kernel*\n[b]\nincludepkgs=to*\n", "present", "No package tool available."},
		{"/etc/yum.repos.d/a.repo", "[a]\nenabled = False\nexclude=tool\n", "present", "No package tool available."},
		{versionlock, "0:tool-1.0-1.*\n", "3.0-1", "the versionlock plugin lets no other version through than " + versionlock + " says: 0:tool-1.0-1.* (No package tool-3.0-1 available.)"},
		{versionlock, "0:tool-1.0-1.*\n", "present", "the versionlock plugin lets no other version through than " + versionlock + " says: 0:tool-1.0-1.* (No package tool available.)"},
		{versionlock, "!0:tool-3.0-1.*\n", "3.0", "the versionlock plugin lets no other version through than " + versionlock + " says: !0:tool-3.0-1.* (No package tool-3.0 available.)"},
		{versionlock, "0:tool-1.0-1.*\n0:tool-3.0-1.*\n0:toolbox-1-1.*\n", "3.0", "No package tool-3.0 available."},
	} {
		d := newDesk(t, world{repository: map[string][]string{"other": {"1-1"}}})
		d.write("/etc/yum/pluginconf.d/versionlock.conf", "[main]\nenabled = 1\n")
		d.write(c.file, c.text)
		same(t, c.text, repair(t, d.kind(map[string]policy.Package{"tool": {Ensure: policy.Ensure(c.ensure)}})), map[string]string{"tool": unseen + c.want})
	}
}

func TestOfTheLinesAboutAWrongKeyTheOneThatTellsIsTheReason(t *testing.T) {
	const wrong = `The GPG keys listed for the "SOE test" repository are already installed but they are not correct for this package.`
	out := said(1, "Downloading packages:\nPublic key for soe-wrongkey-1.0-1.noarch.rpm is not installed\nRetrieving key from file:///repo/RPM-GPG-KEY-good\n",
		"warning: /var/cache/yum/x86_64/2/soe/packages/soe-wrongkey-1.0-1.noarch.rpm: Header V4 RSA/SHA512 Signature, key ID d8cf8a3d: NOKEY\n\n\n"+wrong+"\nCheck that the correct key URLs are configured for this repository.\n")
	same(t, "the reason", reason(out), wrong)
}

// A killer kills the given number of transactions half-way, so that the package is recorded twice.
type killer struct {
	*yum
	kills    int
	byWrap   bool // a child of the command is killed, not the command itself
	attempts int
}

func (k *killer) Run(ctx context.Context, c system.Command) (system.Output, error) {
	if c.Scope == "" || c.Argv[0] != "yum" {
		return k.yum.Run(ctx, c)
	}
	k.attempts++
	if k.kills--; k.kills < 0 {
		return k.yum.Run(ctx, c)
	}
	k.installed["tool"], k.twice = "2.0-1", map[string]string{"tool": "1.0-1"}
	k.touch()
	if k.byWrap {
		return said(137, "", ""), nil
	}
	return system.Output{}, fmt.Errorf("%w: signal: killed", system.ErrKilled)
}

func TestAKilledTransactionIsMendedAtOnceAndTriedOnceMore(t *testing.T) {
	for _, byWrap := range []bool{true, false} {
		for _, patch := range []bool{true, false} {
			d := newDesk(t, world{installed: map[string]string{"tool": "1.0-1", "other": "1.0-1"}, repository: map[string][]string{"tool": {"1.0-1", "2.0-1"}, "other": {"2.0-1"}}})
			d.system.Sessions = kindtest.Sessions{}
			d.write("/usr/bin/package-cleanup", "")
			k := &killer{yum: d.yum, kills: 1, byWrap: byWrap}
			d.system.Runner = k
			if patch {
				if r := d.patched(t, policy.AllUpdates, sundays(t)); r.State != converge.Corrected {
					t.Errorf("updates are %s: %s", r.State, r.Reason)
				}
			} else {
				same(t, "the reasons", repair(t, d.kind(map[string]policy.Package{"tool": {Ensure: "2.0"}, "other": {Ensure: "2.0"}})), map[string]string{})
			}
			if d.installed["other"] != "2.0-1" || len(d.twice) > 0 || k.attempts != 2 {
				t.Errorf("after %d attempts there is %v, and twice %v", k.attempts, d.installed, d.twice)
			}
			k.kills = 100
			d.installed["other"], d.repository["other"] = "2.0-1", []string{"3.0-1"}
			d.touch()
			for name, why := range repair(t, d.kind(map[string]policy.Package{"other": {Ensure: "3.0"}})) {
				if !strings.Contains(why, errKilled.Error()) {
					t.Errorf("%s: %s", name, why)
				}
			}
		}
	}
}

// While another yum updates a package, both versions are recorded and its list of unfinished work
// exists.
func TestWhatAnotherPackageManagerIsAboutToDoIsNoInterruptedTransaction(t *testing.T) {
	d := newDesk(t, world{installed: map[string]string{"tool": "2.0-1"}})
	d.twice = map[string]string{"tool": "1.0-1"}
	d.touch()
	d.write(yumState+"/transaction-all.2026-01-05.08:59.59", "install 0:tool-2.0-1.noarch\n")
	m := d.at(map[string]string{"/run/yum.pid": "4077\n", "/proc/4077/cmdline": "/usr/bin/python\x00/usr/bin/yum\x00update\x00", "/proc/4077/status": "Uid:\t0\t0\t0\t0\n"})
	running := *d.system
	running.Root = "/"
	m.system = &running
	ran := len(d.ran)
	there, err := m.mendInterrupted(t.Context())
	if there != nil || err == nil || !strings.Contains(err.Error(), "another package manager is at work (process 4077") {
		t.Errorf("%v, %v", there, err)
	}
	for _, command := range d.ran[ran:] {
		if !strings.HasPrefix(command, "rpm -qa") {
			t.Errorf("it ran %s", command)
		}
	}
}

func TestOnlyASignalIsTakenForOne(t *testing.T) {
	for code, want := range map[int]bool{0: false, 1: false, 100: false, 137: true, 143: true, 200: false} {
		if got := wasKilled(said(code, "", ""), nil); got != want {
			t.Errorf("exit code %d is a signal: %v", code, got)
		}
	}
}
