package system_test

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coreos/go-systemd/v22/journal"
	"github.com/google/go-cmp/cmp"

	"github.com/soe-agent/soe-agent/internal/system"
)

func TestALockIsHeldByOneAndSaysByWhom(t *testing.T) {
	root := t.TempDir()
	s, err := system.Open(system.Options{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	release, _, err := s.Lock("/run/x/lock", "the first")
	if err != nil {
		t.Fatal(err)
	}
	if _, holder, err := s.Lock("/run/x/lock", "the second"); !errors.Is(err, system.ErrLocked) || holder != "the first" {
		t.Errorf("%q has it: %v", holder, err)
	}
	release()
	if left, _ := filepath.Glob(filepath.Join(root, "run/x/*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := os.WriteFile(filepath.Join(root, "run/x/lock"), []byte("one that was killed, and whose words are long"), 0o644); err != nil {
		t.Fatal(err)
	}
	release, _, err = s.Lock("/run/x/lock", "the third")
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if _, holder, _ := s.Lock("/run/x/lock", ""); holder != "the third" {
		t.Errorf("%q has it", holder)
	}
}

func TestTheLockOfAnImageIsHeldByOneAndLeavesNothing(t *testing.T) {
	root := t.TempDir()
	s, err := system.Open(system.Options{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	release, err := s.LockImage()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.LockImage(); !errors.Is(err, system.ErrLocked) {
		t.Errorf("there is a second: %v", err)
	}
	release()
	if release, err = s.LockImage(); err != nil {
		t.Fatal(err)
	}
	release()
	if left, _ := os.ReadDir(root); len(left) > 0 {
		t.Errorf("left behind: %v", left)
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
	t.Setenv("JOURNAL_STREAM", "1:2") // of somebody who ran us from a service of theirs
	var out strings.Builder
	slog.New(system.LogTo(&out, slog.LevelInfo)).Info("said")
	file, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	slog.New(system.LogTo(file, slog.LevelInfo)).Info("said")
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
