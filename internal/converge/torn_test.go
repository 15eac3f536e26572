package converge_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/soe-agent/soe-agent/internal/system"
)

// Whoever takes a copy that cannot be read for none leaves the agent's file in place for ever, or removes what
// somebody had there.
func TestACopyOfWhatWasThereThatCannotBeUnderstoodIsSaidAndNotTakenForNone(t *testing.T) {
	root := t.TempDir()
	put(t, root, dropin, "theirs")
	if err := files(t, root, nil, openLedger(t, root, nil)).WriteFile(dropin, []byte("ours"), own()); err != nil {
		t.Fatal(err)
	}
	copies, err := filepath.Glob(filepath.Join(root, stateDir, "backups", "*"))
	if err != nil || len(copies) != 1 {
		t.Fatalf("there are %v, %v", copies, err)
	}
	name := strings.TrimPrefix(copies[0], root)
	whole, err := os.ReadFile(copies[0])
	if err != nil {
		t.Fatal(err)
	}
	var newer map[string]any
	if err := json.Unmarshal(whole, &newer); err != nil {
		t.Fatal(err)
	}
	contents := []string{"null", "{}", "[]", strings.Repeat("\x00", len(whole)), strings.Replace(string(whole), dropin, "/etc/another", 1)}
	for cut := range whole {
		contents = append(contents, string(whole[:cut]))
	}
	for key, value := range newer { // of another agent, which has more to say of it
		newer[key] = []any{map[string]any{"of": value}}
		raw, _ := json.Marshal(newer)
		contents, newer[key] = append(contents, string(raw)), value
	}
	for _, content := range contents {
		put(t, root, name, content)
		put(t, root, filepath.Join(stateDir, "backups", ".0.json.soe.swp"), "{") // what a crash leaves is no copy
		l := openLedger(t, root, nil)
		if err := l.Damaged(); err == nil || !strings.Contains(err.Error(), "1 of 1 copies") || !strings.Contains(err.Error(), name) {
			t.Errorf("%q: the ledger says %v", content, err)
		}
		if _, kept, err := l.Original(dropin); err == nil || kept || !strings.Contains(err.Error(), name) {
			t.Errorf("%q: kept %v, %v", content, kept, err)
		}
		if all, err := l.Files(); err == nil {
			t.Errorf("%q: what can be given back is %v", content, all)
		}
		asked := errors.New("asked")
		if err := l.Release(dropin, func(system.Original) error { return asked }, func() error { return asked }); err == nil || errors.Is(err, asked) {
			t.Errorf("%q: given back with %v", content, err)
		}
		if err := l.Backup(dropin, &system.Original{Content: []byte("ours")}); err != nil {
			t.Errorf("%q: %v", content, err)
		}
		if got, err := os.ReadFile(copies[0]); err != nil || string(got) != content {
			t.Errorf("%q became %q, %v", content, got, err)
		}
	}
	if err := os.Remove(copies[0]); err != nil {
		t.Fatal(err)
	}
	l := openLedger(t, root, nil)
	if _, kept, err := l.Original(dropin); err != nil || kept || l.Damaged() != nil {
		t.Errorf("once the copy is removed: kept %v, %v, %v", kept, err, l.Damaged())
	}
}

func TestALedgerThatIsCutShortAnywhereIsOpenedAndThatIsSaid(t *testing.T) {
	root := t.TempDir()
	ledger := openLedger(t, root, nil)
	ledger.Own("package/a")
	ledger.Own("package/b")
	if err := ledger.Flush(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(ledgerFile(root))
	if err != nil {
		t.Fatal(err)
	}
	for cut := range whole {
		put(t, root, stateDir+"/ledger.jsonl", string(whole[:cut]))
		between := cut > 1 && (whole[cut-1] == '\n' || whole[cut] == '\n') // no line is cut, and the last may never have been written
		torn := openLedger(t, root, nil)
		if said := torn.Damaged(); (said == nil) != between || said != nil && !strings.Contains(said.Error(), stateDir+"/ledger.jsonl") {
			t.Errorf("%q: it says %v", whole[:cut], said)
		}
		if torn.Owns("package/b") {
			t.Errorf("%q: it knows what it cannot know", whole[:cut])
		}
	}
}
