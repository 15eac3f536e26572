package system_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/soe-agent/soe-agent/internal/system"
)

// silentFiles mounts a file system that any user's program can provide (fuse(4)), and that never
// answers: a process that accesses it cannot even be killed. The end of the test unmounts it.
func silentFiles(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := errors.Join(os.Chmod(filepath.Dir(dir), 0o755), os.Chmod(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	device, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", device)
	if err := unix.Mount("silent", dir, "fuse", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(unix.Unmount(dir, unix.MNT_FORCE|unix.MNT_DETACH), unix.Close(device)); err != nil {
			t.Error(err)
		}
	})
	order := binary.NativeEndian
	buffer := make([]byte, 256<<10)
	if _, err := unix.Read(device, buffer); err != nil { // FUSE_INIT
		t.Fatal(err)
	}
	answer := make([]byte, 16+64) // struct fuse_out_header, struct fuse_init_out
	order.PutUint32(answer, uint32(len(answer)))
	copy(answer[8:16], buffer[8:16]) // the request's id
	order.PutUint32(answer[16:], 7)
	order.PutUint32(answer[20:], 31)
	order.PutUint32(answer[36:], 4096) // max_write
	if _, err := unix.Write(device, answer); err != nil {
		t.Fatal(err)
	}
	go func() {
		for { // the kernel waits for a request that was read, in spite of signals
			if _, err := unix.Read(device, buffer); err != nil {
				return
			}
		}
	}()
	return dir
}

func TestACommandThatDoesNotEndIsLeftBehindAndNoOtherJoinsIt(t *testing.T) {
	t.Parallel()
	dir := silentFiles(t)
	r := runner(t, nil)
	for name, confined := range map[string]*system.Confinement{"root": nil, "root, confined": {}, "nobody": {UID: 65534, GID: 65534}} {
		t.Run(name, func(t *testing.T) {
			command := system.Command{
				Argv: []string{"stat", filepath.Join(dir, strings.ReplaceAll(name, " ", "-"))}, Timeout: 200 * time.Millisecond, ReadOnly: true, Confined: confined,
			}
			start := time.Now()
			if _, err := r.Run(t.Context(), command); !errors.Is(err, system.ErrStuck) {
				t.Fatalf("it ended with %v", err)
			}
			if took := time.Since(start); took > 20*time.Second {
				t.Errorf("it was waited for for %s", took)
			}
			for range 5 {
				start := time.Now()
				if _, err := r.Run(t.Context(), command); !errors.Is(err, system.ErrStuck) || errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("another one has joined it: %v, after %s", err, time.Since(start))
				}
			}
			if left := leftOf(t, command.Argv[1]); left != 1 {
				t.Errorf("%d of them are left behind", left)
			}
		})
	}
	out, err := r.Run(t.Context(), sh("echo goes on"))
	if err != nil || string(out.Stdout) != "goes on\n" {
		t.Errorf("another command: %q, %v", out.Stdout, err)
	}
}

// A home may be on a server that has gone, or be served by the person's own program.
func TestALookAtAHomeThatIsNotAnsweredHoldsUpNobodyAndIsNotBegunAgain(t *testing.T) {
	dir := silentFiles(t)
	s, err := system.Open(system.Options{})
	if err != nil {
		t.Fatal(err)
	}
	before := threads(t)
	for i := range 20 {
		start := time.Now()
		_, err := s.StatHome(t.Context(), dir)
		_, listErr := s.ListHomes(t.Context(), dir)
		if !errors.Is(err, system.ErrHangs) || !errors.Is(listErr, system.ErrHangs) {
			t.Fatalf("%v, %v", err, listErr)
		}
		if took := time.Since(start); took > 20*time.Second || i > 0 && took > 5*time.Second {
			t.Errorf("attempt %d took %s", i+1, took)
		}
	}
	if now := threads(t); now > before+10 {
		t.Errorf("%d threads have become %d", before, now)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.StatHome(ctx, filepath.Join(dir, "other")); !errors.Is(err, system.ErrHangs) {
		t.Error(err)
	}
	if info, err := s.StatHome(t.Context(), t.TempDir()); err != nil || !info.IsDir() {
		t.Errorf("another home: %+v, %v", info, err)
	}
}

func threads(t *testing.T) int {
	t.Helper()
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	return len(tasks)
}

// leftOf counts the processes with a word on their command line.
func leftOf(t *testing.T, word string) (n int) {
	t.Helper()
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range lines {
		if words, err := os.ReadFile(line); err == nil && strings.Contains(string(words), "stat\x00"+word+"\x00") {
			n++
		}
	}
	return n
}

func TestAPersonsCommandIsNotStartedWhereItCannotBeToldWhetherSystemdIsThere(t *testing.T) {
	s, err := system.Open(system.Options{Look: func(l system.Look) error {
		if l.Op == "stat" && l.Target == "/run/systemd/system" {
			return unix.EIO
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	mark := filepath.Join(t.TempDir(), "started")
	for name, command := range map[string]system.Command{
		"another user": {Argv: []string{"touch", mark}, ReadOnly: true, Confined: &system.Confinement{UID: 65534, GID: 65534}},
		"apart":        {Argv: []string{"touch", mark}, ReadOnly: true, OwnScope: true},
	} {
		if _, err := s.Runner.Run(t.Context(), command); !errors.Is(err, unix.EIO) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := os.Lstat(mark); err == nil {
		t.Error("it was started")
	}
}
