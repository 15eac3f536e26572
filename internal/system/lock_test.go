package system_test

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coreos/go-systemd/v22/journal"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/soe-agent/soe-agent/internal/system"
)

const state = "/var/lib/soe-agent"

func TestALockIsHeldByOneWhoIsNamedAndLeavesNothing(t *testing.T) {
	root := t.TempDir()
	s, err := system.Open(system.Options{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	release, _, err := s.Lock(state)
	if err != nil {
		t.Fatal(err)
	}
	_, holders, err := s.Lock(state)
	if !errors.Is(err, system.ErrLocked) || len(holders) != 1 || holders[0].PID != os.Getpid() || !holders[0].Write {
		t.Errorf("%+v have it: %v", holders, err)
	}
	release()
	if left, _ := filepath.Glob(filepath.Join(root, state, "*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if release, _, err = s.Lock(state); err != nil {
		t.Fatal(err)
	}
	release()
}

func TestWhatIsLockedNobodyButRootCanOpen(t *testing.T) {
	for _, spoil := range []func(dir string) error{
		func(dir string) error { return os.Chmod(dir, 0o755) },
		func(dir string) error { return os.Chmod(dir, 0o701) },
		func(dir string) error { return os.Chown(dir, hostile, hostile) },
		os.Remove,
	} {
		root := t.TempDir()
		s, err := system.Open(system.Options{Root: root})
		if err != nil {
			t.Fatal(err)
		}
		dir := filepath.Join(root, state)
		if err := errors.Join(os.MkdirAll(dir, 0o700), spoil(dir)); err != nil {
			t.Fatal(err)
		}
		release, _, err := s.Lock(state)
		if err != nil {
			t.Fatal(err)
		}
		defer release()
		if info, err := s.FS.Stat(state); err != nil || info.Mode != 0o700 || info.UID != os.Geteuid() {
			t.Errorf("%+v, %v", info, err)
		}
	}
}

func TestALockIsNotTakenWhereALinkLeadsThatOthersMayTurn(t *testing.T) {
	root := t.TempDir()
	link(t, root, "../../home/u/state", state)
	put(t, root, "/home/u/state/x", "")
	give(t, hostile, root, state)
	s, err := system.Open(system.Options{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Lock(state); !errors.Is(err, system.ErrLink) {
		t.Error(err)
	}
}

func TestWhoHoldsALockIsNamedWhateverItsSort(t *testing.T) {
	root := t.TempDir()
	put(t, root, "/etc/x", "x")
	s, err := system.Open(system.Options{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	hold := func(how func(fd int) error) func() {
		f, err := os.OpenFile(filepath.Join(root, "etc/x"), os.O_RDWR, 0)
		if err == nil {
			err = how(int(f.Fd()))
		}
		if err != nil {
			t.Fatal(err)
		}
		return func() { f.Close() }
	}
	lock := func(cmd int, kind int16) func(int) error {
		return func(fd int) error { return unix.FcntlFlock(uintptr(fd), cmd, &unix.Flock_t{Type: kind}) }
	}
	for want, how := range map[string]func(int) error{
		"FLOCK true":   func(fd int) error { return unix.Flock(fd, unix.LOCK_EX) },
		"FLOCK false":  func(fd int) error { return unix.Flock(fd, unix.LOCK_SH) },
		"POSIX true":   lock(unix.F_SETLK, unix.F_WRLCK),
		"POSIX false":  lock(unix.F_SETLK, unix.F_RDLCK),
		"OFDLCK true":  lock(unix.F_OFD_SETLK, unix.F_WRLCK),
		"OFDLCK false": lock(unix.F_OFD_SETLK, unix.F_RDLCK),
	} {
		release := hold(how)
		holders, err := s.Holders("/etc/x")
		if err != nil || len(holders) != 1 || holders[0].PID != os.Getpid() || len(holders[0].Command) == 0 ||
			fmt.Sprint(holders[0].Lock, " ", holders[0].Write) != want {
			t.Errorf("%s: %+v, %v", want, holders, err)
		}
		release()
	}
	if holders, err := s.Holders("/etc/x"); err != nil || len(holders) > 0 {
		t.Errorf("%+v, %v", holders, err)
	}
}

func TestTheJournalHasFieldsToFindALineBy(t *testing.T) {
	type line struct {
		Message  string
		Priority journal.Priority
		Fields   map[string]string
	}
	var got []line
	level := &slog.LevelVar{}
	log := slog.New(system.NewJournalHandler(level, func(message string, priority journal.Priority, fields map[string]string) error {
		got = append(got, line{message, priority, fields})
		return nil
	}))
	log.Debug("not said")
	log.With("policy", "sha256:1").Info("corrected", "resource", "dropin/etc/x", "kind", "dropin", "state", "corrected")
	level.Set(slog.LevelDebug)
	log.Debug("ran a command", "argv", []string{"a b"})
	log.Error("cannot")
	want := []line{
		{"corrected resource=dropin/etc/x kind=dropin state=corrected", journal.PriInfo, map[string]string{
			"SYSLOG_IDENTIFIER": "soe-agent", "SOE_RESOURCE": "dropin/etc/x", "SOE_KIND": "dropin", "SOE_STATE": "corrected", "SOE_POLICY": "sha256:1",
		}},
		{`ran a command argv="[a b]"`, journal.PriDebug, map[string]string{"SYSLOG_IDENTIFIER": "soe-agent"}},
		{"cannot", journal.PriErr, map[string]string{"SYSLOG_IDENTIFIER": "soe-agent"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestWhatIsNotTheJournalGetsText(t *testing.T) {
	t.Setenv("JOURNAL_STREAM", "1:2") // inherited from somebody who ran us from a service
	var out strings.Builder
	slog.New(system.LogTo(&out, slog.LevelInfo, false)).Info("said")
	file, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	slog.New(system.LogTo(file, slog.LevelInfo, false)).Info("said")
	content, err := os.ReadFile(file.Name())
	if err != nil {
		t.Fatal(err)
	}
	for _, got := range []string{out.String(), string(content)} {
		if !strings.HasPrefix(got, "time=") || !strings.HasSuffix(got, "level=INFO msg=said\n") {
			t.Errorf("got %q", got)
		}
	}
}
