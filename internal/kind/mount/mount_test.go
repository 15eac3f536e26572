package mount_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/kind/faultwalk"
	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
	"github.com/soe-agent/soe-agent/internal/kind/mount"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

// tools fakes mount(8), findmnt(8) and systemd's generator, on a machine below a directory.
type tools struct {
	root    string
	gate    system.Gate
	busy    bool                             // mount has no effect
	findmnt func(fstab string) system.Output // nil: it reports no errors
	units   func(fstab string) string        // nil: the same text for every file
	before  func()                           // called while findmnt runs
	ran     *[]string
}

func (r tools) Run(_ context.Context, c system.Command) (system.Output, error) {
	fstab := string(c.Staged["/etc/fstab"])
	switch c.Argv[0] {
	case "findmnt":
		if r.before != nil {
			r.before()
		}
		if r.findmnt == nil {
			return system.Output{Stdout: []byte("Success, no errors or warnings detected\n")}, nil
		}
		return r.findmnt(fstab), nil
	case "sh":
		if r.units == nil {
			r.units = func(string) string { return "" }
		}
		return system.Output{Stdout: []byte("exit code 0\nOptions=" + fmt.Sprint(len(fstab)) + "\n" + r.units(fstab))}, nil
	case "mount":
		if err := r.gate(system.Change{Op: "run", Target: c.String()}); err != nil {
			return system.Output{}, err
		}
		*r.ran = append(*r.ran, c.String())
		if r.busy {
			return system.Output{ExitCode: 32, Stderr: []byte("mount: busy\n")}, nil
		}
		return system.Output{}, r.remount(c.Argv[len(c.Argv)-1], strings.Split(c.Argv[2], ",")[2:])
	}
	return system.Output{}, system.ErrNotInstalled
}

// remount acts as the kernel does: the flags become those named.
func (r tools) remount(point string, flags []string) error {
	name := filepath.Join(r.root, "proc/1/mountinfo")
	content, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	lines := strings.Split(string(content), "\n")
	for i, line := range lines {
		if fields := strings.Fields(line); len(fields) > 5 && fields[4] == point {
			fields[5] = strings.Join(slices.DeleteFunc(flags, func(f string) bool { return f == "strictatime" }), ",")
			lines[i] = strings.Join(fields, " ")
		}
	}
	return os.WriteFile(name, []byte(strings.Join(lines, "\n")), 0o644)
}

// units is a fake systemd that reads its files again.
type units struct {
	system.UnitFiles
	gate system.Gate
}

func (u units) Reload(context.Context) error {
	return u.gate(system.Change{Op: "reload", Target: "systemd"})
}

const (
	mountinfo = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/root rw,errors=remount-ro\n" +
		"23 22 0:20 / /dev rw,nosuid - devtmpfs udev rw\n" +
		"24 23 0:21 / /dev/shm rw - tmpfs tmpfs rw,size=1g\n" +
		"25 22 0:22 / /tmp rw,nosuid - tmpfs tmpfs rw,size=2g,mode=1777\n" +
		"26 22 8:2 / /var/log ro,noatime - xfs /dev/b rw,usrquota\n" +
		"27 22 8:1 /x /srv/x rw,relatime - ext4 /dev/root rw\n" +
		"28 22 0:30 / /srv/auto rw - autofs systemd-1 rw\n"
	fstab = "# by the installer\n/dev/root  /  ext4 defaults 1 1\n/dev/b /var/log\txfs\tnoatime,usrquota 0 2\n/dev/c /srv/two ext4 rw\n/dev/d /srv/two ext4 rw"
	tmp   = "[Unit]\nConditionPathIsSymbolicLink=!/tmp\n[Mount]\nWhat=tmpfs\nWhere=/tmp\nType=tmpfs\nOptions=mode=1777,strictatime,size=2g\n"

	everything = "[mounts.\"/dev/shm\"]\noptions = [\"noexec\", \"nodev\", \"nosuid\"]\n[mounts.\"/tmp\"]\noptions = [\"nodev\", \"nosuid\"]\n" +
		"[mounts.\"/var/log\"]\noptions = [\"nodev\", \"noexec\"]\n[mounts.\"/srv/x\"]\noptions = [\"nosuid\"]\n"
	dropin = "/etc/systemd/system/tmp.mount.d/zz-soe-agent-mounts.conf"
)

type machine struct {
	root  string
	image bool
	tools tools
	ran   []string
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	return &machine{root: kindtest.Root(t, map[string]string{
		"proc/1/mountinfo": mountinfo, "etc/fstab": fstab, "usr/lib/systemd/system/tmp.mount": tmp, "usr/lib/systemd/system-generators/systemd-fstab-generator": "",
	})}
}

func nothing(system.Change) error { return nil }

// pass runs a pass under a policy, with an agent that has just started.
func (m *machine) pass(t *testing.T, toml string, gate system.Gate) map[policy.ID]converge.Resource {
	t.Helper()
	if gate == nil {
		gate = nothing
	}
	ledger, p := kindtest.Ledger(t, m.root), kindtest.Policy(t, toml)
	s := kindtest.Open(t, system.Options{Root: m.root, Gate: gate, Backups: ledger})
	if !m.image {
		s.Root = "/"
	}
	runs := m.tools
	runs.root, runs.gate, runs.ran = m.root, gate, &m.ran
	s.Runner, s.Units = runs, system.Units{UnitFiles: units{gate: gate}}
	return kindtest.ByID(converge.New(p, []converge.Kind{mount.New(p, s, ledger)}, ledger, s.Clock, slog.New(slog.DiscardHandler)).Pass(t.Context()).Resources)
}

func want(t *testing.T, r converge.Resource, state converge.State, reason string) {
	t.Helper()
	if r.State != state || !strings.Contains(r.Reason, reason) || reason == "" && r.Reason != "" && state == converge.Compliant {
		t.Errorf("%s is %q: %q %v, and should be %s: %q", r.ID, r.State, r.Reason, r.Diff, state, reason)
	}
}

func (m *machine) holds(t *testing.T, name, content string) {
	t.Helper()
	if got := kindtest.Read(t, m.root, name); got != content {
		t.Errorf("%s holds\n%s\nand should hold\n%s", name, got, content)
	}
}

const (
	afterMountinfo = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/root rw,errors=remount-ro\n" +
		"23 22 0:20 / /dev rw,nosuid - devtmpfs udev rw\n" +
		"24 23 0:21 / /dev/shm rw,nodev,nosuid,noexec - tmpfs tmpfs rw,size=1g\n" +
		"25 22 0:22 / /tmp rw,nosuid,nodev - tmpfs tmpfs rw,size=2g,mode=1777\n" +
		"26 22 8:2 / /var/log ro,noatime,nodev,noexec - xfs /dev/b rw,usrquota\n" +
		"27 22 8:1 /x /srv/x rw,relatime,nosuid - ext4 /dev/root rw\n" +
		"28 22 0:30 / /srv/auto rw - autofs systemd-1 rw\n"
	afterFstab = "# by the installer\ntmpfs /dev/shm tmpfs nodev,nosuid,noexec 0 0\n/dev/root  /  ext4 defaults 1 1\n/dev/b /var/log\txfs\tnoatime,usrquota,nodev,noexec 0 2\n/dev/c /srv/two ext4 rw\n/dev/d /srv/two ext4 rw"
	afterTmp   = "# Written by soe-agent: see [mounts] of its policy.\n[Mount]\nOptions=mode=1777,strictatime,size=2g,nodev,nosuid\n"
)

func TestOptionsOfMountsAreInEffectAndAtBootAndNoOtherOptionIsLost(t *testing.T) {
	m := newMachine(t)
	found := m.pass(t, everything, nil)
	for _, id := range []policy.ID{"mount/dev/shm", "mount/tmp", "mount/var/log"} {
		want(t, found[id], converge.Corrected, "")
	}
	want(t, found["mount/srv/x"], converge.Corrected, "the agent remounts it when it starts")
	m.holds(t, "proc/1/mountinfo", afterMountinfo)
	m.holds(t, "etc/fstab", afterFstab)
	m.holds(t, dropin, afterTmp)
	if diff := cmp.Diff([]string{
		"mount -o remount,bind,rw,nodev,nosuid,noexec,strictatime tmpfs /dev/shm", "mount -o remount,bind,rw,relatime,nosuid /dev/root /srv/x",
		"mount -o remount,bind,rw,nosuid,nodev,strictatime tmpfs /tmp", "mount -o remount,bind,ro,noatime,nodev,noexec /dev/b /var/log",
	}, m.ran); diff != "" {
		t.Error(diff)
	}
	recorder := &system.Recorder{}
	for id, r := range m.pass(t, everything, recorder.Gate) {
		if r.State != converge.Compliant {
			t.Errorf("then %s is %s: %v", id, r.State, r.Diff)
		}
	}
	if changes := recorder.Changes(); len(changes) > 0 {
		t.Errorf("the second pass does %v", changes)
	}
}

func TestAMountThatIsRemountedWithoutItsOptionsIsPutRight(t *testing.T) {
	m := newMachine(t)
	m.pass(t, everything, nil)
	kindtest.Put(t, m.root, "proc/1/mountinfo", strings.Replace(afterMountinfo, ",noexec - tmpfs", " - tmpfs", 1))
	r := m.pass(t, everything, nil)["mount/dev/shm"]
	want(t, r, converge.Corrected, "")
	if diff := cmp.Diff([]converge.Difference{{Aspect: "noexec", Want: "in effect", Got: "not in effect"}}, r.Diff); diff != "" || r.Cause != converge.Corrective {
		t.Errorf("%s %s", r.Cause, diff)
	}
	m.holds(t, "proc/1/mountinfo", afterMountinfo)
	kindtest.Put(t, m.root, "etc/fstab", strings.Replace(strings.Replace(afterFstab, ",nodev,noexec", ",exec", 1), "tmpfs /dev/shm tmpfs nodev,nosuid,noexec 0 0\n", "", 1))
	kindtest.Put(t, m.root, dropin, "[Mount]\nOptions=exec\n")
	m.pass(t, everything, nil)
	m.holds(t, "etc/fstab", strings.Replace(afterFstab, "usrquota,", "usrquota,exec,", 1))
	m.holds(t, dropin, afterTmp)
}

func TestWhatLeavesThePolicyIsGivenBackUnlessSomebodyElseHasChangedItSince(t *testing.T) {
	m := newMachine(t)
	m.pass(t, everything, nil)
	m.pass(t, strings.Replace(everything, "\"noexec\", \"nodev\"", "\"nodev\"", 1), nil)
	m.holds(t, "proc/1/mountinfo", strings.Replace(afterMountinfo, "nosuid,noexec - tmpfs", "nosuid - tmpfs", 1))
	m.holds(t, "etc/fstab", strings.Replace(afterFstab, "nosuid,noexec 0 0", "nosuid 0 0", 1))
	m.pass(t, everything, nil)
	found := m.pass(t, "", nil)
	for id, r := range found {
		want(t, r, converge.Corrected, "")
		if len(found) != 4 {
			t.Errorf("%s is one of %d", id, len(found))
		}
	}
	m.holds(t, "proc/1/mountinfo", mountinfo)
	m.holds(t, "etc/fstab", fstab)
	if _, err := os.Stat(filepath.Join(m.root, dropin)); err == nil {
		t.Error("the drop-in is there still")
	}
	if backups, _ := os.ReadDir(filepath.Join(m.root, "var/lib/soe-agent/backups")); len(backups) != 0 || len(m.pass(t, "", nil)) != 0 {
		t.Error("it is still known")
	}

	m = newMachine(t)
	m.pass(t, everything, nil)
	const theirs = "/dev/shm tmpfs nodev,size=1m 0 0\n"
	kindtest.Put(t, m.root, "etc/fstab", strings.Replace(strings.Replace(afterFstab, "/dev/shm tmpfs nodev,nosuid,noexec 0 0\n", theirs, 1), "usrquota,", "grpquota,", 1)+"\n# new\n")
	m.pass(t, "", nil)
	m.holds(t, "etc/fstab", strings.Replace(strings.Replace(fstab, "/dev/root", "tmpfs "+theirs+"/dev/root", 1), "usrquota", "grpquota", 1)+"\n# new\n")
}

func TestAMachineWithoutFstabIsJudgedAndKeptAsOneWithAnEmptyOne(t *testing.T) {
	const shm, line = "[mounts.\"/dev/shm\"]\noptions = [\"nodev\", \"nosuid\", \"noexec\"]\n", "tmpfs /dev/shm tmpfs nodev,nosuid,noexec 0 0\n"
	looked := system.ReadOnly
	var found []converge.Resource
	for _, there := range []bool{false, true} {
		for _, image := range []bool{false, true} {
			m := newMachine(t)
			m.image = image
			name := filepath.Join(m.root, "etc/fstab")
			kindtest.Put(t, m.root, "etc/fstab", "")
			kindtest.Put(t, m.root, "proc/1/mountinfo", afterMountinfo) // so that nothing but the boot is wrong
			if !there {
				if err := os.Remove(name); err != nil {
					t.Fatal(err)
				}
			}
			planned := m.pass(t, shm, looked)["mount/dev/shm"]
			if diff := []converge.Difference{{Aspect: "boot", Want: "a line with the options in /etc/fstab", Got: "none such"}}; cmp.Diff(diff, planned.Diff) != "" {
				t.Errorf("there %v, image %v: it is %s: %v %s", there, image, planned.State, planned.Diff, planned.Reason)
			}
			found = append(found, m.pass(t, shm, nil)["mount/dev/shm"])
			want(t, found[len(found)-1], converge.Corrected, "")
			m.holds(t, "etc/fstab", line)
			if info, err := os.Stat(name); err != nil || info.Mode() != 0o644 {
				t.Errorf("%v %v", info.Mode(), err)
			}
			want(t, m.pass(t, shm, nil)["mount/dev/shm"], converge.Compliant, "")
			m.pass(t, "", nil)
			content, err := os.ReadFile(name)
			if there && (err != nil || len(content) > 0) || !there && !os.IsNotExist(err) {
				t.Errorf("there %v: given back it is %q, %v", there, content, err)
			}
			// What somebody has written into it meanwhile stays.
			m.pass(t, shm, nil)
			kindtest.Put(t, m.root, "etc/fstab", line+"/dev/b /srv xfs nodev 0 2\n")
			m.pass(t, "", nil)
			m.holds(t, "etc/fstab", "/dev/b /srv xfs nodev 0 2\n")
		}
	}
	for _, r := range found {
		if diff := cmp.Diff(found[0].Diff, r.Diff); diff != "" {
			t.Error(diff)
		}
	}
}

func TestWhatIsNoMountPointIsAFailureAndNothingIsMounted(t *testing.T) {
	m := newMachine(t)
	for toml, reason := range map[string]string{
		"[mounts.\"/var/tmp\"]\noptions = [\"nodev\"]\n":                    "/var/tmp is not a mount point of its own, and [mounts] mounts nothing",
		"[mounts.\"/srv/auto\"]\noptions = [\"nodev\"]\n":                   "is mounted when somebody goes there (autofs)",
		"[mounts.\"/var/tmp\"]\noptions = [\"nodev\"]\nif_mounted = true\n": "",
	} {
		for _, r := range m.pass(t, toml, nil) {
			if reason == "" {
				want(t, r, converge.Compliant, "as the policy allows")
			} else {
				want(t, r, converge.Failed, reason)
			}
		}
	}
	kindtest.Put(t, m.root, "proc/1/mountinfo", mountinfo+"30 22 8:3 / /srv/two rw - ext4 /dev/c rw\n31 22 8:3 / /few rw - ext4 /dev/c rw\n")
	kindtest.Put(t, m.root, "etc/fstab", fstab+"\n/dev/x /few\n")
	want(t, m.pass(t, "[mounts.\"/srv/two\"]\noptions = [\"nodev\"]\n", nil)["mount/srv/two"], converge.Failed, "has 2 lines for /srv/two")
	want(t, m.pass(t, "[mounts.\"/few\"]\noptions = [\"nodev\"]\n", nil)["mount/few"], converge.Failed, "is left alone: it names no options")
	m.holds(t, "etc/fstab", fstab+"\n/dev/x /few\n")
	if len(m.ran) > 0 {
		t.Errorf("it ran %q", m.ran)
	}
}

func TestInAnImageOnlyTheFilesForTheBootAreKept(t *testing.T) {
	m := newMachine(t)
	m.image = true
	found := m.pass(t, everything, nil)
	want(t, found["mount/var/log"], converge.Corrected, "")
	want(t, found["mount/srv/x"], converge.Compliant, "is seen when the machine runs")
	m.holds(t, "etc/fstab", afterFstab)
	m.holds(t, dropin, afterTmp)
	m.holds(t, "proc/1/mountinfo", mountinfo)
	if len(m.ran) > 0 {
		t.Errorf("it ran %q", m.ran)
	}
}

func TestARemountThatIsRefusedIsAFailureAndNotForced(t *testing.T) {
	m := newMachine(t)
	m.tools.busy = true
	want(t, m.pass(t, everything, nil)["mount/var/log"], converge.Failed, "mount(8) did not remount it: mount: busy")
}

func TestAFstabThatItsReadersWouldNotTakeIsNotWritten(t *testing.T) {
	wrong := func(fstab string) system.Output {
		if strings.Contains(fstab, "noexec") {
			return system.Output{ExitCode: 1, Stderr: []byte("0 parse errors, 2 errors, 1 warning\n")}
		}
		return system.Output{ExitCode: 1, Stderr: []byte("1 parse error, 0 errors, 0 warnings\n")}
	}
	for what, c := range map[string]struct {
		tools  tools
		reason string
	}{
		"findmnt finds more errors":   {tools{findmnt: wrong}, "it finds 2 errors in it, and 1 in what is there"},
		"findmnt says something else": {tools{findmnt: func(string) system.Output { return system.Output{} }}, "its answer cannot be understood"},
		"systemd makes other units":   {tools{units: func(fstab string) string { return fmt.Sprint(strings.Contains(fstab, "noexec")) }}, "its units would differ"},
	} {
		m := newMachine(t)
		m.tools = c.tools
		want(t, m.pass(t, "[mounts.\"/var/log\"]\noptions = [\"noexec\"]\n", nil)["mount/var/log"], converge.Failed, c.reason)
		m.holds(t, "etc/fstab", fstab)
		if !strings.Contains(kindtest.Read(t, m.root, "proc/1/mountinfo"), "noatime,noexec") {
			t.Errorf("%s: it is not in effect", what)
		}
	}
	m := newMachine(t)
	m.tools.findmnt = func(string) system.Output {
		return system.Output{ExitCode: 1, Stderr: []byte("findmnt: unrecognized option '--verify'\n")}
	}
	want(t, m.pass(t, everything, nil)["mount/var/log"], converge.Corrected, "")

	m = newMachine(t)
	m.tools.before = func() { kindtest.Put(t, m.root, "etc/fstab", fstab+"\n# theirs\n") }
	want(t, m.pass(t, "[mounts.\"/var/log\"]\noptions = [\"noexec\"]\n", nil)["mount/var/log"], converge.Failed, "somebody else has changed /etc/fstab in the meantime")
	m.holds(t, "etc/fstab", fstab+"\n# theirs\n")
}

func TestADropinForAUnitGoesOnceALineOfFstabMountsIt(t *testing.T) {
	m := newMachine(t)
	m.pass(t, everything, nil)
	kindtest.Put(t, m.root, "etc/fstab", afterFstab+"\n/dev/t /tmp ext4 rw 0 2\n")
	m.pass(t, everything, nil)
	m.holds(t, "etc/fstab", afterFstab+"\n/dev/t /tmp ext4 rw,nodev,nosuid 0 2\n")
	if _, err := os.Stat(filepath.Join(m.root, dropin)); err == nil {
		t.Error("the options of another file system are there still")
	}
	m = newMachine(t)
	kindtest.Put(t, m.root, "usr/lib/systemd/system/tmp.mount", strings.Replace(tmp, "Type=tmpfs", "Type=ext4", 1))
	want(t, m.pass(t, everything, nil)["mount/tmp"], converge.Corrected, "the agent remounts it when it starts")
	if _, err := os.Stat(filepath.Join(m.root, dropin)); err == nil {
		t.Error("a drop-in has options of a file system that is not in memory")
	}
}

func TestWhateverFailsFstabIsTheOldOrTheNewOneAndWhatMountsHadIsGivenBack(t *testing.T) {
	recorder := &system.Recorder{}
	newMachine(t).pass(t, everything, recorder.Gate)
	changes := len(recorder.Changes())
	for _, fails := range []func(int) system.Gate{system.FailNth, system.FailFrom} {
		for n := 1; n <= changes; n++ {
			m := newMachine(t)
			found := m.pass(t, everything, fails(n))
			got := kindtest.Read(t, m.root, "etc/fstab")
			half := strings.Replace(afterFstab, "tmpfs /dev/shm tmpfs nodev,nosuid,noexec 0 0\n", "", 1)
			if !slices.Contains([]string{fstab, afterFstab, half, strings.Replace(afterFstab, ",nodev,noexec 0 2", " 0 2", 1)}, got) {
				t.Errorf("change %d: /etc/fstab is\n%s", n, got)
			}
			if got != afterFstab && found["mount/dev/shm"].State.InLine() && found["mount/var/log"].State.InLine() {
				t.Errorf("change %d: all is called in line", n)
			}
			m.pass(t, everything, nil)
			m.holds(t, "etc/fstab", afterFstab)
			m.holds(t, "proc/1/mountinfo", afterMountinfo)
			m.pass(t, "", fails(n))
			m.pass(t, "", nil)
			m.holds(t, "etc/fstab", fstab)
			m.holds(t, "proc/1/mountinfo", mountinfo)
			if _, err := os.Stat(filepath.Join(m.root, dropin)); err == nil {
				t.Errorf("change %d: the drop-in is there still", n)
			}
		}
	}
}

func TestNoMountIsJudgedByALookThatFailed(t *testing.T) {
	scene := func(name, toml string, before string) faultwalk.Scene {
		// Each mount changes its own part of these files.
		passes := func(name string) bool { return name == "/proc/1/mountinfo" || name == "/etc/fstab" }
		return faultwalk.Scene{Name: name, Passes: passes, Build: func(t *testing.T, look system.Looker) faultwalk.Machine {
			m := newMachine(t)
			if before != "" {
				m.pass(t, before, nil)
			}
			ledger, p := kindtest.Ledger(t, m.root), kindtest.Policy(t, toml)
			s := kindtest.Open(t, system.Options{Root: m.root, Look: look, Backups: ledger})
			s.Root = "/"
			s.Runner, s.Units = faultwalk.Runner(tools{root: m.root, gate: nothing, ran: &m.ran}, look), system.Units{UnitFiles: units{gate: nothing}}
			k := mount.New(p, s, ledger)
			return faultwalk.Machine{Kind: k, Root: m.root, Engine: kindtest.Engine(p, k, ledger, s.Clock)}
		}}
	}
	faultwalk.Walk(t, "mount",
		scene("in line", everything, everything),
		scene("drifted", everything, ""),
		scene("with fewer options", "[mounts.\"/dev/shm\"]\noptions = [\"nodev\"]\n", everything),
		scene("not there", "[mounts.\"/var/tmp\"]\noptions = [\"nodev\"]\nif_mounted = true\n", ""),
		scene("there though wanted no more", "", everything),
	)
}
