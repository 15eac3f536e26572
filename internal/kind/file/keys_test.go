package file_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

const (
	pwquality = "/etc/security/pwquality.conf"
	theirs    = "# Theirs\n# minlen = 8\n\ndifok = 1\n# dictpath =\ndictpath = /x\r\nminlen=9\nminlen = 10"
	ours      = "# Theirs\n# minlen = 8\n\ndifok = 1\n# dictpath =\nminlen = 14\nenforce_for_root\n"
	wantsKeys = "[files.\"" + pwquality + "\"]\nkeys = { minlen = 14, enforce_for_root = \"\" }\nabsent = [\"dictpath\"]\n"
)

func withFiles(t *testing.T, files map[string]string) machine {
	t.Helper()
	m := newMachine(t)
	for name, content := range files {
		kindtest.Put(t, m.root, name, content)
	}
	return m
}

func (m machine) holds(t *testing.T, name, content string) {
	t.Helper()
	if got := kindtest.Read(t, m.root, name); got != content {
		t.Errorf("%s holds\n%q\nand should hold\n%q", name, got, content)
	}
}

func TestKeysOfAFileAreSetAndGoneAndAllElseStaysToTheByte(t *testing.T) {
	m := withFiles(t, map[string]string{pwquality: theirs})
	m.set(t, pwquality, 0o640, 11, 12)
	r := m.pass(t, wantsKeys, nil)[policy.NewID("file", pwquality)]
	want(t, r, converge.Corrected, "")
	m.holds(t, pwquality, ours)
	if got := m.attr(t, pwquality); got != "0640 11:12" {
		t.Errorf("it has %s", got)
	}
	recorder := &system.Recorder{}
	want(t, m.pass(t, wantsKeys, recorder.Gate)[r.ID], converge.Compliant, "")
	if changes := recorder.Changes(); len(changes) > 0 {
		t.Errorf("the second pass does %v", changes)
	}
	kindtest.Put(t, m.root, pwquality, strings.Replace(ours, "14", "6", 1)+"difok = 2\n")
	want(t, m.pass(t, wantsKeys, nil)[r.ID], converge.Corrected, "")
	m.holds(t, pwquality, ours+"difok = 2\n")
}

func TestKeysThatLeaveThePolicyAreGivenBackUnlessSomebodyElseHasSetThemSince(t *testing.T) {
	m := withFiles(t, map[string]string{pwquality: theirs})
	m.pass(t, wantsKeys, nil)
	m.pass(t, "", nil)
	m.holds(t, pwquality, theirs)
	if backups, _ := os.ReadDir(filepath.Join(m.root, "var/lib/soe-agent/backups")); len(backups) != 0 || len(m.pass(t, "", nil)) != 0 {
		t.Error("it is still known")
	}

	const few = "difok = 1"
	m = withFiles(t, map[string]string{pwquality: few})
	m.pass(t, "[files.\""+pwquality+"\"]\nmode = \"0444\"\nkeys = { difok = 3, minlen = 14, minclass = 4 }\n", nil)
	m.holds(t, pwquality, "difok = 3\nminclass = 4\nminlen = 14\n")
	m.pass(t, "[files.\""+pwquality+"\"]\nmode = \"0444\"\nkeys = { difok = 3, minlen = 14 }\n", nil)
	m.holds(t, pwquality, "difok = 3\nminlen = 14\n")
	kindtest.Put(t, m.root, pwquality, "difok = 3\nminlen = 20\n")
	m.pass(t, "[files.\""+pwquality+"\"]\nmode = \"0444\"\n", nil)
	m.holds(t, pwquality, "difok = 1\nminlen = 20\n")

	m = withFiles(t, map[string]string{pwquality: few})
	m.pass(t, wantsKeys, nil)
	m.pass(t, "", nil)
	m.holds(t, pwquality, few) // without a line break at the end, as before
}

// A purge restores the whole of any kept original.
func TestNothingIsKeptOfAFileWhoseKeysHaveLeftThePolicyWhateverBecameOfIt(t *testing.T) {
	const about = "[files.\"" + pwquality + "\"]\nif_exists = true\n"
	for what, becomes := range map[string]func(name string) error{
		"what a key is cannot be told": func(name string) error { return os.WriteFile(name, []byte("minlen = 14 # bytes\ndifok = 2\n"), 0o644) },
		"it holds binary data":         func(name string) error { return os.WriteFile(name, []byte("x\x00\n"), 0o644) },
		"it has gone":                  os.Remove,
		"it is a link":                 func(name string) error { return errors.Join(os.Remove(name), os.Symlink("/etc/x", name)) },
	} {
		for _, after := range []string{"", about + "mode = \"at most 0775\"\n"} {
			m := withFiles(t, map[string]string{pwquality: "minlen = 8\n"})
			want(t, m.pass(t, about+"keys = { minlen = 14 }\n", nil)[policy.NewID("file", pwquality)], converge.Corrected, "")
			if err := becomes(filepath.Join(m.root, pwquality)); err != nil {
				t.Fatal(err)
			}
			m.pass(t, after, nil)
			m.pass(t, "", nil)
			if kept, err := kindtest.Ledger(t, m.root).Files(); err != nil || len(kept) > 0 {
				t.Errorf("%s, and then the policy says %q: %v is kept: %v", what, after, kept, err)
			}
		}
	}
}

func TestAFileIsShownToItsReaderBeforeItIsWritten(t *testing.T) {
	const useradd, is = "/etc/default/useradd", "# INACTIVE=-1\nSHELL=/bin/sh\n"
	m := withFiles(t, map[string]string{useradd: is})
	r := m.pass(t, "[files.\""+useradd+"\"]\nkeys = { INACTIVE = 30, SHELL = \"/refused\" }\n", nil)["file"+useradd]
	want(t, r, converge.Failed, "useradd would not take the key ")
	m.holds(t, useradd, is)
	want(t, m.pass(t, "[files.\""+useradd+"\"]\nkeys = { INACTIVE = 30 }\n", nil)["file"+useradd], converge.Corrected, "")
	m.holds(t, useradd, "# INACTIVE=-1\nINACTIVE=30\nSHELL=/bin/sh\n")
}

func TestWhatNotEveryReaderTakesAlikeIsAFailureAndNotTouched(t *testing.T) {
	for _, c := range []struct{ file, is, keys, want string }{
		{pwquality, "minlen = 8 # bytes\n", "{ minlen = 14 }", "line 1 has a comment behind the value"},
		{pwquality, "\ufeffminlen = 14\n", "{ minlen = 14 }", "begins with a byte order mark"},
		{pwquality, "x\x00\n", "{ minlen = 14 }", "holds binary data"},
		{"/etc/yum.conf", "[main]\ngpgcheck=0\n 1\n", `{ "main/gpgcheck" = 1 }`, "line 3 begins with a blank"},
		{"/etc/default/useradd", "if true; then\nINACTIVE=1\nfi\n", "{ INACTIVE = 30 }", "the file is a program"},
	} {
		m := withFiles(t, map[string]string{c.file: c.is})
		want(t, m.pass(t, "[files.\""+c.file+"\"]\nkeys = "+c.keys+"\n", nil)[policy.NewID("file", c.file)], converge.Failed, c.want)
		m.holds(t, c.file, c.is)
	}
}

func TestWhatSomebodyElseWritesMeanwhileIsNotOverwritten(t *testing.T) {
	const useradd, toml = "/etc/default/useradd", "[files.\"/etc/default/useradd\"]\nkeys = { INACTIVE = 30 }\n"
	m := withFiles(t, map[string]string{useradd: "INACTIVE=-1\n"})
	m.meanwhile = func() { kindtest.Put(t, m.root, useradd, "INACTIVE=-1\nSHELL=/bin/sh\n") }
	want(t, m.pass(t, toml, nil)["file"+useradd], converge.Failed, "somebody else has changed it in the meantime")
	m.holds(t, useradd, "INACTIVE=-1\nSHELL=/bin/sh\n")
	m.meanwhile = nil
	want(t, m.pass(t, toml, nil)["file"+useradd], converge.Corrected, "")
	m.holds(t, useradd, "INACTIVE=30\nSHELL=/bin/sh\n")
}

func TestWhateverFailsTheKeysOfAFileAreTheOldOrTheNewOnesAndAreGivenBack(t *testing.T) {
	const toml = wantsKeys + "mode = \"0444\"\n"
	build := func(t *testing.T) machine { return withFiles(t, map[string]string{pwquality: theirs + "\n"}) }
	states := []string{"0644 " + theirs + "\n", "0444 " + ours}
	now := func(m machine) string { return m.attr(t, pwquality)[:4] + " " + kindtest.Read(t, m.root, pwquality) }
	recorder := &system.Recorder{}
	build(t).pass(t, toml, recorder.Gate)
	changes := len(recorder.Changes())
	if changes < 5 {
		t.Fatalf("there are %d changes", changes)
	}
	for name, fails := range map[string]func(int) system.Gate{"one": system.FailNth, "all from": system.FailFrom} {
		for n := 1; n <= changes; n++ {
			t.Run(fmt.Sprintf("%s %d", name, n), func(t *testing.T) {
				m := build(t)
				r := m.pass(t, toml, fails(n))[policy.NewID("file", pwquality)]
				got := now(m)
				if got != states[0] && got != states[1] || r.State.InLine() && got != states[1] {
					t.Errorf("called %s it is %q", r.State, got)
				}
				m.pass(t, toml, nil)
				if got := now(m); got != states[1] {
					t.Errorf("then it is %q", got)
				}
				m.pass(t, "", fails(n))
				m.pass(t, "", nil)
				if got := now(m); got != "0644 "+theirs+"\n" {
					t.Errorf("given back it is %q", got)
				}
				if len(m.pass(t, "", nil)) != 0 {
					t.Error("it is still known")
				}
			})
		}
	}
}

func TestWhatAPolicyCannotWriteDoesNotMakeSomebodyElsesOfWhatAnEarlierOneWrote(t *testing.T) {
	const useradd, is = "/etc/default/useradd", "INACTIVE=-1\nSHELL=/bin/sh\n"
	toml := func(shell string) string {
		return "[files.\"" + useradd + "\"]\nkeys = { SHELL = \"" + shell + "\" }\n"
	}
	m := withFiles(t, map[string]string{useradd: is})
	want(t, m.pass(t, toml("/bin/bash"), nil)["file"+useradd], converge.Corrected, "")
	want(t, m.pass(t, toml("/refused"), nil)["file"+useradd], converge.Failed, "")
	want(t, m.pass(t, toml("/refused"), nil)["file"+useradd], converge.Failed, "")
	m.holds(t, useradd, "INACTIVE=-1\nSHELL=/bin/bash\n")
	m.pass(t, "", nil)
	m.holds(t, useradd, is)
}

func TestOfLoginDefsNothingIsWrittenThatTheToolsDoNotKnowOrThatKeepsPeopleFromTheirPasswords(t *testing.T) {
	const defs, is = "/etc/login.defs", "#PASS_MAX_DAYS 9\nPASS_MAX_DAYS\t99999\nUMASK 022\nPASS_MIN_DAYS 0\nUMASK 077\n"
	for _, c := range []struct{ keys, reason, becomes string }{
		{`{ UMASK = "027", PASS_MAX_DAYS = 365 }`, "", "#PASS_MAX_DAYS 9\nPASS_MAX_DAYS 365\nUMASK 027\nPASS_MIN_DAYS 0\n"},
		{`{ ENCRYPT_METHOD = "SHA512" }`, "", is + "ENCRYPT_METHOD SHA512\n"},
		{`{ ENCRYPT_METHOD = "YESCRYPT" }`, "does not know the method YESCRYPT", is},
		{`{ HOME_MODE = "0700" }`, "would not take the key HOME_MODE", is},
		{`{ PASS_MIN_DAYS = 365, PASS_MAX_DAYS = 365 }`, "nobody could change a password before it expires", is},
	} {
		m := withFiles(t, map[string]string{defs: is})
		state := converge.Corrected
		if c.reason != "" {
			state = converge.Failed
		}
		want(t, m.pass(t, "[files.\""+defs+"\"]\nkeys = "+c.keys+"\n", nil)["file"+defs], state, c.reason)
		m.holds(t, defs, c.becomes)
	}
}
