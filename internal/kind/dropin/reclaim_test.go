package dropin

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/policy"
)

func TestWhatThePolicyNoLongerNamesIsGivenBack(t *testing.T) {
	root := machine(t, map[string]string{
		"/etc/modprobe.d/theirs.conf": "theirs\n", "/etc/modprobe.d/same.conf": "same\n", "/etc/cron.d/broken": "* * * * * broken\n",
	})
	if err := os.Chmod(filepath.Join(root, "/etc/modprobe.d/theirs.conf"), 0o600); err != nil {
		t.Fatal(err)
	}
	pass(t, files(map[string]policy.Dropin{
		"/etc/modprobe.d/made.conf": {Content: "ours\n"}, "/etc/modprobe.d/theirs.conf": {Content: "ours\n"},
		"/etc/modprobe.d/same.conf": {Content: "same\n"}, "/etc/cron.d/broken": {Content: "# ours\n"},
	}), root, nil)
	for id, r := range pass(t, files(nil), root, nil) {
		if r.State != converge.Corrected {
			t.Errorf("%s is %s: %s", id, r.State, r.Reason)
		}
	}
	for _, name := range []string{"/etc/modprobe.d/made.conf", "/etc/cron.d/broken"} {
		if _, err := os.Lstat(filepath.Join(root, name)); !os.IsNotExist(err) {
			t.Errorf("%s is still there", name)
		}
	}
	info, err := os.Stat(filepath.Join(root, "/etc/modprobe.d/theirs.conf"))
	if err != nil || info.Mode() != 0o600 || kindtest.Read(t, root, "/etc/modprobe.d/theirs.conf") != "theirs\n" {
		t.Errorf("what was replaced is not put back: %v", info)
	}
	if kindtest.Read(t, root, "/etc/modprobe.d/same.conf") != "same\n" {
		t.Error("what was there already was touched")
	}
	if again := pass(t, files(nil), root, nil); len(again) > 0 {
		t.Errorf("the next pass finds %v", again)
	}
}

func TestAFileThatIsNowProtectedIsNotGivenBack(t *testing.T) {
	root := machine(t, map[string]string{"/etc/pam.d/x.d/y": "y\n"})
	ledger := kindtest.Ledger(t, root)
	ledger.Own(policy.NewID("dropin", "/etc/pam.d/x.d/y"))
	if err := ledger.Flush(); err != nil {
		t.Fatal(err)
	}
	if got := pass(t, files(nil), root, nil); len(got) > 0 {
		t.Errorf("got %v", got)
	}
}

func TestWhatSomebodyHasPutInPlaceOfAFileOfTheAgentsIsNotTakenAway(t *testing.T) {
	const name = "/etc/modprobe.d/a.conf"
	for what, put := range map[string]func(file string) error{
		"a link":      func(file string) error { return os.Symlink("/dev/null", file) },
		"a directory": func(file string) error { return os.Mkdir(file, 0o755) },
	} {
		root := machine(t, nil)
		pass(t, files(map[string]policy.Dropin{name: {Content: "ours\n"}}), root, nil)
		file := filepath.Join(root, name)
		if err := errors.Join(os.Remove(file), put(file)); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if r := pass(t, files(nil), root, nil)[policy.NewID("dropin", name)]; r.State != converge.Failed || !strings.Contains(r.Reason, "no longer a regular file") {
				t.Errorf("%s: it is %s: %s", what, r.State, r.Reason)
			}
		}
		if info, err := os.Lstat(file); err != nil || info.Mode().IsRegular() {
			t.Errorf("%s: it is %v: %v", what, info, err)
		}
	}
}

func TestAFileThatIsGoneAlreadyNeedsNoGivingBack(t *testing.T) {
	const name = "/etc/modprobe.d/a.conf"
	root := machine(t, nil)
	pass(t, files(map[string]policy.Dropin{name: {Content: "ours\n"}}), root, nil)
	if err := os.Remove(filepath.Join(root, name)); err != nil {
		t.Fatal(err)
	}
	if r := pass(t, files(nil), root, nil)[policy.NewID("dropin", name)]; r.State != converge.Corrected {
		t.Errorf("it is %s: %s", r.State, r.Reason)
	}
	if again := pass(t, files(nil), root, nil); len(again) > 0 {
		t.Errorf("the next pass finds %v", again)
	}
}
