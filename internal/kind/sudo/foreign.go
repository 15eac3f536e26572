package sudo

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/sudoers"
	"github.com/soe-agent/soe-agent/internal/sudotext"
	"github.com/soe-agent/soe-agent/internal/system"
)

// Prefixes of lines that the agent comments out.
const (
	// mark: they grant something to somebody else.
	mark = "# soe-agent: not in [sudo] allow: "
	// partly: they do so to the allowed as well, who keep the line below.
	partly = "# soe-agent: not all in [sudo] allow, who keep the next line: "
	// weak: Defaults by which sudo asks less than it does by itself.
	weak = "# soe-agent: weakens sudo: "
	// refuses: the allowed cannot become root for them.
	refuses = "# soe-agent: keeps [sudo] allow from root: "
	// faulty: some of their settings do either, and the others stand in the line below.
	faulty = "# soe-agent: weakens sudo, or keeps [sudo] allow from root, but for the next line: "
	// broken: sudo cannot read them, and lets nobody in for it.
	broken = "# soe-agent: sudo cannot read this: "
	// brokenFile is what an earlier agent put in front of each line of such a file.
	brokenFile = "# soe-agent: sudo cannot read this file: "
)

// A rewrite is the change of one line of somebody else's.
type rewrite struct {
	line sudotext.Line
	mark string
	keep string // the line to write below it
}

// grants reports whether the line grants something to somebody who is not allowed.
func (r rewrite) grants() bool { return r.mark == mark || r.mark == partly }

// rewrites returns, by file, the lines of others that must not stay: anywhere in /etc/sudoers.d, and
// elsewhere if they come after the denial.
func (k *Kind) rewrites(p *plan, after *sudoers.Tree) map[string][]rewrite {
	found := map[string][]rewrite{}
	seen := map[string]bool{}
	behind := !reaches(after) // without the denial every line counts
	for _, line := range after.Lines {
		inDir := path.Dir(line.File) == sudoers.Dir
		switch {
		case line.File == denialPath:
			behind = true
			continue
		case line.File == grantsPath, !inDir && !behind:
			continue
		}
		place := fmt.Sprintf("%s:%d", line.File, line.First)
		r, offends := p.rewrite(line.Line, place, behind, inDir)
		if !offends || seen[place] {
			continue
		}
		seen[place] = true
		found[line.File] = append(found[line.File], r)
	}
	if !reaches(after) {
		p.stuck = append(p.stuck, fmt.Sprintf("%s does not include %s; add the line \"#includedir %s\" at its end with visudo",
			sudoers.Main, sudoers.Dir, sudoers.Dir))
	}
	return found
}

// rewrite returns the change for one line. A line that cannot be parsed must go, and so must an
// include in /etc/sudoers.d after the denial, because the included file may change. If the directory
// does not tell who a subject is, the line stays and the plan records the doubt.
func (p *plan) rewrite(line sudotext.Line, place string, behind, inDir bool) (rewrite, bool) {
	r, err := surely(p.judge, func() *rewrite { return p.rewriteAsFarAsKnown(line, behind, inDir) })
	switch {
	case r == nil:
		return rewrite{}, false
	case err != nil:
		p.unsure = append(p.unsure, fmt.Errorf("cannot tell whether %s may stay, and leave it: %w", place, err))
		return rewrite{}, false
	}
	return *r, true
}

func (p *plan) rewriteAsFarAsKnown(line sudotext.Line, behind, inDir bool) *rewrite {
	switch {
	case line.Sort == sudotext.Unclear, behind && line.Sort == sudotext.Include && strings.Contains(line.Path, "%"), inDir && behind && (line.Sort == sudotext.Include || line.Sort == sudotext.IncludeDir):
		return &rewrite{line: line, mark: mark}
	case line.Sort == sudotext.Grant && !p.judge.allowsAll(line.Users) && !line.OnlyDenies(p.commands):
		if rest := p.allowedOf(line); rest != "" {
			return &rewrite{line, partly, rest}
		}
		return &rewrite{line: line, mark: mark}
	}
	weakening, hindering := line.Weakens(p.judge.allowsAll), line.Hinders(p.judge.meets, p.commands, p.isDir)
	if len(weakening)+len(hindering) == 0 {
		return nil
	}
	rest := line.Without(func(s sudotext.Setting) bool { return slices.Contains(weakening, s) || slices.Contains(hindering, s) })
	switch {
	case rest != "":
		return &rewrite{line, faulty, rest}
	case len(weakening) > 0:
		return &rewrite{line: line, mark: weak}
	}
	return &rewrite{line: line, mark: refuses}
}

// allowedOf returns a grant reduced to its allowed users, or "" if none is left. An alias with both
// kinds is replaced by its allowed members.
func (p *plan) allowedOf(line sudotext.Line) string {
	var users []string
	granted := false
	for _, subject := range line.Users {
		if subject.Negated && subject.ShutsOut(p.judge.aliases) {
			return ""
		}
		kept := []sudotext.Subject{subject}
		if !subject.Negated && !p.judge.allowsOne(subject, 0) {
			kept = slices.DeleteFunc(membersOf(subject, p.judge.aliases, 0), func(s sudotext.Subject) bool { return !p.judge.allowsOne(s, 0) })
		}
		granted = granted || (!subject.Negated && len(kept) > 0)
		for _, s := range kept {
			users = append(users, s.String())
		}
	}
	if !granted {
		return ""
	}
	return strings.Join(users, ", ") + " " + line.Rest
}

// membersOf returns the members of an alias, with nested aliases resolved. It returns none if the
// alias has a negation, because then the result depends on the order.
func membersOf(s sudotext.Subject, aliases map[string][]sudotext.Subject, depth int) (members []sudotext.Subject) {
	if s.Form != sudotext.Named || depth >= maxAliases {
		return nil
	}
	for _, m := range aliases[s.Name] {
		if m.Negated {
			return nil
		}
		if _, isAlias := aliases[m.Name]; m.Form != sudotext.Named || !isAlias {
			members = append(members, m)
			continue
		}
		of := membersOf(m, aliases, depth+1)
		if of == nil {
			return nil
		}
		members = append(members, of...)
	}
	return members
}

// planForeign plans the changes to the lines of others.
func (k *Kind) planForeign(p *plan) error {
	after, err := sudoers.Read(k.system.FS, p.changes())
	if err != nil {
		return err
	}
	for _, unread := range after.Unread {
		p.stuck = append(p.stuck, unread.Error()+"; nobody can tell what it grants")
	}
	rewrites := k.rewrites(p, after)
	for _, name := range sortedKeys(rewrites) {
		if err := k.planFile(p, name, rewrites[name]); err != nil {
			return err
		}
	}
	k.planOwn(p)
	// Others can be set aside, and are not in need of what is kept.
	slices.SortStableFunc(p.foreign, func(a, b edit) int { return strings.Compare(path.Dir(a.path), path.Dir(b.path)) })
	return k.planAside(p)
}

// planAside plans to restore a file that was set aside because it could not be written, without the
// grants to others.
func (k *Kind) planAside(p *plan) error {
	names, err := k.system.FS.ReadDir(sudoers.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, base := range names {
		name := path.Join(sudoers.Dir, base)
		original := strings.TrimSuffix(name, system.Aside(""))
		if _, err := k.system.FS.Stat(original); original == name || !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		e, err := k.editOf(name)
		if err != nil {
			return err
		}
		var rewrites []rewrite
		for _, line := range sudotext.Parse(e.content) {
			if r, offends := p.rewrite(line, name, original > denialPath, true); offends {
				rewrites = append(rewrites, r)
			}
		}
		e.path, e.aside, e.content = original, true, rewritten(e.content, rewrites)
		e.diff = []converge.Difference{{Aspect: original, Want: string(e.content), Got: "set aside, when it could not be written"}}
		p.foreign = append(p.foreign, e)
	}
	return nil
}

// planOwn finds what the policy's own files would grant to others, or set that [sudo] undoes elsewhere, even
// before they are written, so that not even a first pass reports compliant.
func (k *Kind) planOwn(p *plan) {
	for _, dropin := range policy.Of[policy.Dropin](k.policy) {
		name := "/" + dropin.ID.Name()
		inDir := path.Dir(name) == sudoers.Dir && !sudoers.Skipped(path.Base(name))
		read := inDir || slices.ContainsFunc(p.tree.Lines, func(l sudoers.Placed) bool { return l.File == name })
		if !read || dropin.Spec.Ensure != policy.Present {
			continue
		}
		for _, line := range sudotext.Parse([]byte(dropin.Spec.Content)) {
			switch r, offends := p.rewrite(line, name, name > denialPath, inDir); {
			case offends && r.grants():
				p.stuck = append(p.stuck, fmt.Sprintf("the policy's own %s grants something to somebody whom [sudo] allow does not name, in line %d: say in [sudo.commands] what they may run",
					dropin.ID, line.First))
			case offends:
				p.stuck = append(p.stuck, fmt.Sprintf("the policy's own %s weakens sudo, or keeps from root whom [sudo] allow names, in line %d: take that out of it", dropin.ID, line.First))
			}
		}
	}
}

// planFile plans the rewrites of one file.
func (k *Kind) planFile(p *plan, name string, rewrites []rewrite) error {
	e, err := k.editOf(name)
	if err != nil {
		return err
	}
	if _, managed := k.policy.Lookup(policy.NewID("dropin", name)); managed {
		return nil // planOwn judges what the policy wants there, and its own kind sees to the rest
	}
	e.plain = true
	for _, r := range rewrites {
		isOthers := r.line.Sort == sudotext.Grant && r.keep == "" && p.judge.namesOthers(r.line.Users)
		e.plain = e.plain && r.grants() && (r.line.OnlyGrants() || isOthers)
		e.takesAway = e.takesAway || r.grants()
		e.lifts = e.lifts || mayDeny(r.line)
		e.diff = append(e.diff, converge.Difference{Aspect: fmt.Sprintf("%s:%d", name, r.line.First), Want: r.keep, Got: r.line.Text})
	}
	e.content = rewritten(e.content, rewrites)
	p.foreign = append(p.foreign, e)
	return nil
}

// editOf begins an edit with the current state of a file.
func (k *Kind) editOf(name string) (edit, error) {
	info, err := k.system.FS.Stat(name)
	if err != nil {
		return edit{}, err
	}
	content, err := sudoers.ReadFile(k.system.FS, name)
	e := edit{path: name, content: content, attr: info.Attr, link: info.Type == fs.ModeSymlink}
	if e.link { // whose mode says nothing
		e.attr = sudoersAttr()
	}
	return e, err
}

// rewritten comments out lines, and writes below each what is kept of it.
func rewritten(content []byte, rewrites []rewrite) []byte {
	slices.SortFunc(rewrites, func(a, b rewrite) int { return b.line.First - a.line.First }) // from the end, so that numbers stay right
	for _, r := range rewrites {
		content = sudotext.Disable(content, []sudotext.Line{r.line}, r.mark)
		if r.keep == "" {
			continue
		}
		physical := bytes.SplitAfter(content, []byte("\n"))
		above := bytes.Join(physical[:r.line.Last], nil)
		if !bytes.HasSuffix(above, []byte("\n")) {
			above = append(above, '\n')
		}
		content = slices.Concat(above, []byte(r.keep+"\n"), bytes.Join(physical[r.line.Last:], nil))
	}
	return content
}

// Reads reports whether the agent edits a path as part of what sudo reads.
func Reads(name string) bool { return name == sudoers.Main || path.Dir(name) == sudoers.Dir }

// Owns reports whether a file is entirely the agent's own.
func Owns(name string) bool {
	return name == grantsPath || name == denialPath || name == system.Spare(sudoers.Dir)
}

// Marked returns the files of /etc/sudoers.d, of those that sudo reads, in which the agent has
// commented out lines of others.
func Marked(files system.FS) (marked []string, err error) {
	entries, err := files.Entries(sudoers.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, base := range sortedKeys(entries) {
		name := path.Join(sudoers.Dir, base)
		if Owns(name) || sudoers.Skipped(base) || !entries[base].IsRegular() {
			continue
		}
		content, failed := files.ReadFile(name)
		err = errors.Join(err, failed)
		if !bytes.Equal(content, Revert(content)) {
			marked = append(marked, name)
		}
	}
	return marked, err
}

// Revert removes the agent's marks from a file: lines that it commented out count again, and the kept
// parts below them go, unless somebody has changed them since.
func Revert(content []byte) []byte {
	var out bytes.Buffer
	aliases := map[string][]sudotext.Subject{}
	for _, line := range sudotext.Parse(content) {
		maps.Copy(aliases, line.Aliases)
	}
	lines := slices.Collect(bytes.Lines(content))
	for i := 0; i < len(lines); i++ {
		marked := markOf(lines[i])
		if marked == "" {
			out.Write(lines[i])
			continue
		}
		first := i
		var original bytes.Buffer
		for ; i < len(lines) && bytes.HasPrefix(lines[i], []byte(marked)); i++ {
			original.Write(bytes.TrimPrefix(lines[i], []byte(marked)))
			if keepsNext(marked) && !goesOn(lines[i]) {
				i++
				break
			}
		}
		switch {
		case !keepsNext(marked):
			out.Write(original.Bytes())
			i--
		case i < len(lines) && isPartOf(lines[i], original.Bytes(), aliases):
			out.Write(original.Bytes())
		default: // somebody has changed what was kept
			out.Write(bytes.Join(lines[first:i], nil))
			i--
		}
	}
	return out.Bytes()
}

// goesOn reports whether a logical line continues on the next physical line.
func goesOn(line []byte) bool { return bytes.HasSuffix(bytes.TrimRight(line, "\r\n"), []byte(`\`)) }

func markOf(line []byte) string {
	for _, m := range []string{mark, partly, weak, refuses, faulty, broken, brokenFile} {
		if bytes.HasPrefix(line, []byte(m)) {
			return m
		}
	}
	return ""
}

// keepsNext reports whether the kept part of a marked line follows it.
func keepsNext(marked string) bool { return marked == partly || marked == faulty }

// isPartOf reports whether a line grants the same to a subset of another line's users, or sets a
// subset of another line's settings.
func isPartOf(line, whole []byte, aliases map[string][]sudotext.Subject) bool {
	part, of := sudotext.Parse(line), sudotext.Parse(whole)
	if len(part) != 1 || len(of) != 1 || part[0].Sort != of[0].Sort {
		return false
	}
	switch part[0].Sort {
	case sudotext.Grant:
		users := slices.Clone(of[0].Users)
		for _, s := range of[0].Users {
			users = append(users, membersOf(s, aliases, 0)...)
		}
		return part[0].Rest == of[0].Rest && isAmong(part[0].Users, users)
	case sudotext.DefaultsLine:
		return part[0].Defaults.Scope == of[0].Defaults.Scope && isAmong(part[0].Defaults.Settings, of[0].Defaults.Settings)
	}
	return false
}

func isAmong[T comparable](some, all []T) bool {
	return !slices.ContainsFunc(some, func(one T) bool { return !slices.Contains(all, one) })
}
