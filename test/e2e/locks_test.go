package e2e

import (
	"fmt"
	"strings"
	"testing"

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
	for _, want := range append(stale, "took away a lock of yum") {
		if !strings.Contains(o.Stderr, want) {
			t.Errorf("nothing is said of %s: %s", want, o.Stderr)
		}
	}
	d.MustExec(t, "pkill", "-u", box.DesktopUser)
}
