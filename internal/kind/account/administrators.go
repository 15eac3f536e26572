package account

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/protected"
	"github.com/soe-agent/soe-agent/internal/sudoers"
	"github.com/soe-agent/soe-agent/internal/sudotext"
	"github.com/soe-agent/soe-agent/internal/system"
)

// administrators tells which local accounts may become root, or are to: all to whom sudo grants anything as
// it is now, those of [sudo] allow, and groups that polkit and sudo know as administrators'. What sudo grants
// to everybody counts only if it may be any command.
type administrators struct {
	db        database
	everybody bool
	subjects  []sudotext.Subject
}

func readAdministrators(s *system.System, p *policy.Policy, db database) (administrators, error) {
	a := administrators{db: db}
	for _, group := range []string{"wheel", "sudo", "admin"} {
		a.subjects = append(a.subjects, sudotext.Subject{Form: sudotext.Group, Name: group})
	}
	if why := unknownAllow(p); why != "" {
		return a, fmt.Errorf("cannot tell who administers: %s", why)
	}
	for _, want := range policy.Of[policy.Sudo](p) {
		for _, subject := range want.Spec.Allow {
			name, isGroup := strings.CutPrefix(subject, "%")
			form := sudotext.User
			if isGroup {
				form = sudotext.Group
			}
			a.subjects = append(a.subjects, sudotext.Subject{Form: form, Name: name})
		}
	}
	tree, err := sudoers.Read(s.FS, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return a, nil
	}
	if err == nil {
		err = errors.Join(tree.Unread...)
	}
	if err != nil {
		return a, fmt.Errorf("cannot tell who administers: %w", err)
	}
	aliases := tree.Aliases()
	for _, line := range tree.Lines {
		_, commands, _ := strings.Cut(line.Rest, "=")
		switch {
		case line.Sort == sudotext.Unclear:
			a.everybody = true
		case line.Sort == sudotext.Grant && !line.OnlyDenies(tree.CommandAliases()):
			a.add(line.Users, aliases, mayBeAnything(commands, tree.CommandAliases()))
		}
	}
	return a, nil
}

// mayBeAnything reports whether a list of commands may include all of them.
func mayBeAnything(commands string, aliases map[string]string) bool {
	words := strings.FieldsFunc(commands, func(r rune) bool { return strings.ContainsRune(" \t,():!", r) })
	return slices.ContainsFunc(words, func(word string) bool {
		list, isAlias := aliases[word]
		return word == sudoers.Everything || isAlias && strings.Contains(list, sudoers.Everything)
	})
}

func (a *administrators) add(subjects []sudotext.Subject, aliases map[string][]sudotext.Subject, anything bool) {
	for _, subject := range subjects {
		switch subject.Form {
		case sudotext.All, sudotext.NetGroup, sudotext.Foreign:
			a.everybody = a.everybody || anything && !subject.Negated
		case sudotext.Named:
			members, isAlias := aliases[subject.Name]
			if !isAlias {
				members = []sudotext.Subject{{Form: sudotext.User, Name: subject.Name}}
			}
			if len(a.subjects) < mostSubjects { // aliases may be circular
				a.subjects = append(a.subjects, subject)
				a.add(members, aliases, anything)
			} else {
				a.everybody = true
			}
		default:
			a.subjects = append(a.subjects, subject)
		}
	}
}

const mostSubjects = 10000

// has reports whether a local account may administer the machine.
func (a administrators) has(account facts.Account) bool {
	if a.everybody || account.UID == 0 || protected.Account(account.Name) != "" {
		return true
	}
	return slices.ContainsFunc(a.subjects, func(s sudotext.Subject) bool {
		switch s.Form {
		case sudotext.User:
			return strings.EqualFold(s.Name, account.Name)
		case sudotext.UID:
			return s.Name == strconv.Itoa(account.UID)
		case sudotext.Group:
			group, local := a.db.group(s.Name)
			return local && isIn(group, account)
		case sudotext.GID:
			return slices.ContainsFunc(a.db.groups, func(g facts.Group) bool { return s.Name == strconv.Itoa(g.GID) && isIn(g, account) })
		}
		return false
	})
}

func isIn(group facts.Group, account facts.Account) bool {
	return group.GID == account.GID || slices.Contains(group.Members, account.Name)
}
