package system

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// procOf returns the FS of a root with these files in /proc.
func procOf(t *testing.T, files map[string]string) FS {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		file := filepath.Join(root, "proc", name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s, err := Open(Options{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	return s.FS
}

func TestTheProcessesOfAControlGroupAreFoundInEitherHierarchy(t *testing.T) {
	const state = "7 (a) S 1"
	for name, lines := range map[string][3]string{ // lines for process 1, for a process in the group, and for one outside
		"the old one":            {"1:name=systemd:/\n", "4:cpu:/\n1:name=systemd:/system.slice/a.scope\n", "4:cpu:/system.slice/a.scope\n1:name=systemd:/system.slice/b.scope\n"},
		"both":                   {"1:name=systemd:/init.scope\n0::/init.scope\n", "1:name=systemd:/\n0::/system.slice/a.scope\n", "1:name=systemd:/\n0::/\n"},
		"the new one":            {"0::/init.scope\n", "0::/system.slice/a.scope/below\n", "0::/system.slice/a.scope.more\n"},
		"one that has gone":      {"0::/init.scope\n", "0::/system.slice/a.scope (deleted)\n", "0::/user.slice/x/system.slice/a.scope\n"},
		"a container's, unaware": {"1:name=systemd:/machine.slice/m\n", "1:name=systemd:/machine.slice/m/system.slice/a.scope\n", "1:name=systemd:/system.slice/a.scope\n"},
	} {
		files := procOf(t, map[string]string{
			"1/cgroup": lines[0], "1/stat": state, "7/cgroup": lines[1], "7/stat": state, "8/cgroup": lines[2], "8/stat": state,
			"9/cgroup": lines[1], "9/stat": "9 (a) Z 1", "self/cgroup": lines[1], "10/stat": state, // ended since it was listed
		})
		if got, err := Members(files, "system.slice/a.scope"); err != nil || !slices.Equal(got, []string{"7"}) {
			t.Errorf("in %s it has %q, %v", name, got, err)
		}
	}
	if got, err := Members(procOf(t, map[string]string{"7/cgroup": "0::/a.scope\n"}), "a.scope"); err == nil {
		t.Errorf("where nothing can be told it has %q", got)
	}
}

func TestASessionIsOverWhenNothingOfItRunsAndNotBefore(t *testing.T) {
	s, err := Open(Options{})
	if err != nil {
		t.Fatal(err)
	}
	const person = 54321
	leader := exec.Command("sleep", "infinity")
	program := exec.Command("sleep", "infinity")
	program.Dir, program.SysProcAttr = "/", &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: person, Gid: person}}
	for _, cmd := range []*exec.Cmd{leader, program} {
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	}
	is := func(want bool, when string) {
		t.Helper()
		if got := (leftovers{s.FS, map[uint32]bool{}}).isOver(person, uint32(leader.Process.Pid)); got != want {
			t.Errorf("%s it is over: %t", when, got)
		}
	}
	end := func(cmd *exec.Cmd) {
		t.Helper()
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
	}
	is(false, "while the login runs")
	end(leader)
	is(false, "while a program of the person's runs")
	end(program)
	is(true, "when nothing runs")
	if (leftovers{s.FS, map[uint32]bool{}}).isOver(person, 0) {
		t.Error("a session is over of which nobody knows who opened it")
	}
	manager := filepath.Join(t.TempDir(), "systemd") // what systemd runs for everybody who is logged in
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(sleep)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(manager, content, 0o755); err != nil {
		t.Fatal(err)
	}
	for dir := filepath.Dir(manager); strings.HasPrefix(dir, os.TempDir()) && dir != os.TempDir(); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	own := exec.Command(manager, "infinity")
	own.Dir, own.SysProcAttr = "/", program.SysProcAttr
	if err := own.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = own.Process.Kill(); _ = own.Wait() })
	if comm, err := os.ReadFile("/proc/" + strconv.Itoa(own.Process.Pid) + "/comm"); err != nil || string(comm) != "systemd\n" {
		t.Fatalf("it is %q, %v", comm, err)
	}
	is(true, "while only the person's own systemd runs")
}
