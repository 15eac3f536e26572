package packages

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

func TestARepositoryThatIsDownBlocksNoOther(t *testing.T) {
	for code := range 2 {
		withoutRepositories(t, code)
	}
}

// withoutRepositories tests repositories that are down; yum's shell exits with code then.
func withoutRepositories(t *testing.T, code int) {
	t.Helper()
	d := newDesk(t, world{
		installed:  map[string]string{"git": "1.0-1"},
		repository: map[string][]string{"a": {"1.0-1"}, "git": {"1.0-1", "2.0-1"}},
	})
	d.downCode = code
	d.dead = []string{"epel", "vendor"} // the policy does not declare them
	k := d.kind(map[string]policy.Package{"a": {Ensure: "present"}, "git": {Ensure: "latest"}, "lost": {Ensure: "present"}})
	const left = `without the repository %, which cannot be reached (http://repo.example:82/repodata/repomd.xml: [Errno 14] curl#7 - "Failed to connect to repo.example port 82: Connection refused")`
	same(t, "the reasons", repair(t, k), map[string]string{
		"lost": "cannot install lost: No package lost available.; it was tried " +
			strings.ReplaceAll(left, "%", "epel") + "; " + strings.ReplaceAll(left, "%", "vendor"),
	})
	same(t, "what is installed", d.installed, map[string]string{"a": "1.0-1", "git": "2.0-1"})

	ran := len(d.ran)
	d.clock.now = d.clock.now.Add(doubtKept - time.Second)
	k.updates.until = time.Time{}
	if _, states := check(t, k); !strings.HasPrefix(states["git"], "unknown: it cannot be told whether there is a newer one: it was asked without the repository epel, which") {
		t.Errorf("git is %s", states["git"])
	}
	if asked := d.ran[ran:]; len(asked) != 1 || !strings.Contains(asked[0], "--disablerepo=epel --disablerepo=vendor check-update") {
		t.Errorf("soon after, what is down was asked again: %q", asked)
	}
	d.dead = nil
	d.clock.now = d.clock.now.Add(doubtKept)
	if _, states := check(t, k); states["git"] != "compliant" {
		t.Errorf("when all are back git is %s", states["git"])
	}
}

func TestARepositoryThatWasLeftOutMakesNoTransactionHopeless(t *testing.T) {
	m := manager{down: map[string]outage{"vendor": {said: "Failed to download metadata for repo 'vendor'"}}}
	out := m.withOutages(said(1, "", "Error: nothing provides a needed by b"), nil)
	if hopeless(out) {
		t.Errorf("it is given up: %s", out.Stderr)
	}
	if out.Stderr = append(out.Stderr, "\nFailed to download metadata for repo 'soe'"...); !hopeless(out) {
		t.Error("it is not given up when another is down")
	}
}

func TestARepositoryThatThePolicyNeedsIsNotLeftOut(t *testing.T) {
	no := false
	p := &policy.Policy{Resources: []policy.Resource{{ID: "repository/dead", Spec: policy.Repository{
		Ensure: policy.Present, RepositorySettings: policy.RepositorySettings{SkipIfUnavailable: &no},
	}}}}
	m := newManager(p, newDesk(t, world{}).system, patience)
	const failed = "Error: Failed to download metadata for repo 'REPO': Cannot download repomd.xml"
	var asked []string
	out, err := m.reaching(func(without []string) (system.Output, error) {
		asked = append(asked, strings.Join(without, " "))
		return said(1, "", strings.Replace(failed, "REPO", []string{"vendor", "dead"}[len(without)], 1)), nil
	})
	if err != nil || !slices.Equal(asked, []string{"", "--disablerepo=vendor"}) || !strings.Contains(reason(out), "for repo 'dead'") || !hopeless(out) {
		t.Errorf("asked %q: %s, %v", asked, out.Stderr, err)
	}
}

func TestARepositoryThatDnfWentOnWithoutIsInTheReasonAndInTheDoubt(t *testing.T) {
	const dnf = `Errors during downloading metadata for repository 'forged':
  - Downloading successful, but checksum doesn't match. Calculated: 3b(sha256)  Expected: d9(sha256)
Error: Failed to download metadata for repo 'forged': Cannot download repomd.xml: All mirrors were tried
Errors during downloading metadata for repository 'dead':
  - Curl error (7): Couldn't connect to server for http://127.0.0.1:1/repodata/repomd.xml
  - Curl error (7): Couldn't connect to server for http://127.0.0.2:1/repodata/repomd.xml
Error: Failed to download metadata for repo 'dead': Cannot download repomd.xml: All mirrors were tried
Ignoring repositories: dead, forged
`
	const left = "without the repository dead, which cannot be reached (Curl error (7): Couldn't connect to server for http://127.0.0.1:1/repodata/repomd.xml); " +
		"without the repository forged, which cannot be reached (Downloading successful, but checksum doesn't match. Calculated: 3b(sha256)  Expected: d9(sha256))"
	m := manager{system: newDesk(t, world{}).system, down: map[string]outage{}}
	out, err := m.reaching(func([]string) (system.Output, error) {
		return said(1, "", dnf+"Error: Unable to find a match: tool\n"), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "the reason", reason(out), "Unable to find a match: tool; it was tried "+left)
	same(t, "the doubt", stale(out), "it was asked "+left)
}

func TestTheRepositoryThatIsDownIsFoundInWhatYumAndDnfSay(t *testing.T) {
	for text, want := range map[string]string{
		"failure: repodata/repomd.xml from dead: [Errno 256] No more mirrors to try.\n":                                         "dead",
		"failure: repodata/filelists.sqlite.bz2 from amzn2-core: [Errno 256] No more mirrors to try.\n":                         "amzn2-core",
		"\n\n One of the configured repositories failed (A name),\n            yum --disablerepo=corp ...\n":                    "corp",
		"Cannot find a valid baseurl for repo: amzn2-core/2/x86_64\n":                                                           "amzn2-core",
		"Cannot retrieve metalink for repository: epel/x86_64. Please verify its path and try again\n":                          "epel",
		"Error: Cannot retrieve repository metadata (repomd.xml) for repository: corp. Please verify its path and try again\n":  "corp",
		"Error: Failed to download metadata for repo 'soe-test': Cannot download repomd.xml\n":                                  "soe-test",
		"Error: Failed to download metadata for repo 'soe-test': Cannot download repomd.xml\nIgnoring repositories: soe-test\n": "",
		"failure: soe-pkg-01-1.0-1.noarch.rpm from corp: [Errno 256] No more mirrors to try.\n":                                 "",
		"No package x available.\n": "",
	} {
		if got, _ := outageIn(said(1, "", text)); got != want {
			t.Errorf("%q is an outage of %q", text, got)
		}
	}
}

// at makes a desk's machine look as if it were running, with files of /proc and /sys.
func (d *desk) at(files map[string]string) manager {
	for name, content := range files {
		d.write(name, content)
	}
	return manager{system: d.system, patience: patience, down: map[string]outage{}}
}

func TestWhoeverHoldsTheLockIsNamedWithoutPasswords(t *testing.T) {
	d := newDesk(t, world{})
	m := d.at(map[string]string{"/proc/4077/cmdline": "/usr/bin/python\x00/usr/bin/yum\x00-y\x00install\x00http://me:secret@h/" + strings.Repeat("x", 200) + "\x00"})
	want := "process 4077, /usr/bin/python /usr/bin/yum -y install http://‹secret›@h/"
	if got := m.process(4077); !strings.HasPrefix(got, want) || len(got) > 110 || !strings.HasSuffix(got, "…") {
		t.Error(got)
	}
}

func TestALockOfYumCountsOnlyWhileAPackageManagerHoldsIt(t *testing.T) {
	for command, held := range map[string]bool{
		"/usr/bin/python\x00/usr/bin/yum\x00-y\x00update\x00":                       true,
		"/usr/bin/python2.7\x00-tt\x00/usr/bin/package-cleanup\x00--cleandupes\x00": true,
		"/usr/bin/yum-cron\x00":                                  true,
		"/usr/lib/systemd/systemd\x00--switched-root\x00":        false,
		"/usr/bin/python3\x00/usr/bin/firewalld\x00--nofork\x00": false,
		"": false,
	} {
		d := newDesk(t, world{})
		m := d.at(map[string]string{yumPIDFile: "4077\n", "/proc/4077/cmdline": command})
		if got := m.yumHolder() != 0; got != held {
			t.Errorf("%q holds the lock: %t", command, got)
		}
		if _, err := os.Stat(filepath.Join(d.root, yumPIDFile)); (err == nil) != held {
			t.Errorf("for %q the lock is there: %t", command, err == nil)
		}
	}
	d := newDesk(t, world{})
	if m := d.at(map[string]string{yumPIDFile: "4077\n"}); m.yumHolder() != 0 {
		t.Error("a process that is gone holds the lock")
	}
}

// inGroups returns the files of /proc for processes. It maps each pid to its control group and
// command line.
func inGroups(processes map[string][2]string) map[string]string {
	files := map[string]string{"/proc/1/cgroup": "12:cpuset:/\n1:name=systemd:/init.scope\n0::/init.scope\n"}
	for pid, p := range processes {
		files["/proc/"+pid+"/cgroup"] = "12:cpuset:/\n1:name=systemd:" + p[0] + "\n0::" + p[0] + "\n"
		files["/proc/"+pid+"/cmdline"] = p[1]
		files["/proc/"+pid+"/stat"] = pid + " (a) b) S 1 1"
	}
	return files
}

const inScope = "/system.slice/soe-agent-packages.scope"

func TestProcessesThatAScriptHasLeftBehindHoldUpNobody(t *testing.T) {
	d := newDesk(t, world{})
	m := d.at(inGroups(map[string][2]string{
		"4077": {inScope, "/bin/sh\x00/var/tmp/rpm-tmp.LvfBv9\x001\x00"}, "4078": {inScope + "/below", "sleep\x008\x00"},
	}))
	d.units.looks, d.units.state = 1<<30, "active"
	state := func() scopeState {
		t.Helper()
		got, err := m.scopeState(t.Context(), scope)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if got := state(); got != scopeLingering {
		t.Errorf("a script is taken for a package manager: %d", got)
	}
	d.write("/proc/4079/cmdline", "/usr/bin/python\x00/usr/bin/yum\x00-y\x00shell\x00")
	d.write("/proc/4079/stat", "4079 (yum) S 1 1")
	d.write("/proc/4079/cgroup", "1:name=systemd:"+inScope+"/below\n")
	if got := state(); got != scopeBusy {
		t.Errorf("yum is taken for a script: %d", got)
	}
	d.write("/proc/4079/stat", "4079 (yum) Z 1 1") // a zombie: it has ended and was not reaped
	if got := state(); got != scopeLingering {
		t.Errorf("a process that has ended is waited for: %d", got)
	}
	d.system.Units = occupiedScope(d.units)
	if free, err := m.freeScope(t.Context()); err != nil || free != scope+"-2" {
		t.Errorf("the next transaction runs in %q, %v", free, err)
	}
}

func TestAScopeThatIsActiveAndHasNoProcessIsWaitedForByNobody(t *testing.T) {
	for name, process := range map[string][2]string{
		"nothing runs at all":                  {"/system.slice/other.service", "other\x00"},
		"a user has a group of the same name":  {"/user.slice/user-1000.slice/user@1000.service" + inScope, "yum\x00"},
		"another scope has a longer name":      {inScope[:len(inScope)-len(".scope")] + "-other.scope", "yum\x00"},
		"the one that ran in it is not reaped": {inScope, ""},
	} {
		d := newDesk(t, world{})
		m := d.at(inGroups(map[string][2]string{"4077": process}))
		if process[0] == inScope {
			d.write("/proc/4077/stat", "4077 (yum) Z 1 1")
		}
		d.units.looks, d.units.state = 1<<30, "active"
		d.system.Units = occupiedScope(d.units)
		began := d.clock.now
		free, err := m.freeScope(t.Context())
		if waited := d.clock.now.Sub(began); err != nil || free == "" || waited > time.Minute {
			t.Errorf("where %s the next transaction runs in %q, %v, after %s", name, free, err, waited)
		}
		d.write(ProgressFile, `{"phase":"installing","scope":"`+scope+`"}`)
		if p, there := ReadProgress(t.Context(), d.system); there {
			t.Errorf("where %s a transaction is under way: %s", name, p)
		}
	}
}

func TestWhatAKilledUpdateHasLeftIsMendedAndRpmIsAsked(t *testing.T) {
	d := newDesk(t, world{installed: map[string]string{"tool": "2.0-1", "kernel": "5.10-1"}})
	d.twice = map[string]string{"tool": "1.0-1", "kernel": "5.4-1"}
	m := d.at(map[string]string{
		yumState + "/transaction-all.2026-01-05.08:59.59": "install 0:tool-2.0-1.noarch\nerase 0:tool-1.0-1.noarch\n",
		"/usr/bin/yum": "", "/var/lib/rpm/__db.001": "environment",
	})
	if _, err := m.mendInterrupted(t.Context()); err == nil || !strings.Contains(err.Error(), "install yum-utils") {
		t.Errorf("without yum-utils: %v", err)
	}
	d.write("/usr/bin/package-cleanup", "")
	d.write("/usr/sbin/yum-complete-transaction", "")
	d.ran = nil
	if _, err := m.mendInterrupted(t.Context()); err != nil {
		t.Error(err)
	}
	d.ran = slices.DeleteFunc(d.ran, func(line string) bool { return strings.HasPrefix(line, "rpm -q") })
	same(t, "what ran", d.ran, []string{"package-cleanup -y --cleandupes", "yum-complete-transaction -y --cleanup-only"})
	if _, err := os.Stat(filepath.Join(d.root, "/var/lib/rpm/__db.001")); err != nil {
		t.Error("the environment of the database was removed")
	}
	d.ran = nil
	if _, err := m.mendInterrupted(t.Context()); err != nil || len(d.ran) != 1 {
		t.Errorf("with nothing to mend %q ran: %v", d.ran, err)
	}
}

func TestAKilledTransactionIsCompletedUnlessThatWouldDoHarm(t *testing.T) {
	for name, c := range map[string]struct {
		list      string
		age       time.Duration
		installed map[string]string
	}{
		"an installation":          {"install 0:a-1.0-1.noarch\ninstall 0:b-1.0-1.noarch\n", time.Minute, map[string]string{"mate-panel": "1-1", "a": "1.0-1", "b": "1.0-1"}},
		"what was meant long ago":  {"install 0:b-1.0-1.noarch\n", 48 * time.Hour, map[string]string{"mate-panel": "1-1", "a": "1.0-1"}},
		"what a clock ahead dates": {"install 0:b-1.0-1.noarch\n", -48 * time.Hour, map[string]string{"mate-panel": "1-1", "a": "1.0-1"}},
		"removal of the desktop":   {"erase 0:mate-panel-1-1.noarch\n", time.Minute, map[string]string{"mate-panel": "1-1", "a": "1.0-1"}},
		"update of the desktop":    {"install 0:mate-panel-2-1.noarch\nerase 0:mate-panel-1-1.noarch\n", time.Minute, nil},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t, world{installed: map[string]string{"a": "1.0-1", "mate-panel": "1-1"}})
			list := yumState + "/transaction-all.2026-01-05.08:59.59"
			m := d.at(map[string]string{list: c.list, "/usr/bin/yum-complete-transaction": ""})
			then := d.clock.now.Add(-c.age)
			if err := os.Chtimes(filepath.Join(d.root, list), then, then); err != nil {
				t.Fatal(err)
			}
			_, err := m.mendInterrupted(t.Context())
			if c.installed == nil { // the fake installs and then erases, and it must be noticed that a name has gone
				if err == nil || !strings.Contains(err.Error(), "mate-panel has gone") {
					t.Error(err)
				}
				return
			}
			if err != nil {
				t.Error(err)
			}
			same(t, "what is installed", d.installed, c.installed)
			if len(m.unfinished()) > 0 {
				t.Error("the list is still there")
			}
		})
	}
}

func TestTheProgressOfATransactionIsReadFromWhatItPrints(t *testing.T) {
	for line, want := range map[string]string{
		"  Installing : soe-pkg-07-2.0-1.noarch                                      7/40 ": "installing soe-pkg-07-2.0-1.noarch, 7 of 40",
		"  Updating   : soe-slow-2.0-1.noarch                                        1/2 ":  "installing soe-slow-2.0-1.noarch, 1 of 2",
		"  Cleanup    : soe-slow-1.0-1.noarch                                        2/2 ":  "cleaning up soe-slow-1.0-1.noarch, 2 of 2",
		"  Erasing    : soe-slow-1.0-1.noarch                                        1/1":   "removing soe-slow-1.0-1.noarch, 1 of 1",
		"  Verifying  : soe-slow-1.0-1.noarch                                        1/1":   "verifying soe-slow-1.0-1.noarch, 1 of 1",
		"  Running scriptlet: soe-slow-1.0-1.noarch                                  1/1 ":  "installing soe-slow-1.0-1.noarch, 1 of 1",
		"  Preparing        :                                                        1/1 ":  "preparing, 1 of 1",
		"(3/40): soe-pkg-03-2.0-1.noarch.rpm                  6.1 kB/s |  6.2 kB     00:01": "downloading soe-pkg-03-2.0-1.noarch, 3 of 40",
		"Downloading packages:": "downloading", "Downloading Packages:": "downloading",
		"Installed:": "preparing", "  soe-slow.noarch 0:1.0-1 ": "preparing", "Total download size: 6.2 k": "preparing",
	} {
		p := Progress{Phase: "preparing"}
		if p.read(line); p.String() != want {
			t.Errorf("%q is read as %q, not %q", line, p, want)
		}
	}
}

func TestATransactionIsFollowedOnWhereAnEarlierLifeWas(t *testing.T) {
	d := newDesk(t, world{})
	files := system.ScopeOutput(scope)
	m := d.at(map[string]string{files[0]: "  Installing : a-1.noarch 1/3 \n  Installing : b-1.noa", files[1]: ""})
	d.units.looks, d.units.state = 3, "active"
	f := m.newFollower(scope)
	f.look()
	if p, there := ReadProgress(t.Context(), d.system); !there || p.String() != "installing a-1.noarch, 1 of 3" {
		t.Errorf("the progress is %q, %t", p, there)
	}
	d.write(files[0], "  Installing : a-1.noarch 1/3 \n  Installing : b-1.noarch 2/3 \nhttp://me:pw@h/\n")
	ctx, cancel := context.WithCancel(t.Context())
	d.system.Clock = dying{d.clock, cancel} // the next process of the agent is killed soon
	FollowEarlier(ctx, &policy.Policy{}, d.system)
	if p, _ := lastProgress(d.system.FS); p.String() != "installing b-1.noarch, 2 of 3" || p.Seen[0] <= f.Seen[0] || !p.Since.Equal(f.Since) {
		t.Errorf("then the progress is %+v", p)
	}
	d.system.Clock = d.clock
	FollowEarlier(t.Context(), &policy.Policy{}, d.system)
	if p, there := lastProgress(d.system.FS); there || d.units.looks >= 0 {
		t.Errorf("after the end there still is %v", p)
	}
}

// dying is a clock whose first Sleep kills the agent.
type dying struct {
	*clock
	die func()
}

func (d dying) Sleep(ctx context.Context, t time.Duration) error {
	d.die()
	return d.clock.Sleep(ctx, t)
}

// occupied is a systemd with one scope that does not end.
type occupied struct {
	*units
	system.UnitJobs
	name string
}

func occupiedScope(u *units) system.Units {
	o := &occupied{units: u, name: scope + ".scope"}
	return system.Units{UnitStates: o, UnitJobs: o}
}

func (o *occupied) Stop(context.Context, string) error { return nil } // the scope stays as it is

func (o *occupied) Unit(_ context.Context, name string) (system.Unit, error) {
	if name == o.name {
		return system.Unit{ActiveState: "active"}, nil
	}
	return system.Unit{ActiveState: "inactive"}, nil
}

func TestTheDatabaseIsAskedAgainWhenAnythingOfItsIdentityChanges(t *testing.T) {
	d := newDesk(t, world{installed: map[string]string{"git": "1.0-1"}})
	k := d.kind(map[string]policy.Package{"git": {Ensure: "present"}})
	file := filepath.Join(d.root, "/var/lib/rpm/Packages")
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what   string
		change func() error
		asked  bool
	}{
		{"at first", func() error { return nil }, true},
		{"nothing", func() error { return nil }, false},
		{"the time", func() error { return os.Chtimes(file, time.Time{}, info.ModTime().Add(time.Nanosecond)) }, true},
		{"the size, at the same time", func() error {
			return errors.Join(os.WriteFile(file, append(content, '.'), 0o600), os.Chtimes(file, time.Time{}, info.ModTime().Add(time.Nanosecond)))
		}, true},
		{"the inode alone", func() error {
			return errors.Join(os.WriteFile(file+".new", append(content, '.'), 0o600),
				os.Chtimes(file+".new", time.Time{}, info.ModTime().Add(time.Nanosecond)), os.Rename(file+".new", file))
		}, true},
		{"the place", func() error { d.write("/usr/lib/sysimage/rpm/rpmdb.sqlite", "x"); return os.Remove(file) }, true},
		{"the environment of Berkeley DB, which readers write", func() error { d.write("/var/lib/rpm/__db.001", "x"); return nil }, false},
	} {
		if err := c.change(); err != nil {
			t.Fatal(err)
		}
		ran := len(d.ran)
		check(t, k)
		if asked := len(d.ran) > ran; asked != c.asked {
			t.Errorf("when there changes %s, rpm is asked: %t", c.what, asked)
		}
	}
}
