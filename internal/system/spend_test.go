package system

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// spentFor is the environment variable that tells a test's process how to start a command.
const spentFor = "SOE_TEST_SPENT_FOR"

// Only an init is sure to run in the main thread, which /proc shows for the process
// (runtime.LockOSThread). It keeps that thread locked until main unlocks it.
func init() {
	if os.Getenv(spentFor) != "" {
		runtime.LockOSThread()
	}
}

func TestMain(m *testing.M) {
	if name := os.Getenv(spentFor); name != "" {
		if err := spendBesideMain(starts()[name]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// starts returns the functions that use up a thread for one command.
func starts() map[string]func(*exec.Cmd) error {
	staged := Staged{"/etc/motd": []byte("staged\n")}
	over := make(chan struct{})
	close(over)
	return map[string]func(*exec.Cmd) error{
		"staged": func(cmd *exec.Cmd) error { return startStaged(cmd, "/", staged, nil) },
		"staged apart": func(cmd *exec.Cmd) error {
			return startedBy(cmd, over, func() error { return stage("/", staged, nil) })
		},
		"confined": func(cmd *exec.Cmd) error {
			cmd.SysProcAttr = &syscall.SysProcAttr{}
			end, err := startConfined(cmd, Confinement{UID: 65534, GID: 65534})
			end()
			return err
		},
	}
}

// spendBesideMain unlocks the main thread and starts a command. With one processor, the next
// goroutine would run in that thread.
func spendBesideMain(start func(*exec.Cmd) error) error {
	before := ofTheProcess()
	runtime.UnlockOSThread()
	cmd := exec.Command("true")
	if err := start(cmd); err != nil {
		return err
	}
	if err := cmd.Wait(); err != nil {
		return err
	}
	if now := ofTheProcess(); now != before {
		return fmt.Errorf("the process was\n%s and is\n%s", before, now)
	}
	return nil
}

// ofTheProcess returns what /proc shows for this process and what spending a thread may change.
func ofTheProcess() string {
	namespace, err := os.Readlink("/proc/self/ns/mnt")
	said := fmt.Sprintln(namespace, err)
	status, err := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		switch name, _, _ := strings.Cut(line, ":"); name {
		case "Uid", "Gid", "Groups", "CapBnd", "CapEff", "NoNewPrivs", "Seccomp":
			said += line
		}
	}
	return said + fmt.Sprintln(err)
}

// The main thread ends only with the process. If it were used up for a command, /proc/self/mounts
// would be those of that command for the rest of the daemon's life.
func TestWhatAThreadIsSpentOnIsNeverDoneToTheProcessItself(t *testing.T) {
	for name := range starts() {
		cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
		cmd.Env = append(os.Environ(), spentFor+"="+name, "GOMAXPROCS=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", name, err, out)
		}
	}
}
