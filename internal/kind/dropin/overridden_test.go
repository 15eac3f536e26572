package dropin

import (
	"context"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/schedule"
	"github.com/soe-agent/soe-agent/internal/system"
)

func TestASettingOfSystemdsProgramsThatALaterFileMakesIsNotCalledCompliant(t *testing.T) {
	const ours, theirs = "/etc/systemd/journald.conf.d/50-soe.conf", "/usr/lib/systemd/journald.conf.d/90-vendor.conf"
	for content, overruled := range map[string]bool{
		"[Journal]\nStorage=volatile\n": true, "[Journal]\nStorage=persistent\n": false, "[Journal]\nSystemMaxUse=1G\n": false, "# Storage=volatile\n": false,
	} {
		m := &running{root: machine(t, map[string]string{theirs: content, "/etc/systemd/journald.conf.d/10-first.conf": "[Journal]\nStorage=none\n"})}
		r := m.one(t, ours, "[Journal]\nStorage = persistent\n")
		if (r.State == converge.Failed) != overruled || overruled && !strings.Contains(r.Reason, theirs+" is read later, and says Storage=volatile") {
			t.Errorf("with %q it is %s: %s", content, r.State, r.Reason)
		}
	}
	m := &running{root: machine(t, nil)} // of two files of the policy the author has chosen
	for id, r := range m.pass(t, files(map[string]policy.Dropin{
		ours: {Content: "[Journal]\nStorage=persistent\n"}, "/etc/systemd/journald.conf.d/90-more.conf": {Content: "[Journal]\nStorage=none\n"},
	})) {
		if !r.State.InLine() {
			t.Errorf("%s is %s: %s", id, r.State, r.Reason)
		}
	}
}

func TestASettingOfAUnitThatALaterFileMakesIsNotCalledCompliant(t *testing.T) {
	const ours, edited = "/etc/systemd/system/cups.service.d/10-soe.conf", "/etc/systemd/system/cups.service.d/override.conf"
	const content = "[Service]\nMemoryMax=1G\nNoNewPrivileges=yes\nEnvironment=A=1\nExecStart=\nExecStart=/usr/sbin/cupsd -l\n"
	for _, c := range []struct{ name, file, content, says string }{
		{"what systemctl edit makes", edited, "[Service]\nMemoryMax=infinity\n", "MemoryMax=infinity"},
		{"another program", edited, "[Service]\nExecStart=\nExecStart=/usr/sbin/cupsd -f\n", "ExecStart="},
		{"a list that is emptied", edited, "[Service]\nEnvironment=\nEnvironment=B=2\n", "Environment="},
		{"a vendor's", "/usr/lib/systemd/system/cups.service.d/90-vendor.conf", "[Service]\nNoNewPrivileges=off\n", "NoNewPrivileges=off"},
		{"what systemctl set-property makes", "/etc/systemd/system.control/cups.service.d/50-MemoryMax.conf", "[Service]\nMemoryMax=2G\n", "MemoryMax=2G"},
		{"in its place", "/run/systemd/system.control/cups.service.d/10-soe.conf", "[Service]\n", "is read in its place"},
		{"the last counts", edited, "[Service]\nMemoryMax=2G\nMemoryMax=1G\n", ""},
		{"more of a list", edited, "[Service]\nEnvironment=B=2\n[Unit]\nMemoryMax=2G\n", ""},
		{"the same in another word", edited, "[Service]\nNoNewPrivileges=true\n", ""},
		{"a list that is made anew", edited, "[Service]\nExecStart=\nExecStart=/usr/sbin/cupsd -l\n", ""},
		{"an earlier one", "/etc/systemd/system/cups.service.d/00-a.conf", "[Service]\nMemoryMax=2G\n", ""},
		{"hidden behind one of /etc", "/usr/lib/systemd/system/cups.service.d/override.conf", "[Service]\nMemoryMax=2G\n", ""},
	} {
		files := map[string]string{"/usr/lib/systemd/system/cups.service": "[Service]\n", edited: "", c.file: c.content}
		m := &running{root: machine(t, files)}
		if r := m.one(t, ours, content); (r.State == converge.Failed) != (c.says != "") || !strings.HasSuffix(r.Reason, c.says) {
			t.Errorf("%s: it is %s: %s", c.name, r.State, r.Reason)
		}
	}
}

func TestALimitThatALaterFileMakesIsNotCalledCompliant(t *testing.T) {
	const ours, theirs = "/etc/security/limits.d/10-soe.conf", "/etc/security/limits.d/20-nproc.conf" // as Amazon Linux 2 has it
	for content, says := range map[string]string{
		"* soft nproc 4096 # accidental fork bombs\nroot soft nproc unlimited\n": theirs + " is read later, and says * soft nproc 4096",
		"*\t-\tcore\tunlimited\n":                                    theirs + " is read later, and says * hard core unlimited",
		"root soft nproc unlimited\n":                                "",
		"* soft nproc 4096\n* soft nproc 1000\n@dev hard nproc -1\n": "",
	} {
		m := &running{root: machine(t, map[string]string{theirs: content, "/etc/security/limits.d/05.conf": "* soft nproc 9\n"})}
		r := m.one(t, ours, "*  soft nproc 1000\n@dev hard nproc unlimited\n* hard core 0\n")
		if (r.State == converge.Failed) != (says != "") || !strings.HasSuffix(r.Reason, says) {
			t.Errorf("with %q it is %s: %s", content, r.State, r.Reason)
		}
	}
}

// noUnits is a machine on which systemd knows no unit but these.
type noUnits struct {
	*running
	known string
}

func (n noUnits) Unit(ctx context.Context, name string) (system.Unit, error) {
	if name != n.known {
		return system.Unit{LoadState: "not-found", ActiveState: "inactive"}, nil
	}
	return n.running.Unit(ctx, name)
}

func TestAFileForAUnitThatThereIsNotIsNotRead(t *testing.T) {
	for name, read := range map[string]bool{
		"/etc/systemd/system/none.service.d/a.conf": false, "/etc/systemd/system/none.timer.d/a.conf": false,
		"/etc/systemd/system/there.service.d/a.conf": true, "/etc/systemd/system/generated.mount.d/a.conf": true,
		"/etc/systemd/system/inst@.service.d/a.conf": true, "/etc/systemd/system/service.d/a.conf": true, "/etc/systemd/system/app-.service.d/a.conf": true,
	} {
		m := &running{root: machine(t, map[string]string{"/usr/lib/systemd/system/there.service": "[Service]\n"})}
		s := kindtest.Open(t, system.Options{Root: m.root})
		s.Root, s.Units.UnitStates = "/", noUnits{m, "generated.mount"}
		why, err := New(files(nil), s, nil, schedule.Window{}).missingUnit(t.Context(), name)
		if (why == "") != read || err != nil {
			t.Errorf("%s: %q (%v)", name, why, err)
		}
	}
}

func TestRulesOfTheAuditThatTheKernelDoesNotShowAreLoadedAgain(t *testing.T) {
	const name = "/etc/audit/rules.d/a.rules"
	shows := ""
	m := &running{root: machine(t, nil), reads: func(c system.Command) (system.Output, error) {
		if c.Argv[0] == "auditctl" {
			return system.Output{Stdout: []byte(shows)}, nil
		}
		return system.Output{}, system.ErrNotInstalled
	}}
	content := "-w /etc/hosts -p wa -k names\n-a always,exit -F arch=b64 -S adjtimex -F key=time\n"
	for shown, state := range map[string]converge.State{
		"No rules\n": converge.Failed, "-w /etc/hosts -p wa -k names\n": converge.Failed,
		"-w /etc/hosts -p wa -k names\n-a always,exit -F arch=b64 -S adjtimex -F key=time\n": converge.Compliant,
	} {
		shows = "-k names -k time\n"
		m.one(t, name, content)
		shows = shown
		r := m.one(t, name, content)
		if r.State != state || state == converge.Failed && !strings.Contains(strings.Join(m.calls, " "), "augenrules --load") {
			t.Errorf("with %q shown it is %s: %s; %q ran", shown, r.State, r.Reason, m.calls)
		}
	}
}

func TestWhatAnotherFileOfThePolicySaysToSSHDBeforeIsMeantSo(t *testing.T) {
	m := &running{root: machine(t, nil)}
	m.sshd = &kindtest.SSHD{Root: m.root}
	for id, r := range m.pass(t, files(map[string]policy.Dropin{
		"/etc/ssh/sshd_config.d/10.conf": {Content: "X11Forwarding no\n"}, "/etc/ssh/sshd_config.d/20.conf": {Content: "X11Forwarding yes\nMaxAuthTries 3\n"},
	})) {
		if !r.State.InLine() {
			t.Errorf("%s is %s: %s", id, r.State, r.Reason)
		}
	}
}

func TestALineOfTmpfilesThatAnEarlierFileMakesVoidIsNotCalledCompliant(t *testing.T) {
	const theirs = "/usr/lib/tmpfiles.d/tmp.conf"
	for _, test := range []struct {
		name, content string
		void          bool
	}{
		{"/etc/tmpfiles.d/zz-soe.conf", "d /tmp 1777 root root 1d\n", true},
		{"/etc/tmpfiles.d/10-soe.conf", "d /tmp 1777 root root 1d\n", false},
		{"/etc/tmpfiles.d/tmp.conf", "d /tmp 1777 root root 1d\n", false},
		{"/etc/tmpfiles.d/zz-soe.conf", "q /tmp 1777 root root 10d\n", false},
		{"/etc/tmpfiles.d/zz-soe.conf", "z /tmp 1777\nd /run/a\nx /tmp\n", false},
	} {
		m := &running{root: machine(t, map[string]string{theirs: "q /tmp 1777 root root 10d\n"})}
		r := m.one(t, test.name, test.content)
		if (r.State == converge.Failed) != test.void || test.void && !strings.Contains(r.Reason, theirs+" has a line for /tmp") {
			t.Errorf("%s with %q is %s: %s", test.name, test.content, r.State, r.Reason)
		}
	}
}

func TestAFileForNftablesIsCheckedWithTheWhole(t *testing.T) {
	const name = "/etc/nftables.d/a.nft"
	m := &running{root: machine(t, nil), reads: func(c system.Command) (system.Output, error) {
		if c.Argv[0] == "nft" && c.Argv[len(c.Argv)-1] == "/etc/nftables.conf" && strings.Contains(string(c.Staged[name]), "bad") {
			return system.Output{ExitCode: 1, Stderr: []byte(name + ":1:1-3: Error: syntax error, unexpected string\nbad\n^^^\n")}, nil
		}
		return system.Output{}, nil
	}}
	if r := m.one(t, name, "bad\n"); r.State != converge.Failed || !strings.Contains(r.Reason, "nft refuses it: "+name+":1:1-3: Error: syntax error") {
		t.Errorf("it is %s: %s", r.State, r.Reason)
	}
	if r := m.one(t, name, "table inet a {}\n"); r.State != converge.Pending || r.Effect != converge.Reboot {
		t.Errorf("it is %s: %s", r.State, r.Reason)
	}
}
