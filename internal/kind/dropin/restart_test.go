package dropin

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

func somebody() *sessions {
	return &sessions{list: []system.Session{{User: "alice", Service: "pcoip-session", State: "online", Since: time.Now().Add(-time.Hour)}}}
}

func TestAServiceIsRestartedForItsFileWhenNobodyNotices(t *testing.T) {
	for _, test := range []struct {
		file, service      string
		underASession, now converge.Effect // what it waits for; "": it is restarted at once
	}{
		{"tool.service.d/a.conf", "tool.service", converge.NextSession, ""},
		{"tool.service", "tool.service", converge.NextSession, ""},
		{"tool@two.service.d/a.conf", "tool@two.service", converge.NextSession, ""},
		{"crond.service.d/a.conf", "crond.service", "", ""},
		{"tool@.service.d/a.conf", "tool@two.service", converge.NextSession, ""},
		{"tool@.service", "tool@two.service", converge.NextSession, ""},
		{"tool-.service.d/a.conf", "tool-two.service", converge.NextSession, ""},
		{"tool.socket.d/a.conf", "tool.socket", converge.NextSession, ""},
		{"tool.timer.d/a.conf", "tool.timer", "", ""},
		{"tool.path", "tool.path", "", ""},
		{"service.d/a.conf", "tool.service", converge.Reboot, converge.Reboot},
		{"tool.swap.d/a.conf", "tool.swap", converge.Reboot, converge.Reboot},
		{"lightdm.service.d/a.conf", "lightdm.service", converge.NextSession, ""},
		{"systemd-logind.service.d/a.conf", "systemd-logind.service", converge.Reboot, converge.Reboot},
		{"auditd.service.d/a.conf", "auditd.service", converge.Reboot, converge.Reboot},
	} {
		t.Run(test.file, func(t *testing.T) {
			name := "/etc/systemd/system/" + test.file
			id := policy.NewID("dropin", name)
			p := files(map[string]policy.Dropin{name: {Content: "[Unit]\nDescription=x\n[Service]\nExecStart=/bin/true\n"}})
			m := &running{root: machine(t, nil), active: []string{test.service}, since: time.Now()}
			for _, p := range []*policy.Policy{p, files(nil)} { // also when the file goes
				m.sessions = somebody()
				for pass := range 2 {
					r := m.pass(t, p)[id]
					switch {
					case test.underASession == "" && r.Effect == "" && strings.Join(m.calls, ", ") == map[int]string{0: "daemon-reload, restart " + test.service}[pass]:
					case test.underASession == "" || r.State != converge.Pending || r.Effect != test.underASession || test.now == "" && !strings.Contains(r.Reason, "alice is logged in"):
						t.Errorf("under a session it is %s until %s: %s; %q", r.State, r.Effect, r.Reason, m.calls)
					case strings.Contains(strings.Join(m.calls, ", "), "restart"):
						t.Errorf("restarted under a session: %q", m.calls)
					}
				}
				m.sessions = &sessions{}
				r := m.pass(t, p)[id]
				if r.Effect != test.now || strings.Contains(strings.Join(m.calls, ", "), "restart") != (test.now == "" && test.underASession != "") {
					t.Errorf("after the logout it is %s until %s: %s %v; %q", r.State, r.Effect, r.Reason, r.Diff, m.calls)
				}
				r = m.pass(t, p)[id]
				if r.Effect != test.now || len(m.calls) > 0 {
					t.Errorf("then it is %s until %s: %s; %q", r.State, r.Effect, r.Reason, m.calls)
				}
			}
		})
	}
}

func TestAServiceThatSomebodyElseRestartsHasReadItsFile(t *testing.T) {
	const name = "/etc/systemd/system/tool.service.d/a.conf"
	id := policy.NewID("dropin", name)
	p := files(map[string]policy.Dropin{name: {Content: "[Unit]\n"}})
	for _, restarted := range []func(*running){
		func(m *running) { m.since = m.since.Add(-time.Hour) }, // whatever the clock was set to
		func(m *running) { m.since = m.since.Add(time.Hour) },
		func(m *running) { m.active = nil },
	} {
		m := &running{root: machine(t, nil), active: []string{"tool.service"}, since: time.Now(), sessions: somebody()}
		if r := m.pass(t, p)[id]; r.State != converge.Pending {
			t.Fatal(r.State, r.Reason)
		}
		restarted(m)
		if r := m.pass(t, p)[id]; r.State != converge.Compliant || len(m.calls) > 0 {
			t.Errorf("it is %s: %s; %q", r.State, r.Reason, m.calls)
		}
	}
}

func TestAFileForSeveralUnitsIsReadBySystemdsThatKnowSuchDirectories(t *testing.T) {
	for _, test := range []struct {
		file    string
		systemd int
		read    bool
	}{
		{"tool-.service.d/a.conf", 219, false},
		{"tool-.service.d/a.conf", 238, false},
		{"tool-.service.d/a.conf", 239, true},
		{"tool-two-.service.d/a.conf", 234, false},
		{"tool-.timer.d/a.conf", 219, false},
		{"service.d/a.conf", 239, false},
		{"service.d/a.conf", 244, true},
		{"socket.d/a.conf", 243, false},
		{"tool@.service.d/a.conf", 219, true},
		{"tool-two.service.d/a.conf", 219, true},
	} {
		name := "/etc/systemd/system/" + test.file
		m := &running{root: machine(t, nil), active: []string{"tool-two.service", "tool-two-three.service", "tool@a.service", "tool-two.timer"}, since: time.Now(), sessions: &sessions{}, systemd: test.systemd}
		p := files(map[string]policy.Dropin{name: {Content: "[Unit]\nDescription=x\n"}})
		for pass := range 2 {
			r := m.pass(t, p)[policy.NewID("dropin", name)]
			if unread := r.State == converge.Failed && strings.HasPrefix(r.Reason, notRead+"systemd reads such a directory since ") && r.Public().Reason == r.Reason; unread == test.read {
				t.Errorf("pass %d: systemd %d, %s is %s: %s", pass, test.systemd, test.file, r.State, r.Reason)
			}
			if !test.read && strings.Contains(strings.Join(m.calls, ", "), "start") {
				t.Errorf("systemd %d, %s: %q for what nobody reads", test.systemd, test.file, m.calls)
			}
		}
		m.pass(t, files(nil))
		if !test.read && strings.Contains(strings.Join(m.calls, ", "), "start") {
			t.Errorf("systemd %d, %s has gone: %q", test.systemd, test.file, m.calls)
		}
	}
}

func TestWhatDoesNotRunIsNotStartedForItsFile(t *testing.T) {
	wanted := map[string]policy.Dropin{}
	for _, file := range []string{"tool.service.d/a.conf", "tool@.service.d/a.conf", "tool-.service.d/a.conf", "tool.timer.d/a.conf", "tool.slice.d/a.conf", "tool.mount.d/a.conf"} {
		wanted["/etc/systemd/system/"+file] = policy.Dropin{Content: "[Unit]\n"}
	}
	m := &running{root: machine(t, nil), active: []string{"other.timer", "tool.slice", "tooling.service", "tool@.slice"}, sessions: somebody()}
	for id, r := range m.pass(t, files(wanted)) {
		if r.State != converge.Corrected {
			t.Errorf("%s is %s: %s", id, r.State, r.Reason)
		}
	}
	if diff := cmp.Diff([]string{"daemon-reload"}, m.calls); diff != "" {
		t.Error(diff)
	}
}

func TestACommandOfThePolicyThatEndsASessionWaits(t *testing.T) {
	const name = "/etc/agent.d/a.conf"
	id := policy.NewID("dropin", name)
	p := files(map[string]policy.Dropin{name: {Content: "x\n", Activate: []string{"/usr/bin/systemctl", "restart", "pcoip-agent"}}})
	m := &running{root: machine(t, nil), active: []string{"pcoip-agent.service"}, sessions: somebody()}
	for range 2 {
		if r := m.pass(t, p)[id]; r.State != converge.Pending || r.Effect != converge.NextSession || len(m.calls) > 0 {
			t.Errorf("it is %s until %s: %s; %q", r.State, r.Effect, r.Reason, m.calls)
		}
	}
	if content, err := os.ReadFile(filepath.Join(m.root, name)); err != nil || string(content) != "x\n" {
		t.Errorf("the file holds %q, %v", content, err)
	}
	m.sessions = &sessions{}
	if r := m.pass(t, p)[id]; r.State != converge.Corrected || r.Cause != converge.Intentional || len(m.calls) != 1 {
		t.Errorf("after the logout it is %s (%s): %s; %q", r.State, r.Cause, r.Reason, m.calls)
	}
	if r := m.pass(t, p)[id]; r.State != converge.Compliant || len(m.calls) > 0 {
		t.Errorf("then it is %s; %q", r.State, m.calls)
	}
}
