package sudo

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/sudoers"
	"github.com/soe-agent/soe-agent/internal/system"
)

const (
	// maxAsked bounds for how many users sudo is asked at one check, each of which
	// costs some ten milliseconds.
	maxAsked   = 64
	concurrent = 4
	anyCommand = "/usr/bin/id"
)

// fingerprint identifies all that decides what sudo says: its files, the local accounts
// and the people. It is empty when it cannot be told.
func (k *Kind) fingerprint(people []facts.Account) string {
	hash := sha256.New()
	names, _ := k.system.FS.ReadDir(sudoers.Dir)
	files := []string{sudoers.Main, sudoers.Dir, "/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/etc/sudo.conf"}
	for _, name := range names {
		files = append(files, path.Join(sudoers.Dir, name))
	}
	for _, name := range files {
		info, err := k.system.FS.Stat(name)
		content, _ := sudoers.ReadFile(k.system.FS, name)
		fmt.Fprintf(hash, "%q %v %o %d %d %d\n", name, err == nil, info.Mode, info.UID, info.GID, len(content))
		hash.Write(content)
	}
	fmt.Fprintf(hash, "%q", people)
	if tree, err := sudoers.Read(k.system.FS, nil); err != nil || includesElsewhere(tree) {
		return ""
	}
	return hex.EncodeToString(hash.Sum(nil))
}

// includesElsewhere says whether sudo reads files that the fingerprint is not made of.
func includesElsewhere(tree *sudoers.Tree) bool {
	return slices.ContainsFunc(tree.Lines, func(l sudoers.Placed) bool {
		return l.Sort == sudoers.Include || (l.Sort == sudoers.IncludeDir && path.Clean(l.Path) != sudoers.Dir)
	})
}

// inEffect asks sudo itself, and returns in words what it should not have said.
func (k *Kind) inEffect(ctx context.Context, p *plan, people []facts.Account) ([]string, error) {
	if !k.system.Running() {
		return nil, nil // in an image nothing is in effect
	}
	suspects := k.suspects(ctx, p, people)
	asked := p.judge.users
	if len(asked) > 1 {
		asked = asked[1:] // when sudo works for another it works for root, its first
	}
	asked = slices.Concat(asked, suspects)
	answers := make([]answer, len(asked))
	slots := make(chan struct{}, concurrent)
	var wg sync.WaitGroup
	for i, name := range asked {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			answers[i] = k.ask(ctx, name)
		})
	}
	wg.Wait()
	wrong, err := k.secondOpinion(ctx, p)
	errs := []error{err}
	for i, name := range asked {
		a := answers[i]
		errs = append(errs, a.err)
		switch mayUse := a.mayUse; {
		case a.err != nil:
		case p.judge.namesUser(name):
			if _, found, err := facts.LookupUser(ctx, k.system, name); !mayUse && err == nil && found {
				wrong = append(wrong, fmt.Sprintf("%s is allowed, and sudo refuses all the same: %s; look at: sudo -l -U '%s'", name, a.said, name))
			}
		case mayUse && !p.judge.allowsUser(name):
			wrong = append(wrong, fmt.Sprintf("%s can still use sudo; find out by what with: sudo -l -U '%s'", name, name))
		}
	}
	return wrong, errors.Join(errs...)
}

// secondOpinion has sudo's own parser say what is granted behind the denial, and to
// whom: the agent's own is not to be the only one that has looked. Most machines
// have nothing there.
func (k *Kind) secondOpinion(ctx context.Context, p *plan) ([]string, error) {
	behind, something := false, false
	for _, line := range p.tree.Lines {
		something = something || (behind && line.File != denialPath)
		behind = behind || line.File == denialPath
	}
	if !something {
		return nil, nil
	}
	specs, err := p.tree.Opinion(ctx, k.system.Runner)
	if errors.Is(err, system.ErrNotInstalled) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var wrong []string
	for _, spec := range slices.Backward(specs) {
		if spec.Denies && len(spec.Users) > 0 && spec.Users[0] == (sudoers.Subject{Form: sudoers.All}) {
			break // the denial
		}
		if !spec.Denies && !p.judge.allowsAll(spec.Users) {
			wrong = append(wrong, fmt.Sprintf("by cvtsudoers, a line behind %s grants something to %s", denialPath, describe(spec.Users)))
		}
	}
	return wrong, nil
}

func describe(users []sudoers.Subject) string {
	var names []string
	for _, s := range users {
		names = append(names, strings.TrimSpace(string(s.Form)+" "+s.Name))
	}
	return strings.Join(names, ", ")
}

type answer struct {
	mayUse bool
	said   string
	err    error
}

func (k *Kind) ask(ctx context.Context, name string) answer {
	out, err := k.system.Runner.Run(ctx, system.Command{
		Argv: []string{"sudo", "-n", "-l", "-U", name, anyCommand}, ReadOnly: true,
	})
	return answer{out.ExitCode == 0, out.LastLine(), err}
}

// suspects are the users of whom it matters that sudo refuses them: the people
// of the machine, and whoever is named in some grant, in person or by group.
func (k *Kind) suspects(ctx context.Context, p *plan, people []facts.Account) []string {
	var names []string
	add := func(name string) {
		if len(names) < maxAsked && !p.judge.namesUser(name) && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for _, person := range people {
		add(person.Name)
	}
	for _, line := range p.tree.Lines {
		for _, s := range line.Users {
			for _, name := range k.members(ctx, p, s) {
				add(name)
			}
		}
	}
	for _, members := range p.judge.aliases {
		for _, s := range members {
			for _, name := range k.members(ctx, p, s) {
				add(name)
			}
		}
	}
	return names
}

// members are the users whom a subject stands for. Those of an allowed group
// are allowed and not looked up.
func (k *Kind) members(ctx context.Context, p *plan, s sudoers.Subject) []string {
	switch s.Form {
	case sudoers.User:
		return []string{s.Name}
	case sudoers.UID:
		if account, found, err := facts.LookupUser(ctx, k.system, s.Name); err == nil && found {
			return []string{account.Name}
		}
	case sudoers.Group, sudoers.GID:
		if p.judge.allowsOne(s, 0) {
			return nil
		}
		return k.groupMembers(ctx, s.Name)
	}
	return nil
}

func (k *Kind) groupMembers(ctx context.Context, key string) []string {
	local, _ := facts.LocalGroups(k.system)
	i := slices.IndexFunc(local, func(g facts.Group) bool { return g.Name == key })
	var group facts.Group
	if i >= 0 {
		group = local[i]
	} else {
		found := false
		var err error
		if group, found, err = facts.LookupGroup(ctx, k.system, key); err != nil || !found {
			return nil
		}
	}
	members := slices.Clone(group.Members)
	accounts, _ := facts.LocalAccounts(k.system)
	for _, a := range accounts {
		if a.GID == group.GID {
			members = append(members, a.Name)
		}
	}
	return members
}
