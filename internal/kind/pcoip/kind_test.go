package pcoip

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/schedule"
	"github.com/soe-agent/soe-agent/internal/system"
)

const (
	before = "# AWS's\npcoip.desktop_session = mate\npcoip.server_clipboard_state = 1\n#pcoip.enable_audio = 1\n"
	after  = "# AWS's\npcoip.desktop_session = mate\npcoip.server_clipboard_state = 0\n#pcoip.enable_audio = 1\n" +
		"pcoip.enable_audio = 0\npcoip.max_link_rate = 9000\n"
	toml = "[pcoip]\nserver_clipboard_state = 0\nenable_audio = false\nmax_link_rate = \"9000\"\n"
)

// newImage returns the root of a machine that is not running.
func newImage(t *testing.T, content string) string {
	t.Helper()
	return kindtest.Root(t, map[string]string{confPath: content})
}

func pass(t *testing.T, root, toml string, gate system.Gate) []converge.Resource {
	t.Helper()
	p := kindtest.Policy(t, toml)
	ledger := kindtest.LedgerIn(t, kindtest.Open(t, system.Options{Root: root, Gate: gate}).FS)
	s := kindtest.Open(t, system.Options{Root: root, Gate: gate, Backups: ledger})
	engine := kindtest.Engine(p, New(p, s, ledger, schedule.Window{}), ledger, s.Clock)
	return engine.Pass(t.Context()).Resources
}

func states(resources []converge.Resource) map[policy.ID]converge.State {
	found := map[policy.ID]converge.State{}
	for _, r := range resources {
		found[r.ID] = r.State
	}
	return found
}

func all(state converge.State) map[policy.ID]converge.State {
	return map[policy.ID]converge.State{
		"pcoip/server_clipboard_state": state, "pcoip/enable_audio": state, "pcoip/max_link_rate": state,
	}
}

func read(t *testing.T, root string) string {
	t.Helper()
	return kindtest.Read(t, root, confPath)
}

func TestDirectivesAreSetOnceAndASecondPassWritesNothing(t *testing.T) {
	root := newImage(t, before)
	if diff := cmp.Diff(all(converge.Corrected), states(pass(t, root, toml, nil))); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(after, read(t, root)); diff != "" {
		t.Error(diff)
	}
	var recorder system.Recorder
	if diff := cmp.Diff(all(converge.Compliant), states(pass(t, root, toml, recorder.Gate))); diff != "" {
		t.Error(diff)
	}
	if changes := recorder.Changes(); len(changes) > 0 {
		t.Errorf("the second pass changes %v", changes)
	}
}

func TestWhateverFailsTheFileIsTheOldOrTheNewOneAndTheReportIsTrue(t *testing.T) {
	var recorder system.Recorder
	pass(t, newImage(t, before), toml, recorder.Gate)
	changes := recorder.Changes()
	for n := 1; n <= len(changes); n++ {
		for name, gate := range map[string]system.Gate{"one fault": system.FailNth(n), "death": system.FailFrom(n)} {
			root := newImage(t, before)
			found := states(pass(t, root, toml, gate))
			want := all(converge.Failed)
			switch content := read(t, root); content {
			case after:
				want = all(converge.Corrected)
			case before:
			default:
				t.Errorf("%s at %s leaves\n%s", name, changes[n-1], content)
			}
			if diff := cmp.Diff(want, found); diff != "" {
				t.Errorf("%s at %s: %s", name, changes[n-1], diff)
			}
			pass(t, root, toml, nil)
			if diff := cmp.Diff(all(converge.Compliant), states(pass(t, root, toml, nil))); diff != "" {
				t.Errorf("after %s at %s: %s", name, changes[n-1], diff)
			}
			if diff := cmp.Diff(after, read(t, root)); diff != "" {
				t.Errorf("after %s at %s: %s", name, changes[n-1], diff)
			}
		}
	}
}

func TestADirectiveThatIsGivenTwiceHasDrifted(t *testing.T) {
	root := newImage(t, before+"pcoip.server_clipboard_state = 0\n")
	for _, r := range pass(t, root, "[pcoip]\nserver_clipboard_state = 0\n", nil) {
		want := []converge.Difference{{Aspect: "value", Want: "0", Got: "1 and 0, of which one counts"}}
		if diff := cmp.Diff(want, r.Diff); diff != "" {
			t.Error(diff)
		}
	}
	if got := strings.Count(read(t, root), "\npcoip.server_clipboard_state"); got != 1 {
		t.Errorf("it is given %d times", got)
	}
}

func TestAFileThatIsNotThereIsMadeWhereThereIsAnAgent(t *testing.T) {
	root := newImage(t, before)
	if err := os.Remove(filepath.Join(root, confPath)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(all(converge.Corrected), states(pass(t, root, toml, nil))); diff != "" {
		t.Error(diff)
	}
	info, err := os.Stat(filepath.Join(root, confPath))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != 0o644 {
		t.Errorf("its mode is %v", info.Mode())
	}
}

func TestALinkInPlaceOfTheFileIsNotFollowed(t *testing.T) {
	root := newImage(t, before)
	link := filepath.Join(root, confPath)
	if err := os.Rename(link, link+".real"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("pcoip-agent.conf.real", link); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(all(converge.Failed), states(pass(t, root, toml, nil))); diff != "" {
		t.Error(diff)
	}
	if content, err := os.ReadFile(link + ".real"); err != nil || string(content) != before {
		t.Errorf("what it points at is %q, %v", content, err)
	}
}

func TestADirectiveThatWouldLeaveNobodyADesktopIsNotWritten(t *testing.T) {
	root := newImage(t, before)
	sessions := filepath.Join(root, xsessionsDir)
	if err := os.MkdirAll(sessions, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"mate.desktop", "gnome.desktop"} {
		if err := os.WriteFile(filepath.Join(sessions, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for value, want := range map[string]converge.State{
		"xfce": converge.Failed, "": converge.Failed, " ": converge.Failed, "mate": converge.Compliant, " mate ": converge.Compliant,
	} {
		r := pass(t, root, "[pcoip]\ndesktop_session = \""+value+"\"\n", nil)[0]
		if r.State != want || read(t, root) != before {
			t.Errorf("%q: %s: %s\n%s", value, r.State, r.Reason, read(t, root))
		}
		if value == "xfce" && !strings.Contains(r.Reason, "no session xfce is installed, so that nobody would get a desktop; in /usr/share/xsessions there is gnome, mate") {
			t.Error(r.Reason)
		}
	}
	const gnome = "[pcoip]\ndesktop_session = \" gnome \"\n"
	for _, want := range []converge.State{converge.Corrected, converge.Compliant} {
		if r := pass(t, root, gnome, nil)[0]; r.State != want || !strings.Contains(read(t, root), "\npcoip.desktop_session = gnome\n") {
			t.Errorf("%s: %v\n%s", r.State, r.Diff, read(t, root))
		}
	}
}
