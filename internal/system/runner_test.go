package system_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/soe-agent/soe-agent/internal/system"
)

func runner(t *testing.T, gate system.Gate) system.Runner {
	t.Helper()
	s, err := system.Open(system.Options{Gate: gate})
	if err != nil {
		t.Fatal(err)
	}
	return s.Runner
}

// sh is only for these tests; the agent runs no shell.
func sh(script string, args ...string) system.Command {
	return system.Command{Argv: append([]string{"sh", "-c", script, "sh"}, args...), ReadOnly: true}
}

func TestACommandsWordsAreTakenAsTheyAre(t *testing.T) {
	out, err := runner(t, nil).Run(t.Context(), sh(`printf '<%s>' "$@"; cat; echo oops >&2; exit 3`, "a b", "$HOME", "*", "; id"))
	if err != nil {
		t.Fatal(err)
	}
	if got := string(out.Stdout); got != "<a b><$HOME><*><; id>" || out.ExitCode != 3 || out.LastLine() != "oops" {
		t.Errorf("%q, exit code %d, %q", got, out.ExitCode, out.LastLine())
	}
}

func TestACommandFindsATerminalOfItsOwnWhereItIsToHaveOne(t *testing.T) {
	const show = `tty; ps -o tty=,stat= -p $$`
	for _, staged := range []system.Staged{nil, {t.TempDir() + "/x": []byte("x")}} {
		if staged != nil && os.Getuid() != 0 {
			continue
		}
		with := sh(show)
		with.Terminal, with.Staged = true, staged
		out, err := runner(t, nil).Run(t.Context(), with)
		if err != nil {
			t.Fatal(err)
		}
		words := strings.Fields(string(out.Stdout))
		if len(words) != 3 || words[0] != "/dev/"+words[1] || !strings.Contains(words[2], "s") {
			t.Errorf("it has %q, %s", words, out.Stderr)
		}
	}
	out, err := runner(t, nil).Run(t.Context(), sh(show))
	if err != nil || !strings.HasPrefix(string(out.Stdout), "not a tty\n?") {
		t.Errorf("another one has %q, %v", out.Stdout, err)
	}
}

func TestACommandKnowsNothingOfTheAgentsEnvironment(t *testing.T) {
	t.Setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
	t.Setenv("LD_PRELOAD_X", "x")
	out, err := runner(t, nil).Run(t.Context(), system.Command{Argv: []string{"env"}, Env: []string{"ADDED=1"}, ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Fields(string(out.Stdout))
	slices.Sort(lines)
	want := []string{"ADDED=1", "HOME=/root", "LC_ALL=C", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestStandardInputIsGivenOrEmpty(t *testing.T) {
	c := system.Command{Argv: []string{"cat"}, Stdin: []byte("in"), ReadOnly: true}
	if out, err := runner(t, nil).Run(t.Context(), c); err != nil || string(out.Stdout) != "in" {
		t.Errorf("%q, %v", out.Stdout, err)
	}
	c.Stdin = nil
	if out, err := runner(t, nil).Run(t.Context(), c); err != nil || len(out.Stdout) > 0 {
		t.Errorf("%q, %v", out.Stdout, err)
	}
}

func TestOutputIsBounded(t *testing.T) {
	out, err := runner(t, nil).Run(t.Context(), sh("head -c 6000000 /dev/zero; head -c 5000000 /dev/zero >&2; exit 1"))
	if err != nil || out.ExitCode != 1 || len(out.Stdout) != 4<<20 || len(out.Stderr) != 4<<20 {
		t.Errorf("%d and %d bytes, exit code %d, %v", len(out.Stdout), len(out.Stderr), out.ExitCode, err)
	}
}

func TestADeadlineEndsTheWholeGroup(t *testing.T) {
	t.Parallel()
	note := filepath.Join(t.TempDir(), "pid")
	c := sh(`sleep 60 & echo $! > "$1"; echo begun; wait`, note)
	c.Timeout = 2 * time.Second // long enough for sh to print on a busy machine
	start := time.Now()
	out, err := runner(t, nil).Run(t.Context(), c)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "cannot run sh: it did not end within 2s") {
		t.Errorf("got %v", err)
	}
	if string(out.Stdout) != "begun\n" {
		t.Errorf("the output so far is %q", out.Stdout)
	}
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("a grandchild that holds the pipe held it up for %s", took)
	}
	pid, err := os.ReadFile(note)
	if err != nil {
		t.Fatal(err)
	}
	for ends := time.Now().Add(5 * time.Second); running(string(bytes.TrimSpace(pid))); {
		if time.Now().After(ends) {
			t.Fatal("the grandchild lives on")
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// running reports whether a process is running. A zombie is not.
func running(pid string) bool {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	return err == nil && !bytes.Contains(stat, []byte(") Z "))
}

func TestACancelledCommandSaysSo(t *testing.T) {
	ctx, stop := signal.NotifyContext(t.Context(), syscall.SIGUSR1)
	defer stop()
	_, err := runner(t, nil).Run(ctx, sh(`kill -USR1 "$1"; exec sleep 60`, strconv.Itoa(os.Getpid())))
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "it was stopped") {
		t.Errorf("got %v", err)
	}
}

// A tool that starts a daemon leaves it with the tool's pipe.
func TestACommandThatLeavesAChildBehindHasSucceeded(t *testing.T) {
	t.Parallel()
	note := filepath.Join(t.TempDir(), "pid")
	start := time.Now()
	out, err := runner(t, nil).Run(t.Context(), sh(`sleep 60 & echo $! > "$1"; echo done`, note))
	if err != nil || out.ExitCode != 0 || string(out.Stdout) != "done\n" || time.Since(start) > 30*time.Second {
		t.Errorf("%q, exit code %d, %v, after %s", out.Stdout, out.ExitCode, err, time.Since(start))
	}
	if pid, _ := os.ReadFile(note); !running(string(bytes.TrimSpace(pid))) {
		t.Error("the child was killed")
	} else if out, err := runner(t, nil).Run(t.Context(), sh("kill "+string(pid))); err != nil || out.ExitCode != 0 {
		t.Error(out, err)
	}
}

func TestAKilledCommandIsAnError(t *testing.T) {
	if out, err := runner(t, nil).Run(t.Context(), sh("kill -9 $$")); err == nil {
		t.Errorf("exit code %d", out.ExitCode)
	}
}

func TestOnlyAProgramThatIsNotThereIsNotInstalled(t *testing.T) {
	file := filepath.Join(t.TempDir(), "data")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", filepath.Dir(file))
	for _, program := range []string{"no-such-program", "/no/such/program", file, "/etc"} {
		_, err := runner(t, nil).Run(t.Context(), system.Command{Argv: []string{program}, ReadOnly: true})
		there := program == file || program == "/etc"
		if errors.Is(err, system.ErrNotInstalled) == there || errors.Is(err, system.ErrNotExecutable) != there || !strings.HasPrefix(err.Error(), "cannot run "+program) {
			t.Errorf("%s: %v", program, err)
		}
	}
	if _, err := runner(t, nil).Run(t.Context(), system.Command{}); err == nil {
		t.Error("a command without words was run")
	}
}

func TestAReadOnlySystemRunsWhatChangesNothing(t *testing.T) {
	note := filepath.Join(t.TempDir(), "note")
	c := sh(`: > "$1"`, note)
	c.ReadOnly = false
	if _, err := runner(t, system.ReadOnly).Run(t.Context(), c); !errors.Is(err, system.ErrReadOnly) {
		t.Errorf("got %v", err)
	}
	if _, err := os.Lstat(note); err == nil {
		t.Error("it ran")
	}
	c.ReadOnly = true
	if _, err := runner(t, system.ReadOnly).Run(t.Context(), c); err != nil {
		t.Error(err)
	}
}

func TestACommandHasItsOwnProcessGroup(t *testing.T) {
	out, err := runner(t, nil).Run(t.Context(), sh(`cut -d' ' -f5 /proc/self/stat; pwd`))
	words := strings.Fields(string(out.Stdout))
	if err != nil || len(words) != 2 || words[0] == strconv.Itoa(syscall.Getpgrp()) || words[1] != "/" {
		t.Errorf("%q, %v", words, err)
	}
}

func TestTheLastLineIsWhereToolsPutTheirReason(t *testing.T) {
	for _, test := range []struct {
		out  system.Output
		want string
	}{
		{system.Output{Stdout: []byte("a\nb\n"), Stderr: []byte("c\n d \n\n")}, "d"},
		{system.Output{Stdout: []byte("a\nb\n"), Stderr: []byte(" \n")}, "b"},
		{system.Output{ExitCode: 7}, "exit code 7"},
	} {
		if got := test.out.LastLine(); got != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
	}
}
