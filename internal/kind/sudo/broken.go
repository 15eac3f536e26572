package sudo

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/sudoers"
	"github.com/soe-agent/soe-agent/internal/sudotext"
)

// maxBroken limits how many single lines are commented out to make sudo work again. Beyond it, whole
// files are.
const maxBroken = 64

// planBroken finds the lines that make sudo fail for everybody and plans to comment them out, because
// an administrator must keep sudo. What sudo only warns about, such as an unknown Defaults entry,
// stays.
func (k *Kind) planBroken(ctx context.Context, p *plan) error {
	works, culprit, err := k.works(ctx, p)
	for range maxBroken {
		if err != nil || works {
			return err
		}
		if !k.planCulprit(p, culprit) {
			break
		}
		works, culprit, err = k.works(ctx, p)
	}
	if err != nil || works {
		return err
	}
	return k.planBrokenLines(ctx, p)
}

// works reports whether sudo would work after the plan, and the reason if not. If sudo is waiting for
// a directory, visudo is asked instead.
func (k *Kind) works(ctx context.Context, p *plan) (bool, []sudoers.Fault, error) {
	return k.worksWith(ctx, p, p.changes())
}

func (k *Kind) worksWith(ctx context.Context, p *plan, changes map[string][]byte) (bool, []sudoers.Fault, error) {
	said := ""
	if !p.silent {
		var err error
		said, err = sudoers.Works(ctx, k.system, changes)
		p.silent = errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil
		if !p.silent && (err != nil || said == "") {
			return err == nil, nil, err
		}
	}
	faults, err := sudoers.Faults(ctx, k.system, changes)
	fatal := slices.DeleteFunc(faults, func(f sudoers.Fault) bool { return !f.Fatal() })
	if len(fatal) == 0 && !p.silent {
		fatal = []sudoers.Fault{{Text: "sudo says: " + said}}
	}
	return len(fatal) == 0 && err == nil, fatal, err
}

// planCulprit plans to comment out the first faulty line that the agent may edit. It reports whether
// it found one.
func (k *Kind) planCulprit(p *plan, faults []sudoers.Fault) bool {
	tree, err := sudoers.Read(k.system.FS, p.changes())
	if err != nil {
		return false
	}
	for _, fault := range faults {
		line, found := culprit(tree, fault)
		if !found || !editable(line.File) {
			continue
		}
		d := converge.Difference{Aspect: fmt.Sprintf("%s:%d", line.File, line.First), Want: "what sudo can read", Got: line.Text + " (" + fault.Text + ")"}
		if err := k.comment(p, line, broken, d); err != nil {
			p.stuck = append(p.stuck, err.Error())
			continue
		}
		return true
	}
	return false
}

// editable reports whether the agent may comment out lines of a file that sudo cannot parse.
func editable(name string) bool {
	return path.Dir(name) == sudoers.Dir && name != grantsPath && name != denialPath
}

// culprit is the line that visudo complains about. That is the line it names or, if that line is
// empty, the one before it. If visudo names only a file, it is the last include line of that file; if
// visudo names an included file, it is the line that includes it.
func culprit(tree *sudoers.Tree, fault sudoers.Fault) (found sudoers.Placed, ok bool) {
	for _, line := range tree.Lines {
		switch {
		case line.Sort == sudotext.Include && includes(line, fault.File):
			return line, true
		case line.File != fault.File || line.Sort == sudotext.Idle:
		case fault.Line == 0 && line.Sort != sudotext.Include && line.Sort != sudotext.IncludeDir:
		case fault.Line == 0 || line.First <= fault.Line:
			found, ok = line, true
		}
	}
	return found, ok
}

// includes reports whether a line includes a file that visudo names. Old versions print the name with
// the quotes and backslashes of the line.
func includes(line sudoers.Placed, name string) bool {
	_, written, _ := strings.Cut(strings.TrimLeft(line.Text, "#@"), " ")
	for _, target := range []string{line.Path, strings.TrimSpace(written)} {
		if target == "" {
			continue
		}
		if !path.IsAbs(target) {
			target = path.Dir(line.File) + "/" + target
		}
		if target == name || path.Clean(target) == path.Clean(name) {
			return true
		}
	}
	return false
}

// planBrokenLines finds the lines that make sudo fail for everybody when visudo does not point to
// them, by asking sudo whether it would work without them.
func (k *Kind) planBrokenLines(ctx context.Context, p *plan) error {
	lines, err := k.suspects(p, false)
	if err != nil {
		return err
	}
	var faults []sudoers.Fault
	enough := func(some []sudoers.Placed) (bool, error) {
		changes, err := k.changesWithout(p, some)
		if err != nil {
			return false, err
		}
		works, found, err := k.worksWith(ctx, p, changes)
		faults = found
		return works, err
	}
	switch works, err := enough(lines); {
	case err != nil:
		return err
	case !works:
		p.dead = fmt.Sprintf("sudo does not say who may use it, and so works for nobody as far as it can be told, and the agent does not edit what is wrong: %s; mend it with visudo", faults[0])
		return nil
	}
	if lines, err = fewest(lines, enough); err != nil {
		return err
	}
	for _, line := range lines {
		d := converge.Difference{Aspect: fmt.Sprintf("%s:%d", line.File, line.First), Want: "what sudo can read", Got: line.Text + " (for which it lets nobody in)"}
		if err := k.comment(p, line, broken, d); err != nil {
			return err
		}
	}
	return nil
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
