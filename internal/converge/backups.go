package converge

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/system"
)

// Backup implements system.BackupStore. It keeps what was at name before the agent first replaces or
// removes it; later calls for the same name do nothing. A nil old means that nothing was there: then
// the ledger records that the agent made the file. The caller must not make the change after an error.
func (l *Ledger) Backup(name string, old *system.Original) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lost != nil {
		return fmt.Errorf("cannot keep the old %s: %w", name, l.lost)
	}
	if l.made[name] {
		return nil
	}
	_, err := l.files.Stat(l.backupPath(name))
	if err == nil {
		return nil // the original is kept already
	}
	if !errors.Is(err, fs.ErrNotExist) { // an original may be there, and must not be replaced
		return fmt.Errorf("cannot tell whether the old %s is kept: %w", name, err)
	}
	if old == nil {
		l.note(line{Made: name})
		if err := l.flush(); err != nil {
			delete(l.made, name) // the caller does not make the change
			return fmt.Errorf("cannot note that %s is new: %w", name, err)
		}
		return nil
	}
	raw, err := json.Marshal(backup{Path: name, Original: *old})
	if err != nil {
		return fmt.Errorf("cannot keep the old %s: %w", name, err)
	}
	if err := l.files.MkdirAll(l.dir, 0o700); err != nil {
		return fmt.Errorf("cannot keep the old %s: %w", name, err)
	}
	if err := l.files.WriteFile(l.backupPath(name), raw, ownAttr()); err != nil {
		return fmt.Errorf("cannot keep the old %s: %w", name, err)
	}
	return nil
}

type backup struct {
	Path string `json:"path"`
	system.Original
}

func (l *Ledger) backupPath(name string) string {
	sum := sha256.Sum256([]byte(name))
	return path.Join(l.dir, "backups", hex.EncodeToString(sum[:8])+".json")
}

// errDamagedCopy is why a kept original is of no use. It is not taken for none: what was there before would be lost
// without a word.
var errDamagedCopy = errors.New("it is cut short or of a newer agent, and cannot be understood; put it right, or remove it if what was there before is not needed")

// readBackup reads one kept original. The error wraps fs.ErrNotExist if there is none, and errDamagedCopy if it cannot
// be understood.
func (l *Ledger) readBackup(file string) (backup, error) {
	var b backup
	raw, err := l.files.ReadFile(file)
	if err == nil && (json.Unmarshal(raw, &b) != nil || l.backupPath(b.Path) != file) {
		err = fmt.Errorf("cannot use %s: %w", file, errDamagedCopy)
	}
	return b, err
}

// backupFiles returns the files with kept originals. What a crash left of one that was being written is none.
func (l *Ledger) backupFiles() ([]string, error) {
	dir := path.Join(l.dir, "backups")
	names, err := l.files.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var files []string
	for _, name := range names {
		if !strings.HasPrefix(name, ".") && strings.HasSuffix(name, ".json") {
			files = append(files, path.Join(dir, name))
		}
	}
	return files, err
}

// damagedBackups returns an error that names some of the kept originals that cannot be used, or nil. If the directory
// itself cannot be read, whoever needs an original says so.
func (l *Ledger) damagedBackups() error {
	files, _ := l.backupFiles()
	var damaged []string
	for _, file := range files {
		if _, err := l.readBackup(file); errors.Is(err, errDamagedCopy) {
			damaged = append(damaged, file)
		}
	}
	if len(damaged) == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d copies of what was there before the agent cannot be understood, and are not given back: %s",
		len(damaged), len(files), strings.Join(damaged[:min(3, len(damaged))], ", "))
}

// Original returns what was at name before the agent first changed it. kept is false when the
// ledger has no original; an error means that it could not be read or understood.
func (l *Ledger) Original(name string) (original system.Original, kept bool, err error) {
	if l.lost != nil {
		return system.Original{}, false, fmt.Errorf("cannot tell what %s was before: %w", name, l.lost)
	}
	b, err := l.readBackup(l.backupPath(name))
	if errors.Is(err, fs.ErrNotExist) {
		return system.Original{}, false, nil
	}
	if err != nil {
		return system.Original{}, false, fmt.Errorf("cannot tell what %s was before: %w", name, err)
	}
	return b.Original, true, nil
}

// Files returns the paths that the ledger can give back, sorted: the files that the agent created,
// and those whose original it keeps.
func (l *Ledger) Files() ([]string, error) {
	if l.lost != nil {
		return nil, fmt.Errorf("cannot tell which files are kept: %w", l.lost)
	}
	kept, err := l.backupFiles()
	if err != nil {
		return nil, fmt.Errorf("cannot tell which files are kept: %w", err)
	}
	l.mu.Lock()
	names := slices.Collect(maps.Keys(l.made))
	l.mu.Unlock()
	for _, file := range kept {
		b, err := l.readBackup(file)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("cannot tell which files are kept: %w", err)
		}
		if err == nil {
			names = append(names, b.Path)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// Made says whether the agent created the file at name.
func (l *Ledger) Made(name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.made[name]
}

// Release gives a file that the policy no longer wants back to the machine: it restores the original
// that is kept, or removes the file if the agent created it. Any other file is left alone. The ledger
// then forgets the file. restore and remove make the change; at most one of them is called, once.
func (l *Ledger) Release(name string, restore func(system.Original) error, remove func() error) error {
	original, kept, err := l.Original(name)
	switch {
	case err != nil:
		return err
	case kept:
		if err := restore(original); err != nil {
			return err
		}
		if err := l.files.Remove(l.backupPath(name)); err != nil {
			return fmt.Errorf("cannot forget the old %s: %w", name, err)
		}
	case l.Made(name):
		if err := remove(); err != nil {
			return err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.made[name] {
		l.note(line{Unmade: name})
	}
	if l.secret[name] {
		l.note(line{Public: name})
	}
	return nil
}
