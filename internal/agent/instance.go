package agent

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/soe-agent/soe-agent/internal/system"
)

// claimTimeout is how long the daemon waits for a command that is at work.
const claimTimeout = 30 * time.Second

// ErrAtWork is wrapped by the error of Claim if another agent is at work.
var ErrAtWork = errors.New("another soe-agent is at work")

// Claim makes this process the only agent that changes a machine, until release is called or the process ends.
// command is what the process does, such as "apply". If another agent is at work the error wraps ErrAtWork and
// names it; the daemon, whose command is "run", first waits a while for a command to end. The lock is on the
// agent's own directory, which only root can open. With the lock, Claim makes room in RunDir if that is
// possible.
//
// The daemon goes on without the lock if the directory cannot be used or a user without root holds the lock.
func Claim(ctx context.Context, s *system.System, command string) (release func(), err error) {
	deadline := s.Clock.Now().Add(claimTimeout)
	for {
		release, holders, err := s.Lock(StateDir)
		if err == nil {
			if said := room(s); said != "" {
				s.Log.Warn(said)
			}
			return release, nil
		}
		if !errors.Is(err, system.ErrLocked) {
			if command != "run" || !s.Running() {
				return nil, fmt.Errorf("cannot %s: %w", command, err)
			}
			// Rights are taken back even without the agent's state.
			s.Log.Error("cannot use the agent's own directory; the agent goes on without it and without the lock", "path", StateDir, "err", err)
			_ = room(s)
			return func() {}, nil
		}
		if s.Running() && nobodyOfRoots(holders) {
			s.Log.Error("a user without root holds the agent's lock, by a directory that was open to others; the agent goes on without the lock: end the holder's process", "path", StateDir, "holder", atWork(holders))
			_ = room(s)
			return func() {}, nil
		}
		daemon := slices.ContainsFunc(holders, isDaemon)
		if command == "run" && !daemon && s.Clock.Now().Before(deadline) {
			if err := s.Clock.Sleep(ctx, 100*time.Millisecond); err != nil {
				return nil, err
			}
			continue
		}
		advice := "wait until it has ended"
		if daemon {
			advice = "stop it first with: systemctl stop soe-agent"
		}
		where := ""
		if !s.Running() {
			where = " on the system below " + s.Root
		}
		return nil, fmt.Errorf("cannot %s: %w%s (%s); %s", command, ErrAtWork, where, atWork(holders), advice)
	}
}

// nobodyOfRoots says whether the holders of the lock are known, and none of them runs as root.
func nobodyOfRoots(holders []system.Holder) bool {
	return len(holders) > 0 && !slices.ContainsFunc(holders, func(h system.Holder) bool { return h.UID <= 0 })
}

func isAgent(h system.Holder) bool {
	return len(h.Command) > 0 && path.Base(h.Command[0]) == "soe-agent"
}

func isDaemon(h system.Holder) bool { return isAgent(h) && slices.Contains(h.Command[1:], "run") }

// atWork names the holders of the lock, for people.
func atWork(holders []system.Holder) string {
	var all []string
	for _, h := range holders {
		switch {
		case isDaemon(h):
			all = append(all, fmt.Sprintf("pid %d, run", h.PID))
		case len(h.Command) == 0:
			all = append(all, fmt.Sprintf("pid %d", h.PID))
		default:
			all = append(all, fmt.Sprintf("pid %d of %s, %s", h.PID, h.User(), path.Base(h.Command[0])+strings.Join(append([]string{""}, words(h)...), " ")))
		}
	}
	if len(all) == 0 {
		return "the process is not known; as root, see lslocks"
	}
	return strings.Join(all, "; ")
}

// words returns the arguments of an agent's command line. Those of another program are left out: they may
// contain anything, passwords too.
func words(h system.Holder) []string {
	if !isAgent(h) {
		return nil
	}
	return h.Command[1:]
}

// room makes room in RunDir, and returns a message about it, or "".
func room(s *system.System) string {
	alone, err := s.MakeRoom(RunDir)
	switch {
	case errors.Is(err, system.ErrNotOwn):
		return err.Error() + "; remove it and restart soe-agent.service; until then reports may not be written, and package transactions may fail"
	case err != nil:
		return "cannot make room in " + RunDir + ", whose file system is full; status and reports are not written, and package transactions fail, until something is removed: " + err.Error()
	case alone:
		return "the file system of " + path.Dir(RunDir) + " is full, or was, so " + RunDir + " is a file system of its own until the next boot"
	}
	return ""
}
