package sudo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/sudoers"
	"github.com/soe-agent/soe-agent/internal/sudotext"
)

// Where sudo does not answer, the lines have to show who can administer.

// A candidate is one of the allowed, as far as they are known.
type candidate struct {
	name   string   // "": somebody in the groups
	uid    string   // "": not known
	groups []string // that they are in,
	all    bool     // and in no others
}

// surelyLetsIn reports whether the files alone, after changes, show that somebody whom the policy allows
// can administer, and root, where root may now.
func (k *Kind) surelyLetsIn(ctx context.Context, p *plan, changes map[string][]byte) bool {
	tree, err := sudoers.Read(k.system.FS, changes)
	if err != nil || len(tree.Unread) > 0 {
		return false
	}
	now, err := sudoers.Read(k.system.FS, nil)
	root := candidate{name: "root", uid: "0", groups: []string{"root"}, all: true}
	if err != nil || p.mayAdminister(now, root) && !p.surelyAdministers(tree, root) {
		return false
	}
	return slices.ContainsFunc(k.candidates(ctx, p), func(c candidate) bool { return p.surelyAdministers(tree, c) })
}

// candidates are those of the allowed whom the machine knows.
func (k *Kind) candidates(ctx context.Context, p *plan) []candidate {
	if p.candidates != nil {
		return p.candidates
	}
	p.candidates = []candidate{}
	add := func(c candidate, subject string) {
		missing, err := k.unknown(ctx, subject)
		if missing == "" && err == nil || errors.Is(err, errSilent) && k.lockedDownFor(p.allow) {
			p.candidates = append(p.candidates, c)
		}
	}
	for _, name := range without(k.administrators(p), []string{"root"}) {
		c := candidate{name: name}
		if i := slices.IndexFunc(p.judge.localAccounts(), func(a facts.Account) bool { return a.Name == name }); i >= 0 {
			c.uid = strconv.Itoa(p.judge.localAccounts()[i].UID)
		}
		for _, g := range p.judge.localGroups() {
			if slices.Contains(membersOfGroup(g, p.judge.localGroups(), p.judge.localAccounts()), name) {
				c.groups = append(c.groups, g.Name)
			}
		}
		groups, err := p.judge.memberships(name)
		c.groups, c.all = slices.Concat(c.groups, groups), err == nil
		add(c, name)
	}
	for _, group := range p.judge.groups {
		add(candidate{groups: []string{group}}, "%"+group)
	}
	return p.candidates
}

// surelyAdministers reports whether a line grants a candidate everything, and none after it may take much
// of that.
func (p *plan) surelyAdministers(tree *sudoers.Tree, c candidate) bool {
	commands := tree.CommandAliases()
	r := reader{p.judge, tree.Aliases()}
	administers := false
	for _, line := range tree.Lines {
		if line.Sort == sudotext.Unclear {
			administers = false
		}
		if line.Sort != sudotext.Grant {
			continue
		}
		first, _, _ := strings.Cut(line.Rest, ",")
		surely, perhaps := r.matches(line.Users, c, 0)
		switch narrows := line.Narrows(commands); {
		case (surely || perhaps) && narrows:
			administers = false
		case surely && grantsAll(first):
			administers = true
		}
	}
	return administers
}

// mayAdminister reports whether some line may grant a candidate something.
func (p *plan) mayAdminister(tree *sudoers.Tree, c candidate) bool {
	commands := tree.CommandAliases()
	r := reader{p.judge, tree.Aliases()}
	return slices.ContainsFunc(tree.Lines, func(line sudoers.Placed) bool {
		surely, perhaps := r.matches(line.Users, c, 0)
		return line.Sort == sudotext.Unclear || line.Sort == sudotext.Grant && (surely || perhaps) && !line.OnlyDenies(commands)
	})
}

// A reader tells whom a list of users means.
type reader struct {
	judge   *judge
	aliases map[string][]sudotext.Subject
}

// matches reports whether a list means a candidate, surely or perhaps. The last subject that does decides.
func (r reader) matches(users []sudotext.Subject, c candidate, depth int) (surely, perhaps bool) {
	surely = true
	for _, s := range slices.Backward(users) {
		switch is, mayBe := r.means(s, c, depth); {
		case is:
			return surely && !s.Negated, perhaps || !s.Negated
		case mayBe:
			either := s.ShutsOut(r.aliases) // who is shut out twice is in
			perhaps = perhaps || !s.Negated || either
			surely = surely && !s.Negated && !either
		}
	}
	return false, perhaps
}

// means reports whether a subject, negated or not, is a candidate, or may be.
func (r reader) means(s sudotext.Subject, c candidate, depth int) (is, mayBe bool) {
	switch members, isAlias := r.aliases[s.Name]; {
	case s.Form == sudotext.All:
		return true, true
	case s.Form == sudotext.Named && isAlias:
		if depth >= maxAliases || s.ShutsOut(r.aliases) {
			return false, true
		}
		return r.matches(members, c, depth+1)
	case s.Form == sudotext.Named, s.Form == sudotext.User:
		if c.name == "" {
			return false, !r.judge.namesOthers([]sudotext.Subject{{Form: sudotext.User, Name: s.Name}})
		}
		return s.Name == c.name, strings.EqualFold(s.Name, c.name)
	case s.Form == sudotext.UID:
		return s.Name == c.uid, c.uid == "" || number(s.Name) == number(c.uid)
	case s.Form == sudotext.Group:
		return slices.Contains(c.groups, s.Name), !c.all || containsFold(c.groups, s.Name)
	case s.Form == sudotext.GID:
		groups := r.judge.localGroups()
		i := slices.IndexFunc(groups, func(g facts.Group) bool { return g.GID == number(s.Name) })
		return i >= 0 && slices.Contains(c.groups, groups[i].Name), !c.all || i < 0
	}
	return false, true
}

// number is that of an account or a group; -1 if it is none.
func number(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		return -1
	}
	return n
}

// takesNothing reports whether a change takes from nobody what sudo lets them do: it puts plain grants into
// files, and takes out of them what only denies.
func (k *Kind) takesNothing(p *plan, changes map[string][]byte) bool {
	for name, content := range changes {
		before, err := sudoers.ReadFile(k.system.FS, name)
		switch {
		case path.Dir(name) != sudoers.Dir, sudoers.Skipped(path.Base(name)), err != nil && !errors.Is(err, fs.ErrNotExist):
			return false
		case !sudoers.Trusted(k.system.FS, name):
			before = nil // sudo passes over it
		}
		if !widens(said(before), said(content), p.commands) {
			return false
		}
	}
	return true
}

// said are the lines of a file that say something.
func said(content []byte) []sudotext.Line {
	return slices.DeleteFunc(sudotext.Parse(content), func(line sudotext.Line) bool { return line.Sort == sudotext.Idle })
}

func widens(before, after []sudotext.Line, commands map[string]string) bool {
	denies := func(line sudotext.Line) bool { return line.OnlyDenies(commands) }
	for _, line := range after {
		for len(before) > 0 && before[0].Text != line.Text && denies(before[0]) {
			before = before[1:]
		}
		switch {
		case len(before) > 0 && before[0].Text == line.Text:
			before = before[1:]
		case !line.OnlyGrants():
			return false
		}
	}
	return !slices.ContainsFunc(before, func(line sudotext.Line) bool { return !denies(line) })
}

// planDenials plans to comment out the fewest lines that deny, without which one of the allowed could
// surely administer. The others are denied by the agent's own file whatever these say.
func (k *Kind) planDenials(ctx context.Context, p *plan) error {
	if k.surelyLetsIn(ctx, p, p.changes()) {
		return nil
	}
	lines, err := k.suspects(p, true)
	if err != nil {
		return err
	}
	lines = slices.DeleteFunc(lines, func(line sudoers.Placed) bool { return !line.OnlyDenies(p.commands) })
	enough := func(some []sudoers.Placed) (bool, error) {
		changes, err := k.changesWithout(p, some)
		return err == nil && k.surelyLetsIn(ctx, p, changes), err
	}
	if is, err := enough(lines); !is || err != nil {
		return err
	}
	if lines, err = fewest(lines, enough); err != nil {
		return err
	}
	for _, line := range lines {
		d := converge.Difference{Aspect: fmt.Sprintf("%s:%d", line.File, line.First), Want: "no line by which sudo may refuse the allowed", Got: line.Text}
		if err := k.comment(p, line, refuses, d); err != nil {
			return err
		}
	}
	return nil
}
