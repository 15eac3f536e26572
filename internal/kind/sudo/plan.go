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
	"github.com/soe-agent/soe-agent/internal/sudotext"
	"github.com/soe-agent/soe-agent/internal/system"
)

const (
	header                  = "# Written by soe-agent: [sudo] of the policy. Changes here are undone.\n"
	grantSuffix             = " ALL = (ALL:ALL) ALL"
	dirMode     fs.FileMode = 0o750
)

// grants is the content of the agent's file that sorts first.
func grants(subjects []string) []byte {
	var b bytes.Buffer
	b.WriteString(header)
	for _, subject := range subjects {
		b.WriteString(sudotext.Quote(subject) + grantSuffix + "\n")
	}
	return b.Bytes()
}

// denial is the content of the agent's file that sorts last: Defaults that undo settings in files
// which the agent does not edit, then the denial. In a list of users the last match decides too, so
// the allowed are exempted at its end. After it come the single commands of [sudo.commands]. The
// allowed are exempted there as well: they may run the commands anyway, perhaps without a password.
func denial(allow, cures []string, concessions []concession) []byte {
	var b bytes.Buffer
	b.WriteString(header)
	for _, cure := range cures {
		b.WriteString(cure + "\n")
	}
	b.Write(denialLine(allow))
	for _, c := range concessions {
		b.WriteString(sudotext.Quote(c.subject) + but(allow) + " ALL = " + c.command.String() + "\n")
	}
	return b.Bytes()
}

const denialSuffix = " ALL = (ALL:ALL) !ALL"

func denialLine(allow []string) []byte {
	return []byte("ALL" + but(allow) + denialSuffix + "\n")
}

// but is the end of a list that exempts some users.
func but(allow []string) string {
	var out strings.Builder
	for _, subject := range allow {
		out.WriteString(", !" + sudotext.Quote(subject))
	}
	return out.String()
}

// An edit is a new content for a file that sudo reads.
type edit struct {
	path    string
	content []byte
	attr    system.Attr
	link    bool // the current file is a symbolic link
	// takesAway is true if the file is better missing than unchanged, because it grants something to
	// somebody who is not allowed.
	takesAway bool
	// lifts is true if a removed line also denies something, perhaps to an administrator.
	lifts bool
	// frees is true if it does, and if another removed line may be what lets that administrator in now.
	frees bool
	// freeing is an intermediate content, without the denial but with all grants. It is nil if no grant is
	// at stake.
	freeing []byte
	aside   bool // it was set aside earlier because it could not be written
	// plain is true if it only makes comments of plain grants, or of what is about none of the allowed.
	plain bool
	diff  []converge.Difference
}

// A plan is what has to be done to bring the sudoers files into line.
type plan struct {
	tree        *sudoers.Tree // as it is
	allow       []string      // the subjects of the policy, root first
	judge       *judge
	commands    map[string]string // aliases of commands
	isDir       func(string) bool
	concessions []concession
	listed      map[string][]sudoers.Entry // how sudo lists concessions, by user
	noRoom      bool                       // the spare file for a full disk is missing
	covered     []string                   // where something is mounted over sudo's files
	openDir     string                     // the mode of the directory, when sudo would not trust it
	grants      *edit
	interim     []byte // a first version of the agent's grants that keeps the previous users, if one is needed
	denial      *edit
	freedDenial []byte // the denial without what somebody else wrote into it that denies something; nil: nobody did
	foreign     []edit
	stuck       []string // what is wrong and the agent cannot change
	unsure      []error  // why something stays: it is not known whether it may
	dead        string   // why sudo works for nobody and the agent cannot mend it
	silent      bool     // sudo does not answer: it waits for a directory
	candidates  []candidate
}

// steps orders the edits so that whoever could administer before can do so after every single edit.
// Previously and newly allowed users keep a grant until the new denial exempts the new ones. A line
// that denies them something goes before that, and before any line, in whichever file, that lets them
// in despite the denial.
func (p *plan) steps() (edits []edit) {
	if p.interim != nil {
		edits = append(edits, edit{path: grantsPath, content: p.interim, attr: sudoersAttr()})
	}
	if p.denial != nil && p.freedDenial != nil {
		edits = append(edits, edit{path: denialPath, content: p.freedDenial, attr: sudoersAttr()})
	}
	for _, e := range p.foreign {
		if e.freeing != nil && !bytes.Equal(e.freeing, e.content) {
			e.content = e.freeing
			edits = append(edits, e)
		}
	}
	for _, next := range []func(edit) bool{
		func(e edit) bool { return e.frees && !e.takesAway },
		func(e edit) bool { return e.frees && e.takesAway },
		func(e edit) bool { return e.lifts && !e.frees },
	} {
		for _, e := range p.foreign {
			if next(e) {
				edits = append(edits, e)
			}
		}
	}
	if p.denial != nil {
		edits = append(edits, *p.denial)
	}
	if p.grants != nil && !bytes.Equal(p.grants.content, p.interim) {
		edits = append(edits, edit{path: grantsPath, content: p.grants.content, attr: sudoersAttr()})
	}
	for _, e := range p.foreign {
		if !e.lifts {
			edits = append(edits, e)
		}
	}
	return edits
}

func (p *plan) changes() map[string][]byte {
	changes := map[string][]byte{}
	for _, e := range p.steps() {
		changes[e.path] = e.content
	}
	return changes
}

// withoutDenialsOfOthers is the agent's denial with those lines as comments by which somebody else denies something in it;
// nil if there is none.
func withoutDenialsOfOthers(content []byte) []byte {
	theirs := slices.DeleteFunc(sudotext.Parse(content), func(line sudotext.Line) bool {
		return !mayDeny(line) || strings.HasPrefix(line.Text, "ALL") && strings.HasSuffix(line.Text, denialSuffix)
	})
	if len(theirs) == 0 {
		return nil
	}
	return sudotext.Disable(content, theirs, refuses)
}

func (p *plan) differences() []converge.Difference {
	var differences []converge.Difference
	for _, point := range p.covered {
		differences = append(differences, converge.Difference{Aspect: "mounted over " + point, Want: "nothing", Got: "something (see findmnt)"})
	}
	if p.openDir != "" {
		differences = append(differences, converge.Difference{
			Aspect: "mode of " + sudoers.Dir, Want: fmt.Sprintf("%04o", dirMode), Got: p.openDir,
		})
	}
	if p.noRoom {
		differences = append(differences, converge.Difference{Aspect: system.Spare(sudoers.Dir), Want: "room for one file, for when the disk is full", Got: ""})
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

// plan plans everything except what planBroken does, which has to ask sudo. It needs a complete view
// of the machine and fails without one. Rights of users whom the directory does not know stay as they
// are.
func (k *Kind) plan(ctx context.Context, want policy.Sudo) (*plan, error) {
	mark := k.Mark()
	allow := allowed(want)
	concessions, err := concessionsOf(want)
	if err != nil {
		return nil, err
	}
	tree, err := sudoers.Read(k.system.FS, nil)
	if err != nil {
		return nil, fmt.Errorf("cannot tell who may use sudo: %w", err)
	}
	k.sees(tree.Places)
	p := &plan{tree: tree, allow: allow, judge: newJudge(ctx, k.directory, allow, tree.Aliases()), commands: tree.CommandAliases(), isDir: sudoers.IsDir(k.system.FS), concessions: concessions, listed: map[string][]sudoers.Entry{}}
	p.covered = k.covered()
	p.judge.readFiles() // now, so that a failure ends the plan
	if !sudoers.Trusted(k.system.FS, sudoers.Main) {
		p.dead = fmt.Sprintf("sudo works for nobody: others than root could write %s; give it to root with mode 0440", sudoers.Main)
	}
	if info, err := k.system.FS.Stat(sudoers.Dir); err == nil && !sudoers.Trusted(k.system.FS, sudoers.Dir) {
		p.openDir = fmt.Sprintf("%04o, owner %d, group %d", info.Mode, info.UID, info.GID)
	}
	spare, err := k.system.FS.Stat(system.Spare(sudoers.Dir))
	p.noRoom = err != nil || !spare.IsRegular() || spare.Size < system.SpareSize
	needed := slices.DeleteFunc(slices.Clone(allow), func(subject string) bool { return grantedByMain(tree, subject) })
	p.grants = k.ownFile(grantsPath, grants(needed))
	cures, err := surely(p.judge, p.cures)
	if err != nil {
		return nil, err
	}
	p.denial = k.ownFile(denialPath, denial(allow, cures, concessions))
	p.freedDenial = withoutDenialsOfOthers(tree.Content[denialPath])
	k.planInterim(p, needed)
	if err := k.planForeign(p); err != nil {
		return nil, err
	}
	return p, k.Since(mark)
}

// cures are Defaults that undo those in files which the agent does not edit, bound to the same users,
// commands or hosts. The later of two decides.
func (p *plan) cures() (cures []string) {
	for _, line := range p.tree.Lines {
		if path.Dir(line.File) == sudoers.Dir {
			continue
		}
		// What cannot be undone shows in sudo's answers about each user.
		for _, cure := range sudotext.Cures(slices.Concat(line.Weakens(p.judge.allowsAll), line.Hinders(p.judge.meets, p.commands, p.isDir))) {
			cure = "Defaults" + line.Defaults.Scope + " " + cure
			if !slices.Contains(cures, cure) {
				cures = append(cures, cure)
			}
		}
	}
	return cures
}

// grantedByMain reports whether /etc/sudoers has a line that grants a subject everything. A second
// grant would override a NOPASSWD there.
func grantedByMain(tree *sudoers.Tree, subject string) bool {
	end := slices.IndexFunc(tree.Lines, func(line sudoers.Placed) bool { return line.Sort == sudotext.IncludeDir })
	if end < 0 {
		return false // what follows does not survive the denial, or is not before it
	}
	return surelyGranted(tree.Lines[:end], tree.CommandAliases(), subject, func(name string) bool { return name == sudoers.Main })
}

// surelyGranted reports whether lines surely let a subject administer: one of some files grants it everything,
// and none after it may deny it much.
func surelyGranted(lines []sudoers.Placed, commands map[string]string, subject string, in func(file string) bool) bool {
	granted := false
	for _, line := range lines {
		switch {
		case line.Sort == sudotext.Grant && exempts(line.Users, subject):
		case line.Sort == sudotext.Unclear, strings.Contains(line.Rest, "!") && (!line.OnlyDenies(commands) || line.DeniesMany()):
			granted = false // perhaps
		case in(line.File) && line.Sort == sudotext.Grant && len(line.Users) == 1 &&
			names(line.Users[0], subject) && grantsAll(line.Rest):
			granted = true
		}
	}
	return granted
}

// exempts reports whether the end of a list exempts a subject, as the agent's own denial does.
func exempts(users []sudotext.Subject, subject string) bool {
	for _, user := range slices.Backward(users) {
		exempted := user
		if exempted.Negated = false; !user.Negated || names(exempted, subject) {
			return user.Negated
		}
	}
	return false
}

func names(s sudotext.Subject, subject string) bool {
	switch s.Form {
	case sudotext.User:
		return !s.Negated && s.Name == subject
	case sudotext.Group:
		return !s.Negated && "%"+s.Name == subject
	}
	return false
}

// grantsAll recognises the usual spellings of a full grant.
func grantsAll(rest string) bool {
	switch strings.NewReplacer(" ", "", "\t", "").Replace(rest) {
	case "ALL=(ALL)ALL", "ALL=(ALL:ALL)ALL", "ALL=(ALL)NOPASSWD:ALL", "ALL=(ALL:ALL)NOPASSWD:ALL":
		return true
	}
	return false
}

// ownFile returns the edit for one of the agent's own files, or nil if it is up to date.
func (k *Kind) ownFile(name string, want []byte) *edit {
	e := &edit{path: name, content: want, attr: sudoersAttr()}
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

// planInterim keeps the grants in the agent's current file until the new denial is written.
func (k *Kind) planInterim(p *plan, needed []string) {
	if p.grants == nil {
		return
	}
	old, _ := k.system.FS.ReadFile(grantsPath)
	both := slices.Clone(needed)
	for line := range strings.SplitSeq(string(old), "\n") {
		name, isGrant := strings.CutSuffix(line, grantSuffix)
		parsed := sudotext.Parse([]byte(line))
		if !isGrant || len(parsed) != 1 || len(parsed[0].Users) != 1 {
			continue
		}
		subject := parsed[0].Users[0].Name
		if parsed[0].Users[0].Form == sudotext.Group {
			subject = "%" + subject
		}
		if sudotext.Quote(subject) == name && !slices.Contains(both, subject) {
			both = append(both, subject)
		}
	}
	p.interim = grants(both)
}
