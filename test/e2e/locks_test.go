package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/agent"
	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/test/box"
)

const rpmLock = "/var/lib/rpm/.rpm.lock"

// locks is a script of a user's that takes a lock of a sort on a file, and says so.
func locks(name, sort string) string {
	take := map[string]string{
		"flock": "fcntl.flock(f, fcntl.LOCK_SH)",
		"POSIX": "fcntl.lockf(f, fcntl.LOCK_SH)",
		"OFD":   `fcntl.fcntl(f, 37, struct.pack("hhqqi4x", fcntl.F_RDLCK, 0, 0, 0, 0))`,
	}[sort]
	return fmt.Sprintf(`exec python3 -u -c 'import fcntl, os, struct, time
f = os.open("%s", os.O_RDONLY)
%s
print("ready")
time.sleep(600)' --token=abc`, name, take)
}

func TestALockOfRpmsThatAUserHoldsIsNamedWaitedForAndClosedToOthers(t *testing.T) {
	t.Parallel()
	for _, sort := range []string{"POSIX", "OFD"} {
		t.Run(sort, func(t *testing.T) {
			t.Parallel()
			w := alone(t, "")
			d := &desktop{Box: w.Box, repo: w.repo}
			w.MustWriteFile(t, agent.ConfigFile, box.File{Content: "[schedule]\nlock_timeout = \"2s\"\nverify = \"10s\"\n"})
			w.MustExec(t, "chmod", "0644", rpmLock)
			w.boot(t)
			w.converged(t, 0)
			held := keeps(t, w.Box, box.DesktopUser, locks(rpmLock, sort))
			inode := w.MustExec(t, "stat", "-c", "%i", rpmLock)
			w.MustWriteFile(t, localPolicy, box.File{Content: "schema = 1\n" + d.repository() + "[packages]\nsoe-pkg-01 = \"present\"\n"})
			names := func(text string) bool {
				return strings.Contains(text, "python3 -u -c import fcntl") && strings.Contains(text, "of user "+box.DesktopUser) && strings.Contains(text, rpmLock) && strings.Contains(text, "process ")
			}
			w.until(t, "the status names the holder", func() bool { s, _ := w.status(t); return names(s.Packages) })
			w.until(t, "the verdict names the holder", func() bool {
				r := w.report(t)
				return !r.Compliant && names(r.resource("package/soe-pkg-01").Reason)
			})
			if got := w.MustExec(t, "stat", "-c", "%i %a", rpmLock); got != strings.TrimSpace(inode)+" 600\n" {
				t.Errorf("the lock was %s, 644, and is %s", inode, got)
			}
			if again, err := w.ExecAs(t.Context(), box.DesktopUser, "cat", rpmLock); err != nil || again.Code == 0 {
				t.Errorf("it can be opened again: %v, %+v", err, again)
			}
			for _, command := range []string{"rpm -q soe-agent", "dnf -C repolist"} {
				if result, err := w.ExecAs(t.Context(), box.DesktopUser, "sh", "-c", command); err != nil || result.Code != 0 {
					t.Errorf("%s does not work for a user: %v, %+v", command, err, result)
				}
			}
			if held.ProcessState != nil {
				t.Error("the holder was ended")
			}
			w.MustExec(t, "pkill", "-u", box.DesktopUser, "-f", "import fcntl") // they go, at last
			w.until(t, "the package is there", func() bool { return !w.fails(t, "rpm", "-q", "soe-pkg-01") })
		})
	}
}

func TestWhateverLockOfAPackageManagerAUserTakesTheAgentsWorkGoesOn(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	d.apply(t, d.repository()+"[packages]\nsoe-pkg-02 = \"present\"\n").wants(t, map[policy.ID]converge.State{"package/soe-pkg-02": converge.Corrected})
	stale := []string{"/var/cache/dnf/metadata_lock.pid", "/var/cache/dnf/download_lock.pid", "/var/lib/dnf/rpmdb_lock.pid", "/var/log/log_lock.pid"}
	for _, name := range stale { // of one that was killed
		d.MustExec(t, "sh", "-c", "printf 4194303 >"+name+"; chmod 0644 "+name)
		keeps(t, d.Box, box.DesktopUser, locks(name, "flock"))
	}
	// The user's process has the number that a lock of yum has, and the name of a package manager.
	fake := d.MustExecAs(t, box.DesktopUser, "sh", "-c", `cp /bin/sleep /tmp/yum; /tmp/yum 600 >/dev/null 2>&1 & echo $!`)
	d.MustWriteFile(t, "/run/yum.pid", box.File{Content: fake})
	o := d.apply(t, d.repository()+"[packages]\nsoe-pkg-01 = \"present\"\n")
	o.wants(t, map[policy.ID]converge.State{"package/soe-pkg-01": converge.Corrected})
	for _, want := range append(stale, "removed a stale lock of yum") {
		if !strings.Contains(o.Stderr, want) {
			t.Errorf("nothing is said of %s: %s", want, o.Stderr)
		}
	}
	d.MustExec(t, "pkill", "-u", box.DesktopUser)
}

// The files of accounts have two sorts of locks: one that is locked, and notes that stay when
// their process dies, or the machine does.
func TestNoLockThatIsLeftBehindOrAUsersKeepsAnAccountFromBeingMade(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	const pwdLock = "/etc/.pwd.lock"
	d.MustExec(t, "sh", "-ec", "touch "+pwdLock+"; chmod 0644 "+pwdLock)
	// Each has the number of a process that runs, and is none of theirs.
	d.MustExec(t, "sh", "-ec", "sleep 600 >/dev/null 2>&1 & for f in passwd shadow group gshadow; do printf %s $! >/etc/$f.lock; touch -d '2 days ago' /etc/$f.lock; done")
	held := keeps(t, d.Box, box.DesktopUser, locks(pwdLock, "POSIX"))
	const toml = "[groups]\nsoe-here = { gid = 5101 }\n[users]\nsoe-scan = { uid = 5102, group = \"soe-here\", system = true }\n"
	o := d.apply(t, toml)
	r := o.resource("group/soe-here")
	if r.State != converge.Failed || !strings.Contains(r.Reason, "python3 of user "+box.DesktopUser+" has locked "+pwdLock) {
		t.Errorf("while a user holds the lock the group is %s: %s", r.State, r.Reason)
	}
	if held.ProcessState != nil {
		t.Error("the holder was ended")
	}
	if again, err := d.ExecAs(t.Context(), box.DesktopUser, "cat", pwdLock); err != nil || again.Code == 0 {
		t.Errorf("it can be opened again: %v, %+v", err, again)
	}
	d.MustExec(t, "pkill", "-u", box.DesktopUser, "-f", "import fcntl")
	d.apply(t, toml).wants(t, map[policy.ID]converge.State{"group/soe-here": converge.Corrected, "user/soe-scan": converge.Corrected})
	// One that is at work is not disturbed.
	d.MustExec(t, "sh", "-ec", "sleep 600 >/dev/null 2>&1 & printf %s $! >/etc/group.lock")
	o = d.apply(t, "[groups]\nsoe-other = { gid = 5103 }\n")
	if r := o.resource("group/soe-other"); r.State != converge.Failed || !strings.Contains(r.Reason, ", sleep is noted in /etc/group.lock") {
		t.Errorf("with a lock that may be somebody's the group is %s: %s", r.State, r.Reason)
	}
}

// Files that everybody may read, or could once, and that programs lock which the agent runs:
// whoever has a lock on one is waited for and named, or is in nobody's way.
func TestALockOnAFileThatEverybodyMayReadIsNamedOrInNobodysWay(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	d.MustWriteFile(t, agent.ConfigFile, box.File{Content: "[schedule]\nlock_timeout = \"2s\"\n"})
	all := d.repository() + onlyDomainAdmins + "[groups]\nsoe-GID = { gid = GID }\n[packages]\nsoe-pkg-01 = \"PKG\"\n[system]\ntimezone = \"ZONE\"\n[dropins.\"/etc/motd.d/x\"]\ncontent = \"ZONE\"\n"
	apply := func(gid int, pkg, zone string) outcome {
		return d.apply(t, strings.NewReplacer("GID", fmt.Sprint(gid), "PKG", pkg, "ZONE", zone).Replace(all))
	}
	apply(5201, "present", "Europe/Berlin").wants(t, map[policy.ID]converge.State{"package/soe-pkg-01": converge.Corrected})
	const history = "/var/lib/dnf/history.sqlite"
	for i, name := range []string{"/var/lib/rpm/rpmdb.sqlite-shm", history + "-shm", "/var/lib/rpm/rpmdb.sqlite /run/utmp /etc/passwd /etc/group /etc/dnf/dnf.conf"} {
		sorts := []string{"POSIX", "OFD", "flock"}
		d.MustExec(t, "sh", "-c", "chmod 0644 "+history+"*") // as dnf makes them
		var held []string
		for _, file := range strings.Fields(name) {
			if d.fails(t.Context(), "runuser", "-u", box.DesktopUser, "--", "test", "-r", file) {
				continue // it is not there, or closed
			}
			keeps(t, d.Box, box.DesktopUser, locks(file, sorts[i%2]))
			keeps(t, d.Box, box.DesktopUser, locks(file, sorts[2]))
			held = append(held, file)
		}
		pkg := map[bool]string{true: "absent", false: "present"}[i%2 == 0]
		t.Logf("%s: %s holds %v", time.Now().Format(time.TimeOnly), box.DesktopUser, held)
		o := apply(5210+i, pkg, map[bool]string{true: "Europe/Paris", false: "Europe/Berlin"}[i%2 == 0])
		for _, r := range o.Resources {
			named := strings.Contains(r.Reason, "python3") && strings.Contains(r.Reason, "of user "+box.DesktopUser)
			if !r.State.InLine() && r.State != converge.Pending && !named {
				t.Errorf("while %s holds %v, %s is %s: %s", box.DesktopUser, held, r.ID, r.State, r.Reason)
			}
			if !r.State.InLine() {
				t.Logf("while %s holds %v, %s is %s: %s", box.DesktopUser, held, r.ID, r.State, r.Reason)
			}
		}
		d.MustExec(t, "pkill", "-u", box.DesktopUser, "-f", "import fcntl")
		o = apply(5210+i, pkg, map[bool]string{true: "Europe/Paris", false: "Europe/Berlin"}[i%2 == 0])
		for _, r := range o.Resources {
			if !r.State.InLine() && r.State != converge.Pending {
				t.Errorf("once %v is free, %s is %s: %s", held, r.ID, r.State, r.Reason)
			}
		}
	}
	// The history is closed now, also what dnf has made of it since, and a user's dnf does without.
	if open := d.MustExec(t, "sh", "-c", "find "+history+"* -perm /077"); open != "" {
		t.Errorf("open to others: %s", open)
	}
	for _, command := range []string{"rpm -q debian-base-shim", "dnf -C repolist", "dnf -C list --installed"} {
		if result, err := d.ExecAs(t.Context(), box.DesktopUser, "sh", "-c", command); err != nil || result.Code != 0 {
			t.Errorf("%s does not work for a user: %v, %+v", command, err, result)
		}
	}
}
