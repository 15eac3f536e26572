package converge

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"

	"github.com/soe-agent/soe-agent/internal/system"
)

// HoldsSecret records that a file will hold a secret of the policy. It has to be called before the file is
// written. The record stays, whatever happens to the policy, until HoldsNoSecret.
func (l *Ledger) HoldsSecret(name string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.secret[name] {
		return nil
	}
	l.note(line{Secret: name})
	if err := l.flush(); err != nil {
		delete(l.secret, name) // the caller does not write the file
		return fmt.Errorf("cannot note that %s is to hold a secret: %w", name, err)
	}
	return nil
}

// HoldsNoSecret records that the file was written without a secret, or is gone.
func (l *Ledger) HoldsNoSecret(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.secret[name] {
		l.note(line{Public: name})
	}
}

// SecretFiles returns the files that the ledger in dir records as holding a secret, sorted, whichever
// machine wrote the ledger. It returns none if there is no ledger. Of a damaged one it returns those that
// are known, and an error: there may be more.
func SecretFiles(files system.FileReader, dir string) ([]string, error) {
	l := newLedger()
	l.dir = dir
	content, err := files.ReadFile(l.path())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the ledger: %w", err)
	}
	if lines := l.read(content); lines == 0 && l.damaged == nil {
		l.damaged = fmt.Errorf("the ledger %s is empty", l.path())
	}
	if l.damaged != nil {
		err = fmt.Errorf("cannot tell all files that hold a secret: %w; look for them with soe-agent image audit, remove %s and try again", l.damaged, l.path())
	}
	return slices.Sorted(maps.Keys(l.secret)), err
}
