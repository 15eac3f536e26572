package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/soe-agent/soe-agent/internal/system"
)

// lockFile is held by the one agent that may change a machine.
const lockFile = "/run/soe-agent/lock"

// claimPatience is how long the daemon waits for a command that is at work.
const claimPatience = 30 * time.Second

// ErrAtWork is wrapped by the error of Claim when another agent is at work.
var ErrAtWork = errors.New("another soe-agent is at work")

// Claim makes this process the only agent that changes a machine, until release is
// called or the process ends. command is what it does, as in "apply". With ErrAtWork
// the error says who is before it; the daemon, whose command is "run", waits a while
// for a command to end.
func Claim(ctx context.Context, s *system.System, command string) (release func(), err error) {
	if !s.Running() {
		release, err := s.LockImage()
		if errors.Is(err, system.ErrLocked) {
			err = fmt.Errorf("cannot %s: %w on the system below %s; wait until it has ended", command, ErrAtWork, s.Root)
		}
		return release, err
	}
	deadline := s.Clock.Now().Add(claimPatience)
	for {
		release, holder, err := s.Lock(lockFile, fmt.Sprintf("pid %d, %s", os.Getpid(), command))
		if err == nil {
			return release, nil
		}
		if !errors.Is(err, system.ErrLocked) {
			return nil, err
		}
		daemon := strings.HasSuffix(holder, ", run")
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
		return nil, fmt.Errorf("cannot %s: %w (%s); %s", command, ErrAtWork, holder, advice)
	}
}
