package sudo

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/sudoers"
	"github.com/soe-agent/soe-agent/internal/sudotext"
)

// maxWronged limits for how many people at a time the agent searches for the lines to blame.
const maxWronged = 8

// planCulprits finds the lines that give people rights they should not have, or take rights they
// should have, when this package's own parser sees nothing wrong with them. It asks sudo what it would
// say without a line, and plans to comment out as few lines as possible. Rights from other sources,
// and lines that the agent may not edit, stay.
func (k *Kind) planCulprits(ctx context.Context, p *plan, people []string) error {
	lines, err := k.suspects(p, true)
	if err != nil || len(lines) == 0 || p.silent || !k.system.Running() {
		return err
	}
	least := map[string]int{} // what is still wrong without any of the lines
	for _, name := range people[:min(len(people), maxWronged)] {
		now, err := k.wrongs(ctx, p, name, nil)
		if err != nil {
			return err
		}
		if least[name], err = k.wrongs(ctx, p, name, lines); err != nil {
			return err
		}
		if least[name] >= now {
			delete(least, name)
		}
	}
	if len(least) == 0 {
		return nil
	}
	lines, err = fewest(lines, func(some []sudoers.Placed) (bool, error) {
		for name, without := range least {
			if left, err := k.wrongs(ctx, p, name, some); err != nil || left > without {
				return false, err
			}
		}
		return true, nil
	})
	if err != nil {
		return err
	}
	for _, line := range lines {
		m, want := mark, "no line by which somebody else may use sudo"
		if line.Sort == sudotext.DefaultsLine || line.OnlyDenies(p.commands) || line.Sort == sudotext.Grant && p.judge.allowsAll(line.Users) {
			m, want = refuses, "no line by which sudo refuses the allowed"
		}
		d := converge.Difference{Aspect: fmt.Sprintf("%s:%d", line.File, line.First), Want: want, Got: line.Text}
		if err := k.comment(p, line, m, d); err != nil {
			return err
		}
	}
	return nil
}

// wrongs counts what would be wrong with sudo's answer about somebody, if the plan were carried out
// and some more lines were commented out.
func (k *Kind) wrongs(ctx context.Context, p *plan, name string, lines []sudoers.Placed) (int, error) {
	changes, err := k.changesWithout(p, lines)
	if err != nil {
		return 0, err
	}
	l, err := sudoers.List(ctx, k.system, name, changes)
	if errors.Is(err, sudoers.ErrUnknownUser) {
		return 0, nil
	}
	if err != nil {
		p.silent = p.silent || (errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil)
		return 0, err
	}
	allowed, err := p.judge.tell(name)
	switch {
	case err != nil:
		return 0, err
	case allowed && l.Administers():
		return len(sudotext.Hindrances(l.Defaults, p.isDir)), nil
	case allowed:
		return 1 + len(sudotext.Hindrances(l.Defaults, p.isDir)), nil
	}
	conceded, err := k.conceded(ctx, p, name, allowed)
	if err != nil {
		return 0, err
	}
	more, _ := sudoers.Compare(l, conceded)
	return len(more), nil
}

// suspects are the lines that may be commented out: those of other people in /etc/sudoers.d, and those
// elsewhere behind the denial. Files of the policy belong to the kind that writes them.
func (k *Kind) suspects(p *plan, elsewhere bool) (lines []sudoers.Placed, err error) {
	tree, err := sudoers.Read(k.system.FS, p.changes())
	if err != nil {
		return nil, err
	}
	behind := !reaches(tree)
	seen := map[string]bool{}
	for _, line := range tree.Lines {
		behind = behind || line.File == denialPath
		place := fmt.Sprintf("%s:%d", line.File, line.First)
		switch {
		case line.Text == "", seen[place], k.isPolicys(line), !editable(line.File) && (!elsewhere || !behind || Owns(line.File)):
		case line.Sort == sudotext.IncludeDir && path.Clean(line.Path) == sudoers.Dir:
		default:
			seen[place] = true
			lines = append(lines, line)
		}
	}
	return lines, nil
}

// isPolicys reports whether a line is in a file that the policy writes, or includes one.
func (k *Kind) isPolicys(line sudoers.Placed) bool {
	return slices.ContainsFunc(policy.Of[policy.Dropin](k.policy), func(d policy.Want[policy.Dropin]) bool {
		name := "/" + d.ID.Name()
		switch line.Sort {
		case sudotext.Include:
			return name == line.File || name == path.Clean(line.Path)
		case sudotext.IncludeDir:
			return name == line.File || path.Dir(name) == path.Clean(line.Path)
		}
		return name == line.File
	})
}

// reaches reports whether sudo reads the agent's denial.
func reaches(tree *sudoers.Tree) bool {
	return slices.ContainsFunc(tree.Lines, func(l sudoers.Placed) bool { return l.File == denialPath })
}

// changesWithout returns the changes of a plan, with some more lines commented out.
func (k *Kind) changesWithout(p *plan, lines []sudoers.Placed) (map[string][]byte, error) {
	changes := p.changes()
	of := map[string][]sudotext.Line{}
	for _, line := range lines {
		of[line.File] = append(of[line.File], line.Line)
	}
	for name, its := range of {
		content, changed := changes[name]
		if !changed {
			var err error
			if content, err = sudoers.ReadFile(k.system.FS, name); err != nil {
				return nil, err
			}
		}
		changes[name] = sudotext.Disable(content, its, "# ")
	}
	return changes, nil
}

// fewest returns a small subset of the lines that is enough to achieve what all of them achieve.
func fewest(lines []sudoers.Placed, enough func([]sudoers.Placed) (bool, error)) ([]sudoers.Placed, error) {
	for size := (len(lines) + 1) / 2; size > 0; {
		for at := 0; at < len(lines); {
			rest := slices.Concat(lines[:at], lines[min(at+size, len(lines)):])
			is, err := enough(rest)
			if err != nil {
				return nil, err
			}
			if is {
				lines = rest
			} else {
				at += size
			}
		}
		if size == 1 {
			break
		}
		size = (min(size, len(lines)) + 1) / 2
	}
	return lines, nil
}

// comment plans to comment out a line.
func (k *Kind) comment(p *plan, line sudoers.Placed, why string, d converge.Difference) error {
	i := slices.IndexFunc(p.foreign, func(e edit) bool { return e.path == line.File })
	if i < 0 {
		e, err := k.editOf(line.File)
		if err != nil {
			return err
		}
		i = len(p.foreign)
		p.foreign = append(p.foreign, e)
	}
	e := &p.foreign[i]
	e.plain = false
	e.content = sudotext.Disable(e.content, []sudotext.Line{line.Line}, why)
	e.takesAway = e.takesAway || why == mark
	if why == refuses || mayDeny(line.Line) {
		e.frees, e.lifts = true, true
		if err := k.free(e, line, why); err != nil {
			return err
		}
	}
	e.diff = append(e.diff, d)
	return nil
}

// free also comments out a line in the intermediate content of an edit (freeing). Of several equal
// lines it takes the first that is not a comment yet.
func (k *Kind) free(e *edit, line sudoers.Placed, why string) error {
	if e.aside {
		return nil // nothing of it is in force
	}
	if e.freeing == nil {
		content, err := sudoers.ReadFile(k.system.FS, e.path)
		if err != nil {
			return err
		}
		e.freeing = content
	}
	for _, l := range sudotext.Parse(e.freeing) {
		if l.Text == line.Text {
			e.freeing = sudotext.Disable(e.freeing, []sudotext.Line{l}, why)
			return nil
		}
	}
	return nil // it is one that the edit itself puts there
}

// mayDeny reports whether a line, or what it includes, may deny somebody something.
func mayDeny(line sudotext.Line) bool {
	return line.Sort == sudotext.Include || line.Sort == sudotext.IncludeDir || strings.Contains(line.Rest, "!")
}
