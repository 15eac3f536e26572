package packages

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/soe-agent/soe-agent/internal/system"
)

// How long it is believed that there is no newer version, and that it could not
// be told: asking costs half a second for each name, and much more offline.
const (
	updatesKept = 30 * time.Minute
	doubtKept   = 2 * time.Minute
)

// update is what the repositories say of one installed package.
type update int

const (
	updateNone  update = iota // or not known of
	updateThere               // they have a newer version
)

// updates asks the repositories whether they have newer packages, and remembers
// for as long as the rpm database stays as it is.
type updates struct {
	manager *manager

	identity string
	until    time.Time
	said     map[string]update
	doubt    string
}

// of says which of the installed packages could be updated, and why that cannot be
// told in full, or "".
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

// ask says whether there are updates for any of the names.
func (u *updates) ask(ctx context.Context, names ...string) bool {
	there, doubt := u.manager.checkUpdate(ctx, nil, names...)
	if doubt != "" {
		u.doubt = doubt
	}
	return there
}

// checkUpdate says whether there are updates, for any of the names if some are
// given, and why that cannot be told in full, or "". The list that is printed is for
// people, laid out for 80 columns; the exit code is the answer: 100 when there are
// (yum(8), dnf(8)).
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
		return true, "" // also when it is read from an old copy: newer than what is installed it is
	case out.ExitCode != 0:
		return false, reason(out)
	}
	return false, stale(out)
}

// How long a question waits for the lock that another one has on the repositories' data, and
// how often it tries.
const (
	lockPatience = 15 * time.Second
	lockPause    = 500 * time.Millisecond
)

// whenUnlocked asks, and asks again while somebody else keeps the repositories' data locked: as
// another kind does that asks at the same time, or a timer that brings the data up to date.
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

// stale says that an answer may come from an old copy of a repository's data, or
// leaves a repository out, or "". The exit code does not tell.
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
