package dropin

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

func readOnlyEtc(c system.Change) error {
	if strings.HasPrefix(c.Target, "/etc/") {
		return fmt.Errorf("cannot write %s: %w", c.Target, unix.EROFS)
	}
	return nil
}

// What somebody else has written is not what is wanted: where it cannot be replaced, or a stray
// not be removed, nothing makes it take effect.
func TestWhatCannotBeWrittenOrRemovedIsNotMadeToTakeEffectAsItIs(t *testing.T) {
	const sysctl, app = "/etc/sysctl.d/60-soe.conf", "/etc/app.d/a"
	for what, p := range map[string]*policy.Policy{
		"wanted": files(map[string]policy.Dropin{
			sysctl: {Content: "a.safe = 1\n"}, app: {Content: "safe\n", Activate: []string{"/bin/app", "reload"}},
			"/etc/tmpfiles.d/soe.conf": {Content: "d /run/safe\n"}, "/etc/modules-load.d/soe.conf": {Content: "# none\n"},
			"/etc/systemd/system/a.service.d/soe.conf": {Content: "[Service]\nNice=1\n"}, "/etc/udev/rules.d/60-soe.rules": {Content: "# none\n"},
		}),
		"to be absent": files(map[string]policy.Dropin{sysctl: {Ensure: policy.Absent}, app: {Ensure: policy.Absent, Activate: []string{"/bin/app", "reload"}}}),
	} {
		m := &running{root: machine(t, nil)}
		m.sysctl("a/safe", "1")
		m.pass(t, p)
		theirs := map[string]string{sysctl: "a.safe = 0\n", app: "theirs\n"}
		if what == "wanted" {
			theirs["/etc/tmpfiles.d/soe.conf"] = "d /run/theirs\n"
			theirs["/etc/modules-load.d/soe.conf"] = "theirs\n"
			theirs["/etc/systemd/system/a.service.d/soe.conf"] = "[Service]\nNice=2\n"
			theirs["/etc/udev/rules.d/60-soe.rules"] = "# theirs\n"
		}
		for name, content := range theirs {
			kindtest.Put(t, m.root, name, content)
		}
		m.gate = readOnlyEtc
		for range 2 {
			found := m.pass(t, p)
			if len(m.calls) > 0 {
				t.Errorf("%s: %q ran", what, m.calls)
			}
			for name, content := range theirs {
				r := found[policy.NewID("dropin", name)]
				if r.State != converge.Failed || !strings.Contains(r.Reason, "read-only file system") {
					t.Errorf("%s: %s is %s: %s", what, name, r.State, r.Reason)
				}
				if got := kindtest.Read(t, m.root, name); got != content {
					t.Errorf("%s: %s holds %q", what, name, got)
				}
			}
		}
		if got := kindtest.Read(t, m.root, "/proc/sys/a/safe"); got != "1\n" {
			t.Errorf("%s: the kernel has %q", what, got)
		}
		m.gate = nil
		for id, r := range m.pass(t, p) {
			if r.State != converge.Corrected && r.State != converge.Pending { // what the kernel had before somebody's file, nobody knows
				t.Errorf("%s: once it can be written %s is %s: %s", what, id, r.State, r.Reason)
			}
		}
		if m.pass(t, p); len(m.calls) > 0 {
			t.Errorf("%s: then %q ran again", what, m.calls)
		}
	}
}

func TestAStrayThatCannotBeRemovedIsNotMadeToTakeEffect(t *testing.T) {
	const stray = "/etc/modules-load.d/stray.conf"
	m := &running{root: machine(t, map[string]string{stray: "theirs\n", "/var/lib/rpm/Packages": ""}), gate: readOnlyEtc}
	m.reads = func(c system.Command) (system.Output, error) {
		if c.Argv[0] != "rpm" {
			return system.Output{}, system.ErrNotInstalled
		}
		return system.Output{Stdout: []byte("soe-agent-1-1.x86_64\nfile " + stray + " is not owned by any package\n"), ExitCode: 1}, nil
	}
	p := kindtest.Policy(t, "[directories.\"/etc/modules-load.d\"]\npurge = true\n")
	if r := m.pass(t, p)["dropin"+stray]; r.State != converge.Failed || !strings.Contains(r.Reason, "cannot remove "+stray) {
		t.Errorf("it is %s: %s", r.State, r.Reason)
	}
	if len(m.calls) > 0 {
		t.Errorf("%q ran", m.calls)
	}
}
