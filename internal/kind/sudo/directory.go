package sudo

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/soe-agent/soe-agent/internal/sudoers"
	"github.com/soe-agent/soe-agent/internal/system"
)

// directoryPatience is how long the directory may take to answer a question about rights. After a
// timeout it is not asked again for silentFor, because the next question would take as long.
const (
	directoryPatience = 3 * time.Second
	silentFor         = 10 * time.Second
)

// errSilent means that a program did not answer in time.
var errSilent = errors.New("it does not answer")

// impatient limits the time of programs that ask the directory, getent(1), id(1) and sudo(8), and does
// not run them again for a while after a timeout.
type impatient struct {
	system.Runner
	clock system.Clock

	mu     sync.Mutex
	silent map[string]silence // by program
}

// A silence records that a program did not answer.
type silence struct {
	until time.Time
	err   error
}

func newImpatient(r system.Runner, clock system.Clock) *impatient {
	return &impatient{Runner: r, clock: clock, silent: map[string]silence{}}
}

func (i *impatient) Run(ctx context.Context, c system.Command) (system.Output, error) {
	patience := directoryPatience
	switch c.Argv[0] {
	case "getent", "id":
	case "sudo":
		patience = sudoers.AnswerTimeout
	default:
		return i.Runner.Run(ctx, c)
	}
	i.mu.Lock()
	last, now := i.silent[c.Argv[0]], i.clock.Now()
	i.mu.Unlock()
	if now.Before(last.until) {
		return system.Output{}, last.err
	}
	soon, enough := context.WithTimeout(ctx, patience)
	defer enough()
	out, err := i.Runner.Run(soon, c)
	if err != nil && errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		err = fmt.Errorf("%w: %w", errSilent, err)
		i.mu.Lock()
		i.silent[c.Argv[0]] = silence{i.clock.Now().Add(silentFor), err}
		i.mu.Unlock()
	}
	return out, err
}

// errOvertaken ends a Check because the files it is about have changed. They will be checked again.
var errOvertaken = errors.New("files that give rights have changed meanwhile")

// lookOut is how often the files are compared while a program takes its time.
const lookOut = 500 * time.Millisecond

// whileFilesStay returns a context that is cancelled when a file that grants rights changes, also by
// the agent itself. A new grant must not wait for answers about the old files.
func (k *Kind) whileFilesStay(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	before := k.filesState()
	over := make(chan struct{})
	go func() {
		defer close(over)
		ticker := time.NewTicker(lookOut)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				if k.filesState() != before {
					cancel(errOvertaken)
				}
			}
		}
	}()
	return ctx, func() { cancel(nil); <-over }
}

// whileFilesStayFor is whileFilesStay with a timeout.
func (k *Kind) whileFilesStayFor(ctx context.Context, patience time.Duration) (context.Context, context.CancelFunc) {
	stays, end := k.whileFilesStay(ctx)
	inTime, enough := context.WithTimeoutCause(stays, patience, fmt.Errorf("no answer came within %s", patience))
	return inTime, func() { enough(); end() }
}

// filesState changes whenever a file changes by which somebody may have got a right.
func (k *Kind) filesState() string {
	var state strings.Builder
	add := func(name string, info system.Info, err error) {
		fmt.Fprintf(&state, "%q %d %d %d %v\n", name, info.Size, info.Inode, info.Changed.UnixNano(), err)
	}
	for _, name := range []string{sudoers.Main, "/etc/group", "/etc/passwd"} {
		info, err := k.files.Stat(name)
		add(name, info, err)
	}
	for _, dir := range append(ruleDirs(), sudoers.Dir) {
		entries, err := k.files.Entries(dir)
		add(dir, system.Info{}, err)
		for _, name := range slices.Sorted(maps.Keys(entries)) {
			add(name, entries[name], nil)
		}
	}
	return state.String()
}
