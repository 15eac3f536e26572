package file_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/kind/dropin"
	"github.com/soe-agent/soe-agent/internal/kind/file"
	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/schedule"
	"github.com/soe-agent/soe-agent/internal/system"
)

// A machine is a directory of files, with a ledger.
type machine struct {
	root      string
	meanwhile func() // called while the agent asks a reader; may be nil
}

func newMachine(t *testing.T, files ...string) machine {
	t.Helper()
	all := map[string]string{
		"/etc/passwd": "root:x:0:0::/root:/bin/sh\nscan:x:11:12::/:/bin/false\n", "/etc/group": "root:x:0:\nscan:x:12:\nlogs:x:13:\n",
	}
	for _, name := range files {
		all[name] = "content of " + name + "\n"
	}
	return machine{root: kindtest.Root(t, all)}
}

// nameService is a name service that knows nobody except those in the files. Apart from a few
// readers of files, no program is installed.
type nameService struct{ meanwhile func() }

func (n nameService) Run(_ context.Context, c system.Command) (system.Output, error) {
	switch c.Argv[0] {
	case "getent":
		return system.Output{ExitCode: 2}, nil
	case "chpasswd":
		return system.Output{Stdout: []byte("the crypt method (one of NONE SHA256 SHA512)\n")}, nil
	case "useradd": // prints what it is shown
		if content := c.Staged[policy.LoginDefs]; strings.Contains(string(content), "HOME_MODE") {
			return system.Output{Stderr: []byte("configuration error - unknown item 'HOME_MODE' (notify administrator)\n")}, nil
		}
		if n.meanwhile != nil {
			n.meanwhile()
		}
		for _, content := range c.Staged {
			if strings.Contains(string(content), "SHELL=/refused") {
				return system.Output{Stdout: []byte("SHELL=\n")}, nil
			}
			return system.Output{Stdout: content}, nil
		}
	}
	return system.Output{}, system.ErrNotInstalled
}

// set sets the attributes of a file.
func (m machine) set(t *testing.T, name string, mode uint32, uid, gid int) {
	t.Helper()
	at := filepath.Join(m.root, name)
	if err := os.Chown(at, uid, gid); err != nil {
		t.Fatal(err)
	}
	if err := unix.Chmod(at, mode); err != nil {
		t.Fatal(err)
	}
}

func (m machine) attr(t *testing.T, name string) string {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(filepath.Join(m.root, name), &st); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%04o %d:%d", st.Mode&0o7777, st.Uid, st.Gid)
}

// pass runs a pass under a policy, with an agent that has just started.
func (m machine) pass(t *testing.T, toml string, gate system.Gate) map[policy.ID]converge.Resource {
	t.Helper()
	ledger, p := kindtest.Ledger(t, m.root), kindtest.Policy(t, toml)
	s := kindtest.Open(t, system.Options{Root: m.root, Gate: gate, Backups: ledger})
	s.Runner = nameService{m.meanwhile}
	kinds := []converge.Kind{file.New(p, s, ledger), dropin.New(p, s, ledger, schedule.Window{})}
	return kindtest.ByID(converge.New(p, kinds, ledger, s.Clock, slog.New(slog.DiscardHandler)).Pass(t.Context()).Resources)
}

func want(t *testing.T, r converge.Resource, state converge.State, reason string) {
	t.Helper()
	if r.State != state || !strings.Contains(r.Reason, reason) || reason == "" && r.Reason != "" && state == converge.Compliant {
		t.Errorf("%s is %q: %q %v, and should be %s: %q", r.ID, r.State, r.Reason, r.Diff, state, reason)
	}
}

const crontab = "/etc/crontab"

func TestOwnerGroupAndModeOfOthersFilesAreKeptAndTheirContentIsLeftAlone(t *testing.T) {
	for _, c := range []struct {
		says, is, becomes string
	}{
		{`mode = "0600"`, "0644 0:0", "0600 0:0"},
		{`mode = "0640"`, "0600 0:0", "0640 0:0"},
		{`mode = "at most 0640"`, "0666 11:12", "0640 11:12"},
		{`mode = "at most 0640"`, "0604 0:0", "0600 0:0"},
		{`mode = "at most 0640"`, "0400 0:0", ""},
		{`mode = "at most 0755"`, "4755 0:0", "0755 0:0"},
		{`owner = "root"`, "0644 11:12", "0644 0:12"},
		{`group = "logs"`, "0640 0:0", "0640 0:13"},
		{`owner = "scan"`, "6755 0:0", "0755 11:0"}, // a program must not run with the rights of another user than its author
		{"owner = \"root\"\ngroup = \"root\"\nmode = \"at most 0600\"", "0664 11:12", "0600 0:0"},
		{"owner = \"root\"\ngroup = \"root\"\nmode = \"at most 0600\"", "0000 0:0", ""},
		{`owner = "12345"`, "0644 0:0", "0644 12345:0"},
	} {
		m := newMachine(t, motd)
		var mode uint32
		var uid, gid int
		if _, err := fmt.Sscanf(c.is, "%o %d:%d", &mode, &uid, &gid); err != nil {
			t.Fatal(err)
		}
		m.set(t, motd, mode, uid, gid)
		toml := "[files.\"/etc/motd\"]\n" + c.says
		state, becomes := converge.Corrected, c.becomes
		if becomes == "" {
			state, becomes = converge.Compliant, c.is
		}
		want(t, m.pass(t, toml, nil)["file/etc/motd"], state, "")
		if got := m.attr(t, motd); got != becomes {
			t.Errorf("with %s, %s becomes %s, and should be %s", c.says, c.is, got, becomes)
		}
		recorder := &system.Recorder{}
		want(t, m.pass(t, toml, recorder.Gate)["file/etc/motd"], converge.Compliant, "")
		if changes := recorder.Changes(); len(changes) > 0 {
			t.Errorf("with %s the second pass does %v", c.says, changes)
		}
		if content, err := os.ReadFile(filepath.Join(m.root, motd)); err != nil || string(content) != "content of /etc/motd\n" {
			t.Errorf("it holds %q, %v", content, err)
		}
		if state == converge.Corrected {
			m.pass(t, "", nil)
			if got, was := m.attr(t, motd), strings.NewReplacer("4755", "0755", "6755", "0755").Replace(c.is); got != was {
				t.Errorf("with %s, %s is given back as %s", c.says, c.is, got)
			}
			if again := m.pass(t, "", nil); len(again) != 0 {
				t.Errorf("once it is given back it is still known: %v", again)
			}
		}
		if backups, _ := os.ReadDir(filepath.Join(m.root, "var/lib/soe-agent/backups")); len(backups) != 0 {
			t.Errorf("what somebody else keeps is among the backups")
		}
	}
}

func TestAFileThatIsNotThereIsAFailureUnlessThePolicySaysThatItNeedNotBe(t *testing.T) {
	m := newMachine(t)
	const toml = "[files.\"/etc/crontab\"]\nmode = \"0600\"\n[files.\"/etc/none/such\"]\nmode = \"0600\"\nif_exists = true\n"
	found := m.pass(t, toml, nil)
	want(t, found["file/etc/crontab"], converge.Failed, "there is no /etc/crontab, and [files] makes none: install what brings it, or say if_exists = true")
	want(t, found["file/etc/none/such"], converge.Compliant, "there is none")
	if _, err := os.Stat(filepath.Join(m.root, crontab)); err == nil {
		t.Error("it was made")
	}
}

func TestNeitherALinkNorAFileWithAnotherNameNorSomebodyElsesDirectoryIsTouched(t *testing.T) {
	m := newMachine(t, "/etc/motd", "/opt/app/conf", "/srv/data/x", "/etc/audit/auditd.conf", "/etc/pam.d/su")
	for target, name := range map[string]string{
		"motd": "/etc/issue", "data": "/srv/link", "../etc": "/opt/etc",
	} {
		if err := os.Symlink(target, filepath.Join(m.root, name)); err != nil {
			t.Fatal(err)
		}
	}
	for from, to := range map[string]string{"/opt/app/conf": "/opt/app/other", "/etc/pam.d/su": "/etc/innocent"} {
		if err := os.Link(filepath.Join(m.root, from), filepath.Join(m.root, to)); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(filepath.Join(m.root, "etc/fifo"), 0o644); err != nil {
		t.Fatal(err)
	}
	before := map[string]string{}
	reasons := map[string]string{
		"/etc/issue": "is a link, and none is followed", "/srv/link/x": "/srv/link is a link, and none is followed on the way",
		"/opt/etc/motd": "/opt/etc is a link", "/opt/app/other": "has another name too", "/etc/innocent": "has another name too",
		"/opt/app": "is a directory", "/etc/fifo": "neither a file nor a directory", "/etc/audit": "",
	}
	toml := ""
	for name := range reasons {
		before[name] = m.attr(t, name)
		mode := "0600"
		if name == "/etc/audit" {
			mode = "0750"
		}
		toml += fmt.Sprintf("[files.%q]\nmode = %q\n", name, mode)
	}
	found := m.pass(t, toml, nil)
	for name, reason := range reasons {
		r := found[policy.NewID("file", name)]
		if name == "/etc/audit" {
			want(t, r, converge.Corrected, "")
			continue
		}
		want(t, r, converge.Failed, reason)
		if got := m.attr(t, name); got != before[name] {
			t.Errorf("%s had %s and has %s", name, before[name], got)
		}
	}
	if got := m.attr(t, "/etc/audit"); got != "0750 0:0" {
		t.Errorf("the directory has %s", got)
	}
}

func TestWhatSomebodyElseHasChangedSinceIsTheirsWhenThePolicyNoLongerNamesIt(t *testing.T) {
	m := newMachine(t, crontab)
	m.set(t, crontab, 0o644, 11, 12)
	const all = "[files.\"/etc/crontab\"]\nowner = \"root\"\ngroup = \"root\"\nmode = \"0600\"\n"
	want(t, m.pass(t, all, nil)["file/etc/crontab"], converge.Corrected, "")
	m.set(t, crontab, 0o666, 11, 12) // drift does not change the recorded previous values
	want(t, m.pass(t, all, nil)["file/etc/crontab"], converge.Corrected, "")

	// One aspect leaves the policy and is restored; the others stay.
	want(t, m.pass(t, "[files.\"/etc/crontab\"]\nowner = \"root\"\nmode = \"0640\"\n", nil)["file/etc/crontab"], converge.Corrected, "")
	if got := m.attr(t, crontab); got != "0640 0:12" {
		t.Errorf("it has %s", got)
	}
	m.set(t, crontab, 0o400, 0, 12) // a mode set by somebody else
	want(t, m.pass(t, "", nil)["file/etc/crontab"], converge.Corrected, "")
	if got := m.attr(t, crontab); got != "0400 11:12" {
		t.Errorf("given back it has %s", got)
	}

	want(t, m.pass(t, all, nil)["file/etc/crontab"], converge.Corrected, "")
	if err := os.Remove(filepath.Join(m.root, crontab)); err != nil {
		t.Fatal(err)
	}
	m.pass(t, "", nil)
	if again := m.pass(t, "", nil); len(again) != 0 {
		t.Errorf("it is gone, and still known: %v", again)
	}
}

func TestAFileGoesFromOneSectionToTheOtherWithWhatItHadBefore(t *testing.T) {
	const conf, files, dropins = "/etc/audit/auditd.conf", "[files.\"/etc/audit/auditd.conf\"]\nmode = \"0600\"\n", "[dropins.\"/etc/audit/auditd.conf\"]\nactivate = []\nmode = \"0640\"\ncontent = \"x\\n\"\n"
	m := newMachine(t, conf)
	m.set(t, conf, 0o604, 0, 0)
	for _, toml := range []string{files, dropins, files, dropins} {
		for range 3 {
			m.pass(t, toml, nil)
		}
		for _, r := range m.pass(t, toml, nil) {
			want(t, r, converge.Compliant, r.Reason)
		}
	}
	for range 2 {
		m.pass(t, "", nil)
	}
	content, err := os.ReadFile(filepath.Join(m.root, conf))
	if got := m.attr(t, conf); err != nil || got != "0604 0:0" || string(content) != "content of "+conf+"\n" {
		t.Errorf("it is %s, %q, %v", got, content, err)
	}
}

// acl lets user 11 read a file through an access control list (acl(5)).
func acl(t *testing.T, name string) {
	t.Helper()
	entry := func(tag, perm uint16, id uint32) []byte {
		return []byte{byte(tag), byte(tag >> 8), byte(perm), byte(perm >> 8), byte(id), byte(id >> 8), byte(id >> 16), byte(id >> 24)}
	}
	const none = 0xffffffff
	list := []byte{2, 0, 0, 0}
	for _, e := range [][]byte{entry(1, 6, none), entry(2, 4, 11), entry(4, 0, none), entry(16, 4, none), entry(32, 0, none)} {
		list = append(list, e...)
	}
	if err := unix.Setxattr(name, "system.posix_acl_access", list, 0); err != nil {
		t.Fatal(err)
	}
}

func TestAnAccessControlListIsDriftWhereThePolicySaysTheModeAndElseNothingIsChangedUnderIt(t *testing.T) {
	m := machine{root: t.TempDir()} // on a file system with access control lists
	for name, content := range map[string]string{"/etc/passwd": "root:x:0:0::/:/bin/sh\n", "/etc/group": "logs:x:13:\n", "/etc/a": "", "/etc/b": ""} {
		if err := os.MkdirAll(filepath.Join(m.root, "etc"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(m.root, name), []byte(content), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	acl(t, filepath.Join(m.root, "/etc/a"))
	acl(t, filepath.Join(m.root, "/etc/b"))
	found := m.pass(t, "[files.\"/etc/a\"]\nmode = \"at most 0640\"\n[files.\"/etc/b\"]\ngroup = \"logs\"\n", nil)
	want(t, found["file/etc/a"], converge.Corrected, "")
	if diff := cmp.Diff([]string{"acl"}, aspects(found["file/etc/a"])); diff != "" {
		t.Error(diff)
	}
	want(t, found["file/etc/b"], converge.Failed, "has an access control list, which would go with the change: say its mode too")
	if _, err := unix.Getxattr(filepath.Join(m.root, "/etc/b"), "system.posix_acl_access", nil); err != nil {
		t.Errorf("the list is gone: %v", err)
	}
}

func aspects(r converge.Resource) (names []string) {
	for _, d := range r.Diff {
		names = append(names, d.Aspect)
	}
	return names
}

func TestAnOwnerWhomNobodyKnowsIsAFailureAndChangesNothing(t *testing.T) {
	m := newMachine(t, motd)
	want(t, m.pass(t, "[files.\"/etc/motd\"]\nowner = \"nobody-such\"\nmode = \"0600\"\n", nil)["file/etc/motd"], converge.Failed, "there is no user nobody-such")
	if got := m.attr(t, motd); got != "0644 0:0" {
		t.Errorf("it has %s", got)
	}
}

func TestAFileOfAnEarlierPolicyInAPlaceThatIsForbiddenNowIsNotTouched(t *testing.T) {
	m := newMachine(t, "/etc/pam.conf")
	m.set(t, "/etc/pam.conf", 0o600, 0, 0)
	ledger := kindtest.Ledger(t, m.root)
	ledger.Own("file/etc/pam.conf")
	ledger.Retouch("/etc/pam.conf", map[string]converge.Retouch{"mode": {Was: "0777", Made: "0600"}})
	if err := ledger.Flush(); err != nil {
		t.Fatal(err)
	}
	if found := m.pass(t, "", nil); len(found) != 0 || m.attr(t, "/etc/pam.conf") != "0600 0:0" {
		t.Errorf("found %v, and it has %s", found, m.attr(t, "/etc/pam.conf"))
	}
}

// A user may replace what is in their own directory at any moment.
func TestAFileThatBecomesAnotherBetweenLookAndChangeIsLeftAlone(t *testing.T) {
	for name, swap := range map[string]func(string) error{
		"link":  func(at string) error { return os.Symlink("../../etc/shadow", at) },
		"other": func(at string) error { return os.WriteFile(at, nil, 0o604) },
		"hard":  func(at string) error { return os.Link(filepath.Join(filepath.Dir(at), "../../etc/shadow"), at) },
	} {
		m := newMachine(t, "/srv/app/x", "/etc/shadow")
		m.set(t, "/etc/shadow", 0o600, 0, 0)
		m.set(t, "/srv/app", 0o755, 11, 12)
		m.set(t, "/srv/app/x", 0o666, 11, 12)
		at := filepath.Join(m.root, "srv/app/x")
		r := m.pass(t, "[files.\"/srv/app/x\"]\nowner = \"scan\"\nmode = \"0644\"\n", func(c system.Change) error {
			if c.Op != "chmod" {
				return nil
			}
			if err := os.Remove(at); err != nil {
				t.Error(err)
			}
			return swap(at)
		})["file/srv/app/x"]
		if r.State == converge.Compliant || r.State == converge.Corrected || r.Reason == "" {
			t.Errorf("%s: it is %s: %q", name, r.State, r.Reason)
		}
		if got := m.attr(t, "/etc/shadow"); got != "0600 0:0" {
			t.Errorf("%s: /etc/shadow has %s", name, got)
		}
	}
}

func TestWhateverFailsAFileHasTheOldAttributesOrTheNewOnesAndWhatItHadIsKnown(t *testing.T) {
	const toml = "[files.\"/etc/crontab\"]\nowner = \"root\"\nmode = \"0600\"\n[files.\"/etc/motd\"]\ngroup = \"logs\"\n"
	names := map[string][2]string{crontab: {"0664 11:12", "0600 0:12"}, "/etc/motd": {"0644 0:0", "0644 0:13"}}
	build := func(t *testing.T) machine {
		m := newMachine(t, crontab, "/etc/motd")
		m.set(t, crontab, 0o664, 11, 12)
		return m
	}
	recorder := &system.Recorder{}
	build(t).pass(t, toml, recorder.Gate)
	changes := len(recorder.Changes())
	if changes == 0 {
		t.Fatal("nothing was changed")
	}
	for _, fails := range []func(int) system.Gate{system.FailNth, system.FailFrom} {
		for n := 1; n <= changes; n++ {
			m := build(t)
			found := m.pass(t, toml, fails(n))
			for name, attrs := range names {
				got, r := m.attr(t, name), found[policy.NewID("file", name)]
				if got != attrs[0] && got != attrs[1] {
					t.Errorf("change %d: %s has %s", n, name, got)
				}
				if inLine := r.State.InLine(); inLine && got != attrs[1] {
					t.Errorf("change %d: %s is called %s and has %s", n, name, r.State, got)
				}
			}
			m.pass(t, toml, nil)
			m.pass(t, "", fails(n))
			m.pass(t, "", nil)
			for name, attrs := range names {
				if got := m.attr(t, name); got != attrs[0] {
					t.Errorf("change %d: %s is given back as %s", n, name, got)
				}
			}
		}
	}
}

func TestEachFileIsWatchedWhereItLiesButForLogs(t *testing.T) {
	m := newMachine(t, crontab)
	m.set(t, crontab, 0o644, 0, 0)
	m.pass(t, "[files.\"/etc/crontab\"]\nmode = \"0600\"\n", nil)
	s := kindtest.Open(t, system.Options{Root: m.root})
	p := kindtest.Policy(t, "[files.\"/etc/motd\"]\nmode = \"0644\"\n[files.\"/var/log/audit/audit.log\"]\nmode = \"0600\"\n")
	watches := file.New(p, s, kindtest.Ledger(t, m.root)).Watches()
	if diff := cmp.Diff([]converge.Watch{{Mounts: true}, {Dir: "/etc", Names: []string{"motd", "crontab"}}}, watches); diff != "" {
		t.Error(diff)
	}
}
