package sudo

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/sudoers"
	"github.com/soe-agent/soe-agent/internal/sudotext"
	"github.com/soe-agent/soe-agent/internal/system"
)

const (
	// maxAsked limits the number of users that sudo is asked about in one check. Each takes some
	// milliseconds.
	maxAsked   = 1024
	concurrent = 4
)

// fingerprint identifies the local files that decide what sudo says about a user. It is empty if that
// cannot be told.
func (k *Kind) fingerprint() string {
	hash := sha256.New()
	names, _ := k.system.FS.ReadDir(sudoers.Dir)
	files := []string{sudoers.Main, sudoers.Dir, "/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/etc/sudo.conf"}
	for _, name := range names {
		files = append(files, path.Join(sudoers.Dir, name))
	}
	for _, name := range files {
		info, err := k.system.FS.Stat(name)
		if path.Dir(name) == sudoers.Dir && sudoers.Skipped(path.Base(name)) {
			// sudo does not read it, and the spare file is large: name and size are enough.
			fmt.Fprintf(hash, "%q %v %d\n", name, err == nil, info.Size)
			continue
		}
		content, _ := sudoers.ReadFile(k.system.FS, name)
		fmt.Fprintf(hash, "%q %v %o %d %d %d\n", name, err == nil, info.Mode, info.UID, info.GID, len(content))
		hash.Write(content)
	}
	if tree, err := sudoers.Read(k.system.FS, nil); err != nil || includesElsewhere(tree) {
		return ""
	}
	return hex.EncodeToString(hash.Sum(nil))
}

// includesElsewhere reports whether sudo reads files that are not part of the fingerprint.
func includesElsewhere(tree *sudoers.Tree) bool {
	return slices.ContainsFunc(tree.Lines, func(l sudoers.Placed) bool {
		return l.Sort == sudotext.Include || (l.Sort == sudotext.IncludeDir && path.Clean(l.Path) != sudoers.Dir)
	})
}

// inEffect asks sudo what each person may do, from whatever source. It returns in words what is wrong,
// and the names of the people it is wrong for.
func (k *Kind) inEffect(ctx context.Context, p *plan, people []facts.Account) (wrong []string, wronged []string, err error) {
	if !k.system.Running() {
		return nil, nil, nil // in an image nothing is in effect
	}
	asked, err := k.toAsk(ctx, p, people)
	listings := make([]listing, len(asked))
	ask, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	slots := make(chan struct{}, concurrent)
	var wg sync.WaitGroup
	for i, name := range asked {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			listings[i] = k.ask(ask, name)
			if errors.Is(listings[i].err, context.DeadlineExceeded) {
				cancel(listings[i].err) // the others would time out too
			}
		})
	}
	wg.Wait()
	wrong, opinionErr := k.secondOpinion(ctx, p)
	if silent := context.Cause(ask); silent != nil && ctx.Err() == nil {
		return wrong, nil, fmt.Errorf("%w; a source of sudoers in /etc/nsswitch.conf (%s) may not answer", silent, k.sources())
	}
	errs := []error{err, opinionErr}
	for i, name := range asked {
		if listings[i].err != nil {
			errs = append(errs, listings[i].err)
			continue
		}
		said, err := k.judgeListing(ctx, p, name, listings[i])
		if len(said) > 0 {
			wronged = append(wronged, name)
		}
		wrong = append(wrong, said...)
		errs = append(errs, err)
	}
	return wrong, wronged, errors.Join(errs...)
}

// judgeListing says in words what is wrong with what somebody may do.
func (k *Kind) judgeListing(ctx context.Context, p *plan, name string, l listing) (wrong []string, err error) {
	if !l.known {
		return nil, nil
	}
	allowed, err := p.judge.tell(name)
	if err != nil {
		return nil, err
	}
	conceded, err := k.conceded(ctx, p, name, allowed)
	if err != nil {
		return nil, err
	}
	if allowed && !l.Administers() {
		wrong = append(wrong, fmt.Sprintf("%s is allowed, and sudo refuses all the same; look at: sudo -l -U '%s'", name, name))
	}
	if allowed {
		for _, hindrance := range sudotext.Hindrances(l.Defaults, p.isDir) {
			wrong = append(wrong, fmt.Sprintf("%s is allowed, and cannot become root all the same, for \"Defaults %s\"; look at: sudo -l -U '%s'", name, hindrance, name))
		}
	}
	if allowed || len(conceded) > 0 {
		for weakness, personal := range l.Weak() {
			if allowed && personal && p.setsForTheAllowed(weakness) {
				continue
			}
			wrong = append(wrong, fmt.Sprintf("sudo asks less of %s than it should, by \"Defaults %s\" of a source that the agent cannot edit (%s)", name, weakness, k.sources()))
		}
		slices.Sort(wrong)
	}
	if allowed {
		return wrong, nil
	}
	more, less := sudoers.Compare(l.Listing, conceded)
	for _, entry := range more {
		wrong = append(wrong, fmt.Sprintf("%s can still use sudo: %s; the agent cannot take that away: look for it in the sources of sudoers (%s) with: sudo -ll -U '%s'",
			name, entry, k.sources(), name))
	}
	for _, entry := range less {
		wrong = append(wrong, fmt.Sprintf("%s is allowed %s, and sudo refuses all the same: look for what denies it with: sudo -ll -U '%s'", name, entry, name))
	}
	return wrong, nil
}

// setsForTheAllowed reports whether a Defaults line with this setting applies to administrators only.
// How they confirm their own password is their decision.
func (p *plan) setsForTheAllowed(weakness string) bool {
	return slices.ContainsFunc(p.tree.Lines, func(line sudoers.Placed) bool {
		d := line.Defaults
		return line.Sort == sudotext.DefaultsLine && len(d.Users) > 0 && p.judge.allowsAll(d.Users) &&
			slices.ContainsFunc(d.Settings, func(s sudotext.Setting) bool { return s.String() == weakness })
	})
}

// sources names the places where sudo looks, for messages: those of nsswitch.conf(5), or "files" by
// default, and plug-ins from sudo.conf(5).
func (k *Kind) sources() string {
	named := "files"
	content, err := k.system.FS.ReadFile("/etc/nsswitch.conf")
	if err == nil {
		for line := range strings.Lines(string(content)) {
			if sources, found := strings.CutPrefix(strings.TrimSpace(line), "sudoers:"); found {
				named = strings.TrimSpace(sources)
			}
		}
	}
	if plugins := k.foreignPlugins(); len(plugins) > 0 {
		named += ", and by /etc/sudo.conf: " + strings.Join(plugins, "; ")
	}
	return named
}

// foreignPlugins are the lines of sudo.conf(5) that make sudo use another file than /etc/sudoers, or
// another plug-in than its own.
func (k *Kind) foreignPlugins() (lines []string) {
	content, err := k.system.FS.ReadFile("/etc/sudo.conf")
	if err != nil {
		return nil
	}
	for line := range strings.Lines(continued.ReplaceAllString(string(content), " ")) {
		words := strings.Fields(line)
		if len(words) >= 3 && isForeign(strings.ToLower(words[0]), words[1:]) {
			lines = append(lines, strings.Join(words, " "))
		}
	}
	return lines
}

// goesElsewhere says by which lines of sudo.conf(5) sudo goes by something else than its files; "" if there are
// none.
func (k *Kind) goesElsewhere() string {
	plugins := k.foreignPlugins()
	if len(plugins) == 0 {
		return ""
	}
	return fmt.Sprintf("/etc/sudo.conf has sudo go by something else than %s: %s; take that line out", sudoers.Main, strings.Join(plugins, "; "))
}

// continued matches a line continuation.
var continued = regexp.MustCompile(`\\\r?\n`)

func isForeign(keyword string, words []string) bool {
	isPackaged := func(name string) bool { return !path.IsAbs(name) || strings.HasPrefix(path.Clean(name), "/usr/lib") }
	switch {
	case keyword == "path":
		return strings.EqualFold(words[0], "plugin_dir") && !isPackaged(words[1])
	case keyword != "plugin", strings.HasSuffix(words[0], "_io"), strings.HasSuffix(words[0], "_audit"):
		return false
	}
	ownFile := slices.ContainsFunc(words, func(word string) bool {
		switch key, value, _ := strings.Cut(word, "="); key {
		case "sudoers_file":
			return value != sudoers.Main
		case "sudoers_uid", "sudoers_gid": // whose files it trusts
			return value != "0"
		case "sudoers_mode":
			return !slices.Contains([]string{"400", "440", "600", "640"}, strings.TrimLeft(value, "0"))
		}
		return false
	})
	return path.Base(words[1]) != "sudoers.so" || !isPackaged(words[1]) || ownFile
}

// secondOpinion has sudo's own parser (cvtsudoers) list the grants behind the denial, as a check of
// the agent's parser. Most machines have none there.
func (k *Kind) secondOpinion(ctx context.Context, p *plan) ([]string, error) {
	behind, something := false, false
	var denial []sudotext.Subject
	var own [][]sudotext.Subject // the users of the agent's own lines behind the denial
	for _, line := range p.tree.Lines {
		switch {
		case behind && line.File == denialPath:
			own = append(own, line.Users)
		case line.File == denialPath && line.OnlyDenies(nil):
			denial = line.Users
		}
		something = something || (behind && line.File != denialPath && line.Text != "")
		behind = behind || len(denial) > 0
	}
	if !something {
		return nil, nil
	}
	specs, err := sudoers.Specs(ctx, k.system.Runner)
	if errors.Is(err, system.ErrNotInstalled) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var wrong []string
	for _, spec := range slices.Backward(specs) {
		if spec.DeniesAll && slices.Equal(spec.Users, denial) {
			break
		}
		if i := slices.IndexFunc(own, func(users []sudotext.Subject) bool { return slices.Equal(users, spec.Users) }); i >= 0 {
			own = slices.Delete(own, i, i+1)
		} else if !spec.Denies && !p.judge.allowsAll(spec.Users) {
			wrong = append(wrong, fmt.Sprintf("by cvtsudoers, a line behind %s grants something to %s", denialPath, describe(spec.Users)))
		}
	}
	return wrong, nil
}

func describe(users []sudotext.Subject) string {
	var names []string
	for _, s := range users {
		names = append(names, strings.TrimSpace(string(s.Form)+" "+s.Name))
	}
	return strings.Join(names, ", ")
}

// A listing is what sudo says about somebody, or the error.
type listing struct {
	sudoers.Listing
	known bool // the machine knows the user
	err   error
}

func (k *Kind) ask(ctx context.Context, name string) listing {
	l, err := sudoers.List(ctx, k.system, name, nil)
	if errors.Is(err, sudoers.ErrUnknownUser) {
		return listing{}
	}
	return listing{l, err == nil, err}
}

// toAsk returns the users to ask sudo about: people of the machine, users named in the policy, known
// members of its groups, and everybody who is named in a grant, directly or by a group. Nothing is
// known about the others.
func (k *Kind) toAsk(ctx context.Context, p *plan, people []facts.Account) (names []string, err error) {
	add := func(all ...string) {
		for _, name := range all {
			if name != "" && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	add(p.judge.administrators()...)
	for _, person := range people {
		add(person.Name)
	}
	subjects := slices.Collect(maps.Values(p.judge.aliases))
	for _, line := range p.tree.Lines {
		subjects = append(subjects, line.Users)
	}
	for _, s := range slices.Concat(subjects...) {
		add(k.members(ctx, p, s)...)
	}
	if len(names) > maxAsked {
		err = fmt.Errorf("cannot tell what everybody may do: sudo would have to be asked about %d people, and is about the first %d", len(names), maxAsked)
		names = names[:maxAsked]
	}
	return names, err
}

// members are the users whom a subject stands for. Those of an allowed group
// are allowed and not looked up.
func (k *Kind) members(ctx context.Context, p *plan, s sudotext.Subject) []string {
	switch s.Form {
	case sudotext.User:
		return []string{s.Name}
	case sudotext.UID:
		if account, found, err := facts.LookupUser(ctx, k.system, s.Name); err == nil && found {
			return []string{account.Name}
		}
	case sudotext.Group, sudotext.GID:
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
