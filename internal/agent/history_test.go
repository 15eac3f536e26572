package agent

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/soe-agent/soe-agent/internal/history"
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
