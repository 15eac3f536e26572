package dropin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
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
	"github.com/soe-agent/soe-agent/internal/schedule"
	"github.com/soe-agent/soe-agent/internal/system"
)

// running is a machine below a temporary root that takes itself for the one that
// runs, and of which the commands are noted. sysctl sets what it is told to.
type running struct {
	system.Units
	root  string
	calls []string
	fails map[string]string // program → what it says
	bare  bool              // no program is installed
	// labels is what restorecon would do.
	labels string
	reads  func(system.Command) (system.Output, error)
	sshd   *kindtest.SSHD
	gate   system.Gate

	systemd  int      // its version; 0: one that knows all
	active   []string // units
	since    time.Time
	sessions system.Sessions
}

func (m *running) Reload(context.Context) error {
	m.calls = append(m.calls, "daemon-reload")
	return nil
}

func (m *running) Unit(_ context.Context, name string) (system.Unit, error) {
	if slices.Contains(m.active, name) {
		return system.Unit{ActiveState: "active", ActiveSince: m.since, Unstoppable: name == "auditd.service"}, nil
	}
	return system.Unit{ActiveState: "inactive"}, nil
}

func (m *running) FileState(_ context.Context, name string) (string, error) {
	if _, err := os.Stat(filepath.Join(m.root, unitDir, name)); err == nil || slices.Contains(m.active, name) {
		return "static", nil
	}
	return "", nil
}

func (m *running) Version(context.Context) (int, error) {
	if m.systemd == 0 {
		return 252, nil
	}
	return m.systemd, nil
}

func (m *running) Active(context.Context) ([]string, error) { return m.active, nil }

func (m *running) Service(context.Context, string) (system.Service, error) {
	return system.Service{Type: "notify"}, nil
}

func (m *running) ReloadUnit(_ context.Context, name string) error {
	m.calls = append(m.calls, "reload "+name)
	return nil
}

func (m *running) Stop(_ context.Context, name string) error {
	m.calls = append(m.calls, "stop "+name)
	return nil
}

func (m *running) Restart(_ context.Context, name string) error {
	m.calls = append(m.calls, "restart "+name)
	return nil
}

func (m *running) Run(ctx context.Context, c system.Command) (system.Output, error) {
	if c.ReadOnly && m.sshd != nil {
		return m.sshd.Run(ctx, c)
	}
	if c.ReadOnly && m.reads != nil {
		return m.reads(c)
	}
	switch {
	case c.ReadOnly && c.Argv[0] == "restorecon":
		return system.Output{Stdout: []byte(m.labels)}, nil
	case c.ReadOnly:
		return system.Output{}, system.ErrNotInstalled
	case c.Argv[0] == "restorecon":
		m.labels = ""
	}
	m.calls = append(m.calls, c.String())
	if m.bare {
		return system.Output{}, fmt.Errorf("cannot run %s: %w", c.Argv[0], system.ErrNotInstalled)
	}
	if says, fails := m.fails[c.Argv[0]]; fails {
		return system.Output{ExitCode: 1, Stderr: []byte(says)}, nil
	}
	if c.Argv[0] == "sysctl" {
		for _, word := range c.Argv[3:] {
			for key, value := range sysctlSettings(word) {
				m.sysctl(key, value)
			}
		}
	}
	return system.Output{}, nil
}

func (m *running) sysctl(key, value string) {
	name := filepath.Join(m.root, "/proc/sys", key)
	_ = os.MkdirAll(filepath.Dir(name), 0o755)
	_ = os.WriteFile(name, []byte(value+"\n"), 0o644)
}

func (m *running) pass(t *testing.T, p *policy.Policy) map[policy.ID]converge.Resource {
	t.Helper()
	m.calls = nil
	ledger := kindtest.Ledger(t, m.root)
	s := kindtest.Open(t, system.Options{Root: m.root, Backups: ledger, Gate: m.gate})
	s.Root, s.Runner, s.Units = "/", m, system.Units{UnitStates: m, UnitJobs: m, UnitFiles: m, UnitManager: m}
	if m.sessions != nil {
		s.Sessions = m.sessions
	}
	return kindtest.ByID(kindtest.Engine(p, New(p, s, ledger, schedule.Window{}), ledger, s.Clock).Pass(t.Context()).Resources)
}

func wants(t *testing.T, found map[policy.ID]converge.Resource, want map[policy.ID]converge.State) {
	t.Helper()
	got := map[policy.ID]converge.State{}
	for id, r := range found {
		got[id] = r.State
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s\n%v", diff, found)
	}
}

const authority = `-----BEGIN TRUSTED CERTIFICATE-----
AAAA
-----END TRUSTED CERTIFICATE-----
`

func TestManyFilesTakeEffectAtOnce(t *testing.T) {
	m := &running{root: machine(t, nil)}
	wanted := map[string]policy.Dropin{}
	for i := range 10 {
		m.sysctl(fmt.Sprintf("a/b%d", i), "0")
		wanted[fmt.Sprintf("/etc/sysctl.d/%d.conf", i)] = policy.Dropin{Content: fmt.Sprintf("a.b%d = 1\n", i)}
	}
	for i := range 3 {
		wanted[fmt.Sprintf("/etc/systemd/system/a.service.d/%d.conf", i)] = policy.Dropin{Content: "[Unit]\n"}
	}
	for i := range 2 {
		wanted[fmt.Sprintf("/etc/pki/ca-trust/source/anchors/%d.pem", i)] = policy.Dropin{Content: authority}
	}
	for i := range 4 {
		wanted[fmt.Sprintf("/etc/chrony/sources/%d.sources", i)] = policy.Dropin{Activate: []string{"/bin/chronyc", "reload", "sources"}}
	}
	wanted["/etc/other/a"] = policy.Dropin{Activate: []string{"/bin/other"}}
	wanted["/etc/other/b"] = policy.Dropin{Activate: []string{}}
	for id, r := range m.pass(t, files(wanted)) {
		if r.State != converge.Corrected {
			t.Errorf("%s is %s: %s %v", id, r.State, r.Reason, r.Diff)
		}
	}
	var got []string
	for _, call := range m.calls {
		program, _, _ := strings.Cut(call, " ")
		got = append(got, program)
	}
	slices.Sort(got)
	if diff := cmp.Diff([]string{"/bin/chronyc", "/bin/other", "daemon-reload", "sysctl", "update-ca-trust"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	m.pass(t, files(wanted))
	if len(m.calls) > 0 {
		t.Errorf("the next pass ran %q", m.calls)
	}
}

func TestAnActivationThatFailsIsTriedAgainUntilItWorks(t *testing.T) {
	m := &running{root: machine(t, nil), fails: map[string]string{"/bin/app": "one\nit is broken\n"}}
	p := files(map[string]policy.Dropin{"/etc/app/a": {Content: "x", Activate: []string{"/bin/app", "reload"}}})
	for range 2 {
		r := m.pass(t, p)["dropin/etc/app/a"]
		if r.State != converge.Failed || !strings.Contains(r.Reason, "/bin/app reload: it is broken") {
			t.Errorf("%s: %s", r.State, r.Reason)
		}
	}
	p.Resources[0].Secrets = []string{"broken"}
	if r := m.pass(t, p)["dropin/etc/app/a"]; r.State != converge.Failed || strings.Contains(r.Reason, "broken") {
		t.Errorf("%s: %s", r.State, r.Reason)
	}
	m.fails = nil
	wants(t, m.pass(t, p), map[policy.ID]converge.State{"dropin/etc/app/a": converge.Corrected})
	m.pass(t, p)
	if len(m.calls) > 0 {
		t.Errorf("once it worked, %q ran again", m.calls)
	}
}

func TestWhatActivatesAFileIsRunWhenItGoes(t *testing.T) {
	m := &running{root: machine(t, nil)}
	m.pass(t, files(map[string]policy.Dropin{"/etc/app/a": {Content: "x", Activate: []string{"/bin/app", "reload"}}}))
	wants(t, m.pass(t, files(nil)), map[policy.ID]converge.State{"dropin/etc/app/a": converge.Corrected})
	if diff := cmp.Diff([]string{"/bin/app reload"}, m.calls); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	wants(t, m.pass(t, files(nil)), map[policy.ID]converge.State{})
}

func TestASysctlIsWhatItWasOnceItsFileHasGone(t *testing.T) {
	const ours, theirs = "/etc/sysctl.d/60-ours.conf", "/usr/lib/sysctl.d/50-theirs.conf"
	id := policy.NewID("dropin", ours)
	present := files(map[string]policy.Dropin{ours: {Content: "a.known = 1\na.theirs = 1\n"}})
	for what, gone := range map[string]*policy.Policy{
		"absent": files(map[string]policy.Dropin{ours: {Ensure: policy.Absent}}), "released": files(nil),
		"without its keys": files(map[string]policy.Dropin{ours: {Content: "# nothing\n"}}),
	} {
		m := &running{root: machine(t, map[string]string{theirs: "a.theirs = 7\n"})}
		m.sysctl("a/known", "0")
		m.sysctl("a/theirs", "0")
		m.pass(t, present)
		if got := kindtest.Read(t, m.root, "/proc/sys/a/known"); got != "1\n" {
			t.Fatalf("%s: the kernel has %s", what, got)
		}
		m.fails = map[string]string{"sysctl": "permission denied"}
		wants(t, m.pass(t, gone), map[policy.ID]converge.State{id: converge.Failed})
		m.fails = nil
		wants(t, m.pass(t, gone), map[policy.ID]converge.State{id: converge.Corrected})
		if got := kindtest.Read(t, m.root, "/proc/sys/a/known") + kindtest.Read(t, m.root, "/proc/sys/a/theirs"); got != "0\n7\n" {
			t.Errorf("%s: the kernel has %q", what, got)
		}
		for id, r := range m.pass(t, gone) {
			if r.State != converge.Compliant {
				t.Errorf("%s: %s is %s", what, id, r.State)
			}
		}
		if len(m.calls) > 0 {
			t.Errorf("%s: %q ran again", what, m.calls)
		}
	}
}

// Such as: systemctl try-restart dnsmasq.service, and it is not installed.
// Whoever read the file has gone, or never was there: nobody waits for it to be gone.
func TestNothingIsOwedToAFileThatIsGoneWhenNoProgramIsThereToTell(t *testing.T) {
	for name, content := range map[string]string{
		"/etc/sysctl.d/60-a.conf": "a.known = 1\n", "/etc/ld.so.conf.d/a.conf": "/opt/a\n", "/etc/tmpfiles.d/a.conf": "d /run/a\n",
		"/etc/udev/rules.d/60-a.rules": "", "/etc/audit/rules.d/a.rules": "-w /etc/a\n", "/etc/modules-load.d/a.conf": "# none\n",
		"/etc/systemd/system/a.service.d/a.conf": "[Service]\nNice=1\n",
		"/etc/rsyslog.d/a.conf":                  "", "/etc/chrony.d/a.conf": "", "/etc/ssh/sshd_config.d/a.conf": "X11Forwarding no\n",
	} {
		id := policy.NewID("dropin", name)
		m := &running{root: machine(t, nil), active: []string{"rsyslog.service", "chronyd.service", "auditd.service"}}
		m.sysctl("a/known", "0")
		if r := m.pass(t, files(map[string]policy.Dropin{name: {Content: content}}))[id]; r.State == converge.Failed {
			t.Fatalf("%s is failed: %s", name, r.Reason)
		}
		m.bare = true
		m.pass(t, files(nil))
		if _, err := os.Stat(filepath.Join(m.root, name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is there: %v", name, err)
		}
		for id, r := range m.pass(t, files(nil)) {
			if r.State != converge.Pending || r.Effect != converge.Reboot { // a sysctl that cannot be set back
				t.Errorf("%s is %s: %s", id, r.State, r.Reason)
			}
		}
		if len(m.calls) > 0 {
			t.Errorf("of %s %q ran again", name, m.calls)
		}
	}
}

func TestNothingIsOwedToAFileThatIsGoneWhenItsCommandFails(t *testing.T) {
	const file, before = "/etc/app.d/x", "/etc/app.d/y"
	argv := []string{"/usr/bin/reload-app", "now"}
	m := &running{root: machine(t, map[string]string{before: "somebody's\n"})}
	m.pass(t, files(map[string]policy.Dropin{file: {Content: "x\n", Activate: argv}, before: {Content: "y\n", Activate: argv}}))
	m.fails = map[string]string{argv[0]: "Unit dnsmasq.service not found."}
	for _, r := range m.pass(t, files(nil)) {
		if r.State != converge.Failed && r.State != converge.Corrected {
			t.Errorf("%s is %s: %s", r.ID, r.State, r.Reason)
		}
	}
	if _, err := os.Stat(filepath.Join(m.root, file)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file is there: %v", err)
	}
	if got := kindtest.Read(t, m.root, before); got != "somebody's\n" {
		t.Errorf("it was not given back: %q", got)
	}
	for range 2 {
		wants(t, m.pass(t, files(nil)), map[policy.ID]converge.State{})
		if len(m.calls) > 0 {
			t.Errorf("%q ran again", m.calls)
		}
	}
	m.fails = nil
	wants(t, m.pass(t, files(map[string]policy.Dropin{file: {Content: "x\n", Activate: argv}})), map[policy.ID]converge.State{"dropin" + file: converge.Corrected})
}

func TestASysctlOfWhichNobodyKnowsTheOldValueWaitsForTheReboot(t *testing.T) {
	const file = "/etc/sysctl.d/60-image.conf"
	m := &running{root: machine(t, map[string]string{file: "a.b = 1\n"})}
	m.sysctl("a/b", "1")
	absent := files(map[string]policy.Dropin{file: {Ensure: policy.Absent}})
	for _, p := range []*policy.Policy{absent, absent, files(nil)} {
		r := m.pass(t, p)["dropin"+policy.ID(file)]
		if r.State != converge.Pending || r.Effect != converge.Reboot {
			t.Errorf("it is %s: %s", r.State, r.Reason)
		}
	}
	if err := os.RemoveAll(filepath.Join(m.root, "run")); err != nil { // as the reboot does
		t.Fatal(err)
	}
	wants(t, m.pass(t, absent), map[policy.ID]converge.State{"dropin" + file: converge.Compliant})
}

func TestANameThatOnlyTheCronOfDebianPassesOverIsRefusedThere(t *testing.T) {
	p := files(map[string]policy.Dropin{
		"/etc/cron.d/a.cron": {Content: "# none\n"}, "/etc/cron.daily/a.sh": {Content: "#!/bin/true\n"}, "/etc/cron.d/a": {Content: "# none\n"},
	})
	wants(t, pass(t, p, machine(t, nil), nil), map[policy.ID]converge.State{
		"dropin/etc/cron.d/a.cron": converge.Corrected, "dropin/etc/cron.daily/a.sh": converge.Corrected, "dropin/etc/cron.d/a": converge.Corrected,
	})
	wants(t, pass(t, p, machine(t, map[string]string{"/etc/debian_version": "12\n"}), nil), map[policy.ID]converge.State{
		"dropin/etc/cron.d/a.cron": converge.Failed, "dropin/etc/cron.daily/a.sh": converge.Failed, "dropin/etc/cron.d/a": converge.Corrected,
	})
}

func TestFilesGetTheirLabelsAtOnceWhereSELinuxIsOn(t *testing.T) {
	p := files(map[string]policy.Dropin{
		"/etc/modprobe.d/a.conf": {Content: "a\n"}, "/etc/modprobe.d/b.conf": {Content: "b\n"}, "/etc/modprobe.d/c.conf": {Ensure: policy.Absent},
	})
	for enforce, want := range map[string][]string{
		"/sys/fs/selinux/enforce": {"restorecon -- /etc/modprobe.d/a.conf /etc/modprobe.d/b.conf"}, "/sys/fs/none": nil,
	} {
		m := &running{root: machine(t, map[string]string{enforce: "0", "/etc/modprobe.d/c.conf": "c\n"})}
		m.pass(t, p)
		if diff := cmp.Diff(want, m.calls); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if m.pass(t, p); len(m.calls) > 0 {
			t.Errorf("the next pass ran %q", m.calls)
		}
	}
}
