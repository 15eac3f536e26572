package e2e

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/agent"
	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/test/box"
)

// who may open something of the agent's.
type who string

const (
	root      who = "root"
	everybody who = "everybody, to read"
)

// belongings are all files and directories of the agent's on a machine, with who may open
// them. What everybody may open anybody can lock, and the agent never does.
func belongings() map[string]who {
	return map[string]who{
		"/etc/soe-agent": everybody, "/etc/soe-agent/agent.toml": everybody,
		"/etc/soe-agent/policy.d": everybody, `/etc/soe-agent/policy\.d/.*\.toml`: everybody,
		"/usr/share/soe-agent": everybody, "/usr/share/soe-agent/policy.d": everybody, `/usr/share/soe-agent/policy\.d/.*\.toml`: everybody, "/usr/share/soe-agent/systemd": everybody, "/usr/share/soe-agent/systemd/50-newer.conf": everybody,
		"/usr/bin/soe-agent": everybody,

		"/var/lib/soe-agent": root, "/var/lib/soe-agent/.*": root, // and all below it, whatever its mode

		"/run/soe-agent": everybody, "/run/soe-agent/report.json": everybody, "/run/soe-agent/status.json": everybody, "/run/soe-agent/facts.json": everybody,
		"/run/soe-agent/packages-progress.json": everybody,
		"/run/soe-agent/watched":                root,
		`/run/soe-agent/dropins-.*`:             root,
		"/run/soe-agent/pcoip-changes.json":     root,
		"/run/soe-agent/check":                  root, "/run/soe-agent/dconf": root, "/run/soe-agent/dconf/.*": root,
		`/run/soe-agent/soe-agent-packages.*\.(out|err)`: root, "/run/soe-agent/packages.script": root,
	}
}

// open are what the daemon may have open, as /proc shows it: nothing that another user
// could hold, fill or stop.
func open() []string {
	return []string{
		"/dev/null",
		"/",                  // the root directory, to go by names below it
		"/var/lib/soe-agent", // the lock
		`/var/lib/soe-agent/.*`,
		`anon_inode:\[?(eventpoll|eventfd|inotify|timerfd|fanotify|pidfd)\]?`,
		`socket:.*`, // see sockets
		`pipe:.*`,   // see pipes
		`/proc/[0-9]+/.*`, `/proc/(self|thread-self)/.*`,
	}
}

// matches says whether one of the patterns, or the names, is all of a text.
func matches(text string, patterns ...string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		return text == pattern || regexp.MustCompile("^(?:"+pattern+")$").MatchString(text)
	})
}

// holdings is a script that says, line by line, what a process has that others might hold.
const holdings = `pid=$1
for fd in /proc/$pid/fd/*; do
	what=$(readlink "$fd") || continue
	echo "open $what"
	case $what in
	pipe:*) for other in /proc/[0-9]*; do
			[ "$(awk '/^Uid:/ {print $3}' "$other/status" 2>/dev/null)" = 0 ] && continue
			for theirs in "$other"/fd/*; do [ "$(readlink "$theirs" 2>/dev/null)" = "$what" ] && echo "shared $what with ${other#/proc/}"; done
		done ;;
	socket:*)
		inode=${what#socket:[}; inode=${inode%]}
		awk -v inode="$inode" '$7 == inode && ($4 != "00000000" || NF > 7) {print "named", $0}' /proc/$pid/net/unix
		awk -v inode="$inode" '$10 == inode && $4 == "0A" {print "listens", $0}' /proc/$pid/net/tcp /proc/$pid/net/tcp6 2>/dev/null ;;
	esac
done
awk -v pid="$pid" '$5 == pid {print "lock", $2, $4, $6}' /proc/locks
busctl --no-legend --no-pager list --acquired | awk -v pid="$pid" '$2 == pid {print "name", $1}'
find /etc/soe-agent /usr/share/soe-agent /usr/bin/soe-agent /run/soe-agent /var/lib/soe-agent | sed 's/^/file /'
find / -xdev \( -name '*soe-agent*' -o -name '.*.soe.swp' \) \( -type p -o -type s \) | sed 's/^/special /'
true
`

func TestNothingOfTheAgentsIsThereThatAnotherUserCanHold(t *testing.T) {
	t.Parallel()
	w := alone(t, "")
	d := &desktop{Box: w.Box, repo: w.repo}
	w.MustWriteFile(t, localPolicy, box.File{Content: "schema = 1\n" + roomPolicy + lifePolicy + d.repository() + "[packages]\nsoe-pkg-01 = \"present\"\n[checks.x]\nrun = [\"/bin/true\"]\n"})
	w.boot(t)
	w.converged(t, 0)
	s, _ := w.status(t)
	var names []string
	locked := 0
	for line := range strings.Lines(w.MustExec(t, "sh", "-c", holdings, "holdings", fmt.Sprint(s.PID))) {
		what, name, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch what {
		case "open":
			if !matches(name, open()...) {
				t.Errorf("the daemon has %s open: say in this test who may open it", name)
			}
		case "file":
			names = append(names, name)
		case "lock":
			locked++
		case "name":
			if name != "org.soeagent.Agent1" {
				t.Errorf("the daemon has the name %s on the bus", name)
			}
		default: // a pipe that is shared, a socket with a name or that listens, a special file
			t.Errorf("%s %s: another user can hold or fill it", what, name)
		}
	}
	inode := strings.TrimSpace(w.MustExec(t, "stat", "-c", "%i", agent.StateDir))
	if locks := w.MustExec(t, "sh", "-c", "grep ' FLOCK .* '$0' ' /proc/locks || true", fmt.Sprint(s.PID)); locked != 1 || !strings.Contains(locks, ":"+inode+" ") {
		t.Errorf("the daemon has %d locks, and not the one on %s alone:\n%s", locked, agent.StateDir, locks)
	}
	for _, name := range names {
		may := who("")
		for pattern, by := range belongings() {
			if matches(name, pattern) {
				may = by
			}
		}
		if may == "" {
			t.Errorf("%s is there: say in this test who may open it", name)
			continue
		}
		for flag, allowed := range map[string]bool{"<": may == everybody, ">>": false} {
			if flag == ">>" && !w.fails(t, "test", "-d", name) {
				continue
			}
			script := "exec 3" + flag + "\"$0\""
			if !w.fails(t, "test", "-d", name) {
				script = "ls \"$0\""
			}
			result, err := w.ExecAs(t.Context(), box.DesktopUser, "sh", "-c", script, name)
			if err != nil || (result.Code == 0) != allowed {
				t.Errorf("a user may open %s (%s): %t, %v", name, flag, result.Code == 0, err)
			}
		}
	}
	for _, name := range []string{"/var/lib/soe-agent", "/run/soe-agent/report.json", "/run/soe-agent/status.json", "/run/soe-agent/watched"} {
		if !slices.Contains(names, name) {
			t.Errorf("%s was not looked at", name)
		}
	}

	// Whoever locks all that they can open holds up nothing.
	keeps(t, w.Box, box.DesktopUser, `exec python3 -u -c '
import fcntl, os, threading
for top in ["/etc/soe-agent", "/usr/share/soe-agent", "/run/soe-agent", "/var/lib/soe-agent", "/usr/bin/soe-agent"]:
    for where, dirs, files in list(os.walk(top)) + [(top, [], [])]:
        for name in [where] + [os.path.join(where, f) for f in files]:
            try:
                f = os.open(name, os.O_RDONLY)
                fcntl.flock(f, fcntl.LOCK_SH)
                fcntl.lockf(f, fcntl.LOCK_SH)
            except OSError:
                pass
print("ready")
threading.Event().wait()'`)
	w.MustExec(t, "systemctl", "restart", "soe-agent")
	w.converged(t, 0)
	w.MustWriteFile(t, "/etc/modprobe.d/soe-room.conf", box.File{Content: "drift\n"})
	w.until(t, "the drift is mended", func() bool {
		return w.report(t).resource(policy.ID("dropin/etc/modprobe.d/soe-room.conf")).State == converge.Corrected
	})
	w.strayIsMended(t)
}
