package agent

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/history"
	"github.com/soe-agent/soe-agent/internal/public"
)

func TestAMachineRemembersNothingOfTheOneItIsACloneOf(t *testing.T) {
	root := t.TempDir()
	for name, content := range map[string]string{
		"etc/machine-id":               "0123456789abcdef0123456789abcdef\n",
		"etc/passwd":                   "root:x:0:0:root:/root:/bin/sh\n",
		StateDir + "/ledger.jsonl":     `{"machine":"another"}` + "\n",
		HistoryDir + "/00000007.jsonl": `{"id":"sudo/allow","event":"corrected"}` + "\n",
	} {
		file := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(content), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	m, err := Open(t.Context(), root, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if changes, err := history.Read(m.System.FS, HistoryDir, history.Query{}); err != nil || len(changes) > 0 {
		t.Errorf("it remembers %v, %v", changes, err)
	}
}

func TestALedgerThatIsDamagedIsSaidInTheJournalAndTheStatus(t *testing.T) {
	for content, said := range map[string]string{
		"\x00\x00\x00": "no line of the ledger " + StateDir + "/ledger.jsonl can be understood",
		`{"machine":"0123456789abcdef0123456789abcdef"}` + "\nx\n{\n": "2 of 3 lines of the ledger",
		`{"machine":"0123456789abcdef0123456789abcdef"}` + "\n":       "",
	} {
		root := t.TempDir()
		d := newTestDaemon(t, root, "1.0")
		file := filepath.Join(root, StateDir, "ledger.jsonl")
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(content), 0o600)); err != nil {
			t.Fatal(err)
		}
		var log strings.Builder
		m, err := Open(t.Context(), root, nil, slog.New(slog.NewTextHandler(&log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		d.Machine = m
		d.mu.Lock()
		status := d.statusAs(public.Whole)
		d.mu.Unlock()
		if strings.Contains(log.String(), "level=ERROR") != (said != "") || !strings.Contains(log.String(), said) {
			t.Errorf("%q: the journal has %s", content, log.String())
		}
		if (status.Memory != "") != (said != "") || !strings.Contains(status.Memory, said) {
			t.Errorf("%q: the status has %q", content, status.Memory)
		}
	}
}
