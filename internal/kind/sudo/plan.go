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

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/sudoers"
	"github.com/soe-agent/soe-agent/internal/system"
)

const (
	header      = "# Written by soe-agent: [sudo] allow of the policy. Changes here are undone.\n"
	grantSuffix = " ALL = (ALL:ALL) ALL"
	// mark goes in front of lines that grant something to somebody else.
	mark = "# soe-agent: not in [sudo] allow: "
	// weak goes in front of Defaults by which sudo asks less than it does by itself.
	weak = "# soe-agent: weakens sudo: "
	// broken goes in front of all lines of a file that sudo cannot read.
	broken = "# soe-agent: sudo cannot read this file: "

	dirMode fs.FileMode = 0o750
)

// grants is the content of the file that sorts first.
func grants(subjects []string) []byte {
	var b bytes.Buffer
	b.WriteString(header)
	for _, subject := range subjects {
		b.WriteString(sudoers.Quote(subject) + grantSuffix + "\n")
	}
	return b.Bytes()
}

// denial is the content of the file that sorts last: the Defaults that undo what
// stands where the agent does not write, and the denial. In a list of users, too,
// the last match decides, so that whoever is allowed does not match it.
func denial(allow, cures []string) []byte {
	var b bytes.Buffer
	b.WriteString(header)
	for _, cure := range cures {
		b.WriteString(cure + "\n")
	}
	b.WriteString("ALL")
	for _, subject := range allow {
		b.WriteString(", !" + sudoers.Quote(subject))
	}
	b.WriteString(" ALL = (ALL:ALL) !ALL\n")
	return b.Bytes()
}

// An edit is a file of /etc/sudoers.d that is to have another content.
type edit struct {
	path    string
	content []byte
	link    bool // what is there is a symbolic link
	diff    []converge.Difference
}

// A plan is what it takes to bring /etc/sudoers.d into line.
type plan struct {
	tree    *sudoers.Tree // as it is
	judge   *judge
	openDir string // the mode of the directory, when sudo would not trust it
	grants  *edit
	interim []byte // grants for those of before as well, when it must be written
	denial  *edit
	foreign []edit
	stuck   []string // what is wrong and not the agent's to mend
	dead    string   // why sudo works for nobody and the agent cannot mend it
}

// framing are the edits of the agent's own files, in an order in which those who
// are or were allowed keep a grant until those who are now are exempt from the denial.
func (p *plan) framing() []edit {
	var edits []edit
	if p.interim != nil {
		edits = append(edits, edit{path: grantsPath, content: p.interim, link: p.grants.link})
	}
	if p.denial != nil {
		edits = append(edits, *p.denial)
	}
	if p.grants != nil && !bytes.Equal(p.grants.content, p.interim) {
		edits = append(edits, edit{path: grantsPath, content: p.grants.content})
	}
	return edits
}

func (p *plan) changes() map[string][]byte {
	changes := map[string][]byte{}
	for _, e := range slices.Concat(p.framing(), p.foreign) {
		changes[e.path] = e.content
	}
	return changes
}

func (p *plan) differences() []converge.Difference {
	var differences []converge.Difference
	if p.openDir != "" {
		differences = append(differences, converge.Difference{
			Aspect: "mode of " + sudoers.Dir, Want: fmt.Sprintf("%04o", dirMode), Got: p.openDir,
		})
	}
	for _, e := range []*edit{p.grants, p.denial} {
		if e != nil {
			differences = append(differences, e.diff...)
		}
	}
	for _, e := range p.foreign {
		differences = append(differences, e.diff...)
	}
	return differences
}

func (k *Kind) plan(ctx context.Context, allow []string) (*plan, error) {
	tree, err := sudoers.Read(k.system.FS, nil)
	if err != nil {
		return nil, fmt.Errorf("cannot tell who may use sudo: %w", err)
	}
	p := &plan{tree: tree, judge: newJudge(ctx, k.system, allow, tree.Aliases())}
	if !sudoers.Trusted(k.system.FS, sudoers.Main) {
		p.dead = fmt.Sprintf("sudo works for nobody: others than root could write %s; give it to root with mode 0440", sudoers.Main)
	}
	if info, err := k.system.FS.Stat(sudoers.Dir); err == nil && !sudoers.Trusted(k.system.FS, sudoers.Dir) {
		p.openDir = fmt.Sprintf("%04o, owner %d, group %d", info.Mode, info.UID, info.GID)
	}
	needed := slices.DeleteFunc(slices.Clone(allow), func(subject string) bool { return grantedByMain(tree, subject) })
	p.grants = k.ownFile(grantsPath, grants(needed))
	p.denial = k.ownFile(denialPath, denial(allow, p.cures()))
	k.planInterim(p, needed)
	if err := k.planForeign(p); err != nil {
		return nil, err
	}
	return p, errors.Join(k.lookBehind(p), k.planBroken(ctx, p))
}

// cures are the Defaults that undo those of files which the agent does not edit,
// bound to the same users, commands or hosts: of two, the later one decides.
func (p *plan) cures() (cures []string) {
	for _, line := range p.tree.Lines {
		if path.Dir(line.File) == sudoers.Dir {
			continue
		}
		for _, cure := range line.Weakens(p.judge.allowsAll) {
			cure = "Defaults" + line.Defaults.Scope + " " + cure
			if !slices.Contains(cures, cure) {
				cures = append(cures, cure)
			}
		}
	}
	return cures
}

// grantedByMain says whether /etc/sudoers grants a subject everything by a line of its own.
// To grant it again would take away a NOPASSWD that stands there.
func grantedByMain(tree *sudoers.Tree, subject string) bool {
	for _, line := range tree.Lines {
		switch {
		case line.Sort == sudoers.IncludeDir:
			return false // what follows does not survive the denial, or is not before it
		case line.File == sudoers.Main && line.Sort == sudoers.Grant && len(line.Users) == 1 &&
			names(line.Users[0], subject) && grantsAll(line.Rest):
			return true
		}
	}
	return false
}

func names(s sudoers.Subject, subject string) bool {
	switch s.Form {
	case sudoers.User:
		return !s.Negated && s.Name == subject
	case sudoers.Group:
		return !s.Negated && "%"+s.Name == subject
	}
	return false
}

// grantsAll recognises the usual ways to write it.
func grantsAll(rest string) bool {
	switch strings.NewReplacer(" ", "", "\t", "").Replace(rest) {
	case "ALL=(ALL)ALL", "ALL=(ALL:ALL)ALL", "ALL=(ALL)NOPASSWD:ALL", "ALL=(ALL:ALL)NOPASSWD:ALL":
		return true
	}
	return false
}

// ownFile is what the agent's own file needs; nil when nothing.
func (k *Kind) ownFile(name string, want []byte) *edit {
	e := &edit{path: name, content: want}
	info, err := k.system.FS.Stat(name)
	var got []byte
	if err == nil {
		e.link = info.Type == fs.ModeSymlink
		got, err = sudoers.ReadFile(k.system.FS, name)
	}
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		e.diff = []converge.Difference{{Aspect: name, Want: string(want), Got: err.Error()}}
	case err != nil || e.link || !bytes.Equal(got, want):
		e.diff = []converge.Difference{{Aspect: name, Want: string(want), Got: string(got)}}
	case info.Attr != sudoersAttr():
		e.diff = []converge.Difference{{
			Aspect: "mode of " + name, Want: "0440, owner 0, group 0",
			Got: fmt.Sprintf("%04o, owner %d, group %d", info.Mode, info.UID, info.GID),
		}}
	default:
		return nil
	}
	return e
}

// planInterim plans for those who are granted something by the agent's own file
// as it is: they keep it until the denial is the new one.
func (k *Kind) planInterim(p *plan, needed []string) {
	if p.grants == nil {
		return
	}
	old, _ := k.system.FS.ReadFile(grantsPath)
	both := slices.Clone(needed)
	for line := range strings.SplitSeq(string(old), "\n") {
		name, isGrant := strings.CutSuffix(line, grantSuffix)
		parsed := sudoers.Parse([]byte(line))
		if !isGrant || len(parsed) != 1 || len(parsed[0].Users) != 1 {
			continue
		}
		subject := parsed[0].Users[0].Name
		if parsed[0].Users[0].Form == sudoers.Group {
			subject = "%" + subject
		}
		if sudoers.Quote(subject) == name && !slices.Contains(both, subject) {
			both = append(both, subject)
		}
	}
	p.interim = grants(both)
}

// planForeign finds the lines of other files in /etc/sudoers.d that grant
// something to somebody who is not allowed.
func (k *Kind) planForeign(p *plan) error {
	names, err := k.system.FS.ReadDir(sudoers.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, base := range names {
		name := path.Join(sudoers.Dir, base)
		info, err := k.system.FS.Stat(name)
		if err != nil || info.IsDir() || sudoers.Skipped(base) || name == grantsPath || name == denialPath {
			continue
		}
		if !sudoers.Trusted(k.system.FS, name) {
			continue // sudo passes over it, and to write it would change that
		}
		content, err := sudoers.ReadFile(k.system.FS, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			p.stuck = append(p.stuck, fmt.Sprintf("%v; nobody can tell what it grants", err))
			continue
		}
		e := edit{path: name, link: info.Type == fs.ModeSymlink}
		var offending, weakening []sudoers.Line
		for _, line := range sudoers.Parse(content) {
			switch {
			case p.offends(line, name > denialPath):
				offending = append(offending, line)
			case len(line.Weakens(p.judge.allowsAll)) > 0:
				weakening = append(weakening, line)
			default:
				continue
			}
			e.diff = append(e.diff, converge.Difference{Aspect: fmt.Sprintf("%s:%d", name, line.First), Got: line.Text})
		}
		switch dropin, managed := k.policy.Lookup(policy.NewID("dropin", name)); {
		case managed && len(offending) > 0:
			p.stuck = append(p.stuck, fmt.Sprintf("the policy's own %s grants something to somebody whom [sudo] allow does not name: %s",
				dropin.ID, offending[0].Text))
		case !managed && len(e.diff) > 0:
			e.content = sudoers.Disable(sudoers.Disable(content, offending, mark), weakening, weak)
			p.foreign = append(p.foreign, e)
		}
	}
	return nil
}

// offends says whether a line must not stay. A line that cannot be understood
// must not; one that includes something must not where the denial is over, nor
// when it is not there: sudo before 1.9 reads nothing that comes after it.
func (p *plan) offends(line sudoers.Line, behind bool) bool {
	switch line.Sort {
	case sudoers.Unclear:
		return true
	case sudoers.Include:
		return behind || slices.Contains(p.tree.Missing, line.Path)
	case sudoers.IncludeDir:
		return behind
	case sudoers.Grant:
		return !p.judge.allowsAll(line.Users) && !onlyDenies(line.Rest)
	}
	return false
}

// onlyDenies says whether the commands of a grant are a list of denials.
func onlyDenies(rest string) bool {
	_, commands, _ := strings.Cut(rest, "=")
	commands = strings.TrimLeft(commands, " \t")
	if strings.HasPrefix(commands, "(") {
		_, after, found := strings.Cut(commands, ")")
		if !found {
			return false
		}
		commands = after
	}
	for command := range strings.SplitSeq(commands, ",") {
		command = strings.TrimLeft(command, " \t")
		if !strings.HasPrefix(command, "!") || strings.HasPrefix(strings.TrimLeft(command[1:], " \t"), "!") {
			return false
		}
	}
	// A backslash may hide a comma, and a colon begins what is not a denial.
	return !strings.ContainsAny(commands, `\:`)
}

// lookBehind finds what the denial does not reach: what sudo reads after it and
// is not in /etc/sudoers.d.
func (k *Kind) lookBehind(p *plan) error {
	after, err := sudoers.Read(k.system.FS, p.changes())
	if err != nil {
		return err
	}
	behind := false
	for _, line := range after.Lines {
		switch {
		case line.File == denialPath:
			behind = true
		case path.Dir(line.File) == sudoers.Dir:
		case behind && p.offends(line.Line, true):
			p.stuck = append(p.stuck, fmt.Sprintf("%s line %d comes after %s and grants what that cannot take away: %q; move or remove it with visudo",
				line.File, line.First, denialPath, line.Text))
		case behind && len(line.Weakens(p.judge.allowsAll)) > 0:
			p.stuck = append(p.stuck, fmt.Sprintf("%s line %d comes after %s and weakens sudo: %q; move or remove it with visudo",
				line.File, line.First, denialPath, line.Text))
		case line.Sort == sudoers.Include && slices.Contains(after.Missing, line.Path):
			p.stuck = append(p.stuck, fmt.Sprintf("%s line %d includes %s, which sudo cannot read or does not trust; sudo before 1.9 reads nothing behind it; remove the line with visudo",
				line.File, line.First, line.Path))
		}
	}
	if !behind {
		p.stuck = append(p.stuck, fmt.Sprintf("%s does not include %s; add the line \"#includedir %s\" at its end with visudo",
			sudoers.Main, sudoers.Dir, sudoers.Dir))
	}
	return nil
}

// planBroken finds the files because of which sudo works for nobody, or not as
// it says. Each becomes a comment as a whole: an administrator must keep sudo.
func (k *Kind) planBroken(ctx context.Context, p *plan) error {
	changes := p.changes()
	if err := validate(ctx, k.system, changes); !errors.Is(err, sudoers.ErrInvalid) {
		return err
	}
	listed, err := k.system.FS.ReadDir(sudoers.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	planned := map[string][]byte{}
	var suspects []string
	for _, base := range listed {
		name := path.Join(sudoers.Dir, base)
		content, changed := changes[name]
		if !changed {
			content, err = sudoers.ReadFile(k.system.FS, name)
		}
		if sudoers.Skipped(base) || name == grantsPath || name == denialPath || err != nil {
			continue
		}
		suspects = append(suspects, name)
		planned[name], changes[name] = content, []byte{}
	}
	if err := validate(ctx, k.system, changes); errors.Is(err, sudoers.ErrInvalid) {
		p.dead = fmt.Sprintf("sudo works for nobody, and the agent does not edit %s: %v; mend it with visudo", sudoers.Main, err)
		return nil
	} else if err != nil {
		return err
	}
	for _, name := range suspects {
		changes[name] = planned[name]
		switch err := validate(ctx, k.system, changes); {
		case errors.Is(err, sudoers.ErrInvalid):
			changes[name] = []byte{}
			p.disable(k.system.FS, name, err)
		case err != nil:
			return err
		}
	}
	return nil
}

// validate has visudo judge all files as they would be.
func validate(ctx context.Context, s *system.System, changes map[string][]byte) error {
	tree, err := sudoers.Read(s.FS, changes)
	if err != nil {
		return err
	}
	return tree.Validate(ctx, s.Runner)
}

func (p *plan) disable(files system.FS, name string, why error) {
	p.foreign = slices.DeleteFunc(p.foreign, func(e edit) bool { return e.path == name })
	content, err := sudoers.ReadFile(files, name)
	info, err2 := files.Stat(name)
	if err = errors.Join(err, err2); err != nil {
		p.stuck = append(p.stuck, err.Error())
		return
	}
	p.foreign = append(p.foreign, edit{
		path: name, link: info.Type == fs.ModeSymlink,
		content: sudoers.Disable(content, sudoers.Parse(content), broken),
		diff:    []converge.Difference{{Aspect: name, Want: "a file that sudo can read", Got: why.Error()}},
	})
}
