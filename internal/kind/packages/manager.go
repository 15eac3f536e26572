package packages

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

const (
	scope      = "soe-agent-packages"
	scriptFile = "/run/soe-agent/packages.script"

	transactionTimeout = time.Hour
	// patience is how long a transaction waits for another package manager. yum
	// itself would wait without end (yum.conf(5), exit_on_lock).
	patience  = 2 * time.Minute
	lockPause = 5 * time.Second
	// earlierTimeout is how long a transaction that an earlier life of the agent has
	// begun may go on.
	earlierTimeout = 30 * time.Minute
)

// manager is yum or dnf.
type manager struct {
	system  *system.System
	secrets []string // that it may print, as part of a repository's URL
}

func newManager(p *policy.Policy, s *system.System) manager {
	m := manager{system: s}
	for _, want := range policy.Of[policy.Repository](p) {
		m.secrets = append(m.secrets, want.Secrets...)
	}
	return m
}

var userInfo = regexp.MustCompile(`://[^/@\s]*@`)

// run runs a command, and takes out of what it says the passwords in URLs.
func (m manager) run(ctx context.Context, c system.Command) (system.Output, error) {
	out, err := m.system.Runner.Run(ctx, c)
	for _, text := range []*[]byte{&out.Stdout, &out.Stderr} {
		for _, secret := range m.secrets {
			*text = bytes.ReplaceAll(*text, []byte(secret), []byte("‹secret›"))
		}
		*text = userInfo.ReplaceAll(*text, []byte("://‹secret›@"))
	}
	return out, err
}

func (m manager) program() string {
	if _, err := m.system.FS.Stat("/usr/bin/dnf"); err == nil {
		return "dnf"
	}
	return "yum"
}

// errBusy is wrapped by the error of a transaction that could not begin because
// another one did not end.
var errBusy = errors.New("another package manager is at work")

// transact carries out one transaction of the package manager's shell: a line for
// each package. What came of it the caller must ask rpm. Plugins stay on: AWS has
// one that stops updates while a WorkSpace must not be changed.
func (m manager) transact(ctx context.Context, lines []string) (system.Output, error) {
	script := strings.Join(lines, "\n") + "\nrun\n"
	if err := m.system.FS.WriteFile(scriptFile, []byte(script), system.Attr{Mode: 0o600}); err != nil {
		return system.Output{}, err
	}
	out, err := m.unlocked(ctx, system.Command{
		// Packages that nothing needs any longer stay: nobody has looked whether the
		// desktop does.
		Argv:    []string{m.program(), "-y", "--setopt=exit_on_lock=True", "--setopt=clean_requirements_on_remove=False", "shell", scriptFile},
		Timeout: transactionTimeout, Scope: scope,
	})
	for line := range strings.Lines(string(out.Stderr) + "\n" + string(out.Stdout)) {
		if strings.Contains(line, "scriptlet failed") || strings.Contains(line, "scriptlet failure") {
			slog.Warn("a package's own script failed", "kind", "package", "said", strings.TrimSpace(line))
		}
	}
	if err == nil {
		err = m.system.FS.Remove(scriptFile)
	}
	return out, err
}

// unlocked runs a command that changes the rpm database, again and again while
// somebody else holds its lock.
func (m manager) unlocked(ctx context.Context, c system.Command) (system.Output, error) {
	deadline := m.system.Clock.Now().Add(patience)
	for {
		if err := m.awaitEarlier(ctx); err != nil {
			return system.Output{}, err
		}
		holder := m.lockHolder()
		if holder == 0 {
			out, err := m.run(ctx, c)
			if err != nil {
				return out, err
			}
			var locked bool
			if holder, locked = lockedOut(out); !locked {
				return out, nil
			}
		}
		if !m.system.Clock.Now().Before(deadline) {
			return system.Output{}, fmt.Errorf("%w (%s)", errBusy, m.process(holder))
		}
		if err := m.system.Clock.Sleep(ctx, lockPause); err != nil {
			return system.Output{}, fmt.Errorf("%w (%s): %w", errBusy, m.process(holder), err)
		}
	}
}

// awaitEarlier waits until no transaction of the agent's own goes on: one of an
// earlier life, or the last one's scope, of whose end systemd learns a moment later.
func (m manager) awaitEarlier(ctx context.Context) error {
	deadline := m.system.Clock.Now().Add(earlierTimeout)
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, 2*time.Second) {
		unit, err := m.system.Units.Unit(ctx, scope+".scope")
		switch {
		case errors.Is(err, system.ErrNotRunning):
			return nil
		case err != nil:
			return err
		case unit.ActiveState == "failed": // its name is taken until that is forgotten
			_, err := m.system.Runner.Run(ctx, system.Command{Argv: []string{"systemctl", "reset-failed", scope + ".scope"}})
			return err
		case unit.ActiveState == "inactive" || unit.ActiveState == "":
			return nil
		case !m.system.Clock.Now().Before(deadline):
			return fmt.Errorf("an earlier transaction does not end; see: systemctl status %s.scope", scope)
		}
		if err := m.system.Clock.Sleep(ctx, pause); err != nil {
			return fmt.Errorf("an earlier transaction goes on as %s.scope: %w", scope, err)
		}
	}
}

var lockedBy = regexp.MustCompile(`already locked by (\d+)|another copy is running as pid (\d+)`)

// lockedOut says whether a command gave up because of a lock, and who held it if
// that was said.
func lockedOut(out system.Output) (pid int, locked bool) {
	text := string(out.Stderr) + string(out.Stdout)
	match := lockedBy.FindStringSubmatch(text)
	if match == nil {
		return 0, strings.Contains(text, "can't create transaction lock")
	}
	pid, _ = strconv.Atoi(match[1] + match[2])
	return pid, true
}

// lockHolder is the process that has locked the rpm database, or 0. yum does not
// mention this lock when it fails for it. The locks of a user are ignored: the
// user may hold one on another file of the same number.
func (m manager) lockHolder() int {
	if !m.system.Running() {
		return 0
	}
	locks, err := m.system.FS.ReadFile("/proc/locks")
	if err != nil {
		return 0
	}
	for _, dir := range databaseDirs(m.system.FS) {
		info, err := m.system.FS.Stat(dir + "/.rpm.lock")
		if err != nil {
			continue
		}
		suffix := ":" + strconv.FormatUint(info.Inode, 10)
		for line := range strings.Lines(string(locks)) { // proc_locks(5): 1: POSIX ADVISORY WRITE PID MAJOR:MINOR:INODE 0 EOF
			fields := strings.Fields(line)
			if len(fields) < 6 || fields[3] != "WRITE" || !strings.HasSuffix(fields[5], suffix) {
				continue
			}
			pid, _ := strconv.Atoi(fields[4])
			if process, err := m.system.FS.Stat("/proc/" + fields[4]); err == nil && process.UID == 0 && pid > 0 {
				return pid
			}
		}
	}
	return 0
}

// process names a process for a person.
func (m manager) process(pid int) string {
	if pid == 0 {
		return "it did not say which"
	}
	command, err := m.system.FS.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return fmt.Sprintf("process %d", pid)
	}
	return fmt.Sprintf("process %d, %s", pid, strings.TrimSpace(string(command)))
}
