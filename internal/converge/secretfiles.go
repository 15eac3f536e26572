package converge

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"

	"github.com/soe-agent/soe-agent/internal/system"
)

// HoldsSecret notes, before it is written, that a file will hold a secret of the policy.
// It is known until the file is written without one, or goes, whatever becomes of the policy.
func (l *Ledger) HoldsSecret(name string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.secret[name] {
		return nil
	}
	l.note(line{Secret: name})
	if err := l.flush(); err != nil {
		delete(l.secret, name) // the file is not written
		return fmt.Errorf("cannot note that %s is to hold a secret: %w", name, err)
	}
	return nil
}

// HoldsNoSecret notes that a file has been written without one, or has gone.
func (l *Ledger) HoldsNoSecret(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.secret[name] {
		l.note(line{Public: name})
	}
}

// SecretFiles are the files that a ledger in dir knows to hold a secret, whichever
// machine wrote it.
func SecretFiles(files system.FileReader, dir string) ([]string, error) {
	content, err := files.ReadFile(path.Join(dir, ledgerFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the ledger: %w", err)
	}
	l := &Ledger{secret: map[string]bool{}}
	for raw := range bytes.SplitSeq(content, []byte("\n")) {
		var entry struct {
			Secret string `json:"secret"`
			Public string `json:"public"`
		}
		if json.Unmarshal(raw, &entry) == nil {
			l.learn(line{Secret: entry.Secret, Public: entry.Public})
		}
	}
	return slices.Sorted(maps.Keys(l.secret)), nil
}
