package converge_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

const dropin = "/etc/sysctl.d/60-soe.conf"

func own() system.Attr { return system.Attr{Mode: 0o644, UID: os.Getuid(), GID: os.Getgid()} }

func put(t *testing.T, root, name, content string) {
	t.Helper()
	file := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestTheFirstContentOfSomebodyElsesFileIsKeptForEver(t *testing.T) {
	root := t.TempDir()
	put(t, root, dropin, "theirs")
	ledger := openLedger(t, root, nil)
	machine := files(t, root, nil, ledger)
	for _, content := range []string{"ours 1", "ours 2"} {
		if err := machine.WriteFile(dropin, []byte(content), own()); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(machine.Remove(dropin), machine.WriteFile(dropin, []byte("ours 3"), own())); err != nil {
		t.Fatal(err)
	}
	for _, l := range []*converge.Ledger{ledger, openLedger(t, root, nil)} {
		kept, ok, _ := l.Original(dropin)
		if !ok || string(kept.Content) != "theirs" || kept.Info.Mode != 0o644 || kept.Info.UID != os.Getuid() || l.Made(dropin) {
			t.Errorf("kept %+v, %v; made by the agent: %v", kept, ok, l.Made(dropin))
		}
	}
	info, err := machine.Stat(stateDir)
	if err != nil || info.Mode != 0o700 {
		t.Errorf("its directory has mode %o (%v)", info.Mode, err)
	}
}

func TestALinkOfSomebodyElsesIsKept(t *testing.T) {
	root := t.TempDir()
	put(t, root, "/etc/x", "")
	if err := os.Symlink("../usr/share/zoneinfo/UTC", filepath.Join(root, "etc/localtime")); err != nil {
		t.Fatal(err)
	}
	ledger := openLedger(t, root, nil)
	if err := files(t, root, nil, ledger).Symlink("../usr/share/zoneinfo/Europe/Berlin", "/etc/localtime"); err != nil {
		t.Fatal(err)
	}
	if kept, ok, _ := ledger.Original("/etc/localtime"); !ok || kept.Link != "../usr/share/zoneinfo/UTC" {
		t.Errorf("kept %+v, %v", kept, ok)
	}
}

func TestWhatTheAgentMadeIsKnownAndNotKept(t *testing.T) {
	root := t.TempDir()
	ledger := openLedger(t, root, nil)
	machine := files(t, root, nil, ledger)
	for _, content := range []string{"ours 1", "ours 2"} {
		if err := machine.WriteFile(dropin, []byte(content), own()); err != nil {
			t.Fatal(err)
		}
	}
	if err := machine.Remove("/etc/sysctl.d/none.conf"); err != nil {
		t.Fatal(err)
	}
	// Flush was not even called: a crash now loses nothing.
	for _, l := range []*converge.Ledger{ledger, openLedger(t, root, nil)} {
		if _, kept, _ := l.Original(dropin); kept || !l.Made(dropin) || l.Made("/etc/sysctl.d/none.conf") {
			t.Errorf("kept: %v, made: %v, made what never was: %v", kept, l.Made(dropin), l.Made("/etc/sysctl.d/none.conf"))
		}
	}
}

func TestAReleasedFileIsAsItWasBeforeTheAgent(t *testing.T) {
	root := t.TempDir()
	put(t, root, dropin, "theirs")
	put(t, root, "/etc/foreign", "")
	ledger := openLedger(t, root, nil)
	machine := files(t, root, nil, ledger)
	const created = "/etc/sysctl.d/61-soe.conf"
	if err := errors.Join(machine.WriteFile(dropin, []byte("ours"), own()), machine.WriteFile(created, nil, own())); err != nil {
		t.Fatal(err)
	}
	release := func(name string) (did string) {
		err := ledger.Release(name,
			func(k system.Original) error { did = "put back " + string(k.Content); return nil },
			func() error { did = "removed"; return nil })
		if err != nil {
			t.Error(err)
		}
		return did
	}
	broken := errors.New("broken")
	fail := func(system.Original) error { return broken }
	if err := ledger.Release(dropin, fail, nil); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
	for _, test := range []struct{ name, want string }{
		{dropin, "put back theirs"}, {created, "removed"}, {"/etc/foreign", ""}, {dropin, ""}, {created, ""},
	} {
		if did := release(test.name); did != test.want {
			t.Errorf("%s: %q, want %q", test.name, did, test.want)
		}
	}
	if err := ledger.Flush(); err != nil {
		t.Fatal(err)
	}
	if again := openLedger(t, root, nil); again.Made(created) {
		t.Error("what was released is remembered as the agent's own")
	}
}

func TestWhatIsOwnedIsListedByKind(t *testing.T) {
	ledger := openLedger(t, t.TempDir(), nil)
	for _, id := range []policy.ID{"package/b", "dropin/etc/x.d/y", "package/a", "package/c"} {
		ledger.Own(id)
	}
	ledger.Disown("package/c")
	if diff := cmp.Diff([]policy.ID{"package/a", "package/b"}, ledger.Owned("package")); diff != "" {
		t.Error(diff)
	}
}

func TestNothingIsReplacedBeforeItIsKeptWhateverFails(t *testing.T) {
	for _, old := range []string{"", "theirs"} {
		for n := 1; ; n++ {
			root := t.TempDir()
			if old != "" {
				put(t, root, dropin, old)
			}
			gate := system.FailFrom(n) // the ledger and the machine fail together
			err := files(t, root, gate, openLedger(t, root, gate)).WriteFile(dropin, []byte("ours"), own())
			content, readErr := os.ReadFile(filepath.Join(root, dropin))
			after := openLedger(t, root, nil)
			kept, isKept, _ := after.Original(dropin)
			switch {
			case string(content) == "ours" && old != "" && (!isKept || string(kept.Content) != old):
				t.Errorf("crash %d: replaced, and kept is %+v", n, kept)
			case string(content) == "ours" && old == "" && !after.Made(dropin):
				t.Errorf("crash %d: made, and not noted", n)
			case string(content) != "ours" && (string(content) != old || (readErr == nil) != (old != "")):
				t.Errorf("crash %d: the file holds %q", n, content)
			}
			if err == nil {
				break
			}
		}
	}
}

func TestALedgerIsReadAgainAsItWas(t *testing.T) {
	root := t.TempDir()
	ledger := openLedger(t, root, nil)
	at := time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)
	ledger.Own("package/git")
	ledger.Own("package/gimp")
	ledger.Disown("package/gimp")
	ledger.MarkChanged("service/a", at)
	if err := ledger.Flush(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		again := openLedger(t, root, nil)
		if !again.Owns("package/git") || again.Owns("package/gimp") || !again.Changed("service/a").Equal(at) || !again.Changed("service/b").IsZero() {
			t.Errorf("git %v, gimp %v, changed %s", again.Owns("package/git"), again.Owns("package/gimp"), again.Changed("service/a"))
		}
	}
}

func ledgerFile(root string) string { return filepath.Join(root, stateDir, "ledger.jsonl") }

func TestALineThatACrashCutShortSpoilsNoOther(t *testing.T) {
	root := t.TempDir()
	ledger := openLedger(t, root, nil)
	ledger.Own("package/a")
	ledger.Own("package/b")
	if err := ledger.Flush(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(ledgerFile(root))
	if err != nil {
		t.Fatal(err)
	}
	for cut := range len(`"package/b"}`) {
		if err := os.WriteFile(ledgerFile(root), whole[:len(whole)-cut-1], 0o600); err != nil {
			t.Fatal(err)
		}
		torn := openLedger(t, root, nil)
		torn.Own("package/c")
		if err := torn.Flush(); err != nil {
			t.Fatal(err)
		}
		if again := openLedger(t, root, nil); !again.Owns("package/a") || again.Owns("package/b") || !again.Owns("package/c") {
			t.Errorf("cut by %d: a %v, b %v, c %v", cut+1, again.Owns("package/a"), again.Owns("package/b"), again.Owns("package/c"))
		}
	}
}

func TestALedgerOfAnotherMachineIsRefused(t *testing.T) {
	root := t.TempDir()
	ledger := openLedger(t, root, nil)
	ledger.Own("package/a")
	if err := ledger.Flush(); err != nil {
		t.Fatal(err)
	}
	if _, err := converge.OpenLedger(files(t, root, nil, nil), stateDir, facts.Identity{MachineID: "machine-2"}); !errors.Is(err, converge.ErrOtherMachine) {
		t.Errorf("got %v", err)
	}
}

// A fact about the machine that was learnt after its ledger was begun tells it from its clones, although
// they have the same machine-id.
func TestALedgerIsBoundToWhatBecomesKnownOfItsMachine(t *testing.T) {
	root := t.TempDir()
	for _, begun := range []string{
		"", // begun by this machine
		`{"machine":"m"}` + "\n" + `{"owned":"package/a"}`, // with the machine id alone, as in old ledgers
		`{"owned":"package/a"}`,                            // from an image whose agent never ran
	} {
		put(t, root, stateDir+"/ledger.jsonl", begun)
		for _, now := range []facts.Identity{
			{MachineID: "m"},
			{MachineID: "m", Hostname: "A-1"},
			{MachineID: "m", Hostname: "A-1", ManagedNode: "mi-1"},
			{MachineID: "m", ManagedNode: "mi-1"},
			{MachineID: "m", Hostname: "A-3", ManagedNode: "mi-1"},
		} {
			ledger, err := converge.OpenLedger(files(t, root, nil, nil), stateDir, now)
			if err != nil {
				t.Fatal(err)
			}
			if begun != "" && !ledger.Owns("package/a") {
				t.Errorf("%q: %v begins afresh", begun, now)
			}
			if err := ledger.Flush(); err != nil {
				t.Fatal(err)
			}
		}
		clone := facts.Identity{MachineID: "m", Hostname: "A-2", ManagedNode: "mi-2"}
		_, err := converge.OpenLedger(files(t, root, nil, nil), stateDir, clone)
		if want := "it is of A-3 (machine-id m, mi-1), and this is A-2 (machine-id m, mi-2)"; !errors.Is(err, converge.ErrOtherMachine) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: a clone is met with %v", begun, err)
		}
	}
}

func TestNothingIsWrittenOfAMachineThatIsAsItWas(t *testing.T) {
	root := t.TempDir()
	now := facts.Identity{MachineID: "m", Hostname: "A-1", ManagedNode: "mi-1", Disk: "vol1"}
	open := func(gate system.Gate) error {
		ledger, err := converge.OpenLedger(files(t, root, gate, nil), stateDir, now)
		return errors.Join(err, ledger.Flush())
	}
	if err := open(nil); err != nil {
		t.Fatal(err)
	}
	if err := open(system.ReadOnly); err != nil {
		t.Error(err)
	}
}

func TestALedgerThatCannotBeReadIsAnError(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(ledgerFile(root), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := converge.OpenLedger(files(t, root, nil, nil), stateDir, facts.Identity{MachineID: "machine-1"}); err == nil || !strings.HasPrefix(err.Error(), "cannot read the ledger") {
		t.Errorf("got %v", err)
	}
}

func TestWhatOfALedgerCannotBeReadIsSaidAndKeptAsideBeforeItsFileIsBegunAnew(t *testing.T) {
	const known = `{"identity":{"machine_id":"machine-1"}}` + "\n" + `{"owned":"package/a"}` + "\n"
	grown := strings.Repeat(`{"resource":"service/b","standing":{}}`+"\n", 2000)
	for what, test := range map[string]struct {
		content string
		damaged string // what is said of it; "": nothing
		aside   bool   // once it is written anew
	}{
		"of zeros":                    {strings.Repeat("\x00", 4096), "no line", true},
		"of words":                    {"garbage\nmore\n", "no line", true},
		"another's JSON":              {`["a"]`, "no line", true},
		"of a line that says nothing": {`{"x": 1}`, "no line", true},
		"cut short at its only line":  {`{"identity":{"mach`, "no line", true},
		"half, and long":              {known + grown + "gar\nbage\n", "2 of", true},
		"half":                        {known + "gar\nbage\n", "2 of", false},
		"whole, and long":             {known + grown, "", false},
		"whole":                       {known, "", false},
		"empty":                       {"", "is empty", false},
		"of line breaks":              {"\n\n", "is empty", false},
	} {
		root := t.TempDir()
		put(t, root, stateDir+"/ledger.jsonl", test.content)
		before := files(t, root, system.ReadOnly, nil)
		looked, err := converge.OpenLedger(before, stateDir, facts.Identity{MachineID: "machine-1"})
		if err != nil {
			t.Fatal(err)
		}
		if got := looked.Damaged(); (got == nil) != (test.damaged == "") || got != nil && !strings.Contains(got.Error(), test.damaged) {
			t.Errorf("%s: it says %v", what, got)
		}
		ledger := openLedger(t, root, nil)
		ledger.Own("package/c")
		if err := ledger.Flush(); err != nil {
			t.Fatal(err)
		}
		aside, err := os.ReadFile(ledgerFile(root) + ".damaged")
		if test.aside && string(aside) != test.content || !test.aside && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: aside are %d bytes of %d, %v", what, len(aside), len(test.content), err)
		}
		if again := openLedger(t, root, nil); !again.Owns("package/c") || test.aside && again.Damaged() != nil {
			t.Errorf("%s: then it says %v", what, again.Damaged())
		}
	}
	// What cannot be kept aside is not written over.
	root := t.TempDir()
	put(t, root, stateDir+"/ledger.jsonl", "garbage\n")
	full := func(c system.Change) error {
		if strings.Contains(c.Target, "damaged") {
			return unix.ENOSPC
		}
		return nil
	}
	ledger := openLedger(t, root, full)
	ledger.Own("package/c")
	if err := ledger.Flush(); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("the error is %v", err)
	}
	if content, err := os.ReadFile(ledgerFile(root)); err != nil || string(content) != "garbage\n" {
		t.Errorf("%v: it holds %q", err, content)
	}
}

func TestALedgerInWhosePlaceSomethingElseIsMeanwhileIsWrittenAnewAndForgetsNothing(t *testing.T) {
	for what, put := range map[string]func(name string) error{
		"a pipe":      func(name string) error { return unix.Mkfifo(name, 0o600) },
		"a link":      func(name string) error { return os.Symlink("/nowhere", name) },
		"a directory": func(name string) error { return os.MkdirAll(filepath.Join(name, "full"), 0o700) },
	} {
		root := t.TempDir()
		ledger := openLedger(t, root, nil)
		ledger.Own("package/a")
		err := errors.Join(ledger.Flush(), os.Remove(ledgerFile(root)), put(ledgerFile(root)))
		if err != nil {
			t.Fatal(err)
		}
		ledger.Own("package/b")
		if err := ledger.Flush(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if again := openLedger(t, root, nil); !again.Owns("package/a") || !again.Owns("package/b") {
			t.Errorf("%s: something is forgotten", what)
		}
	}
}

func TestALedgerThatHasGrownLongIsWrittenAnewAndForgetsNothing(t *testing.T) {
	root := t.TempDir()
	ledger := openLedger(t, root, nil)
	ledger.Own("package/a")
	for i := range 2000 {
		ledger.MarkChanged("service/b", time.Unix(int64(i), 0))
	}
	if err := ledger.Flush(); err != nil {
		t.Fatal(err)
	}
	long, err := os.Stat(ledgerFile(root))
	if err != nil {
		t.Fatal(err)
	}
	compacted := openLedger(t, root, nil)
	if err := compacted.Flush(); err != nil {
		t.Fatal(err)
	}
	short, err := os.Stat(ledgerFile(root))
	if err != nil || short.Size() > long.Size()/100 {
		t.Errorf("%d bytes became %d (%v)", long.Size(), short.Size(), err)
	}
	again := openLedger(t, root, nil)
	if !again.Owns("package/a") || again.Changed("service/b").Unix() != 1999 {
		t.Errorf("a %v, b %s", again.Owns("package/a"), again.Changed("service/b"))
	}
	if _, err := converge.OpenLedger(files(t, root, nil, nil), stateDir, facts.Identity{MachineID: "machine-2"}); !errors.Is(err, converge.ErrOtherMachine) {
		t.Errorf("it forgot its machine: %v", err)
	}
}

// What was recorded before a fault is still there after it, whichever change fails.
func TestAFaultWhileWritingLosesNothingKnownBefore(t *testing.T) {
	for _, length := range []int{1, 2000} { // the second ledger is compacted
		for n := 1; ; n++ {
			root := t.TempDir()
			ledger := openLedger(t, root, nil)
			ledger.Own("package/before")
			for range length {
				ledger.MarkChanged("service/a", time.Unix(7, 0))
			}
			if err := ledger.Flush(); err != nil {
				t.Fatal(err)
			}
			faulty := openLedger(t, root, system.FailNth(n))
			faulty.Own("package/new")
			err := faulty.Flush()
			if after := openLedger(t, root, nil); !after.Owns("package/before") || after.Changed("service/a").Unix() != 7 {
				t.Errorf("length %d, fault %d: what was known is lost", length, n)
			}
			if err := faulty.Flush(); err != nil {
				t.Errorf("length %d, fault %d: the next flush: %v", length, n, err)
			}
			if after := openLedger(t, root, nil); !after.Owns("package/new") {
				t.Errorf("length %d, fault %d: what is new is lost", length, n)
			}
			if err == nil {
				break
			}
		}
	}
}

func TestAFlushThatFailedToLastIsTriedAgain(t *testing.T) {
	root := t.TempDir()
	first := openLedger(t, root, nil)
	first.Own("package/a")
	if err := first.Flush(); err != nil {
		t.Fatal(err)
	}
	var recorder system.Recorder
	failed := false
	ledger := openLedger(t, root, func(c system.Change) error {
		if c.Op == "sync" && !failed {
			failed = true
			return fmt.Errorf("the disk is gone")
		}
		return recorder.Gate(c)
	})
	ledger.Own("package/b")
	if err := ledger.Flush(); err == nil {
		t.Fatal("no error")
	}
	recorder.Changes()
	if err := ledger.Flush(); err != nil {
		t.Fatal(err)
	}
	want := []system.Change{{Op: "sync", Target: stateDir + "/ledger.jsonl"}}
	if diff := cmp.Diff(want, recorder.Changes()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestALedgerThatIsTakenAwayMeanwhileIsWrittenAnewAndForgetsNothing(t *testing.T) {
	root := t.TempDir()
	ledger := openLedger(t, root, nil)
	ledger.Own("package/a")
	if err := ledger.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Dir(ledgerFile(root))); err != nil {
		t.Fatal(err)
	}
	ledger.Own("package/b")
	if err := ledger.Flush(); err != nil {
		t.Fatal(err)
	}
	again := openLedger(t, root, nil)
	if !again.Owns("package/a") || !again.Owns("package/b") {
		t.Errorf("a %v, b %v", again.Owns("package/a"), again.Owns("package/b"))
	}
}

func TestAFileThatIsMadeAtTheSecondTryIsNotedToo(t *testing.T) {
	root := t.TempDir()
	gate := system.FailNth(3) // while the ledger is written
	machine := files(t, root, nil, openLedger(t, root, gate))
	if err := machine.WriteFile(dropin, []byte("ours"), own()); !errors.Is(err, system.ErrInjected) {
		t.Fatalf("got %v", err)
	}
	if err := machine.WriteFile(dropin, []byte("ours"), own()); err != nil {
		t.Fatal(err)
	}
	if !openLedger(t, root, nil).Made(dropin) {
		t.Error("a crash now would make it somebody else's")
	}
}

// At the first boot the clock may be days ahead, and is then set right.
func TestATimeThatHasNotComeYetIsNotSinceWhen(t *testing.T) {
	m := newMachine(t)
	p := wants("1", "dropin/a")
	k := newKind(p, "dropin")
	right := m.clock.Now()
	m.clock.now = right.Add(48 * time.Hour)
	m.engine(p, k).Pass(t.Context())
	m.clock.now = right
	if r := the(t, m.engine(p, k).Pass(t.Context()), "dropin/a"); r.Since.After(m.clock.Now()) {
		t.Errorf("since %s, and it is %s", r.Since, m.clock.Now())
	}
}

func TestWhatWasChangedOfAnotherOnesFileIsKnownUntilItIsForgottenWhoeverRestarts(t *testing.T) {
	root := t.TempDir()
	ledger := openLedger(t, root, nil)
	mode := map[string]converge.Retouch{"mode": {Was: "0644", Made: "0600"}}
	ledger.Retouch("/etc/crontab", mode)
	ledger.Retouch("/etc/motd", map[string]converge.Retouch{"owner": {Was: "11", Made: "0"}})
	for i := range 1500 { // so that the next ledger compacts the file
		ledger.Retouch("/etc/motd", map[string]converge.Retouch{"owner": {Was: fmt.Sprint(i + 20), Made: "0"}})
	}
	ledger.Retouch("/etc/motd", nil)
	if err := ledger.Flush(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		again := openLedger(t, root, nil)
		if diff := cmp.Diff(mode, again.Retouched("/etc/crontab")); diff != "" {
			t.Error(diff)
		}
		if left := again.Retouched("/etc/motd"); len(left) != 0 {
			t.Errorf("what is forgotten is %v", left)
		}
		if err := again.Flush(); err != nil {
			t.Fatal(err)
		}
	}
}
