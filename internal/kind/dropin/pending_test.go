package dropin

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

type sessions struct {
	list []system.Session
	err  error
}

func (s *sessions) List(context.Context) ([]system.Session, error) { return s.list, s.err }

func TestWhatIsReadAtBootIsPendingUntilThenAndItsReaderIsLeftAlone(t *testing.T) {
	for name, content := range map[string]string{
		"/etc/systemd/logind.conf.d/a.conf": "[Login]\n", "/etc/systemd/system.conf.d/a.conf": "[Manager]\n",
	} {
		id := policy.NewID("dropin", name)
		m := &running{root: machine(t, nil), active: []string{"systemd-logind.service"}}
		p := files(map[string]policy.Dropin{name: {Content: content}})
		for _, p := range []*policy.Policy{p, p, files(map[string]policy.Dropin{name: {Ensure: policy.Absent}}), files(nil), files(nil)} {
			if r := m.pass(t, p)[id]; r.State != converge.Pending || r.Effect != converge.Reboot || r.Reason == "" {
				t.Errorf("%s is %s until %s: %s", name, r.State, r.Effect, r.Reason)
			}
			if len(m.calls) > 0 {
				t.Errorf("%s: %q ran", name, m.calls)
			}
		}
		if err := os.RemoveAll(filepath.Join(m.root, "run")); err != nil { // as the reboot does
			t.Fatal(err)
		}
		wants(t, m.pass(t, files(nil)), map[policy.ID]converge.State{})
	}
}

func TestWhatConcernsNewSessionsIsPendingWhileThereAreOlderOnes(t *testing.T) {
	before, after := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	for name, content := range map[string]string{
		"/etc/security/limits.d/a.conf": "* soft nofile 10\n", "/etc/X11/xinit/xinitrc.d/a.sh": "true\n",
		"/etc/xdg/autostart/a.desktop": "[Desktop Entry]\nHidden=true\n", "/etc/environment.d/a.conf": "A=b\n",
	} {
		id := policy.NewID("dropin", name)
		old := &sessions{list: []system.Session{{Since: after}, {Since: before}}}
		m := &running{root: machine(t, nil), sessions: old}
		for _, p := range []*policy.Policy{files(map[string]policy.Dropin{name: {Content: content}}), files(nil)} {
			m.sessions = old
			for range 2 {
				if r := m.pass(t, p)[id]; r.State != converge.Pending || r.Effect != converge.NextSession {
					t.Errorf("%s is %s until %s: %s", name, r.State, r.Effect, r.Reason)
				}
			}
			m.sessions = &sessions{err: errors.New("no answer")}
			if r := m.pass(t, p)[id]; r.State != converge.Unknown || !strings.Contains(r.Reason, "no answer") {
				t.Errorf("%s is %s: %s", name, r.State, r.Reason)
			}
			m.sessions = &sessions{list: []system.Session{{Since: after}, {Since: before, State: "closing"}}}
			if r, there := m.pass(t, p)[id]; there && r.State != converge.Compliant {
				t.Errorf("once the older session has ended, %s is %s: %s", name, r.State, r.Reason)
			}
		}
	}
}

func TestWhoReadsAtItsStartAndCarriesNoSessionIsRestartedIfItRuns(t *testing.T) {
	wanted := files(map[string]policy.Dropin{
		"/etc/systemd/journald.conf.d/a.conf": {Content: "[Journal]\n"}, "/etc/chrony.d/a.conf": {Content: "maxslewrate 100\n"},
		"/etc/chrony.d/b.conf": {Content: "maxdistance 16\n"}, "/etc/systemd/resolved.conf.d/a.conf": {Content: "[Resolve]\n"},
		"/etc/systemd/timesyncd.conf.d/a.conf": {Content: "[Time]\n"}, "/etc/systemd/oomd.conf.d/a.conf": {Content: "[OOM]\n"},
	})
	for _, active := range [][]string{{"chronyd.service", "systemd-journald.service", "systemd-oomd.service", "systemd-resolved.service", "systemd-timesyncd.service"}, nil} {
		m := &running{root: machine(t, nil), active: active}
		m.pass(t, wanted)
		var want []string
		for _, unit := range active {
			want = append(want, "restart "+unit)
		}
		slices.Sort(m.calls)
		if diff := cmp.Diff(want, m.calls); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

func TestRulesOfTheAuditAreLoadedOrWaitForTheRebootWhereTheyAreLocked(t *testing.T) {
	const name = "/etc/audit/rules.d/a.rules"
	p := files(map[string]policy.Dropin{name: {Content: "-e 2\n"}})
	m := &running{root: machine(t, nil)}
	wants(t, m.pass(t, p), map[policy.ID]converge.State{"dropin" + name: converge.Corrected})
	if diff := cmp.Diff([]string{"augenrules --load"}, m.calls); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	p = files(map[string]policy.Dropin{name: {Content: "-D\n-e 2\n"}})
	m.fails = map[string]string{"augenrules": "The audit system is in immutable mode, no rule changes allowed\n"}
	for range 2 {
		if r := m.pass(t, p)["dropin"+name]; r.State != converge.Pending || r.Effect != converge.Reboot || !strings.Contains(r.Reason, "locked") {
			t.Errorf("it is %s: %s", r.State, r.Reason)
		}
	}
	p = files(map[string]policy.Dropin{name: {Content: "-D\n"}})
	m.fails = map[string]string{"augenrules": "There was an error in line 1\n"}
	if r := m.pass(t, p)["dropin"+name]; r.State != converge.Failed || !strings.Contains(r.Reason, "error in line 1") {
		t.Errorf("it is %s: %s", r.State, r.Reason)
	}
}

func TestModulesAreLoadedAtOnceAndOneThatTheKernelHasNotIsRefused(t *testing.T) {
	m := &running{root: machine(t, nil), reads: func(c system.Command) (system.Output, error) {
		if c.Argv[0] == "modinfo" && c.Argv[2] == "missing" {
			return system.Output{ExitCode: 1}, nil
		}
		return system.Output{}, nil
	}}
	found := m.pass(t, files(map[string]policy.Dropin{
		"/etc/modules-load.d/a.conf": {Content: "loop\ndm_mod\n"}, "/etc/modules-load.d/b.conf": {Content: "usbip-core\n"},
		"/etc/modules-load.d/c.conf": {Content: "missing\n"},
	}))
	wants(t, found, map[policy.ID]converge.State{
		"dropin/etc/modules-load.d/a.conf": converge.Corrected, "dropin/etc/modules-load.d/b.conf": converge.Corrected, "dropin/etc/modules-load.d/c.conf": converge.Failed,
	})
	if diff := cmp.Diff([]string{"modprobe -a -b -- loop dm_mod usbip-core"}, m.calls); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if reason := found["dropin/etc/modules-load.d/c.conf"].Reason; !strings.Contains(reason, "no module missing") {
		t.Error(reason)
	}
}

func TestSSHDReadsItsFilesAgainUnlessThatWouldEndIt(t *testing.T) {
	m := &running{root: machine(t, nil), active: []string{"ssh.service"}, fails: map[string]string{"sshd": "bad configuration"}}
	m.sshd = &kindtest.SSHD{Root: m.root, Runs: m.active}
	p := files(map[string]policy.Dropin{"/etc/ssh/sshd_config.d/a.conf": {Content: "X11Forwarding no\n"}})
	if r := m.pass(t, p)["dropin/etc/ssh/sshd_config.d/a.conf"]; r.State != converge.Failed || slices.Contains(m.calls, "systemctl reload ssh.service") {
		t.Errorf("it is %s, and %q ran", r.State, m.calls)
	}
	m.fails = nil
	m.pass(t, p)
	if diff := cmp.Diff([]string{"sshd -t", "systemctl reload ssh.service"}, m.calls); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// At the first boot a clock may be days ahead, and then be set right.
func TestAFileOfATimeThatHasNotComeYetWaitsForNobodyWhoLoggedInSince(t *testing.T) {
	const name = "/etc/security/limits.d/a.conf"
	id := policy.NewID("dropin", name)
	p := files(map[string]policy.Dropin{name: {Content: "* soft nofile 10\n"}})
	early := time.Now().Add(47 * time.Hour) // by the clock that was ahead
	m := &running{root: machine(t, nil), sessions: &sessions{list: []system.Session{{Since: early}}}}
	m.pass(t, p)
	changed := time.Now().Add(48 * time.Hour)
	if err := os.Chtimes(filepath.Join(m.root, name), changed, changed); err != nil {
		t.Fatal(err)
	}
	if r := m.pass(t, p)[id]; r.State != converge.Pending {
		t.Errorf("somebody logged in before it changed, by the same clock, and it is %s", r.State)
	}
	m.sessions = &sessions{list: []system.Session{{Since: time.Now().Add(-time.Minute)}}}
	if r := m.pass(t, p)[id]; r.State != converge.Compliant {
		t.Errorf("it is %s: %s", r.State, r.Reason)
	}
}
