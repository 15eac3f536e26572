package sudo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/sudoers"
	"github.com/soe-agent/soe-agent/internal/system"
)

// A step is an edit of a plan that was tried, and the file before it.
type step struct {
	edit

	old system.Original
}

// before is what sudo read before a step; nil: nothing.
func (s step) before() []byte {
	if s.old.Info.Type == fs.ModeIrregular {
		return nil
	}
	return s.old.Content
}

// contentsBefore are the contents of the files before the first step.
func contentsBefore(done []step) map[string][]byte {
	contents := map[string][]byte{}
	for _, s := range slices.Backward(done) {
		contents[s.path] = s.before()
	}
	return contents
}

// write carries out a plan, and returns the steps that it has tried. Their order keeps the administrators
// in as far as the lines alone tell. Therefore each is judged before it is taken, on the files as they
// really are by then (next): grants to others are removed even if the disk is too full for the agent's
// own files, as long as somebody can administer.
func (k *Kind) write(ctx context.Context, p *plan, administrators []string) (done []step, err error) {
	var errs []error
	failed := false
	for pending := p.steps(); len(pending) > 0; {
		from, to, err := k.next(ctx, p, administrators, pending, failed)
		if err != nil {
			errs = append(errs, err)
			break
		}
		now := pending[from:to]
		earlier := of(pending[:from], func(s edit) bool { return !slices.ContainsFunc(now, s.sameFile) })
		pending = slices.Concat(earlier, pending[to:])
		for _, e := range now {
			tried, isAside, err := k.take(ctx, p, administrators, e)
			done = append(done, tried...)
			if isAside {
				pending = of(pending, func(s edit) bool { return !s.sameFile(e) })
			}
			failed = failed || isAside || err != nil
			errs = append(errs, err)
		}
	}
	return done, errors.Join(errs...)
}

// take takes one step. If a file of others cannot be written, it is set aside by a rename, unless the
// administrators need a line of it.
func (k *Kind) take(ctx context.Context, p *plan, administrators []string, e edit) (tried []step, isAside bool, err error) {
	old, err := k.original(e.path)
	if err == nil {
		tried = append(tried, step{e, old})
		err = k.unchanged(p, e.path)
	}
	if err == nil {
		err = k.apply(e)
	}
	if err == nil || path.Dir(e.path) != sudoers.Dir || !e.takesAway || e.aside || k.unchanged(p, e.path) != nil || !k.letsInWithout(ctx, p, e.path, administrators) {
		return tried, false, err
	}
	asideErr := k.system.Rights.SetAside(e.path)
	if asideErr == nil || system.NoRoom(err) {
		err = asideErr
	}
	return tried, asideErr == nil, err
}

func (e edit) sameFile(other edit) bool { return e.path == other.path }

// of returns the edits that are meant.
func of(edits []edit, meant func(edit) bool) []edit {
	return slices.DeleteFunc(slices.Clone(edits), func(e edit) bool { return !meant(e) })
}

// maxTried limits how often, once all steps have been refused, parts of them are tried.
const maxTried = 64

// next are the first of the steps that are left which keep somebody in. Without an earlier one for the
// same file a step may come too. In an image each is taken in its order until one has failed. The last one
// has been judged with the whole plan (keeping).
//
// Steps that only take plain grants, or lines that are about none of the allowed, are judged together: with
// each the allowed may do no less than with all of them, so whom sudo lets in after the last it lets in after
// each, and also where one fails. Where they are refused, half of them may not be, once all others are.
func (k *Kind) next(ctx context.Context, p *plan, administrators []string, pending []edit, failed bool) (from, to int, err error) {
	if !failed && (!k.system.Running() || len(pending) == 1 && !p.silent) {
		return 0, 1, nil
	}
	var errs []error
	for spans := spansOf(pending); len(spans) > 0 && len(errs) < maxTried; {
		var halves []span
		for _, s := range spans {
			err := k.keepsAll(ctx, p, administrators, pending[s.from:s.to])
			if err == nil {
				return s.from, s.to, nil
			}
			errs = append(errs, err)
			if middle := (s.from + s.to) / 2; middle > s.from {
				halves = append(halves, span{s.from, middle}, span{middle, s.to})
			}
		}
		spans = halves
	}
	return 0, 0, errors.Join(errs[max(0, len(errs)-maxTold):]...)
}

// maxTold limits how many of the refusals are told, the last ones.
const maxTold = 16

// A span is of steps that are judged together.
type span struct{ from, to int }

func spansOf(edits []edit) (spans []span) {
	for i, e := range edits {
		if last := len(spans) - 1; i > 0 && e.plain && edits[i-1].plain {
			spans[last].to = i + 1
		} else {
			spans = append(spans, span{i, i + 1})
		}
	}
	return spans
}

// keepsAll returns an error unless some steps together keep somebody in, of several one of the allowed.
func (k *Kind) keepsAll(ctx context.Context, p *plan, administrators []string, steps []edit) error {
	changes := map[string][]byte{}
	for _, e := range steps {
		changes[e.path] = e.content
	}
	in, err := k.keeps(ctx, p, administrators, changes)
	if err == nil && len(steps) > 1 && !p.silent && k.system.Running() && len(without(in, []string{"root"})) == 0 {
		err = errors.New("none of the allowed can administer then")
	}
	return err
}

// keeps returns those of the administrators whom sudo would let in if some more files had these contents
// (nil: if they were gone). It is an error if sudo would refuse one whom it lets in now, or would let in
// nobody but root while it lets in somebody now. If sudo cannot be asked, it is one unless the files show
// that somebody would be let in, or that nothing is taken from anybody.
func (k *Kind) keeps(ctx context.Context, p *plan, administrators []string, changes map[string][]byte) (in []string, err error) {
	in = k.working(ctx, p, administrators, changes)
	others := without(in, []string{"root"})
	if len(in) == len(administrators) && len(others) > 0 {
		return in, nil
	}
	lost := k.working(ctx, p, without(administrators, in), nil)
	left := "nobody but root could administer"
	switch {
	case !k.answers(ctx, p, changes):
		if k.takesNothing(p, changes) || k.surelyLetsIn(ctx, p, changes) {
			return administrators, nil
		}
		left += ", as far as it can be told without sudo's answer; see which source of sudoers in /etc/nsswitch.conf does not answer"
	case len(lost) > 0:
		left = "sudo, which lets in " + strings.Join(lost, ", ") + " now, would not do so any more"
	case len(others) > 0 || !p.knowsAllowed() || !k.isLast(ctx, p, changes):
		return in, nil
	}
	return nil, fmt.Errorf("%s stays as it is for now: with what is to be changed of it, %s", strings.Join(sortedKeys(changes), ", "), left)
}

// answers reports whether sudo can be asked what it would say after changes.
func (k *Kind) answers(ctx context.Context, p *plan, changes map[string][]byte) bool {
	if p.silent || !k.system.Running() {
		return false
	}
	_, err := sudoers.Works(ctx, k.system, changes)
	return err == nil
}

// isLast reports whether some person can administer, or may, and nobody but root could after changes.
func (k *Kind) isLast(ctx context.Context, p *plan, changes map[string][]byte) bool {
	soon, enough := context.WithTimeout(ctx, patienceBeforeRepair)
	defer enough()
	people, err := facts.People(soon, k.system)
	var names []string
	for _, person := range people {
		names = append(names, person.Name)
	}
	names = without(names, []string{"root"})
	return len(k.working(ctx, p, names, changes)) == 0 && (err != nil || len(k.working(ctx, p, names, nil)) > 0)
}

// letsInWithout reports whether sudo lets all administrators in, with the current files except one.
func (k *Kind) letsInWithout(ctx context.Context, p *plan, name string, administrators []string) bool {
	in, err := k.keeps(ctx, p, administrators, map[string][]byte{name: nil})
	return err == nil && len(in) == len(administrators)
}

// unchanged returns an error if a file of somebody else's has changed since the plan was made, so that
// their edit is not lost. The change triggers another check.
func (k *Kind) unchanged(p *plan, name string) error {
	was, read := p.tree.Content[name]
	if !read || Owns(name) {
		return nil
	}
	now, err := sudoers.ReadFile(k.system.FS, name)
	if err == nil && (bytes.Equal(now, was) || p.isFreed(name, now)) {
		return nil
	}
	if err == nil {
		err = errors.New("somebody has just written it")
	}
	return fmt.Errorf("cannot write %s: %w; it is checked again", name, err)
}

// isFreed reports whether a file has the content that the first of its two edits writes.
func (p *plan) isFreed(name string, content []byte) bool {
	return slices.ContainsFunc(p.foreign, func(e edit) bool { return e.path == name && e.freeing != nil && bytes.Equal(e.freeing, content) })
}

func (k *Kind) apply(e edit) error {
	if err := k.system.Rights.WriteFile(e.path, e.content, e.attr); err != nil {
		return err
	}
	if !e.aside {
		return nil
	}
	return k.system.Rights.Remove(system.Aside(e.path))
}

// original is the current version of a file. Of a link it also has the content that it leads to.
func (k *Kind) original(name string) (old system.Original, err error) {
	old.Info, err = k.system.FS.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return system.Original{Info: system.Info{Type: fs.ModeIrregular}}, nil
	}
	if err == nil && old.Info.Type == fs.ModeSymlink {
		old.Link, err = k.system.FS.Readlink(name)
	}
	if err == nil {
		old.Content, err = sudoers.ReadFile(k.system.FS, name)
	}
	return old, err
}

// putBack undoes the steps that were tried, the last one first, so that whoever could administer between
// two of them can do so in between again. If one cannot be undone, those that relied on it stay.
func (k *Kind) putBack(ctx context.Context, p *plan, administrators []string, done []step) error {
	var errs []error
	failed := false
	for _, s := range slices.Backward(done) {
		var err error
		if failed {
			_, err = k.keeps(ctx, p, administrators, map[string][]byte{s.path: s.before()})
		}
		if err == nil {
			err = k.undo(s)
		}
		failed = failed || err != nil
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// undo restores the file of one step, unless the step did not change it or somebody has done so since.
func (k *Kind) undo(s step) error {
	now, err := sudoers.ReadFile(k.system.FS, s.path)
	gone := errors.Is(err, fs.ErrNotExist)
	_, asideErr := k.system.FS.Stat(system.Aside(s.path))
	isAside := asideErr == nil
	switch there := s.old.Info.Type != fs.ModeIrregular; {
	case gone && isAside && there:
		return k.system.Rights.Restore(s.path)
	case gone && (!there || !Owns(s.path)):
		return nil
	case err == nil && !Owns(s.path) && !bytes.Equal(now, s.content):
		return nil
	case s.aside && !isAside:
		return k.system.Rights.SetAside(s.path)
	case !there:
		return k.system.Rights.Remove(s.path)
	case s.old.Info.Type == fs.ModeSymlink:
		return k.system.Rights.Symlink(s.old.Link, s.path)
	}
	if info, err := k.system.FS.Stat(s.path); err == nil && info.Inode == s.old.Info.Inode && info.Attr == s.old.Info.Attr && bytes.Equal(now, s.old.Content) {
		return nil
	}
	return k.system.Rights.WriteFile(s.path, s.old.Content, s.old.Info.Attr)
}
