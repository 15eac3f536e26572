package system

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Unanswered collects errors of one observer's looks that are not answers: neither "it does not
// exist" nor "it is something else", but an error that leaves the question open. Conclusions drawn
// in spite of them may be wrong.
type Unanswered struct {
	mu    sync.Mutex
	errs  []error
	total int
	last  error
}

// enoughUnanswered limits how many errors are kept: on a sick machine there may be thousands.
const enoughUnanswered = 32

// Unanswered returns the errors since it was last called.
func (u *Unanswered) Unanswered() []error {
	u.mu.Lock()
	defer u.mu.Unlock()
	errs := u.errs
	u.errs = nil
	return errs
}

// Mark is a point in time for Since.
func (u *Unanswered) Mark() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.total
}

// Since returns the last error since a Mark, or nil if every look since then was answered.
func (u *Unanswered) Since(mark int) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.total == mark {
		return nil
	}
	return u.last
}

// HiddenByOwner reports whether the owner of a home could have made a look fail: a FUSE file system
// that a person mounts below /home or /run/user hides everything from root (fuse(4)). Such a
// failure must not prevent any judgement.
func HiddenByOwner(name string, err error) bool {
	theirs := strings.HasPrefix(name, "/home/") || strings.HasPrefix(name, "/run/user/")
	return theirs && (errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOTCONN))
}

func (u *Unanswered) notePath(name string, err error) {
	if err != nil && !HiddenByOwner(name, err) {
		u.note(err)
	}
}

func (u *Unanswered) note(err error) {
	if err == nil || isAnswer(err) {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.total, u.last = u.total+1, err
	if len(u.errs) < enoughUnanswered {
		u.errs = append(u.errs, err)
	}
}

// isAnswer reports whether an error is an answer: it does not exist, or it is something else.
func isAnswer(err error) bool {
	var errno unix.Errno
	if !errors.As(err, &errno) {
		return slices.ContainsFunc([]error{fs.ErrNotExist, ErrNotInstalled, ErrNotExecutable, ErrNotRunning, ErrNotRegular, ErrLarge}, func(answer error) bool {
			return errors.Is(err, answer)
		})
	}
	switch errno {
	case unix.ENOENT, unix.ENOTDIR, unix.EISDIR, unix.ELOOP, unix.ENXIO, // of a path
		unix.EINVAL, // it is not a link
		unix.ESRCH,  // the process has ended
		unix.EXDEV:  // it leads out of the root
		return true
	}
	return false
}

// Observe returns the same machine for one observer, and collects the unanswered looks of that
// observer.
func (s *System) Observe() (*System, *Unanswered) {
	u := &Unanswered{}
	observed := *s
	observed.FS.FileReader, observed.FS.FileSearcher = observedReader{s, u}, observedSearcher{s, u, s.FS.FileSearcher}
	observed.FS.Attributes = observedAttributes{s.FS.Attributes, u}
	observed.Runner, observed.Units.UnitStates, observed.Units.UnitManager, observed.Sessions = observedRunner{s, u}, observedUnits{s, u}, observedUnits{s, u}, observedSessions{s, u}
	return &observed, u
}

type observedReader struct {
	s *System
	u *Unanswered
}

func (o observedReader) ReadFile(name string) ([]byte, error) {
	content, err := o.s.FS.ReadFile(name)
	o.u.notePath(name, err)
	return content, err
}

func (o observedReader) Stat(name string) (Info, error) {
	info, err := o.s.FS.Stat(name)
	o.u.notePath(name, err)
	return info, err
}

func (o observedReader) Inspect(name string) ([]byte, Info, error) {
	content, info, err := o.s.FS.Inspect(name)
	o.u.notePath(name, err)
	return content, info, err
}

func (o observedReader) ReadDir(name string) ([]string, error) {
	names, err := o.s.FS.ReadDir(name)
	o.u.notePath(name, err)
	return names, err
}

func (o observedReader) Readlink(name string) (string, error) {
	target, err := o.s.FS.Readlink(name)
	o.u.notePath(name, err)
	return target, err
}

type observedSearcher struct {
	s *System
	u *Unanswered
	FileSearcher
}

func (o observedSearcher) Entries(dir string) (map[string]Info, error) {
	entries, err := o.s.FS.Entries(dir)
	o.u.notePath(dir, err)
	return entries, err
}

type observedAttributes struct {
	Attributes
	u *Unanswered
}

func (o observedAttributes) Describe(name string) (Info, error) {
	info, err := o.Attributes.Describe(name)
	o.u.notePath(name, err)
	return info, err
}

type observedRunner struct {
	s *System
	u *Unanswered
}

func (o observedRunner) Run(ctx context.Context, c Command) (Output, error) {
	out, err := o.s.Runner.Run(ctx, c)
	if c.ReadOnly {
		o.u.note(err)
	}
	return out, err
}

type observedUnits struct {
	s *System
	u *Unanswered
}

func (o observedUnits) Unit(ctx context.Context, name string) (Unit, error) {
	unit, err := o.s.Units.Unit(ctx, name)
	o.u.note(err)
	return unit, err
}

func (o observedUnits) States(ctx context.Context, names []string) ([]Unit, error) {
	units, err := o.s.Units.States(ctx, names)
	o.u.note(err)
	return units, err
}

func (o observedUnits) FileState(ctx context.Context, name string) (string, error) {
	state, err := o.s.Units.FileState(ctx, name)
	o.u.note(err)
	return state, err
}

func (o observedUnits) Version(ctx context.Context) (int, error) {
	version, err := o.s.Units.Version(ctx)
	o.u.note(err)
	return version, err
}

func (o observedUnits) Active(ctx context.Context) ([]string, error) {
	names, err := o.s.Units.Active(ctx)
	o.u.note(err)
	return names, err
}

func (o observedUnits) Service(ctx context.Context, name string) (Service, error) {
	service, err := o.s.Units.Service(ctx, name)
	o.u.note(err)
	return service, err
}

type observedSessions struct {
	s *System
	u *Unanswered
}

func (o observedSessions) List(ctx context.Context) ([]Session, error) {
	sessions, err := o.s.Sessions.List(ctx)
	o.u.note(err)
	return sessions, err
}
