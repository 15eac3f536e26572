package packages

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/soe-agent/soe-agent/internal/system"
)

// How long an answer counts: one that there is no newer version, and one that it could not be
// determined. A question takes half a second for each name, and much longer offline.
const (
	updatesKept = 30 * time.Minute
	doubtKept   = 2 * time.Minute
)

// update says whether the repositories have an update for an installed package.
type update int

const (
	updateNone  update = iota // or it is not known
	updateThere               // they have a newer version
)

// updates asks the repositories whether they have newer packages. It keeps the answers until they
// are too old, or the rpm database or the repositories' files change.
type updates struct {
	manager *manager

	identity string
	until    time.Time
	said     map[string]update
	doubt    string
}

// of returns which of the installed packages can be updated. The second result says why the answer
// may be incomplete, or is "".
func (u *updates) of(ctx context.Context, names []string) (map[string]update, string) {
	s := u.manager.system
	now, clock := sources(s.FS), s.Clock
	if now != "" && now == u.identity && clock.Now().Before(u.until) {
		return u.said, u.doubt
	}
	u.said, u.doubt = map[string]update{}, ""
	for _, name := range names {
		u.said[name] = updateNone
	}
	there := u.ask(ctx, names...)
	switch {
	case !there:
	case len(names) == 1:
		u.said[names[0]] = updateThere
	default:
		for _, name := range names {
			if u.ask(ctx, name) {
				u.said[name] = updateThere
			}
		}
	}
	u.identity, u.until = now, clock.Now().Add(updatesKept)
	if u.doubt != "" {
		u.until = clock.Now().Add(doubtKept)
	}
	return u.said, u.doubt
}

// ask reports whether there are updates for any of the names.
func (u *updates) ask(ctx context.Context, names ...string) bool {
	there, doubt := u.manager.checkUpdate(ctx, nil, names...)
	if doubt != "" {
		u.doubt = doubt
	}
	return there
}

// checkUpdate reports whether there are updates, for any of the names if some are given. doubt says
// why the answer may be incomplete, or is "". The printed list is for people and laid out for 80
// columns. The exit code is the answer: 100 if there are updates (yum(8), dnf(8)).
func (m manager) checkUpdate(ctx context.Context, options []string, names ...string) (there bool, doubt string) {
	out, err := m.reaching(func(without []string) (system.Output, error) {
		return m.whenUnlocked(ctx, func() (system.Output, error) {
			argv := []string{m.program(), "--setopt=exit_on_lock=True", "--setopt=timeout=10", "--setopt=retries=1"}
			argv = append(slices.Concat(argv, without, options, []string{"check-update"}), names...)
			return m.run(ctx, system.Command{Argv: argv, ReadOnly: true})
		})
	})
	switch {
	case err != nil:
		return false, err.Error()
	case out.ExitCode == 100:
		return true, "" // it counts even if the metadata is old: the package is newer than the installed one
	case out.ExitCode != 0:
		return false, reason(out)
	}
	return false, stale(out)
}

// How long a question waits for a lock on the repositories' metadata, and how often it retries.
const (
	lockPatience = 15 * time.Second
	lockPause    = 500 * time.Millisecond
)

// whenUnlocked runs a question and repeats it while another process has locked the repositories'
// metadata, for example another kind that asks at the same time, or a timer that refreshes the
// metadata.
func (m manager) whenUnlocked(ctx context.Context, ask func() (system.Output, error)) (system.Output, error) {
	deadline := m.system.Clock.Now().Add(lockPatience)
	for {
		out, err := ask()
		if _, locked := lockedOut(out); err != nil || !locked || !m.system.Clock.Now().Before(deadline) {
			return out, err
		}
		if err := m.system.Clock.Sleep(ctx, lockPause); err != nil {
			return out, err
		}
	}
}

// stale says why an answer may come from outdated metadata or miss a repository, or returns "". The
// exit code does not tell.
func stale(out system.Output) string {
	if left := leftOut(out); left != "" {
		return "it was asked " + left
	}
	for line := range strings.Lines(string(out.Stderr)) {
		for _, sign := range []string{"[Errno ", "Trying other mirror", "Errors during downloading metadata", "Failed to download metadata", "Ignoring repositories"} {
			if strings.Contains(line, sign) {
				return strings.TrimSpace(strings.TrimPrefix(line, "Error: "))
			}
		}
	}
	return ""
}
