package system

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/soe-agent/soe-agent/internal/own"
	"github.com/soe-agent/soe-agent/internal/public"
)

// A Command is a program with its arguments; no shell is involved.
type Command struct {
	Argv    []string
	Env     []string      // added to a minimal environment with PATH and LC_ALL=C
	Stdin   []byte        // nil: /dev/null
	Timeout time.Duration // 0 means a minute
	// ReadOnly is set for a command that changes nothing, and that a plan may run.
	ReadOnly bool
	// Scope, if set, names a transient systemd scope in which the command runs. The command then
	// outlives the agent, and no signal is ever sent to it. If ctx ends first, Run returns and the
	// command continues. Its output is in ScopeOutput.
	Scope string
	// Staged, if set, is what the command sees in place of existing files. It needs root.
	Staged Staged
	// Uncovered are mount points that the command sees as if nothing were mounted there. Staged must be set
	// too, though it may be empty.
	Uncovered []string
	// Terminal gives the command a new terminal, if one can be had: some commands refuse to work
	// without one. It gets no input from there, and its output there is not read.
	Terminal bool
	// Confined, if set, is how a command runs that the agent's authors did not write. Only root can
	// confine one. A command that runs as another user gets a scope of its own.
	Confined *Confinement
	// OwnScope runs a command in a transient scope of its own, outside the agent's cgroup, if
	// systemd is running. It is for commands that may become another user, who could otherwise stop
	// the agent. The scope, and everything that the command started in it, ends with the timeout at
	// the latest.
	OwnScope bool
}

func (c Command) String() string { return strings.Join(c.Argv, " ") }

// Output is the result of a command that ran to its end.
type Output struct {
	ExitCode int
	Stdout   []byte // at most 4 MiB
	Stderr   []byte
}

// LastLine returns the last line of Stderr that is not empty, or else of Stdout: most tools print
// the reason there.
func (o Output) LastLine() string {
	for _, text := range [][]byte{o.Stderr, o.Stdout} {
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		if last := strings.TrimSpace(lines[len(lines)-1]); last != "" {
			return last
		}
	}
	return fmt.Sprintf("exit code %d", o.ExitCode)
}

// ErrKilled is wrapped by the error of a command in a scope that was killed.
var ErrKilled = errors.New("it was killed")

// ErrNotInstalled is wrapped by the error of a command whose program does not exist.
var ErrNotInstalled = errors.New("the program is not installed")

// ErrNotExecutable is wrapped by the error of a command whose name is that of something that cannot
// be run. The program may be installed all the same.
var ErrNotExecutable = errors.New("it is there, and is no file that may be run")

// A Runner runs commands. An exit code other than 0 is not an error; the caller knows what it
// means. An error means that the command could not be started, did not end in time, or was killed.
type Runner interface {
	Run(ctx context.Context, c Command) (Output, error)
}

const (
	commandPath    = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	defaultTimeout = time.Minute
	maxOutput      = 4 << 20
	scopeOutputDir = own.RunDir
)

type runner struct {
	root string
	gate Gate
	look Looker
	log  *slog.Logger
	bus  *bus // of a running machine

	mu    sync.Mutex
	stuck map[string]time.Time // commands that could not be ended, and since when
}

// ErrStuck is wrapped by the error of a command that was killed and has not ended (it hangs in the
// kernel). It is not run again until it has.
var ErrStuck = errors.New("it could not be ended")

func (r *runner) Run(ctx context.Context, c Command) (Output, error) {
	if len(c.Argv) == 0 {
		return Output{}, errors.New("cannot run a command without words")
	}
	if !c.ReadOnly {
		if err := r.gate(Change{"run", c.String()}); err != nil {
			return Output{}, fmt.Errorf("cannot run %s: %w", c.Argv[0], err)
		}
	} else if err := r.look.at("run", c.String()); err != nil {
		return Output{}, fmt.Errorf("cannot run %s: %w", c.Argv[0], err)
	}
	booted := r.root == "/" && (c.Scope != "" || c.apart())
	if booted {
		runs, err := r.look.exists(systemdRuns)
		if err != nil {
			return Output{}, fmt.Errorf("cannot run %s: %w", c.Argv[0], err)
		}
		booted = runs
	}
	start := time.Now()
	var out Output
	var err error
	if booted && c.Scope != "" {
		out, err = r.runInScope(ctx, c)
	} else {
		out, err = r.run(ctx, c, booted && c.apart())
	}
	r.log.Debug("ran a command", "argv", c.Argv, "exit", out.ExitCode, "took", time.Since(start), "err", err)
	if err != nil {
		return out, public.Error(fmt.Errorf("cannot run %s: %w", c.Argv[0], err)) // it contains none of the command's output
	}
	return out, nil
}

// systemdRuns is a directory that exists when systemd runs (sd_booted(3)).
const systemdRuns = "/run/systemd/system"

func (r *runner) command(ctx context.Context, c Command) (*exec.Cmd, error) {
	program, err := r.lookPath(c.Argv[0])
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, program, c.Argv[1:]...)
	cmd.Env = append([]string{"PATH=" + commandPath, "LC_ALL=C", "HOME=/root"}, c.Env...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if r.root != "/" {
		cmd.SysProcAttr.Chroot = r.root
	}
	if c.Stdin != nil || !hasNullDevice() {
		cmd.Stdin = bytes.NewReader(c.Stdin)
	}
	return cmd, nil
}

// hasNullDevice reports whether /dev/null is the device. exec.Cmd opens it for a missing stdin: it
// would fail if that did not exist, and wait forever if it were a pipe. The command then gets a
// closed pipe.
func hasNullDevice() bool {
	var is unix.Stat_t
	return unix.Lstat(os.DevNull, &is) == nil && is.Mode&unix.S_IFMT == unix.S_IFCHR && is.Rdev == unix.Mkdev(1, 3)
}

// lookPath finds a program below the root, in a fixed search path and not that of the agent's
// environment. The error wraps ErrNotInstalled only if all directories of the search path could be
// read, and ErrNotExecutable if something else has the name.
func (r *runner) lookPath(program string) (string, error) {
	candidates := []string{program}
	if !strings.Contains(program, "/") {
		candidates = candidates[:0]
		for dir := range strings.SplitSeq(commandPath, ":") {
			candidates = append(candidates, filepath.Join(dir, program))
		}
	}
	other := ""
	for _, candidate := range candidates {
		switch is, there, err := r.isProgram(candidate); {
		case err != nil:
			return "", fmt.Errorf("cannot tell whether there is %s: %w", candidate, err)
		case is:
			return candidate, nil
		case there && other == "":
			other = candidate
		}
	}
	if other != "" {
		return "", fmt.Errorf("%s: %w", other, ErrNotExecutable)
	}
	return "", ErrNotInstalled
}

// isProgram reports whether a name is that of a program, and whether it exists at all.
func (r *runner) isProgram(name string) (is, there bool, err error) {
	if err := r.look.at("find", name); err != nil {
		return false, false, err
	}
	info, err := os.Stat(filepath.Join(r.root, name))
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return false, false, nil
	case err != nil:
		return false, false, err
	}
	return info.Mode().IsRegular() && info.Mode()&0o111 != 0, true, nil
}

func (r *runner) run(parent context.Context, c Command, apart bool) (Output, error) {
	if since, is := r.isStuck(c); is {
		return Output{}, fmt.Errorf("its run that was killed at %s has not ended: %w", since.Local().Format(time.TimeOnly), ErrStuck)
	}
	timeout := c.Timeout
	if timeout == 0 {
		timeout = defaultTimeout
	}
	ctx, cancel := context.WithTimeout(parent, timeout)
	defer cancel()
	cmd, err := r.command(ctx, c)
	if err != nil {
		return Output{}, err
	}
	if c.Confined != nil {
		behindShell(cmd)
	}
	// Kill the whole process group: a child that keeps the pipe open would make the agent wait.
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	var stdout, stderr bounded
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if c.Terminal {
		defer giveTerminal(cmd)()
	}
	over := make(chan struct{})
	end, err := r.start(ctx, cmd, c, apart, over)
	defer end()
	out := Output{}
	if cmd.Process != nil {
		ended := r.wait(ctx, cmd, c, over)
		if !errors.Is(ended, ErrStuck) { // otherwise they are still being written
			out = Output{Stdout: stdout.kept, Stderr: stderr.kept}
		}
		if err == nil {
			err = ended
		}
	}
	out, err = exited(out, err)
	switch {
	case err == nil:
	case errors.Is(err, ErrStuck):
		err = fmt.Errorf("it did not end within %s, and %w", timeout, err)
	case parent.Err() != nil:
		err = fmt.Errorf("it was stopped: %w", parent.Err())
	case ctx.Err() != nil:
		err = fmt.Errorf("it did not end within %s: %w", timeout, ctx.Err())
	}
	return out, err
}

// behindShell makes a shell the first process of a namespace, and the command its child. The kernel
// does not deliver signals to the first process that it sends to itself. A command that ends itself
// with a signal, because of what it found, would then continue and exit with 0. The exit code is
// 128 plus the signal's number.
func behindShell(cmd *exec.Cmd) {
	cmd.Args = append([]string{"sh", "-c", `"$@"; exit "$?"`, "sh", cmd.Path}, cmd.Args[1:]...)
	cmd.Path = "/bin/sh"
}

// start starts a command, confined as required. The caller calls end after it has ended.
func (r *runner) start(ctx context.Context, cmd *exec.Cmd, c Command, apart bool, over chan struct{}) (end func(), err error) {
	nothing := func() {}
	switch {
	case apart:
		scope, err := r.startApart(ctx, cmd, c, over)
		if scope == "" {
			return nothing, err
		}
		return func() { r.bus.endScope(scope) }, err
	case c.Confined != nil:
		return startConfined(cmd, *c.Confined)
	case c.Staged != nil:
		return nothing, startStaged(cmd, r.root, c.Staged, c.Uncovered)
	}
	return nothing, cmd.Start()
}

// untilStuck is how long a killed command may take to end. One that waits in the kernel for a file
// server, or for a person's FUSE program, does not end.
const untilStuck = 2 * time.Second

// wait waits for the end of a command. It returns ErrStuck if the command was killed and does not
// end. It closes over when the command has ended, even later.
func (r *runner) wait(ctx context.Context, cmd *exec.Cmd, c Command, over chan<- struct{}) error {
	ended := make(chan error, 1)
	go func() {
		ended <- cmd.Wait()
		close(over)
	}()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	timer := time.NewTimer(untilStuck)
	defer timer.Stop()
	select {
	case err := <-ended:
		return err
	case <-timer.C:
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stuck == nil {
		r.stuck = map[string]time.Time{}
	}
	r.stuck[c.key()] = time.Now()
	go func() {
		<-ended //nolint:errcheck // how it has ended is of no use any more
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.stuck, c.key())
	}()
	return ErrStuck
}

// key identifies a command and its user. It is the same for each run.
func (c Command) key() string {
	uid := 0
	if c.Confined != nil {
		uid = c.Confined.UID
	}
	return fmt.Sprintf("%d %q", uid, c.Argv)
}

// maxStuck is how many confined commands of one user may hang. After that no command of that user
// is started: whoever can make one hang can make others hang.
const maxStuck = 4

// isStuck reports whether a command must not be started because it, or too many of its user's,
// hang. since is when one of those was killed.
func (r *runner) isStuck(c Command) (since time.Time, is bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if since, is = r.stuck[c.key()]; is {
		return since, true
	}
	user, _, _ := strings.Cut(c.key(), " ")
	theirs := 0
	for key, at := range r.stuck {
		if who, _, _ := strings.Cut(key, " "); who == user && c.Confined != nil {
			theirs++
			since = at
		}
	}
	return since, theirs >= maxStuck
}

// exited turns an error that only tells the exit code into an Output with that code.
func exited(out Output, err error) (Output, error) {
	if errors.Is(err, exec.ErrWaitDelay) {
		return out, nil // it exited with 0, and left a child that keeps the pipe open
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		out.ExitCode = exit.ExitCode()
		return out, nil
	}
	return out, err
}

// ScopeOutput returns the files with stdout and stderr of the command that runs, or ran last, in a
// scope.
func ScopeOutput(scope string) [2]string {
	base := filepath.Join(scopeOutputDir, scope)
	return [2]string{base + ".out", base + ".err"}
}

// runInScope starts the command with systemd-run, which moves itself into the new scope and then
// becomes the command. The output goes to files: a pipe would break when the agent ends, and some
// scriptlets with it.
func (r *runner) runInScope(ctx context.Context, c Command) (Output, error) {
	scoped := c
	scoped.Argv = append([]string{"systemd-run", "--scope", "--quiet", "--unit=" + c.Scope, "--"}, c.Argv...)
	cmd, err := r.command(context.WithoutCancel(ctx), scoped)
	if err != nil {
		return Output{}, err
	}
	cmd.Cancel = func() error { return nil }
	output := ScopeOutput(c.Scope)
	if err := os.MkdirAll(scopeOutputDir, 0o755); err != nil {
		return Output{}, err
	}
	stdout, err := os.OpenFile(output[0], os.O_WRONLY|os.O_CREATE|os.O_TRUNC|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return Output{}, err
	}
	defer stdout.Close()
	stderr, err := os.OpenFile(output[1], os.O_WRONLY|os.O_CREATE|os.O_TRUNC|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return Output{}, err
	}
	defer stderr.Close()
	cmd.Stdout, cmd.Stderr = stdout, stderr
	if err := cmd.Start(); err != nil {
		return Output{}, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case <-ctx.Done():
		return Output{}, fmt.Errorf("it goes on as %s.scope: %w", c.Scope, ctx.Err())
	case err := <-ended:
		out, err := exited(Output{Stdout: tail(output[0]), Stderr: tail(output[1])}, err)
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
			err = fmt.Errorf("%w: %w", ErrKilled, err)
		}
		return out, err
	}
}

// tail returns the end of a file, at most maxOutput bytes.
func tail(name string) []byte {
	content, err := os.ReadFile(name)
	if err != nil {
		return nil
	}
	return content[max(0, len(content)-maxOutput):]
}

// bounded keeps the first maxOutput bytes written to it and drops the rest. It does not embed
// bytes.Buffer, whose ReadFrom has no limit.
type bounded struct{ kept []byte }

func (b *bounded) Write(p []byte) (int, error) {
	room := maxOutput - len(b.kept)
	b.kept = append(b.kept, p[:min(room, len(p))]...)
	return len(p), nil
}
