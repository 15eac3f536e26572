package converge

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"sync"
	"time"

	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

// A Ledger is the agent's memory of one machine: what it made, what it replaced
// and kept, and where each resource stood last.
//
// It lives in two places below its directory: ledger.jsonl, to which a line is
// added for each thing learnt, and backups/, one file for each path that was
// somebody else's. It is tied to the machine (facts.Identity): one that another
// machine wrote, of which this one is a clone, is refused. A Ledger may be used
// by several goroutines.
type Ledger struct {
	files system.FS
	dir   string

	mu        sync.Mutex
	machine   facts.Identity // the one that wrote it, as it was known last
	resources map[policy.ID]standing
	made      map[string]bool // paths that the agent created
	owned     map[policy.ID]bool
	secret    map[string]bool // paths of files that hold a secret of the policy
	pending   bytes.Buffer    // lines not yet written
	anew      bool            // the next write begins the file anew
	unsynced  bool            // something was written that may not survive the machine

	contests contests // of this life of the agent
}

// standing is where a resource stood.
type standing struct {
	State   State     `json:"state"`
	Since   time.Time `json:"since"`
	Digest  string    `json:"digest,omitempty"` // of what was wanted when it was last in line; noDigest when nothing was
	Changed time.Time `json:"changed,omitzero"` // when the agent last changed it
	Cause   Cause     `json:"cause,omitempty"`  // of what is pending
	Held    bool      `json:"held,omitempty"`   // it is pending since a step of its repair was postponed
	Astray  time.Time `json:"astray,omitzero"`  // since when it is not in line
}

// line is one line of the file; one field is set.
type line struct {
	Machine  string          `json:"machine,omitempty"` // the id alone, as old ledgers have it
	Identity *facts.Identity `json:"identity,omitempty"`
	Made     string          `json:"made,omitempty"`
	Unmade   string          `json:"unmade,omitempty"`
	Owned    policy.ID       `json:"owned,omitempty"`
	Disowned policy.ID       `json:"disowned,omitempty"`
	Secret   string          `json:"secret,omitempty"`
	Public   string          `json:"public,omitempty"` // undoes Secret
	Resource policy.ID       `json:"resource,omitempty"`
	Standing *standing       `json:"standing,omitempty"`
}

// OpenLedger reads the ledger in dir, or begins one for the machine that is now.
// What is new of the machine's identity is written with the next Flush. A damaged
// line, such as the last one after a crash, is passed over.
func OpenLedger(files system.FS, dir string, now facts.Identity) (*Ledger, error) {
	l := &Ledger{
		files: files, dir: dir,
		resources: map[policy.ID]standing{}, made: map[string]bool{}, owned: map[policy.ID]bool{}, secret: map[string]bool{},
	}
	content, err := files.ReadFile(l.path())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot read the ledger: %w", err)
	}
	lines := 0
	var entry line // one for all lines: there are many
	for raw := range bytes.SplitSeq(content, []byte("\n")) {
		entry = line{}
		if json.Unmarshal(raw, &entry) != nil {
			continue
		}
		lines++
		l.learn(entry)
	}
	if !l.machine.Same(now) {
		return nil, fmt.Errorf("cannot use the ledger in %s: %w: it is of %s, and this is %s", dir, ErrOtherMachine, l.machine, now)
	}
	renewed := l.machine.Renewed(now)
	if lines == 0 || lines > 1000+4*(len(l.resources)+len(l.made)+len(l.owned)+len(l.secret)) {
		l.machine = renewed
		l.compact()
	} else if renewed != l.machine {
		l.note(line{Identity: &renewed})
	}
	return l, nil
}

// ErrOtherMachine is wrapped by the error of OpenLedger when the ledger belongs
// to another machine.
var ErrOtherMachine = errors.New("it was written on another machine, of which this one is a clone")

// ownAttr is that of the agent's own files.
func ownAttr() system.Attr { return system.Attr{Mode: 0o600, UID: -1, GID: -1} }

const ledgerFile = "ledger.jsonl"

func (l *Ledger) path() string { return path.Join(l.dir, ledgerFile) }

func (l *Ledger) learn(entry line) {
	switch {
	case entry.Machine != "":
		l.machine = facts.Identity{MachineID: entry.Machine}
	case entry.Identity != nil:
		l.machine = *entry.Identity
	case entry.Made != "":
		l.made[entry.Made] = true
	case entry.Unmade != "":
		delete(l.made, entry.Unmade)
	case entry.Owned != "":
		l.owned[entry.Owned] = true
	case entry.Disowned != "":
		delete(l.owned, entry.Disowned)
	case entry.Secret != "":
		l.secret[entry.Secret] = true
	case entry.Public != "":
		delete(l.secret, entry.Public)
	case entry.Resource != "" && entry.Standing != nil:
		l.resources[entry.Resource] = *entry.Standing
	}
}

// note learns a line and has it written with the next flush. Lines begin with
// the line break, so that one which a crash cut short does not spoil the next.
func (l *Ledger) note(entry line) {
	l.learn(entry)
	raw, _ := json.Marshal(entry) //nolint:gosec // plain data always marshals; its secrets are names of files
	l.pending.WriteByte('\n')
	l.pending.Write(raw)
}

// compact makes the next Flush begin the file anew.
func (l *Ledger) compact() {
	l.pending.Reset()
	l.note(line{Identity: &l.machine})
	for name := range l.made {
		l.note(line{Made: name})
	}
	for id := range l.owned {
		l.note(line{Owned: id})
	}
	for name := range l.secret {
		l.note(line{Secret: name})
	}
	for id, s := range l.resources {
		l.note(line{Resource: id, Standing: &s})
	}
	l.anew = true
}

// Flush makes everything learnt so far last.
func (l *Ledger) Flush() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.flush(); err != nil {
		return err
	}
	if !l.unsynced {
		return nil
	}
	if err := l.files.Sync(l.path()); err != nil {
		return err
	}
	l.unsynced = false
	return nil
}

// flush hands what is pending to the operating system: it survives the death of
// the agent, and with the next Flush that of the machine.
func (l *Ledger) flush() error {
	if l.pending.Len() == 0 {
		return nil
	}
	var err error
	if l.anew {
		if err := l.files.MkdirAll(l.dir, 0o700); err != nil {
			return err
		}
		err = l.files.WriteFile(l.path(), l.pending.Bytes(), ownAttr())
	} else {
		err = l.files.AppendFile(l.path(), l.pending.Bytes())
	}
	if err != nil {
		return err
	}
	l.pending.Reset()
	l.anew, l.unsynced = false, true
	return nil
}

// Backup implements system.BackupStore: what somebody else has put at name is kept the
// first time that the agent is about to replace or remove it.
func (l *Ledger) Backup(name string, old *system.Original) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.made[name] {
		return nil
	}
	_, err := l.files.Stat(l.backupPath(name))
	if err == nil {
		return nil // it was somebody else's first, and that is kept
	}
	if !errors.Is(err, fs.ErrNotExist) { // what is kept may be there, and is never replaced
		return fmt.Errorf("cannot tell whether the old %s is kept: %w", name, err)
	}
	if old == nil {
		l.note(line{Made: name})
		if err := l.flush(); err != nil {
			delete(l.made, name) // the change does not happen
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

// Original returns what was at name before the agent first touched it, if that is kept.
// An error says that it cannot be told.
func (l *Ledger) Original(name string) (original system.Original, kept bool, err error) {
	raw, err := l.files.ReadFile(l.backupPath(name))
	if errors.Is(err, fs.ErrNotExist) {
		return system.Original{}, false, nil
	}
	if err != nil {
		return system.Original{}, false, fmt.Errorf("cannot tell what %s was before: %w", name, err)
	}
	var b backup
	if json.Unmarshal(raw, &b) != nil || b.Path != name {
		return system.Original{}, false, nil
	}
	return b.Original, true, nil
}

// Files are the paths of which the ledger knows what to give back: what the agent
// created, and what it keeps the original of.
func (l *Ledger) Files() ([]string, error) {
	dir := path.Join(l.dir, "backups")
	kept, err := l.files.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot tell which files are kept: %w", err)
	}
	l.mu.Lock()
	names := slices.Collect(maps.Keys(l.made))
	l.mu.Unlock()
	for _, name := range kept {
		raw, err := l.files.ReadFile(path.Join(dir, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("cannot tell which files are kept: %w", err)
		}
		var b backup
		if err == nil && json.Unmarshal(raw, &b) == nil {
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

// Release gives a file back to the machine that the policy no longer wants: what
// was there before the agent is put back, and what the agent created is removed.
// A file that is neither is left alone. The ledger forgets the file then. restore
// and remove make the change, and are not called more than once.
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

// Own records that a resource is there because the policy wanted it, so that it
// may be taken away again when the policy no longer does; Disown forgets it.
func (l *Ledger) Own(id policy.ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.note(line{Owned: id})
}

// Disown undoes Own.
func (l *Ledger) Disown(id policy.ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.note(line{Disowned: id})
}

// Owns says whether Own was called for id.
func (l *Ledger) Owns(id policy.ID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.owned[id]
}

// Owned are the resources of a kind for which Own was called, sorted.
func (l *Ledger) Owned(kind string) []policy.ID {
	l.mu.Lock()
	defer l.mu.Unlock()
	var ids []policy.ID
	for id := range l.owned {
		if id.Kind() == kind {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// Changed is when the agent last changed the resource; the zero time if never.
func (l *Ledger) Changed(id policy.ID) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.resources[id].Changed
}

// MarkChanged records that the agent has just changed the resource.
func (l *Ledger) MarkChanged(id policy.ID, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.resources[id]
	s.Changed = now
	l.note(line{Resource: id, Standing: &s})
}

// noDigest stands for the digest of a resource that is a kind's own idea.
const noDigest = "-"

// notWanted stands for the digest of a resource that the policy does not name any more.
const notWanted = "not wanted"

// left notes of the resources of a kind that are neither wanted nor there any more that
// what comes of them next is news: if the policy names one again, it has not been in line
// with that.
func (l *Ledger) left(kind string, known func(policy.ID) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, s := range l.resources {
		if id.Kind() == kind && s.Digest != "" && s.Digest != noDigest && s.Digest != notWanted && !known(id) {
			s.Digest = notWanted
			l.note(line{Resource: id, Standing: &s})
		}
	}
}

// WasInLine says whether the resource was in line when this was last wanted of it.
func (l *Ledger) WasInLine(id policy.ID, digest string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	s, ok := l.resources[id]
	return ok && s.Digest == cmp.Or(digest, noDigest)
}

// awaited says of a resource that has drifted whether it has been pending so far and
// nothing else has changed, and what was the cause of that.
func (l *Ledger) awaited(r Resource) (cause Cause, yes bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.resources[r.ID]
	if s.State != Pending || s.Digest != cmp.Or(r.digest, noDigest) || !s.Held && !r.onlyEffect() {
		return "", false
	}
	return cmp.Or(s.Cause, Intentional), true
}

// EverInLine says whether the resource has been in line, whatever was wanted of it.
func (l *Ledger) EverInLine(id policy.ID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.resources[id].Digest != ""
}

// Since is when the resource came into a state: earlier, if it is in it still,
// or now. To have been corrected is to be compliant ever after.
func (l *Ledger) Since(id policy.ID, state State, now time.Time) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	// A time that has not come yet is of a clock that was wrong: it says nothing.
	if s, ok := l.resources[id]; ok && settled(s.State) == state && !s.Since.Round(0).After(now.Round(0)) {
		return s.Since
	}
	return now
}

func settled(state State) State {
	if state == Corrected {
		return Compliant
	}
	return state
}

// stands writes down where a resource stands, if that is news, and returns where it
// stood.
func (l *Ledger) stands(r Resource) (was standing) {
	l.mu.Lock()
	defer l.mu.Unlock()
	old := l.resources[r.ID]
	now := old
	now.State, now.Since = settled(r.State), r.Since
	now.Cause, now.Held = "", false
	switch r.State {
	case Pending:
		now.Cause, now.Held = cmp.Or(r.Cause, old.Cause), r.held
		now.Digest = cmp.Or(r.digest, noDigest)
	case Compliant, Corrected:
		now.Digest = cmp.Or(r.digest, noDigest)
	}
	switch {
	case r.State == Compliant || r.State == Corrected:
		now.Astray = time.Time{}
	case r.State != Unknown && now.Astray.IsZero():
		now.Astray = r.noticed.Round(0) // as it is read again
	}
	if now != old {
		l.note(line{Resource: r.ID, Standing: &now})
	}
	return old
}
