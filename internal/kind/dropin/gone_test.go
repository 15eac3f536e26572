package dropin

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/own"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/schedule"
	"github.com/soe-agent/soe-agent/internal/system"
)

func TestACommandThatNamesItsOwnFileIsNotRunOnceThatHasGone(t *testing.T) {
	const file, id = "/etc/app.d/x", "dropin/etc/app.d/x"
	for _, argv := range [][]string{{"/usr/sbin/app", "--load", file}, {"/usr/sbin/app", "--config=" + file}, {file, "start"}} {
		present := files(map[string]policy.Dropin{file: {Content: "x\n", Activate: argv}})
		absent := files(map[string]policy.Dropin{file: {Ensure: policy.Absent, Activate: argv}})
		for what, p := range map[string]*policy.Policy{"named no more": files(nil), "absent": absent} {
			m := &running{root: machine(t, nil)}
			wants(t, m.pass(t, present), map[policy.ID]converge.State{id: converge.Corrected})
			if diff := cmp.Diff([]string{strings.Join(argv, " ")}, m.calls); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			m.fails = map[string]string{argv[0]: "cannot open " + file}
			for pass := range 2 {
				for _, r := range m.pass(t, p) {
					if !r.State.InLine() {
						t.Errorf("%q, %s, pass %d: %s: %s", argv, what, pass, r.State, r.Reason)
					}
				}
				if len(m.calls) > 0 {
					t.Errorf("%q, %s: %q ran", argv, what, m.calls)
				}
			}
		}
	}
}

func TestNothingIsOwedToAFileThatIsToBeAbsentWhenNoProgramIsThereToTell(t *testing.T) {
	for name, dropin := range map[string]policy.Dropin{
		"/etc/app.d/x":             {Content: "x\n", Activate: []string{"/usr/sbin/app", "reload"}},
		"/etc/ld.so.conf.d/a.conf": {Content: "/opt/a\n"}, "/etc/tmpfiles.d/a.conf": {Content: "d /run/a\n"},
	} {
		m := &running{root: machine(t, nil)}
		m.pass(t, files(map[string]policy.Dropin{name: dropin}))
		m.bare = true
		absent := files(map[string]policy.Dropin{name: {Ensure: policy.Absent, Activate: dropin.Activate}})
		m.pass(t, absent)
		wants(t, m.pass(t, absent), map[policy.ID]converge.State{policy.NewID("dropin", name): converge.Compliant})
		if len(m.calls) > 0 {
			t.Errorf("of %s %q ran again", name, m.calls)
		}
	}
}

func TestLinesOfTmpfilesAreRunNowOrPendingUntilTheyAre(t *testing.T) {
	const file, id = "/etc/tmpfiles.d/soe.conf", "dropin/etc/tmpfiles.d/soe.conf"
	for _, test := range []struct {
		content string
		calls   []string
		state   converge.State
	}{
		{"d /run/a\n", []string{"systemd-tmpfiles --create " + file}, converge.Corrected},
		{"r /etc/cron.deny\n", []string{"systemd-tmpfiles --create " + file, "systemd-tmpfiles --remove " + file}, converge.Corrected},
		{"D /run/a\n", []string{"systemd-tmpfiles --create " + file}, converge.Corrected},
		{"D /run/a\nr /etc/cron.deny\n", []string{"systemd-tmpfiles --create " + file}, converge.Pending},
		{"r! /etc/cron.deny\n", []string{"systemd-tmpfiles --create " + file}, converge.Pending},
		{"# r! /x\nw+! /sys/kernel/mm/ksm/run - - - - 0\n", []string{"systemd-tmpfiles --create " + file}, converge.Pending},
	} {
		m := &running{root: machine(t, nil)}
		r := m.one(t, file, test.content)
		if diff := cmp.Diff(test.calls, m.calls); diff != "" {
			t.Errorf("%q (-want +got):\n%s", test.content, diff)
		}
		if r.State != test.state || r.State == converge.Pending && r.Effect != converge.Reboot {
			t.Errorf("%q is %s: %s", test.content, r.State, r.Reason)
		}
		if test.state == converge.Pending {
			wants(t, m.pass(t, files(map[string]policy.Dropin{file: {Content: "d /run/a\n"}})), map[policy.ID]converge.State{id: converge.Corrected})
			wants(t, m.pass(t, files(nil)), map[policy.ID]converge.State{id: converge.Corrected})
		}
	}
}

func TestALinkOfTheMachineLeadsALineOfTmpfilesNowhereElse(t *testing.T) {
	for target, want := range map[string]converge.State{"/etc": converge.Failed, "../etc": converge.Failed, "/opt/app": converge.Corrected} {
		m := &running{root: machine(t, map[string]string{"/srv/x": "-> " + target, "/etc/pam.d/other": "x"})}
		if r := m.one(t, "/etc/tmpfiles.d/soe.conf", "d /srv/x/pam.d 0700\n"); r.State != want {
			t.Errorf("through a link to %s it is %s: %s", target, r.State, r.Reason)
		}
	}
}

func TestAValueThatMakesAFileWriteWhatIsProtectedKeepsItOut(t *testing.T) {
	m := &running{root: machine(t, nil)}
	r := m.one(t, "/etc/tmpfiles.d/soe.conf", "d /run/a\nF /etc/pam.d/x - - - - auth sufficient pam_permit.so\n")
	if r.State != converge.Failed || !strings.Contains(r.Reason, "/etc/pam.d/x") || len(m.calls) > 0 {
		t.Errorf("it is %s: %s; %q ran", r.State, r.Reason, m.calls)
	}
}

func TestWhatIsToBeUndoneAndCannotBeUnderstoodIsSaidAndBegunAnew(t *testing.T) {
	const whole = `{"activate":{"/etc/foo.d/x":["/bin/true"]},"sysctls":{"/etc/sysctl.d/x.conf":{"kernel/sysrq":"0"}}}`
	contents := []string{"[]", `{"activate":["/etc/foo.d/x"]}`, `{"sysctls":{"/etc/sysctl.d/x.conf":{"kernel/sysrq":0}}}`}
	for cut := range whole {
		contents = append(contents, whole[:cut])
	}
	for _, content := range append(contents, whole) {
		root := t.TempDir()
		var said strings.Builder
		s, err := system.Open(system.Options{Root: root, Log: slog.New(slog.NewTextHandler(&said, nil))})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.MkdirAll(filepath.Join(root, own.StateDir), 0o700), os.WriteFile(filepath.Join(root, undoFile), []byte(content), 0o600)); err != nil {
			t.Fatal(err)
		}
		undo := New(&policy.Policy{}, s, nil, schedule.Window{}).loadUndo()
		known := len(undo.Activate)+len(undo.Sysctls) > 0
		if known != (content == whole) || strings.Contains(said.String(), undoFile) == known {
			t.Errorf("%q is %+v, and it is said: %s", content, undo, said.String())
		}
		if err := undo.save(s.FS); err != nil {
			t.Error(err)
		}
		if again := New(&policy.Policy{}, s, nil, schedule.Window{}).loadUndo(); again.changed {
			t.Errorf("%q is not begun anew", content)
		}
	}
}
