package box

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Result is how a command in a box ended.
type Result struct {
	Stdout, Stderr string
	Code           int // 128 + the signal's number if a signal ended it
}

// Command returns a command to be run in the box as root, with a clean environment, outside of all
// its units, or in a chroot if the box is off. Use it for what Exec does not offer: standard input,
// output as it comes.
func (b *Box) Command(ctx context.Context, args ...string) *exec.Cmd {
	var enter []string
	if leader := b.Leader(); leader != 0 {
		enter = []string{"nsenter", "--target", strconv.Itoa(leader), "--all", "--"}
	} else {
		enter = []string{"chroot", b.Root}
	}
	enter = append(enter, args...)
	cmd := exec.CommandContext(ctx, enter[0], enter[1:]...)
	cmd.Env = []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=/root", "USER=root", "LOGNAME=root", "LANG=C.UTF-8", "TERM=dumb",
	}
	// nsenter forks, so kill the process group, or the command would live on.
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// Exec runs a command in the box as root. A command that fails is no error, see Result.Code. It
// returns an error if the command cannot be run, or is cut off by ctx or the end of the box.
func (b *Box) Exec(ctx context.Context, args ...string) (Result, error) {
	var stdout, stderr bytes.Buffer
	cmd := b.Command(ctx, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	r := Result{Stdout: stdout.String(), Stderr: stderr.String()}
	if ctx.Err() != nil {
		return r, fmt.Errorf("cannot run %q in %s to its end: %w", strings.Join(args, " "), b.Name, ctx.Err())
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		r.Code = exit.ExitCode()
		if status, ok := exit.Sys().(interface{ Signal() unix.Signal }); ok && r.Code < 0 {
			r.Code = 128 + int(status.Signal())
		}
		return r, nil
	}
	if err != nil {
		return r, fmt.Errorf("cannot run %q in %s: %w", strings.Join(args, " "), b.Name, err)
	}
	return r, nil
}

// ExecAs runs a command as a user of the box, without a session of its own: with the user's groups, HOME and,
// if the user is logged in, access to that session's bus.
func (b *Box) ExecAs(ctx context.Context, user string, args ...string) (Result, error) {
	const script = `cd; run=/run/user/$(id -u); [ ! -d "$run" ] || export XDG_RUNTIME_DIR="$run"; exec "$@"`
	return b.Exec(ctx, append([]string{"runuser", "-u", user, "--", "sh", "-c", script, "sh"}, args...)...)
}

// MustExec runs a command in the box as root and returns its standard output. The test fails if the command does.
func (b *Box) MustExec(t testing.TB, args ...string) string {
	t.Helper()
	r, err := b.Exec(untilDone(t), args...)
	return must(t, r, err, args)
}

// MustExecAs is MustExec for ExecAs.
func (b *Box) MustExecAs(t testing.TB, user string, args ...string) string {
	t.Helper()
	r, err := b.ExecAs(untilDone(t), user, args...)
	return must(t, r, err, args)
}

// untilDone returns the test's context without its cancellation, so that it can be used in
// t.Cleanup.
func untilDone(t testing.TB) context.Context { return context.WithoutCancel(t.Context()) }

func must(t testing.TB, r Result, err error, args []string) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if r.Code != 0 {
		t.Fatalf("%q ended with code %d\nstdout: %s\nstderr: %s", strings.Join(args, " "), r.Code, r.Stdout, r.Stderr)
	}
	return r.Stdout
}
