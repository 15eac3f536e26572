package converge

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"sync"

	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

// A Ledger is the agent's memory of one machine: what it made, what it replaced
// and kept, and the last state of each resource.
//
// It lives in two places below its directory: ledger.jsonl, to which one line is
// appended for each fact, and backups/, with one file for each original. It is
// tied to the machine (facts.Identity): a ledger that another machine wrote, of
// which this one is a clone, is refused. A Ledger is safe for concurrent use.
type Ledger struct {
	files system.FS
	dir   string

	mu        sync.Mutex
	machine   facts.Identity // the identity that was written last
	resources map[policy.ID]standing
	made      map[string]bool // paths that the agent created
	owned     map[policy.ID]bool
	answers   map[policy.ID]Answer
	secret    map[string]bool // paths of files that hold a secret of the policy
	retouched map[string]map[string]Retouch
	pending   bytes.Buffer // lines not yet written
	anew      bool         // the next write replaces the file
	lost      error        // why the file could not be opened (LostLedger), or nil
	unsynced  bool         // something was written and not yet synced to the disk
	unwritten error        // why the last Flush failed, or nil
	damaged   error        // what could not be understood when the file was opened, or nil
	spoiled   bool         // the file has damaged lines, and is copied before it is replaced

	contests contests // since the agent started
}

// line is one line of the file. One field is set, or one pair of fields.
type line struct {
	Machine  string          `json:"machine,omitempty"` // the machine id alone, as old ledgers have it
	Identity *facts.Identity `json:"identity,omitempty"`
	Made     string          `json:"made,omitempty"`
	Unmade   string          `json:"unmade,omitempty"`
	Owned    policy.ID       `json:"owned,omitempty"`
	Disowned policy.ID       `json:"disowned,omitempty"`
	Secret   string          `json:"secret,omitempty"`
	Public   string          `json:"public,omitempty"` // undoes Secret
	Resource policy.ID       `json:"resource,omitempty"`
	Standing *standing       `json:"standing,omitempty"`
	Answer   *Answer         `json:"answer,omitempty"` // with Resource

	Retouched string             `json:"retouched,omitempty"`
	Aspects   map[string]Retouch `json:"aspects,omitempty"` // of Retouched; if empty, the file is forgotten
}

// OpenLedger reads the ledger in dir, or begins one for the machine with the identity now. Changes of
// the identity are written with the next Flush. Damaged lines are skipped, such as the last one after a
// crash. Damaged reports them, and damaged backups. A file with damaged lines is copied to
// ledger.jsonl.damaged before it is replaced. The error wraps ErrOtherMachine if the ledger belongs to another machine.
func OpenLedger(files system.FS, dir string, now facts.Identity) (*Ledger, error) {
	l := newLedger()
	l.files, l.dir = files, dir
	content, err := files.ReadFile(l.path())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot read the ledger: %w", err)
	}
	lines := l.read(content)
	if err == nil && lines == 0 && l.damaged == nil { // the agent never writes an empty one
		l.damaged = fmt.Errorf("the ledger %s is empty: what the agent has made and replaced on this machine is not known any more", l.path())
	}
	switch err := l.damagedBackups(); {
	case l.damaged == nil:
		l.damaged = err
	case err != nil:
		l.damaged = fmt.Errorf("%w; %w", l.damaged, err)
	}
	if !l.machine.Same(now) {
		return nil, fmt.Errorf("cannot use the ledger in %s: %w: it is of %s, and this is %s", dir, ErrOtherMachine, l.machine, now)
	}
	renewed := l.machine.Renewed(now)
	if lines == 0 || lines > 1000+4*(len(l.resources)+len(l.made)+len(l.owned)+len(l.secret)+len(l.retouched)+len(l.answers)) {
		l.machine = renewed
		l.compact()
	} else if renewed != l.machine {
		l.note(line{Identity: &renewed})
	}
	return l, nil
}

// read learns all lines of a file and returns how many it understood.
func (l *Ledger) read(content []byte) (lines int) {
	damaged := 0
	var entry line // reused, because there are many lines
	for raw := range bytes.SplitSeq(content, []byte("\n")) {
		entry = line{}
		switch {
		case len(bytes.TrimSpace(raw)) == 0:
		case json.Unmarshal(raw, &entry) != nil || !l.learn(entry):
			damaged++
		default:
			lines++
		}
	}
	l.spoiled = damaged > 0
	switch {
	case damaged > 0 && lines == 0:
		l.damaged = fmt.Errorf("no line of the ledger %s can be understood: what the agent has made and replaced on this machine is not known any more; the file is kept as %s", l.path(), l.asidePath())
	case damaged > 0:
		l.damaged = fmt.Errorf("%d of %d lines of the ledger %s cannot be understood, and are passed over", damaged, damaged+lines, l.path())
	}
	return lines
}

// Damaged returns an error that says what of the ledger could not be understood when it was opened, or nil.
func (l *Ledger) Damaged() error { return l.damaged }

// LostLedger stands in for a ledger that exists and cannot be opened because of err. It knows nothing
// and writes nothing. Whatever needs the ledger fails with err; so nothing is replaced whose original
// would have to be kept.
func LostLedger(err error) *Ledger {
	l := newLedger()
	l.lost = err
	return l
}

func newLedger() *Ledger {
	return &Ledger{
		resources: map[policy.ID]standing{}, made: map[string]bool{}, owned: map[policy.ID]bool{}, secret: map[string]bool{},
		retouched: map[string]map[string]Retouch{}, answers: map[policy.ID]Answer{},
	}
}

// Lost returns why the ledger could not be opened, or nil.
func (l *Ledger) Lost() error { return l.lost }

// ErrOtherMachine is wrapped by the error of OpenLedger when the ledger belongs
// to another machine.
var ErrOtherMachine = errors.New("it was written on another machine, of which this one is a clone")

// ownAttr returns the attributes of the agent's own files.
func ownAttr() system.Attr { return system.Attr{Mode: 0o600, UID: -1, GID: -1} }

const ledgerFile = "ledger.jsonl"

func (l *Ledger) path() string      { return path.Join(l.dir, ledgerFile) }
func (l *Ledger) asidePath() string { return l.path() + ".damaged" }

// learn returns whether it understood the line.
func (l *Ledger) learn(entry line) bool {
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
	case entry.Retouched != "" && len(entry.Aspects) == 0:
		delete(l.retouched, entry.Retouched)
	case entry.Retouched != "":
		l.retouched[entry.Retouched] = entry.Aspects
	case entry.Resource != "" && entry.Answer != nil && entry.Answer.At.IsZero():
		delete(l.answers, entry.Resource)
	case entry.Resource != "" && entry.Answer != nil:
		l.answers[entry.Resource] = *entry.Answer
	case entry.Resource != "" && entry.Standing != nil:
		l.resources[entry.Resource] = *entry.Standing
	default:
		return false
	}
	return true
}

// note learns a line and queues it for the next flush. Lines begin with the line break, so that one
// that was cut short by a crash does not spoil the next.
func (l *Ledger) note(entry line) {
	l.learn(entry)
	raw, _ := json.Marshal(entry) //nolint:gosec // plain data always marshals; its secrets are names of files
	l.pending.WriteByte('\n')
	l.pending.Write(raw)
}

// compact makes the next flush write the whole file anew, from what is in memory.
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
	for name, aspects := range l.retouched {
		l.note(line{Retouched: name, Aspects: aspects})
	}
	for id, s := range l.resources {
		l.note(line{Resource: id, Standing: &s})
	}
	for id, a := range l.answers {
		l.note(line{Resource: id, Answer: &a})
	}
	l.anew = true
}

// Unwritten returns the error of the last Flush, or nil.
func (l *Ledger) Unwritten() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.unwritten
}

// Flush writes everything learnt so far to the disk and syncs it.
func (l *Ledger) Flush() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unwritten = l.write()
	return l.unwritten
}

func (l *Ledger) write() error {
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

// flush hands the queued lines to the operating system. They survive a crash of the agent, and after
// the next Flush a crash of the machine.
func (l *Ledger) flush() error {
	if l.lost != nil {
		l.pending.Reset()
		return l.lost
	}
	if l.pending.Len() == 0 {
		return nil
	}
	info, err := l.files.Stat(l.path())
	if gone := errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsRegular(); gone && !l.anew {
		l.compact() // somebody removed or replaced the file: write all that is in memory
	}
	if l.anew {
		if err := l.files.MkdirAll(l.dir, 0o700); err != nil {
			return err
		}
		if err := l.keepAside(); err != nil {
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

// keepAside copies a file with damaged lines before it is replaced, for people to look at.
func (l *Ledger) keepAside() error {
	if !l.spoiled {
		return nil
	}
	content, err := l.files.ReadFile(l.path())
	if err == nil {
		err = l.files.WriteFile(l.asidePath(), content, ownAttr())
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot keep the damaged ledger aside: %w", err)
	}
	l.spoiled = false
	return nil
}

// Own records that a resource exists because the policy wanted it, so that it may be removed when the
// policy no longer does. Disown undoes it.
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

// Owned returns the resources of a kind for which Own was called, sorted.
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
