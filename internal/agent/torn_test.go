package agent

import (
	"encoding/json"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/history"
	"github.com/soe-agent/soe-agent/internal/policysync"
	"github.com/soe-agent/soe-agent/internal/public"
	"github.com/soe-agent/soe-agent/internal/system"
)

// stateful is a machine with every file of state that the daemon itself reads when it starts.
func stateful(t *testing.T) (root string) {
	t.Helper()
	s := subscribed(t)
	s.publish(7, "one")
	s.looks()
	root = s.System.Root
	m, err := Open(t.Context(), root, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s.put("/proc/sys/kernel/random/boot_id", "boot\n")
	s.put("/etc/motd", "somebody's")
	if err := m.System.FS.WriteFile("/etc/motd", []byte("ours"), system.Attr{Mode: 0o644}); err != nil { // keeps a copy
		t.Fatal(err)
	}
	m.Ledger.Own("dropin/etc/motd")
	m.Ledger.MarkChanged("service/a", time.Now())
	if err := m.Ledger.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := m.History.Append([]history.Change{{ID: "sudo/allow", Event: "corrected"}, {ID: "sudo/polkit", Event: "corrected"}}); err != nil {
		t.Fatal(err)
	}
	sent, err := json.Marshal(outbox{Delivered: receipt{Digest: "d", Serial: 7, At: time.Now()}})
	if err != nil {
		t.Fatal(err)
	}
	s.put(complianceFile, string(sent))
	s.put(inventoryFile, string(sent))
	return root
}

// starts does with the files of state what a daemon does that starts, and returns all that is said.
func starts(t *testing.T, root string) string {
	t.Helper()
	var said strings.Builder
	m, err := Open(t.Context(), root, nil, slog.New(slog.NewTextHandler(&said, &slog.HandlerOptions{Level: slog.LevelWarn})))
	if err != nil {
		t.Errorf("the machine cannot be opened: %v", err)
		return ""
	}
	openCrashRecord(m.System.FS, m.Log, time.Now(), "1.0").markHealthy()
	config := Config{}
	config.AWS.Path = "/soe/prod"
	known, err := m.layers().Known(policysync.Subject{Facts: m.Facts, Path: config.AWS.Path})
	if err != nil || known.Policy == nil {
		t.Errorf("no policy is in force: %v", err)
	}
	said.WriteString(strings.Join(public.Whole(known.Refused), "\n"))
	for _, file := range []string{complianceFile, inventoryFile} {
		(&sender{file: file, files: m.System.FS, clock: m.System.Clock, log: m.Log.With("path", file), done: func(time.Time, error) {}}).load()
	}
	if _, err := history.Read(m.System.FS, HistoryDir, history.Query{}); err != nil {
		t.Errorf("the history cannot be read: %v", err)
	}
	return said.String()
}

// means says whether what is left of a file is all that it said, or no more and no less than an earlier one said.
func means(name string, whole []byte, cut int) bool {
	left := whole[:cut]
	switch {
	case strings.HasSuffix(name, ".jsonl") && strings.Contains(name, "history"):
		return true // what a crash has cut short is passed over
	case strings.HasSuffix(name, ".jsonl"):
		return cut > 1 && (left[cut-1] == '\n' || whole[cut] == '\n')
	}
	return json.Valid(left)
}

// A disk that was full, or lost its power, leaves any part of a file.
func TestWhereverAFileOfItsStateIsCutShortTheAgentStartsAndSaysWhichFile(t *testing.T) {
	root := stateful(t)
	if said := starts(t, root); said != "" {
		t.Fatalf("with all of it whole it says %s", said)
	}
	seen := map[string]bool{}
	err := filepath.WalkDir(filepath.Join(root, StateDir), func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		name := strings.TrimPrefix(file, root)
		if name == WholeReport {
			return nil // the first report replaces it, and the agent goes by none of it
		}
		seen[filepath.Base(filepath.Dir(file))+"/"+filepath.Ext(file)], seen[filepath.Base(file)] = true, true
		whole, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		cuts := rand.New(rand.NewPCG(11, 13)).Perm(len(whole))
		for _, cut := range append([]int{0, 1, len(whole) - 1}, cuts[:min(len(cuts), 40)]...) {
			if err := os.WriteFile(file, whole[:cut], 0o600); err != nil {
				return err
			}
			said := starts(t, root)
			if told := strings.Contains(said, filepath.Base(file)); told == means(name, whole, cut) {
				t.Errorf("%s, %d bytes of %d: it says %q", name, cut, len(whole), said)
			}
		}
		for _, newer := range []string{`{"schema":9,"machine":[{}],"identity":[1],"boot":{},"delivered":"x","path":{}}` + "\n", "[]\n"} {
			if err := os.WriteFile(file, []byte(newer), 0o600); err != nil {
				return err
			}
			if said := starts(t, root); !strings.Contains(said, filepath.Base(file)) && !strings.Contains(name, "history") {
				t.Errorf("%s of a newer agent: it says %q", name, said)
			}
		}
		return os.WriteFile(file, whole, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"ledger.jsonl", "lastgood.json", "life.json", "compliance.json", "inventory.json", "backups/.json", "history/.jsonl"} {
		if !seen[want] {
			t.Errorf("%s was not cut", want)
		}
	}
	if said := starts(t, root); said != "" {
		t.Errorf("with all of it whole again it says %s", said)
	}
}
