package file_test

import (
	"fmt"
	"testing"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

const (
	shells      = "/etc/shells"
	theirShells = "# /etc/shells: valid login shells\n/bin/sh\n\n/sbin/nologin\r\n/usr/bin/tmux\n/bin/sh\n/sbin/nologin"
	ourShells   = "# /etc/shells: valid login shells\n/bin/sh\n\n/usr/bin/tmux\n/usr/bin/fish\n"
	wantsShells = "[files.\"/etc/shells\"]\nmode = \"at most 0644\"\nlines = [\"/bin/sh\", \"/usr/bin/fish\"]\nabsent_lines = [\"/sbin/nologin\"]\n"
)

func TestLinesOfAFileAreInItOnceOrGoneAndAllElseStaysToTheByte(t *testing.T) {
	m := withFiles(t, map[string]string{shells: theirShells})
	m.set(t, shells, 0o666, 0, 0)
	r := m.pass(t, wantsShells, nil)["file"+shells]
	want(t, r, converge.Corrected, "")
	m.holds(t, shells, ourShells)
	if got := m.attr(t, shells); got != "0644 0:0" {
		t.Errorf("it has %s", got)
	}
	recorder := &system.Recorder{}
	want(t, m.pass(t, wantsShells, recorder.Gate)["file"+shells], converge.Compliant, "")
	if changes := recorder.Changes(); len(changes) > 0 {
		t.Errorf("the next pass does %v", changes)
	}
	kindtest.Put(t, m.root, shells, "/usr/bin/dash\n/sbin/nologin\n/bin/sh\n/usr/bin/fish\n")
	want(t, m.pass(t, wantsShells, nil)["file"+shells], converge.Corrected, "")
	m.holds(t, shells, "/usr/bin/dash\n/bin/sh\n/usr/bin/fish\n")
}

func TestLinesThatLeaveThePolicyAreGivenBackUnlessSomebodyElseHasChangedThem(t *testing.T) {
	m := withFiles(t, map[string]string{shells: theirShells})
	m.pass(t, wantsShells, nil)
	m.pass(t, "", nil)
	m.holds(t, shells, theirShells)
	m.remembersNothing(t)

	m.pass(t, wantsShells, nil)
	kindtest.Put(t, m.root, shells, "/bin/sh\n/sbin/nologin\n/usr/bin/fish\n/usr/bin/dash\n")
	m.pass(t, "", nil) // nologin is somebody else's by now
	m.holds(t, shells, "/bin/sh\n/bin/sh\n/sbin/nologin\n/usr/bin/dash\n")
	m.remembersNothing(t)

	const aliases = "/etc/aliases"
	m = withFiles(t, map[string]string{aliases: "root: ops\n"})
	m.pass(t, "[files.\""+aliases+"\"]\nlines = [\"a: b\", \"c: d\"]\n", nil)
	m.holds(t, aliases, "root: ops\na: b\nc: d\n")
	m.pass(t, "[files.\""+aliases+"\"]\nlines = [\"c: d\"]\n", nil)
	m.holds(t, aliases, "root: ops\nc: d\n")
}

func TestAShellThatSomebodyHasIsNotTakenFromTheList(t *testing.T) {
	m := withFiles(t, map[string]string{shells: "/bin/sh\n/bin/zsh\n/sbin/nologin\n", "/etc/passwd": "root:x:0:0::/root:/bin/sh\nann:x:1001:1001::/home/ann:/bin/zsh\nsvc:x:90:90::/:/sbin/nologin\n"})
	gone := func(line string) string { return fmt.Sprintf("[files.%q]\nabsent_lines = [%q]\n", shells, line) }
	for shell, who := range map[string]string{"/bin/zsh": "ann", "/bin/sh": "root"} {
		want(t, m.pass(t, gone(shell), nil)["file"+shells], converge.Failed, shell+" is the shell of "+who)
		m.holds(t, shells, "/bin/sh\n/bin/zsh\n/sbin/nologin\n")
	}
	want(t, m.pass(t, gone("/sbin/nologin"), nil)["file"+shells], converge.Corrected, "")

	// So it is when what an earlier policy put there would be given back.
	const fish = "[files.\"/etc/shells\"]\nlines = [\"/usr/bin/fish\"]\n"
	want(t, m.pass(t, fish, nil)["file"+shells], converge.Corrected, "")
	kindtest.Put(t, m.root, "/etc/passwd", "root:x:0:0::/root:/bin/sh\nann:x:1001:1001::/home/ann:/usr/bin/fish\n")
	want(t, m.pass(t, "", nil)["file"+shells], converge.Failed, "/usr/bin/fish is the shell of ann")
	m.holds(t, shells, "/bin/sh\n/bin/zsh\n/sbin/nologin\n/usr/bin/fish\n")
}

func TestATerminalIsNotTakenFromARootWhoHasNoOtherWayIn(t *testing.T) {
	const tty, gone = "/etc/securetty", "[files.\"/etc/securetty\"]\nabsent_lines = [\"tty2\"]\n"
	for password, state := range map[string]converge.State{"$6$x$y": converge.Failed, "": converge.Failed, "!!": converge.Corrected, "*": converge.Corrected} {
		m := withFiles(t, map[string]string{tty: "tty1\ntty2\n", "/etc/shadow": "bin:*:1::::::\nroot:" + password + ":1::::::\n"})
		reason := ""
		if state == converge.Failed {
			reason = "root has a password"
		}
		want(t, m.pass(t, gone, nil)["file"+tty], state, reason)
	}
	s := newServer(t, theirSSHD)
	kindtest.Put(t, s.root, tty, "tty1\ntty2\n")
	kindtest.Put(t, s.root, "/etc/shadow", "root:$6$x$y:1::::::\n")
	want(t, s.passAll(t, gone, nil)["file"+tty], converge.Failed, "root has a password")
	s.sshd.Runs = append(s.sshd.Runs, "amazon-ssm-agent.service")
	want(t, s.passAll(t, gone, nil)["file"+tty], converge.Corrected, "")
}

func TestWhateverFailsTheLinesOfAFileAreTheOldOrTheNewOnesAndAreGivenBack(t *testing.T) {
	build := func(t *testing.T) machine { return withFiles(t, map[string]string{shells: theirShells + "\n"}) }
	recorder := &system.Recorder{}
	build(t).pass(t, wantsShells, recorder.Gate)
	changes := len(recorder.Changes())
	if changes < 5 {
		t.Fatalf("there are %d changes", changes)
	}
	for name, fails := range map[string]func(int) system.Gate{"one": system.FailNth, "all from": system.FailFrom} {
		for n := 1; n <= changes; n++ {
			t.Run(fmt.Sprintf("%s %d", name, n), func(t *testing.T) {
				m := build(t)
				r := m.pass(t, wantsShells, fails(n))[policy.NewID("file", shells)]
				got := kindtest.Read(t, m.root, shells)
				if got != theirShells+"\n" && got != ourShells || r.State.InLine() && got != ourShells {
					t.Errorf("called %s it is %q", r.State, got)
				}
				m.pass(t, wantsShells, nil)
				m.holds(t, shells, ourShells)
				m.pass(t, "", fails(n))
				m.pass(t, "", nil)
				m.holds(t, shells, theirShells+"\n")
				m.pass(t, "", nil)
				m.remembersNothing(t)
			})
		}
	}
}
