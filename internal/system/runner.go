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
	Stdin   []byte        // nil: none, as of /dev/null
	Timeout time.Duration // 0: a minute
	// ReadOnly is true for a command that changes nothing, which a plan may run.
	ReadOnly bool
	// Scope, when set, names a transient systemd scope in which the command runs:
	// it then outlives the agent, and no signal is ever sent to it. When ctx ends
	// first, Run returns and the command goes on. Its output is in ScopeOutput.
	Scope string
	// Staged, when set, is what the command sees in place of files that are there. Only
	// root can have it see that.
	Staged Staged
	// Terminal has the command find a terminal of its own, where there is one to be had: some
	// refuse to answer anybody who has none. Nothing is typed in it, nor read from it.
	Terminal bool
	// Confined, when set, is how a command of somebody else's making runs. Only
	// root can. One that is another user's runs apart.
	Confined *Confinement
	// OwnScope runs a command in a transient scope of its own, out of the agent's cgroup,
	// while systemd is there: one that may become another user, who could hold or stop
	// it. It ends with its timeout, and all that it has started with it.
	OwnScope bool
}

func (c Command) String() string { return strings.Join(c.Argv, " ") }

// Output is what came of a command that ran to its end.
type Output struct {
	ExitCode int
	Stdout   []byte // 4 MiB at the most
	Stderr   []byte
}

// LastLine is the last line of the errors, or of the output, that says
// something: most tools put their reason there.
func (o Output) LastLine() string {
	for _, text := range [][]byte{o.Stderr, o.Stdout} {
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		if last := strings.TrimSpace(lines[len(lines)-1]); last != "" {
			return last
		}
	}
	return fmt.Sprintf("exit code %d", o.ExitCode)
}

// ErrKilled is wrapped by the error of a command in a scope that somebody has killed.
var ErrKilled = errors.New("it was killed")

// ErrNotInstalled is wrapped by the error of a command whose program is not there.
var ErrNotInstalled = errors.New("the program is not installed")

// A Runner runs commands. An exit code other than 0 is no error: what it means
// only the caller knows. An error means that the command could not be started,
// did not end in time, or was killed.
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
	bus  *bus // of a machine that runs

	mu    sync.Mutex
	stuck map[string]time.Time // the commands that could not be ended, and since when
}

// ErrStuck is wrapped by the error of a command whose last run could not be ended: as
// long as it is there, no other joins it.
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
		return out, public.Error(fmt.Errorf("cannot run %s: %w", c.Argv[0], err)) // no word of what it said
	}
	return out, nil
}

// systemdRuns is there when systemd does: sd_booted(3).
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

// hasNullDevice says whether /dev/null is what it should be. A command would not start without,
// and wait without end for one that is a pipe: then it gets one of its own that has ended.
func hasNullDevice() bool {
	var is unix.Stat_t
	return unix.Lstat(os.DevNull, &is) == nil && is.Mode&unix.S_IFMT == unix.S_IFCHR && is.Rdev == unix.Mkdev(1, 3)
}

// lookPath finds a program below the root in the fixed path, not in the
// agent's environment. Only where all places could be looked at is there none.
func (r *runner) lookPath(program string) (string, error) {
	candidates := []string{program}
	if !strings.Contains(program, "/") {
		candidates = candidates[:0]
		for dir := range strings.SplitSeq(commandPath, ":") {
			candidates = append(candidates, filepath.Join(dir, program))
		}
	}
	for _, candidate := range candidates {
		switch is, err := r.isProgram(candidate); {
		case err != nil:
			return "", fmt.Errorf("cannot tell whether there is %s: %w", candidate, err)
		case is:
			return candidate, nil
		}
	}
	return "", ErrNotInstalled
}

func (r *runner) isProgram(name string) (bool, error) {
	if err := r.look.at("find", name); err != nil {
		return false, err
	}
	info, err := os.Stat(filepath.Join(r.root, name))
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return false, nil
	case err != nil:
		return false, err
	}
	return info.Mode().IsRegular() && info.Mode()&0o111 != 0, nil
}

func (r *runner) run(parent context.Context, c Command, apart bool) (Output, error) {
	if since, is := r.isStuck(c); is {
		return Output{}, fmt.Errorf("its run of %s is still there: %w", since.Local().Format(time.TimeOnly), ErrStuck)
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
	// The whole group: a child that holds our pipe must not hold us up.
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
		if !errors.Is(ended, ErrStuck) { // or somebody writes them still
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

// start starts a command where it is to run. end is called when it has ended.
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
		return nothing, startStaged(cmd, r.root, c.Staged)
	}
	return nothing, cmd.Start()
}

// untilStuck is how long a command may take to end when it has been killed. One that
// waits in the kernel for a file server, or for a file system that is a person's own
// program, does not.
const untilStuck = 2 * time.Second

// wait waits for the end of a command, and when that does not come leaves it behind.
// When it has come, over is closed.
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

// key is the same for the same command of the same user.
func (c Command) key() string {
	uid := 0
	if c.Confined != nil {
		uid = c.Confined.UID
	}
	return fmt.Sprintf("%d %q", uid, c.Argv)
}

// maxStuck bounds how many commands of one user are left behind: whoever holds one up
// can hold up others.
const maxStuck = 4

// isStuck says whether a command is not to be run, since when the one is there for whose
// sake that is so.
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

// exited makes an exit code of the error that says so.
func exited(out Output, err error) (Output, error) {
	if errors.Is(err, exec.ErrWaitDelay) {
		return out, nil // it has exited with 0, and left a child behind that holds the pipe
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		out.ExitCode = exit.ExitCode()
		return out, nil
	}
	return out, err
}

// ScopeOutput are the files that hold the standard output and the errors of the
// command that runs, or was the last to run, in a scope.
func ScopeOutput(scope string) [2]string {
	base := filepath.Join(scopeOutputDir, scope)
	return [2]string{base + ".out", base + ".err"}
}

// runInScope starts the command by systemd-run, which puts itself into the new
// scope and then becomes the command. Its output goes to files: a pipe would
// break when the agent ends, and with it some scriptlets.
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

// tail is the end of a file, as much as an Output may hold.
func tail(name string) []byte {
	content, err := os.ReadFile(name)
	if err != nil {
		return nil
	}
	return content[max(0, len(content)-maxOutput):]
}

// bounded keeps the first maxOutput bytes written to it and swallows the rest.
// It embeds no bytes.Buffer, whose ReadFrom would know no bound.
type bounded struct{ kept []byte }

func (b *bounded) Write(p []byte) (int, error) {
	room := maxOutput - len(b.kept)
	b.kept = append(b.kept, p[:min(room, len(p))]...)
	return len(p), nil
}
