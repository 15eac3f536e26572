package file_test

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/kind/file"
	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

const (
	sshdFile  = "/etc/ssh/sshd_config"
	theirSSHD = "# Theirs\n#MaxAuthTries 6\nUsePAM yes\nx11forwarding yes\nX11Forwarding no\n\nMatch User bob\n\tX11Forwarding yes\n"
	ourSSHD   = "# Theirs\n#MaxAuthTries 6\nMaxAuthTries 4\nUsePAM yes\n\nAllowUsers root ann bob\nMatch User bob\n\tX11Forwarding yes\n"
	wantsSSHD = "[files.\"" + sshdFile + "\"]\nmode = \"0600\"\nkeys = { AllowUsers = \"root ann bob\", MaxAuthTries = 4 }\nabsent = [\"X11Forwarding\"]\n"
)

// A server is a running machine with sshd, where ann has a key and bob a password.
type server struct {
	machine
	sshd *kindtest.SSHD
}

func newServer(t *testing.T, config string) server {
	t.Helper()
	m := withFiles(t, map[string]string{
		sshdFile: config, "/etc/passwd": "root:x:0:0::/root:/bin/sh\nann:x:1001:1001::/home/ann:/bin/sh\nbob:x:1002:1002::/home/bob:/bin/sh\n",
		"/etc/shadow": "root:*:1::::::\nann:!:1::::::\nbob:$6$x:1::::::\n", "/root/.ssh/authorized_keys": "ssh-ed25519 A\n", "/home/ann/.ssh/authorized_keys": "ssh-ed25519 A\n",
	})
	if err := os.Chown(filepath.Join(m.root, "home/ann/.ssh/authorized_keys"), 1001, 1001); err != nil {
		t.Fatal(err)
	}
	return server{m, &kindtest.SSHD{Root: m.root, Runs: []string{"sshd.service"}}}
}

func (s server) pass(t *testing.T, toml string, gate system.Gate) converge.Resource {
	t.Helper()
	return s.passAll(t, toml, gate)[policy.NewID("file", sshdFile)]
}

func (s server) passAll(t *testing.T, toml string, gate system.Gate) map[policy.ID]converge.Resource {
	t.Helper()
	ledger, p := kindtest.Ledger(t, s.root), kindtest.Policy(t, toml)
	m := kindtest.Open(t, system.Options{Root: s.root, Gate: gate, Backups: ledger})
	s.sshd.Gate, s.sshd.Calls = gate, nil
	m.Root, m.Runner, m.Units.UnitStates, m.Units.UnitJobs, m.Sessions = "/", s.sshd, s.sshd, s.sshd, kindtest.Sessions{}
	kinds := []converge.Kind{file.New(p, m, ledger)}
	return kindtest.ByID(converge.New(p, kinds, ledger, m.Clock, slog.New(slog.DiscardHandler)).Pass(t.Context()).Resources)
}

func (s server) told(t *testing.T, want int) {
	t.Helper()
	if len(s.sshd.Calls) != want {
		t.Errorf("sshd was told %q", s.sshd.Calls)
	}
}

func TestTheConfigurationOfSSHDIsKeptByKeysAndReadAgainOnce(t *testing.T) {
	s := newServer(t, theirSSHD)
	want(t, s.pass(t, wantsSSHD, nil), converge.Corrected, "")
	s.holds(t, sshdFile, ourSSHD)
	s.told(t, 1)
	recorder := &system.Recorder{}
	want(t, s.pass(t, wantsSSHD, recorder.Gate), converge.Compliant, "")
	if changes := recorder.Changes(); len(changes) > 0 {
		t.Errorf("the second pass does %v", changes)
	}
	s.pass(t, "", nil)
	s.holds(t, sshdFile, theirSSHD)
	s.told(t, 1)
}

func TestAConfigurationOfSSHDByWhichSomebodyIsLockedOutIsNotWritten(t *testing.T) {
	for keys, reason := range map[string]string{
		`{ AllowUsers = "ann bob" }`:        "it would lock somebody out: root could log in",
		`{ PasswordAuthentication = "no" }`: "it would lock somebody out: bob could log in",
		`{ Ciphers = "3des-cbc" }`:          "ciphers would leave none",
	} {
		s := newServer(t, theirSSHD)
		want(t, s.pass(t, "[files.\""+sshdFile+"\"]\nkeys = "+keys+"\n", nil), converge.Failed, reason)
		s.holds(t, sshdFile, theirSSHD)
		s.told(t, 0)
	}
	s := newServer(t, "Nonsense 1\n")
	want(t, s.pass(t, "[files.\""+sshdFile+"\"]\nkeys = { MaxAuthTries = 4 }\n", nil), converge.Failed, "sshd refuses its configuration")
	s.sshd.Mute = "sshd: no hostkeys available -- exiting."
	want(t, s.pass(t, "[files.\""+sshdFile+"\"]\nkeys = { MaxAuthTries = 4 }\n", nil), converge.Failed, "until it has been started once")
	s.holds(t, sshdFile, "Nonsense 1\n")
}

func TestWhileSSHDCannotBeRunNothingIsWrittenAndNothingIsCalledInEffect(t *testing.T) {
	for _, c := range []struct {
		gone            error
		runs            []string
		drifted, inLine converge.State
	}{
		{system.ErrNotExecutable, nil, converge.Failed, converge.Unknown},
		{system.ErrNotInstalled, []string{"sshd.service"}, converge.Failed, converge.Unknown},
		{system.ErrNotInstalled, nil, converge.Corrected, converge.Compliant},
	} {
		for config, state := range map[string]converge.State{theirSSHD: c.drifted, "MaxAuthTries 4\nUsePAM yes\n": c.inLine} {
			s := newServer(t, config)
			s.sshd.Gone, s.sshd.Runs = c.gone, c.runs
			if r := s.pass(t, "[files.\""+sshdFile+"\"]\nkeys = { MaxAuthTries = 4 }\n", nil); r.State != state || !strings.Contains(r.Reason, "install") && r.State != converge.Corrected {
				t.Errorf("with %v it is %s: %s", c.gone, r.State, r.Reason)
			}
			if state == converge.Failed {
				s.holds(t, sshdFile, config)
			}
			s.told(t, 0)
		}
	}
}

func TestWhatIsGivenBackToSSHDLocksNobodyOutEither(t *testing.T) {
	s := newServer(t, "UsePAM yes\nAllowUsers root bob\n")
	want(t, s.pass(t, "[files.\""+sshdFile+"\"]\nabsent = [\"AllowUsers\"]\n", nil), converge.Corrected, "")
	want(t, s.pass(t, "", nil), converge.Failed, "ann could log in")
	s.holds(t, sshdFile, "UsePAM yes\n")
	if err := os.Remove(filepath.Join(s.root, "home/ann/.ssh/authorized_keys")); err != nil {
		t.Fatal(err)
	}
	s.pass(t, "", nil)
	s.holds(t, sshdFile, "UsePAM yes\nAllowUsers root bob\n")
}

func TestAKeyOfSSHDThatIsNotInEffectIsNotCalledCompliant(t *testing.T) {
	const toml = "[files.\"" + sshdFile + "\"]\nkeys = { X11Forwarding = \"no\" }\n"
	for config, reason := range map[string]string{
		"UsePAM yes\nX11Forwarding no\nMatch User bob\nX11Forwarding yes\n": "sshd -T -C user=bob",
		"Include /etc/ssh/x\nUsePAM yes\nX11Forwarding no\n":                "sshd -T says",
	} {
		s := newServer(t, config)
		kindtest.Put(t, s.root, "/etc/ssh/x", "X11Forwarding yes\n")
		want(t, s.pass(t, toml, nil), converge.Failed, reason)
		s.holds(t, sshdFile, config)
	}
}

func TestWhateverFailsSSHDReadsWhatIsWrittenAndItIsGivenBack(t *testing.T) {
	states := []string{"0644 " + theirSSHD, "0600 " + ourSSHD}
	build := func(t *testing.T) server { return newServer(t, theirSSHD) }
	now := func(s server) string { return s.attr(t, sshdFile)[:4] + " " + kindtest.Read(t, s.root, sshdFile) }
	recorder := &system.Recorder{}
	build(t).pass(t, wantsSSHD, recorder.Gate)
	changes := len(recorder.Changes())
	if changes < 8 {
		t.Fatalf("there are %d changes", changes)
	}
	for name, fails := range map[string]func(int) system.Gate{"one": system.FailNth, "all from": system.FailFrom} {
		for n := 1; n <= changes; n++ {
			t.Run(fmt.Sprintf("%s %d", name, n), func(t *testing.T) {
				s := build(t)
				r := s.pass(t, wantsSSHD, fails(n))
				got, told := now(s), len(s.sshd.Calls)
				if got != states[0] && got != states[1] || r.State.InLine() && (got != states[1] || told == 0) {
					t.Errorf("called %s it is %q, and was read %d times", r.State, got, told)
				}
				r = s.pass(t, wantsSSHD, nil)
				if got := now(s); got != states[1] || !r.State.InLine() || told+len(s.sshd.Calls) == 0 {
					t.Errorf("then it is %q, and was read %d times", got, len(s.sshd.Calls))
				}
				s.pass(t, "", fails(n))
				told = len(s.sshd.Calls)
				s.pass(t, "", nil)
				if got := now(s); got != states[0] || told+len(s.sshd.Calls) == 0 {
					t.Errorf("given back it is %q, and was read %d times", got, told+len(s.sshd.Calls))
				}
			})
		}
	}
}

func TestKeysOfChronyAreCheckedInEffectAndReadAgain(t *testing.T) {
	const conf, is = "/etc/chrony.conf", "! theirs\nserver 169.254.169.123\n#maxdistance 9\nMaxDistance 16\n"
	toml := func(keys string) string { return "[files.\"" + conf + "\"]\nkeys = " + keys + "\n" }
	s := newServer(t, theirSSHD)
	kindtest.Put(t, s.root, conf, is)
	s.sshd.Runs = []string{"chronyd.service"}
	keys := toml(`{ maxdistance = "3.5", rtcsync = "" }`)
	want(t, s.passAll(t, keys, nil)["file"+conf], converge.Corrected, "")
	s.holds(t, conf, "! theirs\nserver 169.254.169.123\n#maxdistance 9\nmaxdistance 3.5\nrtcsync\n")
	if len(s.sshd.Calls) != 1 || s.sshd.Calls[0] != "restart chronyd.service" {
		t.Errorf("told was %q", s.sshd.Calls)
	}
	want(t, s.passAll(t, keys, nil)["file"+conf], converge.Compliant, "")
	s.told(t, 0)
	s.sshd.Included = "maxdistance 9\n"
	want(t, s.passAll(t, keys, nil)["file"+conf], converge.Failed, "not in effect: chronyd -p says of maxdistance")
	s.sshd.Included = ""
	want(t, s.passAll(t, toml(`{ log = "nonsense" }`), nil)["file"+conf], converge.Failed, "chronyd would not take it")
	s.passAll(t, "", nil)
	s.holds(t, conf, is)

	// One that a mistake in the file has ended comes back with the file.
	s.sshd.Runs, s.sshd.Dead = nil, []string{"chronyd.service"}
	want(t, s.passAll(t, keys, nil)["file"+conf], converge.Corrected, "")
	s.told(t, 1)
	s.passAll(t, "", nil)
	s.told(t, 1)
	s.sshd.Dead = nil
	want(t, s.passAll(t, keys, nil)["file"+conf], converge.Corrected, "")
	s.told(t, 0)
}

func TestInAnImageAKeyThatAMatchOfAllOverrulesIsNotInEffect(t *testing.T) {
	m := withFiles(t, map[string]string{sshdFile: "MaxAuthTries 4\nMatch all\nMaxAuthTries 9\n"})
	id := policy.NewID("file", sshdFile)
	want(t, m.pass(t, "[files.\""+sshdFile+"\"]\nkeys = { MaxAuthTries = 4 }\n", nil)[id], converge.Failed, "below a Match of all")
	kindtest.Put(t, m.root, sshdFile, "MaxAuthTries 4\nMatch user bob\nMaxAuthTries 9\n")
	want(t, m.pass(t, "[files.\""+sshdFile+"\"]\nkeys = { MaxAuthTries = 4 }\n", nil)[id], converge.Compliant, "")
}

func TestSSHDShowsNoFileThatNotEverybodyMayRead(t *testing.T) {
	s := newServer(t, "UsePAM yes\n")
	banner := filepath.Join(s.root, "etc/corp-banner")
	if err := os.WriteFile(banner, []byte("root's\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	wants := "[files.\"" + sshdFile + "\"]\nkeys = { Banner = \"/etc/corp-banner\" }\n"
	r := s.pass(t, wants, nil)
	content, err := os.ReadFile(filepath.Join(s.root, sshdFile))
	if err != nil || r.State != converge.Failed || !strings.Contains(r.Reason, "not everybody may read /etc/corp-banner") || strings.Contains(string(content), "anner") {
		t.Errorf("a file of root's: %+v, %q, %v", r, content, err)
	}
	if err := os.Chmod(banner, 0o644); err != nil {
		t.Fatal(err)
	}
	if r := s.pass(t, wants, nil); r.State != converge.Corrected {
		t.Errorf("one of everybody's: %+v", r)
	}
	if err := os.Chmod(banner, 0o600); err != nil {
		t.Fatal(err)
	}
	if r := s.pass(t, wants, nil); r.State != converge.Failed || !strings.Contains(r.Reason, "not everybody may read /etc/corp-banner") {
		t.Errorf("one that has become root's: %+v", r)
	}
}
