package packages

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/soe-agent/soe-agent/internal/system"
)

const (
	// commandShown is how many bytes of a process's command line a message shows.
	commandShown = 80

	yumPIDFile = "/run/yum.pid" // not in /var/run, which is a link to /run
)

// errBusy is wrapped by the error of a transaction that could not start because another one did not
// end in time. The next check tries again.
var errBusy = errors.New("another package manager is at work")

// unlocked runs a command that changes the rpm database. While another process holds the lock, it
// tries again until the manager's patience ends. yum itself would wait forever (yum.conf(5),
// exit_on_lock).
func (m manager) unlocked(ctx context.Context, c system.Command) (system.Output, error) {
	deadline := m.system.Clock.Now().Add(m.patience)
	pause := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(time.Second), backoff.WithMaxInterval(15*time.Second), backoff.WithMaxElapsedTime(0))
	said := ""
	for {
		free, err := m.freeScope(ctx)
		if err != nil {
			return system.Output{}, err
		}
		m.freeLocks()
		who := m.lockHolder()
		if who == "" {
			if m.may != nil {
				if err := m.may(ctx); err != nil {
					return system.Output{}, err
				}
			}
			c.Scope = free
			out, err := m.follow(ctx, c)
			if err != nil {
				return out, err
			}
			pid, locked := lockedOut(out)
			if !locked {
				return out, nil
			}
			if who = m.process(pid); pid == 0 {
				who = m.whoLocks(append(lockFiles(m.system.FS), databaseLocks()...))
			}
			if who == "" {
				who = m.process(0)
			}
		}
		if !m.system.Clock.Now().Before(deadline) {
			return system.Output{}, fmt.Errorf("%w (%s); this is tried again in the next pass", errBusy, who)
		}
		if who != said {
			m.system.Log.Info("waiting for another package manager", "kind", "package", "holder", who)
			said = who
		}
		if err := m.sayWaiting(ctx, who, pause.NextBackOff()); err != nil {
			return system.Output{}, fmt.Errorf("%w (%s): %w", errBusy, who, err)
		}
	}
}

// idle waits until no package manager is at work. After the manager's patience it returns an error
// that wraps errBusy.
func (m manager) idle(ctx context.Context) error {
	deadline := m.system.Clock.Now().Add(m.patience)
	for {
		who := m.lockHolder()
		if who == "" {
			return nil
		}
		if !m.system.Clock.Now().Before(deadline) {
			return fmt.Errorf("%w (%s); this is tried again in the next pass", errBusy, who)
		}
		if err := m.sayWaiting(ctx, who, time.Second); err != nil {
			return fmt.Errorf("%w (%s): %w", errBusy, who, err)
		}
	}
}

// sayWaiting pauses. Meanwhile the status shows who is waited for.
func (m manager) sayWaiting(ctx context.Context, who string, pause time.Duration) error {
	f := m.newFollower("")
	f.Phase, f.Waits = "waiting", who
	f.publish()
	defer f.end()
	return m.system.Clock.Sleep(ctx, pause)
}

var packageManagers = regexp.MustCompile(`^(systemd-run|rpm|rpmkeys|yum|dnf|dnf-3|dnf4|dnf5|microdnf|package-cleanup|yum-complete-transaction|yum-cron|yumdownloader|repoquery|reposync|yum-updatesd|yumBackend\.py|packagekitd)$`)

// managesPackages reports whether a process is a package manager, by the program that it runs, or
// the script that an interpreter runs. A process that has ended is not. A process that cannot be
// examined may be, so the answer is true.
func (m manager) managesPackages(pid string) bool {
	command, err := m.system.FS.ReadFile("/proc/" + pid + "/cmdline")
	if err != nil {
		_, err = m.system.FS.Stat("/proc/" + pid)
		return err == nil
	}
	words := bytes.Split(bytes.TrimRight(command, "\x00"), []byte{0})
	if len(words) == 1 && len(words[0]) == 0 {
		return false // a kernel thread, or a process that has ended
	}
	if packageManagers.MatchString(path.Base(string(words[0]))) {
		return true
	}
	if !strings.HasPrefix(path.Base(string(words[0])), "python") && path.Base(string(words[0])) != "platform-python" {
		return false
	}
	for _, word := range words[1:] {
		if !bytes.HasPrefix(word, []byte("-")) {
			return packageManagers.MatchString(path.Base(string(word)))
		}
	}
	return true // an interpreter without a script name: it may be one
}

var lockedBy = regexp.MustCompile(`already locked by (\d+)|another copy is running as pid (\d+)`)

// lockedOut reports whether a command gave up because of a lock, and the pid of the holder if the
// output names it, or 0.
func lockedOut(out system.Output) (pid int, locked bool) {
	text := string(out.Stderr) + string(out.Stdout)
	match := lockedBy.FindStringSubmatch(text)
	if match == nil {
		return 0, strings.Contains(text, "can't create transaction lock") || strings.Contains(text, "database is locked")
	}
	pid, _ = strconv.Atoi(match[1] + match[2])
	return pid, true
}

// lockHolder describes the process that has locked yum or the rpm database. It returns "" if there
// is none.
func (m manager) lockHolder() string {
	if !m.system.Running() {
		return ""
	}
	if pid := m.yumHolder(); pid != 0 {
		return m.process(pid)
	}
	if who := m.whoLocks(rpmLocks(m.system.FS)); who != "" {
		return who
	}
	return m.whoLocks(sharedMemories())
}

// sharedMemories are the files that SQLite locks to coordinate one writer and its readers.
// Everybody may read rpm's file, as rpm -q needs, and can therefore lock it. rpm and dnf would wait
// ten seconds at each step for whoever does, without saying for whom.
func sharedMemories() []string {
	return slices.DeleteFunc(databaseLocks(), func(name string) bool { return !strings.HasSuffix(name, "-shm") })
}

// yumHolder returns the process that yum's lock names, or 0. yum itself ignores the lock of a
// process that has gone. But if another program has got that pid since, yum would wait forever, so
// yumHolder removes such a lock.
func (m manager) yumHolder() int {
	content, err := m.system.FS.ReadFile(yumPIDFile)
	if err != nil {
		return 0
	}
	text := strings.TrimSpace(string(content))
	pid, err := strconv.Atoi(text)
	if err != nil || pid <= 0 {
		return 0
	}
	if _, err := m.system.FS.Stat("/proc/" + text); err != nil {
		return 0
	}
	if m.managesPackages(text) && m.userOf(pid) == 0 {
		return pid
	}
	m.system.Log.Warn("removed a stale lock of yum: the process that it names is not a package manager",
		"kind", "package", "holder", m.process(pid))
	if err := m.system.FS.Remove(yumPIDFile); err != nil {
		return pid
	}
	return 0
}

// rpmLocks returns the files that rpm locks and that have no content: the lock of the database, and
// that of the environment of Berkeley DB.
func rpmLocks(files system.FileReader) []string {
	var names []string
	for _, dir := range databaseDirs(files) {
		names = append(names, dir+"/.rpm.lock", dir+"/.dbenv.lock")
	}
	return names
}

// dnfLocks returns dnf's own lock files. dnf creates them anew each time. While somebody has one of
// them locked, dnf retries forever and silently.
func dnfLocks() []string {
	return []string{"/var/cache/dnf/metadata_lock.pid", "/var/cache/dnf/download_lock.pid", "/var/lib/dnf/rpmdb_lock.pid", "/var/log/log_lock.pid"}
}

// historyFiles returns the files of dnf's history. SQLite creates the other two with the mode of
// the first. Users need none of them, except for "dnf history".
func historyFiles() []string {
	const history = "/var/lib/dnf/history.sqlite"
	return []string{history, history + "-shm", history + "-wal"}
}

// lockFiles returns all locked files that only root needs.
func lockFiles(files system.FileReader) []string {
	return slices.Concat(rpmLocks(files), dnfLocks(), historyFiles())
}

// databaseLocks returns the locked files that have content.
func databaseLocks() []string {
	names := historyFiles()
	for _, name := range databaseFiles() {
		names = append(names, name)
		if strings.HasSuffix(name, ".sqlite") {
			names = append(names, name+"-shm")
		}
	}
	return names
}

// freeLocks restricts the files that a package manager locks to root, because whoever can open a
// file, even for reading, can lock it. A process that already holds a lock keeps it, with one
// exception: if a user's process has locked one of dnf's files and no dnf is using it, the file is
// created anew. rpm's locks are never replaced; the agent waits for their holder and names it.
func (m manager) freeLocks() {
	if !m.system.Running() {
		return
	}
	for _, name := range lockFiles(m.system.FS) {
		closed, err := m.system.CloseToOthers(name)
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, system.ErrReadOnly):
		case err != nil:
			m.system.Log.Debug("cannot restrict a package manager's lock file to root", "kind", "package", "path", name, "err", err)
		case closed:
			m.system.Log.Info("restricted a package manager's lock file to root: whoever can open it can hold it", "kind", "package", "path", name)
		}
	}
	for _, name := range dnfLocks() {
		content, err := m.system.FS.ReadFile(name)
		if err != nil {
			continue
		}
		holders, err := m.system.Holders(name)
		foreign := slices.IndexFunc(holders, func(h system.Holder) bool { return h.UID > 0 })
		if err != nil || foreign < 0 {
			continue
		}
		pid, _ := strconv.Atoi(strings.TrimSpace(string(content)))
		if pid > 0 && m.managesPackages(strconv.Itoa(pid)) && m.userOf(pid) == 0 {
			continue // dnf removes it when it ends
		}
		if err := m.system.FS.Remove(name); err != nil {
			m.system.Log.Warn("cannot remove a lock of dnf that an ordinary user holds; dnf waits until it is released: end the holder's process", "kind", "package", "path", name, "holder", m.holder(holders[foreign]), "err", err)
			continue
		}
		m.system.Log.Warn("removed a lock of dnf that an ordinary user held", "kind", "package", "path", name, "holder", m.holder(holders[foreign]))
	}
}

// whoLocks describes the processes that have locked one of these files, with any sort of lock. It
// returns "" if there are none. yum does not mention rpm's lock when it fails because of it.
// PackageKit and dnf take that lock too.
func (m manager) whoLocks(names []string) string {
	if !m.system.Running() {
		return ""
	}
	for _, name := range names {
		holders, err := m.system.Holders(name)
		if err != nil || len(holders) == 0 {
			continue
		}
		var all []string
		for _, h := range holders {
			all = append(all, m.holder(h))
		}
		return strings.Join(all, "; ") + ", which has locked " + name
	}
	return ""
}

// holder describes a process and its user.
func (m manager) holder(h system.Holder) string {
	if h.UID < 0 {
		return m.process(h.PID)
	}
	return m.process(h.PID) + " of user " + h.User()
}

// userOf returns the uid that a process acts as. If it cannot be read, it is 0: such a process
// counts as root's.
func (m manager) userOf(pid int) int {
	status, _ := m.system.FS.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(status)) {
		if said, is := strings.CutPrefix(line, "Uid:"); is {
			if fields := strings.Fields(said); len(fields) == 4 {
				uid, _ := strconv.Atoi(fields[1])
				return uid
			}
		}
	}
	return 0
}

// process describes a process by its pid and the beginning of its command line.
func (m manager) process(pid int) string {
	if pid == 0 {
		return "it did not say which"
	}
	command, err := m.system.FS.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	words := strings.Join(strings.FieldsFunc(string(command), func(r rune) bool { return r < ' ' }), " ")
	if err != nil || words == "" {
		return fmt.Sprintf("process %d", pid)
	}
	if words = string(m.redact([]byte(words))); len(words) > commandShown {
		words = strings.ToValidUTF8(words[:commandShown], "") + "…"
	}
	return fmt.Sprintf("process %d, %s", pid, words)
}
