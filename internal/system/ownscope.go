package system

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	systemd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

// StartApart is the argument with which the runner calls its own program to run a command in a
// scope of its own. It cannot be confused with a command of the agent or a flag of a test program.
const StartApart = "--start-apart"

// File descriptors of the program that runs a command in a scope of its own. It reads its errand
// from one, and writes an error to the other if it fails. The program runs as root until it has
// read its whole errand; by then it is in its scope.
const (
	errandFD  = 3
	troubleFD = 4
)

// An errand is what to run, as which user, and how confined.
type errand struct {
	Program  string
	Argv     []string
	Env      []string
	Confined *Confinement
}

// apart reports whether a command runs in a scope of its own, outside the agent's cgroup. It does
// if it runs as another user, or may become one: the agent's cgroup must not contain anything that
// another user can stop. sudo(8) does not need it: it sets its effective user to 1 for a moment to
// read its files, but its real and saved users stay root, and those decide who may signal or trace
// it (kill(2), ptrace(2)).
func (c Command) apart() bool { return c.OwnScope || c.Confined != nil && c.Confined.UID != 0 }

// startApart starts a command in a transient scope. The process is in its scope before it becomes
// another user and before any code of the command runs. It ends with the agent. The caller closes
// over when it has ended by itself.
func (r *runner) startApart(ctx context.Context, cmd *exec.Cmd, c Command, over <-chan struct{}) (scope string, err error) {
	if os.Geteuid() != 0 {
		return "", errors.New("only root can start a command in a scope of its own")
	}
	task, err := json.Marshal(errand{Program: cmd.Path, Argv: cmd.Args, Env: cmd.Env, Confined: c.Confined})
	if err != nil {
		return "", err
	}
	errands, give, err := os.Pipe()
	if err != nil {
		return "", err
	}
	defer give.Close()
	trouble, tell, err := os.Pipe()
	if err != nil {
		return "", errors.Join(err, errands.Close())
	}
	defer trouble.Close()
	// The running program, even if its file was replaced.
	cmd.Path, cmd.Args, cmd.Env = "/proc/self/exe", []string{cmd.Args[0], StartApart}, []string{"PATH=" + commandPath, "LC_ALL=C"}
	cmd.ExtraFiles = []*os.File{errands, tell}
	if c.Confined != nil {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWPID
	}
	err = errors.Join(startedBy(cmd, over, r.prepare(c)), errands.Close(), tell.Close())
	if cmd.Process == nil {
		return "", err
	}
	if err == nil {
		scope, err = r.bus.scope(ctx, cmd.Process.Pid, c)
	}
	if err == nil {
		err = send(ctx, give, trouble, task)
	}
	if err != nil {
		_ = cmd.Cancel() // the caller still waits for its end
	}
	return scope, err
}

// prepare returns what has to be done in the thread that starts a command, or nil.
func (r *runner) prepare(c Command) func() error {
	if c.Staged == nil {
		return nil
	}
	return func() error { return stage(r.root, c.Staged, c.Uncovered) }
}

// startedBy starts a command in a thread that lives as long as the command, because the kernel
// kills the command when that thread ends (PR_SET_PDEATHSIG in prctl(2)).
func startedBy(cmd *exec.Cmd, over <-chan struct{}, prepare func() error) error {
	started := make(chan error)
	spend(func() {
		var err error
		if prepare != nil {
			err = prepare()
		}
		if err == nil {
			err = cmd.Start()
		}
		started <- err
		if err == nil {
			<-over
		}
	})
	return <-started
}

// send sends the errand, and returns nil when the command runs, or the error why it does not.
func send(ctx context.Context, give, trouble *os.File, task []byte) error {
	// The process may have been stopped by the user that it has become.
	if deadline, ok := ctx.Deadline(); ok {
		if err := errors.Join(give.SetDeadline(deadline), trouble.SetDeadline(deadline)); err != nil {
			return err
		}
	}
	if _, err := give.Write(task); err != nil {
		return err
	}
	if err := give.Close(); err != nil {
		return err
	}
	said, err := io.ReadAll(io.LimitReader(trouble, 4096))
	if len(said) > 0 {
		return errors.New(string(said))
	}
	return err
}

// RunApart is the main function of the program called with StartApart: it reads its errand and
// becomes the command. It returns only with an error.
func RunApart() error {
	runtime.LockOSThread()
	unix.CloseOnExec(errandFD)
	unix.CloseOnExec(troubleFD)
	errands, trouble := os.NewFile(errandFD, "errand"), os.NewFile(troubleFD, "trouble")
	err := runErrand(errands)
	_, told := trouble.WriteString(err.Error())
	return errors.Join(err, told)
}

func runErrand(from io.Reader) error {
	var task errand
	if err := json.NewDecoder(from).Decode(&task); err != nil {
		return fmt.Errorf("cannot tell what to run: %w", err)
	}
	// The OOM killer spares the agent. This is not the agent.
	if err := os.WriteFile("/proc/self/oom_score_adj", []byte("0"), 0); err != nil {
		return fmt.Errorf("cannot start it in a scope of its own: %w", err)
	}
	if task.Confined != nil {
		if _, err := confineThread(*task.Confined); err != nil {
			return fmt.Errorf("cannot confine it: %w", err)
		}
		if err := become(*task.Confined); err != nil {
			return fmt.Errorf("cannot become user %d: %w", task.Confined.UID, err)
		}
	}
	// Changing the user cleared the setting that ends it with the agent.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("cannot start it in a scope of its own: %w", err)
	}
	return syscall.Exec(task.Program, task.Argv, task.Env)
}

// become changes the user of this thread.
func become(c Confinement) error {
	return errors.Join(
		syscall.Setgroups(c.Groups), // affects all threads, which end with the exec
		syscall.Setresgid(c.GID, c.GID, c.GID),
		syscall.Setresuid(c.UID, c.UID, c.UID),
	)
}

// scopePatience is how long systemd may take to make a scope, and pollScope how often that is
// checked. systemd announces the end of its job with a signal that may be lost; the kernel knows
// where a process is.
const (
	scopePatience = 5 * time.Second
	pollScope     = time.Millisecond
)

// scopes makes the names of scopes unique in this process.
type scopes struct{ count atomic.Uint64 }

// scope makes systemd put a process into a transient scope, and returns when it is there.
func (b *bus) scope(ctx context.Context, pid int, c Command) (name string, err error) {
	name = fmt.Sprintf("soeagent-%d-%d.scope", os.Getpid(), b.scopes.count.Add(1))
	properties := []systemd.Property{
		systemd.PropDescription("of soe-agent: " + filepath.Base(c.Argv[0])),
		systemd.PropPids(uint32(pid)),
		{Name: "TimeoutStopUSec", Value: dbus.MakeVariant(uint64(time.Second / time.Microsecond))},
	}
	err = b.ask(ctx, answerPatience, func(ctx context.Context, conn *manager) error {
		_, err := conn.StartTransientUnitContext(ctx, name, "fail", properties, nil)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("cannot make a scope for it: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, scopePatience)
	defer cancel()
	for pause := pollScope; ; pause = min(2*pause, 50*time.Millisecond) {
		where, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
		if err != nil {
			return name, fmt.Errorf("cannot tell whether it is in its scope: %w", err)
		}
		if inScope(string(where), name) {
			return name, nil
		}
		select {
		case <-ctx.Done():
			return name, fmt.Errorf("systemd has not put it into its scope: %w", ctx.Err())
		case <-time.After(pause):
		}
	}
}

// inScope reports whether a process is in a scope, in the hierarchy that systemd uses (cgroups(7)).
func inScope(where, scope string) bool {
	for line := range strings.Lines(where) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) == 3 && (fields[1] == "" || fields[1] == "name=systemd") && strings.HasSuffix(fields[2], "/"+scope) {
			return true
		}
	}
	return false
}

// endScope kills what is left in a scope, and removes the scope. A scope without processes has gone
// already, unless systemd was not notified that its cgroup is empty.
func (b *bus) endScope(name string) {
	// The errors do not matter: a systemd that was restarted does not know the scope, and one that
	// does not answer may still do it later.
	_ = b.ask(context.Background(), scopePatience, func(ctx context.Context, conn *manager) error {
		_ = conn.KillUnitWithTarget(ctx, name, systemd.All, int32(unix.SIGKILL))
		_, _ = conn.StopUnitContext(ctx, name, "replace", nil)
		return nil
	})
}
