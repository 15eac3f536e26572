package system_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/soe-agent/soe-agent/internal/own"
	"github.com/soe-agent/soe-agent/internal/system"
)

const dropin = "/etc/sysctl.d/60-soe.conf"

// owned returns attributes that every user may give to files.
func owned(mode fs.FileMode) system.Attr {
	return system.Attr{Mode: mode, UID: os.Getuid(), GID: os.Getgid()}
}

func open(t *testing.T, root string, gate system.Gate, keeper system.BackupStore) system.FS {
	t.Helper()
	s, err := system.Open(system.Options{Root: root, Gate: gate, Backups: keeper})
	if err != nil {
		t.Fatal(err)
	}
	return s.FS
}

// put writes a file without the agent.
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

func link(t *testing.T, root, target, name string) {
	t.Helper()
	file := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, file); err != nil {
		t.Fatal(err)
	}
}

// tree returns every file below root with its content.
func tree(t *testing.T, root string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(name)
		found[strings.TrimPrefix(name, root)] = string(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestAFileIsWrittenWithItsAttributesAndParents(t *testing.T) {
	root := t.TempDir()
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	files := open(t, root, nil, nil)
	if err := files.WriteFile(dropin, []byte("x = 1\n"), owned(0o644)); err != nil {
		t.Fatal(err)
	}
	content, err := files.ReadFile(dropin)
	if err != nil || string(content) != "x = 1\n" {
		t.Errorf("read %q, %v", content, err)
	}
	info, err := files.Stat(dropin)
	if err != nil || info.Attr != owned(0o644) || !info.IsRegular() || info.Size != 6 {
		t.Errorf("%+v, %v", info, err)
	}
	if info, err := files.Stat("/etc/sysctl.d"); err != nil || info.Mode != 0o755 || !info.IsDir() {
		t.Errorf("the directory is %+v, %v", info, err)
	}
	if err := files.WriteFile("/var/lib/soe-agent/secret", nil, system.Attr{Mode: 0o4600, UID: -1, GID: -1}); err != nil {
		t.Fatal(err)
	}
	if info, _ := files.Stat("/var/lib/soe-agent/secret"); info.Attr != owned(0o4600) {
		t.Errorf("with the agent's own ids: %+v", info)
	}
}

func TestTheAttributesAreRightBeforeTheNameIs(t *testing.T) {
	root := t.TempDir()
	put(t, root, dropin, "old")
	var seen system.Info
	gate := func(c system.Change) error {
		if c.Op == "rename" {
			seen, _ = open(t, root, nil, nil).Stat(own.Temporary(dropin))
		}
		return nil
	}
	if err := open(t, root, gate, nil).WriteFile(dropin, []byte("new"), owned(0o640)); err != nil {
		t.Fatal(err)
	}
	if seen.Attr != owned(0o640) || seen.Size != 3 {
		t.Errorf("before the rename: %+v", seen)
	}
}

// The loop tries every n and ends when no change was refused.
func TestASingleFaultLeavesTheOldOrTheNewFileAndNothingElse(t *testing.T) {
	for _, old := range []string{"", "old"} {
		for n := 1; ; n++ {
			root := t.TempDir()
			if old != "" {
				put(t, root, dropin, old)
			}
			err := open(t, root, system.FailNth(n), nil).WriteFile(dropin, []byte("new"), owned(0o644))
			found := tree(t, root)
			content, there := found[dropin]
			if content != "new" && (content != old || there != (old != "")) {
				t.Errorf("fault %d: the file holds %q", n, content)
			}
			delete(found, dropin)
			if len(found) > 0 {
				t.Errorf("fault %d: left behind: %v", n, found)
			}
			if err == nil {
				if n < 8 {
					t.Errorf("fault %d was never injected", n)
				}
				break
			}
			if !errors.Is(err, system.ErrInjected) || !strings.HasPrefix(err.Error(), "cannot ") {
				t.Errorf("fault %d: %v", n, err)
			}
		}
	}
}

func TestACrashAtAnyChangeLeavesTheOldOrTheNewFileAndTheNextWriteSucceeds(t *testing.T) {
	leftovers := 0
	for n := 1; ; n++ {
		root := t.TempDir()
		put(t, root, dropin, "old")
		err := open(t, root, system.FailFrom(n), nil).WriteFile(dropin, []byte("new"), owned(0o644))
		found := tree(t, root)
		if content := found[dropin]; content != "old" && content != "new" {
			t.Errorf("crash %d: the file holds %q", n, content)
		}
		delete(found, dropin)
		for name := range found {
			leftovers++
			if name != own.Temporary(dropin) {
				t.Errorf("crash %d: left behind: %s", n, name)
			}
		}
		if err := open(t, root, nil, nil).WriteFile(dropin, []byte("newer"), owned(0o644)); err != nil {
			t.Errorf("after crash %d: %v", n, err)
		}
		if diff := cmp.Diff(map[string]string{dropin: "newer"}, tree(t, root)); diff != "" {
			t.Errorf("after crash %d (-want +got):\n%s", n, diff)
		}
		if err == nil {
			break
		}
	}
	if leftovers == 0 {
		t.Error("no crash left a temporary file: the test shows nothing")
	}
}

func TestOnlyRegularFilesAreReplaced(t *testing.T) {
	root := t.TempDir()
	files := open(t, root, nil, nil)
	put(t, root, "/etc/victim", "precious")
	link(t, root, "../victim", "/etc/sysctl.d/link.conf")
	if err := os.Mkdir(filepath.Join(root, "etc/sysctl.d/dir.conf"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(root, "etc/sysctl.d/fifo.conf"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, what := range map[string]string{"link": "symbolic link", "dir": "directory", "fifo": "special file"} {
		err := files.WriteFile("/etc/sysctl.d/"+name+".conf", []byte("x"), owned(0o644))
		if err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", name, err)
		}
		if name != "dir" {
			if err := files.SetAttr("/etc/sysctl.d/"+name+".conf", owned(0o600)); err == nil {
				t.Errorf("the mode of a %s was set", what)
			}
		}
	}
	if found := tree(t, root); len(found) != 1 || found["/etc/victim"] != "precious" {
		t.Errorf("found %v", found)
	}
}

func TestProtectedAndUncleanPathsAreRefusedByEveryChange(t *testing.T) {
	root := t.TempDir()
	put(t, root, "/etc/pam.d/sudo", "auth")
	var recorder system.Recorder
	files := open(t, root, recorder.Gate, nil)
	for _, name := range []string{
		"/etc/pam.d/sudo", "/etc/pam.d/new", "/etc/sudoers", "/var/lib/soe-agent", "etc/x", "/etc/../etc/pam.d/sudo", "/etc/x/", "",
		"/etc/skylight.conf", "/etc/wspdcvhostadapter/default.perm", "/etc/gdm/custom.conf", "/etc/gdm3/custom.conf", "/bin/Xorg", "/etc/alternatives/X",
		"/etc/authselect/user-nsswitch.conf", "/etc/sssd/pki/x.pem", "/etc/network/interfaces.d/x", "/var/lib/dpkg/diversions",
		"/etc/systemd/system/gdm.service", "/etc/systemd/system/graphical.target.wants/dcvserver.service",
	} {
		for verb, err := range map[string]error{
			"write":  files.WriteFile(name, nil, owned(0o644)),
			"link":   files.Symlink("x", name),
			"attr":   files.SetAttr(name, owned(0o777)),
			"append": files.AppendFile(name, nil),
			"sync":   files.Sync(name),
		} {
			if err == nil {
				t.Errorf("%s of %q is allowed", verb, name)
			}
		}
	}
	for _, name := range []string{"/etc/pam.d/sudo", "/etc/../etc/pam.d/sudo"} {
		if err := files.Remove(name); err == nil {
			t.Errorf("%q may be removed", name)
		}
	}
	for _, name := range []string{"/etc/pam.d/x", "/etc/samba", "relative"} {
		if err := files.MkdirAll(name, 0o755); err == nil {
			t.Errorf("the directory %q may be made", name)
		}
	}
	if changes := recorder.Changes(); len(changes) > 0 {
		t.Errorf("changed: %v", changes)
	}
}

func TestNoLinkLeadsOutOfTheRoot(t *testing.T) {
	root, outside := t.TempDir(), t.TempDir()
	put(t, outside, "/secret", "secret")
	files := open(t, root, nil, nil)
	up := strings.Repeat("../", 30)
	link(t, root, up+outside, "/etc/sysctl.d")
	link(t, root, outside, "/etc/absolute.d")
	for _, dir := range []string{"/etc/sysctl.d", "/etc/absolute.d"} {
		if content, err := files.ReadFile(dir + "/secret"); err == nil {
			t.Errorf("read %q", content)
		}
		for verb, err := range map[string]error{
			"write":  files.WriteFile(dir+"/new", []byte("x"), owned(0o644)),
			"link":   files.Symlink("x", dir+"/new"),
			"attr":   files.SetAttr(dir+"/secret", owned(0o777)),
			"mkdir":  files.MkdirAll(dir+"/new/dir", 0o755),
			"remove": ignoreAbsent(files.Remove(dir + "/secret")),
		} {
			if err == nil {
				t.Errorf("%s through %s", verb, dir)
			}
		}
	}
	if diff := cmp.Diff(map[string]string{"/secret": "secret"}, tree(t, outside)); diff != "" {
		t.Errorf("outside (-want +got):\n%s", diff)
	}
}

// ignoreAbsent: removing what cannot be reached from the root is no error, because it does not
// exist.
func ignoreAbsent(err error) error {
	if err == nil {
		return fs.ErrNotExist
	}
	return err
}

// A hostile user who owns a directory on the way replaces it with a link while the agent works.
func TestAParentThatBecomesALinkMeanwhileDoesNotLeadOut(t *testing.T) {
	outside := t.TempDir()
	put(t, outside, "/60-soe.conf", "outside")
	for _, op := range []string{"create", "write", "chown", "chmod", "sync", "rename"} {
		root := t.TempDir()
		put(t, root, dropin, "old")
		gate := func(c system.Change) error {
			if c.Op == op {
				if err := os.Rename(filepath.Join(root, "etc/sysctl.d"), filepath.Join(root, "etc/moved")); err == nil {
					link(t, root, outside, "/etc/sysctl.d")
				}
			}
			return nil
		}
		if err := open(t, root, gate, nil).WriteFile(dropin, []byte("new"), owned(0o644)); err == nil {
			t.Errorf("swapped before %s: no error", op)
		}
		if diff := cmp.Diff(map[string]string{"/60-soe.conf": "outside"}, tree(t, outside)); diff != "" {
			t.Fatalf("swapped before %s: outside (-want +got):\n%s", op, diff)
		}
	}
}

func TestAFileThatBecomesALinkMeanwhileKeepsItsTargetsMode(t *testing.T) {
	root := t.TempDir()
	put(t, root, dropin, "x")
	put(t, root, "/etc/shadow", "secret")
	if err := os.Chmod(filepath.Join(root, "etc/shadow"), 0o600); err != nil {
		t.Fatal(err)
	}
	gate := func(system.Change) error {
		if err := os.Remove(filepath.Join(root, dropin)); err != nil {
			t.Error(err)
		}
		link(t, root, "../shadow", dropin)
		return nil
	}
	err := open(t, root, gate, nil).SetAttr(dropin, owned(0o666))
	info, _ := open(t, root, nil, nil).Stat("/etc/shadow")
	if err == nil || info.Mode != 0o600 {
		t.Errorf("%v; the target has mode %o", err, info.Mode)
	}
}

func TestAbsoluteLinksAreFollowedFromTheRootWhenReading(t *testing.T) {
	root := t.TempDir()
	files := open(t, root, nil, nil)
	put(t, root, "/usr/lib/systemd/system/a.service", "[Unit]")
	link(t, root, "/usr/lib/systemd/system/a.service", "/etc/systemd/system/alias.service")
	link(t, root, "/usr/lib", "/lib")
	link(t, root, "systemd/system", "/usr/lib/units")
	link(t, root, "/loop/b", "/loop/a")
	link(t, root, "/loop/a", "/loop/b")
	for _, name := range []string{"/etc/systemd/system/alias.service", "/lib/systemd/system/a.service", "/lib/units/a.service"} {
		if content, err := files.ReadFile(name); err != nil || string(content) != "[Unit]" {
			t.Errorf("%s: %q, %v", name, content, err)
		}
	}
	if info, err := files.Stat("/lib/units/a.service"); err != nil || !info.IsRegular() {
		t.Errorf("%+v, %v", info, err)
	}
	if info, err := files.Stat("/lib"); err != nil || info.Type != fs.ModeSymlink {
		t.Errorf("Stat followed the last link: %+v, %v", info, err)
	}
	if target, err := files.Readlink("/lib/units"); err != nil || target != "systemd/system" {
		t.Errorf("%q, %v", target, err)
	}
	if names, err := files.ReadDir("/lib/systemd"); err != nil || !slices.Equal(names, []string{"system"}) {
		t.Errorf("%v, %v", names, err)
	}
	if _, err := files.ReadFile("/loop/a"); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a loop: %v", err)
	}
	if _, err := files.ReadFile("/lib/none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what is not there: %v", err)
	}
}

func TestReadingNeitherBlocksNorSwallowsTheMachine(t *testing.T) {
	root := t.TempDir()
	files := open(t, root, nil, nil)
	if err := syscall.Mkfifo(filepath.Join(root, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	put(t, root, "/large", "")
	if err := os.Truncate(filepath.Join(root, "large"), 64<<20+1); err != nil {
		t.Fatal(err)
	}
	for name, why := range map[string]string{"/fifo": "not a regular file", "/large": "larger than 64 MiB", "/": "not a regular file", "/none": "no such file"} {
		if _, err := files.ReadFile(name); err == nil || !strings.Contains(err.Error(), why) || !strings.HasPrefix(err.Error(), "cannot read "+name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := files.ReadDir("/fifo"); err == nil {
		t.Error("a FIFO is listed")
	}
}

func TestALinkReplacesALinkOrAFileAtOnce(t *testing.T) {
	root := t.TempDir()
	files := open(t, root, nil, nil)
	put(t, root, "/etc/localtime", "a copy")
	for _, target := range []string{"../usr/share/zoneinfo/UTC", "/usr/share/zoneinfo/Europe/Berlin"} {
		if err := files.Symlink(target, "/etc/localtime"); err != nil {
			t.Fatal(err)
		}
		if got, err := files.Readlink("/etc/localtime"); err != nil || got != target {
			t.Errorf("%q, %v", got, err)
		}
	}
	if err := files.MkdirAll("/etc/dir", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := files.Symlink("x", "/etc/dir"); err == nil {
		t.Error("a directory was replaced by a link")
	}
	if err := open(t, root, system.FailNth(2), nil).Symlink("x", "/etc/localtime"); err == nil {
		t.Error("no fault")
	}
	names, _ := files.ReadDir("/etc")
	if diff := cmp.Diff([]string{"dir", "localtime"}, names); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestWhatIsNotThereIsRemovedAlready(t *testing.T) {
	root := t.TempDir()
	var recorder system.Recorder
	keeper := &notes{}
	files := open(t, root, recorder.Gate, keeper)
	for _, name := range []string{"/etc/none", "/none/none"} {
		if err := files.Remove(name); err != nil {
			t.Error(err)
		}
	}
	if err := files.SetAttr("/etc/none", owned(0o600)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("SetAttr: %v", err)
	}
	if changes := recorder.Changes(); len(changes)+len(keeper.kept) > 0 {
		t.Errorf("changed %v, kept %v", changes, keeper.kept)
	}
	put(t, root, "/etc/full/x", "")
	if err := files.Remove("/etc/full"); err == nil {
		t.Error("a directory that is not empty was removed")
	}
	if err := errors.Join(files.Remove("/etc/full/x"), files.Remove("/etc/full")); err != nil {
		t.Error(err)
	}
}

func TestADirectoryGetsItsModeAndItsParentsTheirs(t *testing.T) {
	root := t.TempDir()
	files := open(t, root, nil, nil)
	if err := os.Mkdir(filepath.Join(root, "var"), 0o711); err != nil {
		t.Fatal(err)
	}
	if err := files.MkdirAll("/var/lib/soe-agent", 0o700); err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]fs.FileMode{"/var": 0o711, "/var/lib": 0o755, "/var/lib/soe-agent": 0o700} {
		if info, err := files.Stat(name); err != nil || info.Mode != mode {
			t.Errorf("%s has mode %o, want %o (%v)", name, info.Mode, mode, err)
		}
	}
	put(t, root, "/file", "")
	link(t, root, "var", "/link")
	link(t, root, "none", "/dangling")
	if err := files.MkdirAll("/link/run", 0o755); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"/file", "/file/x", "/dangling"} {
		if err := files.MkdirAll(name, 0o755); err == nil {
			t.Errorf("%s was made", name)
		}
	}
}

func TestOnlyTheAgentsOwnFilesGrow(t *testing.T) {
	root := t.TempDir()
	files := open(t, root, nil, nil)
	const name = "/var/lib/soe-agent/ledger.jsonl"
	if err := files.Sync(name); err != nil {
		t.Errorf("nothing was appended yet: %v", err)
	}
	for _, text := range []string{"a", "b"} {
		if err := errors.Join(files.AppendFile(name, []byte(text)), files.Sync(name)); err != nil {
			t.Fatal(err)
		}
	}
	if content, _ := files.ReadFile(name); string(content) != "ab" {
		t.Errorf("%q", content)
	}
	if info, _ := files.Stat(name); info.Mode != 0o600 {
		t.Errorf("mode %o", info.Mode)
	}
}

// notes is a BackupStore that records the calls.
type notes struct {
	kept   []string
	refuse error
}

func (n *notes) Backup(name string, old *system.Original) error {
	text := name + ": nothing"
	if old != nil {
		text = fmt.Sprintf("%s: %s%s %o", name, old.Content, old.Link, old.Info.Mode)
	}
	n.kept = append(n.kept, text)
	return n.refuse
}

func TestTheKeeperIsToldOnceBeforeEachChangeOfWhatIsNotTheAgents(t *testing.T) {
	root := t.TempDir()
	put(t, root, dropin, "theirs")
	link(t, root, "a", "/etc/link")
	keeper := &notes{}
	files := open(t, root, nil, keeper)
	if err := errors.Join(
		files.WriteFile(dropin, []byte("ours"), owned(0o600)),
		files.WriteFile("/etc/new.d/x", nil, owned(0o600)),
		files.Symlink("b", "/etc/link"),
		files.SetAttr(dropin, owned(0o640)),
		files.Remove(dropin),
		files.WriteFile("/var/lib/soe-agent/state", nil, owned(0o600)),
		files.WriteFile("/run/soe-agent/report.json", nil, owned(0o644)),
	); err != nil {
		t.Fatal(err)
	}
	want := []string{dropin + ": theirs 644", "/etc/new.d/x: nothing", "/etc/link: a 777", dropin + ": ours 600", dropin + ": ours 640"}
	if diff := cmp.Diff(want, keeper.kept); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestWhatCannotBeKeptIsNotChanged(t *testing.T) {
	root := t.TempDir()
	put(t, root, dropin, "theirs")
	full := errors.New("the disk is full")
	files := open(t, root, nil, &notes{refuse: full})
	for _, err := range []error{files.WriteFile(dropin, nil, owned(0o600)), files.Remove(dropin), files.Symlink("x", dropin), files.SetAttr(dropin, owned(0))} {
		if !errors.Is(err, full) {
			t.Errorf("got %v", err)
		}
	}
	if diff := cmp.Diff(map[string]string{dropin: "theirs"}, tree(t, root)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAReadOnlySystemChangesNothing(t *testing.T) {
	root := t.TempDir()
	put(t, root, dropin, "old")
	before := tree(t, root)
	files := open(t, root, system.ReadOnly, nil)
	for verb, err := range map[string]error{
		"write":  files.WriteFile(dropin, []byte("new"), owned(0o644)),
		"own":    files.WriteFile("/var/lib/soe-agent/x", nil, owned(0o644)),
		"append": files.AppendFile("/run/soe-agent/x", nil),
		"link":   files.Symlink("x", "/etc/link"),
		"attr":   files.SetAttr(dropin, owned(0o600)),
		"mkdir":  files.MkdirAll("/new", 0o755),
		"remove": files.Remove(dropin),
	} {
		if !errors.Is(err, system.ErrReadOnly) {
			t.Errorf("%s: %v", verb, err)
		}
	}
	if diff := cmp.Diff(before, tree(t, root)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if names, _ := files.ReadDir("/"); !slices.Equal(names, []string{"etc"}) {
		t.Errorf("found %v", names)
	}
}

func TestTheRecorderNotesWhatHappened(t *testing.T) {
	var recorder system.Recorder
	files := open(t, t.TempDir(), recorder.Gate, nil)
	if err := files.WriteFile("/etc/x.d/y", nil, owned(0o600)); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range recorder.Changes() {
		got = append(got, c.String())
	}
	want := []string{
		"mkdir /etc", "sync /", "mkdir /etc/x.d", "sync /etc", "create /etc/x.d/.y.soe.swp", "write /etc/x.d/.y.soe.swp",
		"chown /etc/x.d/.y.soe.swp", "chmod /etc/x.d/.y.soe.swp", "label /etc/x.d/.y.soe.swp", "sync /etc/x.d/.y.soe.swp",
		"rename /etc/x.d/y", "sync /etc/x.d",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if again := recorder.Changes(); len(again) > 0 {
		t.Errorf("again: %v", again)
	}
}

func TestReadersSeeTheOldOrTheNewFileWhole(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	files := open(t, root, nil, nil)
	versions := []string{strings.Repeat("a", 100_000), strings.Repeat("b", 50_000)}
	put(t, root, dropin, versions[0])
	var done atomic.Bool
	torn := make(chan string, 1)
	go func() {
		defer close(torn)
		for !done.Load() {
			if content, err := os.ReadFile(filepath.Join(root, dropin)); err != nil || !slices.Contains(versions, string(content)) {
				torn <- fmt.Sprint(len(content), err)
				return
			}
		}
	}()
	for i := range 50 {
		if err := files.WriteFile(dropin, []byte(versions[i%2]), owned(0o644)); err != nil {
			t.Error(err)
		}
	}
	done.Store(true)
	if what := <-torn; what != "" {
		t.Errorf("a reader saw %s", what)
	}
}

func TestARootMustBeADirectoryWithAFullName(t *testing.T) {
	for _, root := range []string{"relative", "/does/not/exist"} {
		if _, err := system.Open(system.Options{Root: root}); err == nil {
			t.Errorf("%s was opened", root)
		}
	}
	for _, root := range []string{"", "/", "//", "/."} {
		s, err := system.Open(system.Options{Root: root, Gate: system.ReadOnly})
		if err != nil || !s.Running() {
			t.Errorf("%q is not the running machine (%v)", root, err)
		}
	}
}

func TestOfAMachineThatDoesNotRunThereIsNothingToAskOfSystemd(t *testing.T) {
	s, err := system.Open(system.Options{Root: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Units.Unit(t.Context(), "a.service"); !errors.Is(err, system.ErrNotRunning) {
		t.Errorf("got %v", err)
	}
	if sessions, err := s.Sessions.List(t.Context()); err != nil || len(sessions) > 0 {
		t.Errorf("got %v, %v", sessions, err)
	}
	if start := time.Now(); s.Clock.Now().Before(start) {
		t.Error("the clock is behind")
	}
}

func TestADirectoryMovesWholeAndReplacesNothing(t *testing.T) {
	root := t.TempDir()
	for _, name := range []string{"home/a/deep/file", "srv/there/file", "home/file"} {
		file := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(name), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	files := open(t, root, nil, nil)
	if err := files.MoveDir("/home/a", "/srv/there"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over another one: %v", err)
	}
	if err := files.MoveDir("/home/none", "/srv/a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("one that is not there: %v", err)
	}
	if err := files.MoveDir("/home/file", "/srv/a"); err == nil {
		t.Error("a file is moved")
	}
	for from, to := range map[string]string{"/home/a": "/etc/pam.d/a", "/usr/lib/skylight": "/srv/a"} {
		if err := files.MoveDir(from, to); err == nil || !strings.Contains(err.Error(), "WorkSpaces") {
			t.Errorf("%s to %s: %v", from, to, err)
		}
	}
	if err := files.MoveDir("/home/a", "/srv/a"); err != nil {
		t.Error(err)
	}
	if content, err := files.ReadFile("/srv/a/deep/file"); err != nil || string(content) != "home/a/deep/file" {
		t.Errorf("%q, %v", content, err)
	}
}

func TestTheGuardedDoorChangesWhatOthersMayDoWithTheFilesOfAccountsAndReplacesALinkInOneStep(t *testing.T) {
	root := t.TempDir()
	for _, name := range []string{"/etc/passwd", "/etc/gshadow", "/etc/sudoers", "/etc/target"} {
		put(t, root, name, "theirs")
	}
	if err := os.Symlink("target", filepath.Join(root, "etc/motd")); err != nil {
		t.Fatal(err)
	}
	s, err := system.Open(system.Options{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	for name, may := range map[string]bool{"/etc/passwd": true, "/etc/gshadow": true, "/etc/sudoers": false} {
		info, err := s.FS.Describe(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.FS.ChangeAttr(name, info, owned(0o600)); err == nil {
			t.Errorf("every door leads to %s", name)
		}
		if err := s.Guarded.SetAttr(name, owned(0o600)); err == nil {
			t.Errorf("%s is changed without having been looked at", name)
		}
		if err := s.Guarded.ChangeAttr(name, info, owned(0o600)); (err == nil) != may {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := s.FS.WriteFile("/etc/motd", []byte("ours"), owned(0o600)); err == nil {
		t.Error("every door replaces a link")
	}
	if err := s.Guarded.WriteFile("/etc/motd", []byte("ours"), owned(0o600)); err != nil {
		t.Error(err)
	}
	for name, want := range map[string]string{"/etc/motd": "ours", "/etc/target": "theirs"} {
		if content, err := s.FS.ReadFile(name); err != nil || string(content) != want {
			t.Errorf("%s holds %q, %v", name, content, err)
		}
	}
}

func TestOnlyTheGuardedDoorLeadsToTheConfigurationOfSSHDAndNowhereElse(t *testing.T) {
	const config = "/etc/ssh/sshd_config"
	root := t.TempDir()
	for _, name := range []string{config, "/etc/passwd", "/etc/sudoers", "/etc/pam.d/sshd"} {
		put(t, root, name, "theirs")
	}
	s, err := system.Open(system.Options{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	for door, files := range map[string]system.FS{"of all": s.FS, "of rights": s.Rights.FS} {
		if err := files.WriteFile(config, []byte("ours"), owned(0o600)); err == nil {
			t.Errorf("the door %s leads to it", door)
		}
	}
	if err := s.Guarded.WriteFile(config, []byte("ours"), owned(0o600)); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"/etc/passwd", "/etc/sudoers", "/etc/pam.d/sshd", "/etc/ssh/sshd_config/x"} {
		if err := s.Guarded.WriteFile(name, []byte("ours"), owned(0o600)); err == nil {
			t.Errorf("it leads to %s", name)
		}
	}
}
