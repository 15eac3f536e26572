package file_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

const (
	motd       = "/etc/motd"
	wantsMotd  = "[files.\"/etc/motd\"]\ncontent = \"Authorized use only\\n\"\n"
	motdIsGone = "[files.\"/etc/motd\"]\nensure = \"absent\"\n"
	banner     = "Authorized use only\n"
)

// look is all that is to be seen of a path.
func (m machine) look(t *testing.T, name string) string {
	t.Helper()
	at := filepath.Join(m.root, name)
	if target, err := os.Readlink(at); err == nil {
		return "link " + target
	}
	content, err := os.ReadFile(at)
	if errors.Is(err, os.ErrNotExist) {
		return "nothing"
	}
	if err != nil {
		t.Fatal(err)
	}
	return m.attr(t, name) + " " + string(content)
}

// put makes of a path what look says.
func (m machine) put(t *testing.T, name, what string) {
	t.Helper()
	at := filepath.Join(m.root, name)
	if err := os.Remove(at); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	if target, is := strings.CutPrefix(what, "link "); is {
		if err := os.Symlink(target, at); err != nil {
			t.Fatal(err)
		}
		return
	}
	var mode uint32
	var uid, gid int
	if _, err := fmt.Sscanf(what, "%o %d:%d", &mode, &uid, &gid); err != nil {
		return // nothing
	}
	kindtest.Put(t, m.root, name, strings.SplitN(what, " ", 3)[2])
	m.set(t, name, mode, uid, gid)
}

func (m machine) remembersNothing(t *testing.T) {
	t.Helper()
	ledger := kindtest.Ledger(t, m.root)
	kept, err := ledger.Files()
	if owned := ledger.Owned("file"); err != nil || len(kept)+len(owned)+len(ledger.Retouched(motd)) > 0 {
		t.Errorf("it still knows %v, %v, %v: %v", kept, owned, ledger.Retouched(motd), err)
	}
}

func TestAFileHoldsWhatThePolicySaysAndGetsBackWhatWasThereWhateverThatWas(t *testing.T) {
	for _, c := range []struct{ says, is, becomes string }{
		{wantsMotd, "0644 0:0 old\n", "0644 0:0 " + banner},
		{wantsMotd, "0600 11:12 old\n", "0600 0:0 " + banner},
		{wantsMotd, "nothing", "0644 0:0 " + banner},
		{wantsMotd, "link /run/motd.dynamic", "0644 0:0 " + banner},
		{wantsMotd, "0644 11:12 " + banner, "0644 0:0 " + banner},
		{wantsMotd + "owner = \"scan\"\ngroup = \"logs\"\nmode = \"0640\"\n", "0664 11:12 old\n", "0640 11:13 " + banner},
		{wantsMotd + "owner = \"scan\"\ngroup = \"logs\"\nmode = \"0640\"\n", "nothing", "0640 11:13 " + banner},
		{wantsMotd + "mode = \"at most 0640\"\n", "0604 0:0 old\n", "0600 0:0 " + banner},
		{wantsMotd + "mode = \"at most 0640\"\n", "nothing", "0640 0:0 " + banner},
		{"[files.\"/etc/motd\"]\ncontent = \"\"\n", "0644 0:0 old\n", "0644 0:0 "},
		{motdIsGone, "0640 11:12 old\n", "nothing"},
		{motdIsGone, "link /run/motd.dynamic", "nothing"},
	} {
		m := newMachine(t)
		m.put(t, motd, c.is)
		want(t, m.pass(t, c.says, nil)["file"+motd], converge.Corrected, "")
		for _, drift := range []string{"", "0644 0:0 somebody's\n", "0666 11:12 " + banner, "nothing", "link /etc/passwd", "0600 0:0 x"} {
			if drift != "" {
				if strings.Contains(c.says, "at most") || strings.HasSuffix(c.is, banner) {
					continue // each drift is another beginning
				}
				m.put(t, motd, drift)
				m.pass(t, c.says, nil)
			}
			if got := m.look(t, motd); got != c.becomes && (drift == "" || strings.Contains(c.says, "mode") || !strings.HasSuffix(got, " 0:0 "+banner) && !strings.HasSuffix(got, " 0:0 ")) {
				t.Errorf("%s: %q becomes %q, and after %q should be %q", c.says, c.is, got, drift, c.becomes)
			}
		}
		recorder := &system.Recorder{}
		want(t, m.pass(t, c.says, recorder.Gate)["file"+motd], converge.Compliant, "")
		if changes := recorder.Changes(); len(changes) > 0 {
			t.Errorf("%s: the next pass does %v", c.says, changes)
		}
		m.pass(t, "", nil)
		if got := m.look(t, motd); got != c.is {
			t.Errorf("%s: %q is given back as %q", c.says, c.is, got)
		}
		if len(m.pass(t, "", nil)) != 0 {
			t.Errorf("%s: it is still known", c.says)
		}
		m.remembersNothing(t)
	}
}

func TestWhatIsAsThePolicyWantsItAlreadyIsNobodysToGiveBack(t *testing.T) {
	for says, is := range map[string]string{wantsMotd: "0644 0:0 " + banner, motdIsGone: "nothing", "[files.\"/etc/x/y\"]\nensure = \"absent\"\n": "nothing"} {
		m := newMachine(t)
		m.put(t, motd, is)
		recorder := &system.Recorder{}
		for _, r := range m.pass(t, says, recorder.Gate) {
			want(t, r, converge.Compliant, "")
		}
		m.pass(t, "", recorder.Gate)
		for _, c := range recorder.Changes() {
			if c.Target == motd {
				t.Errorf("%s: it does %v", says, c)
			}
		}
		if got := m.look(t, motd); got != is {
			t.Errorf("%s: it is %q", says, got)
		}
	}
}

func TestContentThatSomebodyElseHasWrittenSinceIsTheirsWhenThePolicyNoLongerNamesIt(t *testing.T) {
	for _, says := range []string{wantsMotd, motdIsGone} {
		for _, was := range []string{"0644 0:0 old\n", "link /run/x", "nothing"} {
			if says == motdIsGone && was == "nothing" {
				continue
			}
			m := newMachine(t)
			m.put(t, motd, was)
			m.pass(t, says, nil)
			m.put(t, motd, "0640 11:12 new\n")
			m.pass(t, "", nil)
			if got := m.look(t, motd); !strings.HasSuffix(got, " new\n") {
				t.Errorf("%s on %q: it is %q", says, was, got)
			}
			m.pass(t, "", nil)
			m.remembersNothing(t)
		}
	}
}

func TestAFileGoesFromContentToLinesToAbsenceAndBackWithAllThatSomebodyElseHadInIt(t *testing.T) {
	const lines, mode = "[files.\"/etc/motd\"]\nlines = [\"more\"]\nmode = \"0640\"\n", "[files.\"/etc/motd\"]\nmode = \"0600\"\n"
	states := map[string]string{lines: "0640 11:12 old\nmore\n", mode: "0600 11:12 old\n", wantsMotd: banner, motdIsGone: "nothing"}
	all := []string{lines, mode, wantsMotd, motdIsGone}
	for _, first := range all {
		for _, second := range all {
			for _, third := range all {
				m := newMachine(t)
				m.put(t, motd, "0604 11:12 old\n")
				for _, says := range []string{first, second, third} {
					for range 3 {
						m.pass(t, says, nil)
					}
					if got := m.look(t, motd); !strings.HasSuffix(got, states[says]) {
						t.Errorf("%q, %q, %q: with %q it is %q", first, second, third, says, got)
					}
				}
				for range 2 {
					m.pass(t, "", nil)
				}
				if got := m.look(t, motd); got != "0604 11:12 old\n" {
					t.Errorf("%q, %q, %q: it is given back as %q", first, second, third, got)
				}
				m.remembersNothing(t)
			}
		}
	}
}

func TestNoContentIsWrittenThroughALinkIntoADirectoryOrWhereThereIsNone(t *testing.T) {
	m := newMachine(t, "/etc/x/theirs", "/home/ann/x")
	if err := os.Symlink("../home/ann", filepath.Join(m.root, "etc/leads")); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(filepath.Join(m.root, "etc/fifo"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, reason := range map[string]string{
		"/etc/leads/x": "is a link, and none is followed on the way", "/etc/x": "is a directory", "/etc/fifo": "neither a file nor a directory",
		"/etc/no/such": "there is no /etc/no/such",
	} {
		for _, says := range []string{"content = \"ours\"", "ensure = \"absent\""} {
			state := converge.Failed
			if name == "/etc/no/such" && strings.HasPrefix(says, "ensure") {
				state, reason = converge.Compliant, ""
			}
			want(t, m.pass(t, fmt.Sprintf("[files.%q]\n%s\n", name, says), nil)[policy.NewID("file", name)], state, reason)
		}
	}
	m.holds(t, "/home/ann/x", "content of /home/ann/x\n")
	m.holds(t, "/etc/x/theirs", "content of /etc/x/theirs\n")
}

func TestAFileThatNeedNotBeThereIsNotMadeAndItsContentIsKept(t *testing.T) {
	m := newMachine(t)
	const says = wantsMotd + "if_exists = true\n"
	want(t, m.pass(t, says, nil)["file"+motd], converge.Compliant, "there is none")
	m.put(t, motd, "0644 0:0 old\n")
	want(t, m.pass(t, says, nil)["file"+motd], converge.Corrected, "")
	m.holds(t, motd, banner)
	m.put(t, motd, "nothing")
	want(t, m.pass(t, says, nil)["file"+motd], converge.Compliant, "there is none")
}

func TestWhoReadsAFileIsSaidToBeUnknownWhereItIs(t *testing.T) {
	m := newMachine(t)
	const says = wantsMotd + "[files.\"/etc/app.conf\"]\ncontent = \"x\"\n"
	m.pass(t, says, nil)
	found := m.pass(t, says, nil)
	want(t, found["file"+motd], converge.Compliant, "")
	want(t, found["file/etc/app.conf"], converge.Compliant, "it is not known who reads it")
}

func TestWhatNotEverybodyMayReadIsNotShownToEverybody(t *testing.T) {
	m := newMachine(t)
	m.put(t, motd, "0600 0:0 old, and theirs alone\n")
	r := m.pass(t, wantsMotd+"mode = \"0644\"\n", nil)["file"+motd]
	want(t, r, converge.Corrected, "")
	if open := fmt.Sprint(r.Public()); strings.Contains(open, "theirs alone") {
		t.Errorf("everybody is told %s", open)
	}
}

func TestWhateverFailsAFileIsWholeTheOldOrTheNewOneAndIsGivenBack(t *testing.T) {
	for _, says := range []string{wantsMotd + "mode = \"0444\"\n", motdIsGone} {
		for _, was := range []string{"0640 11:12 old\n", "link /run/motd.dynamic", "nothing"} {
			build := func(t *testing.T) machine {
				m := newMachine(t)
				m.put(t, motd, was)
				return m
			}
			becomes := "0444 0:0 " + banner
			if says == motdIsGone {
				becomes = "nothing"
			}
			recorder := &system.Recorder{}
			build(t).pass(t, says, recorder.Gate)
			changes := len(recorder.Changes())
			if changes == 0 && becomes != was {
				t.Fatal("nothing was changed")
			}
			for name, fails := range map[string]func(int) system.Gate{"one": system.FailNth, "all from": system.FailFrom} {
				for n := 1; n <= changes; n++ {
					t.Run(fmt.Sprintf("%s %d", name, n), func(t *testing.T) {
						m := build(t)
						r := m.pass(t, says, fails(n))["file"+motd]
						got := m.look(t, motd)
						if got != was && got != becomes || r.State.InLine() && got != becomes {
							t.Errorf("called %s it is %q", r.State, got)
						}
						m.pass(t, says, nil)
						if got := m.look(t, motd); got != becomes {
							t.Errorf("then it is %q", got)
						}
						m.pass(t, "", fails(n))
						if got := m.look(t, motd); got != was && got != becomes {
							t.Errorf("while it is given back it is %q", got)
						}
						m.pass(t, "", nil)
						if got := m.look(t, motd); got != was {
							t.Errorf("given back it is %q, and was %q", got, was)
						}
						m.pass(t, "", nil)
						m.remembersNothing(t)
					})
				}
			}
		}
	}
}

func TestSomebodyElsesContentThatComesMeanwhileIsNotOverwrittenAndALinkNotFollowed(t *testing.T) {
	for _, comes := range []string{"0644 0:0 newer\n", "link /etc/passwd"} {
		m := newMachine(t)
		m.put(t, motd, "0644 0:0 old\n")
		before := kindtest.Read(t, m.root, "/etc/passwd")
		m.pass(t, wantsMotd, func(c system.Change) error {
			if c.Op == "rename" && c.Target == motd {
				m.put(t, motd, comes)
			}
			return nil
		})
		m.holds(t, "/etc/passwd", before)
	}
}
