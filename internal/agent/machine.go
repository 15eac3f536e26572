package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/history"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

// A Machine is an opened machine, with the agent's state on it.
type Machine struct {
	System   *system.System
	Ledger   *converge.Ledger
	History  *history.Log
	Facts    facts.Facts
	Schedule Schedule
	Log      *slog.Logger
	Level    *slog.LevelVar // of the log; nil if it cannot be changed
}

// Open opens the machine below root. gate is called before every change of it; nil allows everything.
func Open(ctx context.Context, root string, gate system.Gate, log *slog.Logger) (*Machine, error) {
	// The ledger writes through a System of its own, so that its own files are not backed up.
	state, err := system.Open(system.Options{Root: root, Gate: gate, Log: log})
	if err != nil {
		return nil, err
	}
	f, err := facts.Gather(ctx, state)
	if err != nil && !f.Unidentified {
		return nil, err
	}
	if err != nil {
		log.Error("cannot tell which machine this is; the policy that is known here is enforced, nothing is taken away by it, and AWS is not asked", "err", err)
	}
	err = usable(state)
	var ledger *converge.Ledger
	if err == nil {
		ledger, err = openLedger(state, f.Identity(), log)
	}
	if err != nil {
		log.Error("cannot use the ledger; only sudo is kept until it can be read and soe-agent is started again", "err", err)
		ledger = converge.LostLedger(err)
	}
	if err := ledger.Damaged(); err != nil {
		log.Error("the ledger is damaged; what its lost lines remembered is not given back when it leaves the policy", "err", err)
	}
	s, err := system.Open(system.Options{Root: root, Gate: gate, Log: log, Backups: ledger})
	if err != nil {
		return nil, err
	}
	return &Machine{System: s, Ledger: ledger, History: history.Open(s.FS, HistoryDir), Facts: f, Schedule: Default().Schedule, Log: log}, nil
}

// usable returns why the agent's own directory cannot be used, if it exists. The state in it decides what is
// removed and what is restored, so nobody but root may be able to replace it.
func usable(s *system.System) error {
	leads, info, err := system.Trusted(s.FS, StateDir, os.Geteuid())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if _, err := s.FS.Stat(StateDir); err == nil {
			return fmt.Errorf("cannot use %s: it is a link that leads nowhere", StateDir)
		}
		return nil
	case errors.Is(err, system.ErrUnsafe) && !s.Running():
		return nil // only whoever works on the image could have changed it
	case err != nil:
		return fmt.Errorf("cannot use %s: %w", StateDir, err)
	case !info.IsDir():
		return fmt.Errorf("cannot use %s: %s is not a directory; move it away", StateDir, leads)
	}
	return nil
}

// openLedger opens the machine's ledger. State that came with an image from another machine is removed
// completely, and the machine starts with none.
func openLedger(s *system.System, now facts.Identity, log *slog.Logger) (*converge.Ledger, error) {
	ledger, err := converge.OpenLedger(s.FS, StateDir, now)
	if !errors.Is(err, converge.ErrOtherMachine) {
		return ledger, err
	}
	log.Warn("starting afresh: the state in "+StateDir+" belongs to another machine", "err", err)
	// The ledger goes last: after a crash it still shows that the rest belongs to another machine.
	for _, dir := range []string{StateDir + "/backups", HistoryDir, StateDir} {
		if err := empty(s.FS, dir, "ledger.jsonl"); err != nil {
			return nil, fmt.Errorf("cannot start afresh: %w", err)
		}
	}
	if err := s.FS.Remove(StateDir + "/ledger.jsonl"); err != nil {
		return nil, fmt.Errorf("cannot start afresh: %w", err)
	}
	return converge.OpenLedger(s.FS, StateDir, now)
}

// empty removes the files in a directory except one.
func empty(files system.FS, dir, but string) error {
	names, err := files.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, name := range names {
		file := path.Join(dir, name)
		if name == but {
			continue
		}
		switch info, err := files.Stat(file); {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			errs = append(errs, err)
		case !info.IsDir():
			errs = append(errs, files.Remove(file))
		}
	}
	return errors.Join(errs...)
}

// Engine returns one engine for all kinds.
func (m *Machine) Engine(p *policy.Policy) *converge.Engine {
	return m.engine(p, m.kindsOf(p, func(kind) bool { return true }), m.Log)
}

// engine returns an engine for some kinds of a policy.
func (m *Machine) engine(p *policy.Policy, kinds []converge.Kind, log *slog.Logger) *converge.Engine {
	engine := converge.New(p, kinds, m.Ledger, m.System.Clock, log)
	engine.Affects = affects
	return m.remembered(engine, p)
}

// remembered makes an engine write its changes into the history.
func (m *Machine) remembered(engine *converge.Engine, p *policy.Policy) *converge.Engine {
	engine.Changed = func(changes []converge.Change) {
		if err := m.History.Append(history.Of(changes, p)); err != nil {
			m.Log.Error("cannot append to the history; this change is missing in soe-agent history", "err", err)
		}
	}
	return engine
}

// KnownKinds returns an error that lists the names that are not kinds, or nil.
func KnownKinds(names []string) error {
	var errs []error
	for _, name := range names {
		if !slices.Contains(policy.Kinds(), name) {
			errs = append(errs, fmt.Errorf("cannot apply %q: it is no kind; kinds are %s", name, strings.Join(policy.Kinds(), ", ")))
		}
	}
	return errors.Join(errs...)
}
