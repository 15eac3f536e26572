package sudo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/system"
)

// A polkitEdit comments out a file that makes administrators.
type polkitEdit struct {
	path    string
	content []byte
	why     string
}

// polkitGrants is what polkit files of others give to people who are not allowed.
type polkitGrants struct {
	edits   []polkitEdit
	over    []string // what the agent's own rule must take back in addition
	whyOver string
	stuck   []string
	anew    string // why polkit must be restarted: it uses rules that no file has any more
	granted []granted
	err     error
}

// change reports whether there is something to do.
func (g *polkitGrants) change() bool { return len(g.edits)+len(g.over) > 0 || g.anew != "" }

// ruleDirs are all directories of rules. polkit merges their files by name. Those of the last are
// packages' and are not edited.
func ruleDirs() []string {
	return []string{rulesDir, "/run/polkit-1/rules.d", "/usr/local/share/polkit-1/rules.d", vendorRules}
}

const vendorRules = "/usr/share/polkit-1/rules.d"

// actionDirs are all directories in which any version of polkit looks for actions.
func actionDirs() []string {
	return []string{"/etc/polkit-1/actions", "/run/polkit-1/actions", "/usr/local/share/polkit-1/actions", "/usr/share/polkit-1/actions"}
}

// A ruleFile is a file of rules that is not the agent's.
type ruleFile struct {
	path    string
	content []byte
}

// first reports whether polkit evaluates the file before the agent's own. Of two with the same name,
// the one in /etc comes first.
func (f ruleFile) first() bool { return path.Base(f.path) < path.Base(rulesPath) }

// wantsFirst reports whether the file names administrators and is first, or has a name chosen to be
// first, so that a reader would take it for what is in force. The file of ADsys is rewritten all the
// time and is left behind the agent's.
func (f ruleFile) wantsFirst() bool {
	named := path.Base(f.path) < path.Base(formerRules) && f.path != adsysRules && path.Dir(f.path) != vendorRules
	return f.first() || named
}

func (k *Kind) list(dir, suffix string) (files []ruleFile) {
	names, _ := k.system.FS.ReadDir(dir)
	for _, base := range names {
		name := path.Join(dir, base)
		if !strings.HasSuffix(base, suffix) || slices.Contains(ownFiles(), name) {
			continue
		}
		if content, err := k.system.FS.ReadFile(name); err == nil {
			files = append(files, ruleFile{name, content})
		}
	}
	return files
}

// editable reports whether a file belongs neither to a package nor to the policy.
func (k *Kind) editable(name string) bool {
	_, managed := k.policy.Lookup(policy.NewID("dropin", name))
	return !managed && path.Dir(name) != vendorRules
}

var (
	namesAdmins = regexp.MustCompile(`\baddAdminRule\b`)
	setsAdmins  = regexp.MustCompile(`(?m)^[ \t]*AdminIdentities`) // GLib's key files may be indented
	// saysYes matches most rules that allow something without a password. A rule is a program and may not
	// match.
	saysYes = regexp.MustCompile(`\bYES\b|["']yes["']`)
	// saysSelf matches rules that ask for the caller's own password. polkit's answer does not distinguish
	// that from an administrator's.
	saysSelf   = regexp.MustCompile(`AUTH_SELF|auth_self`)
	actionID   = regexp.MustCompile(`["'/]([A-Za-z0-9_-]+(?:\\?\.[A-Za-z0-9_-]+)+)\\?\.?["'/]`)
	addsRules  = regexp.MustCompile(`addRule|polkit\s*\[|_ruleFuncs|\beval\b|=\s*polkit\b`)
	narrows    = regexp.MustCompile(`\blookup\b`)
	jsComments = regexp.MustCompile(`(?ms)^\s*//[^\n]*$`)
	comment    = []byte("// soe-agent: makes administrators of others than [sudo] allow: ")
	pklaMark   = []byte("# soe-agent: makes administrators of others than [sudo] allow: ")
	wantsNone  = "polkit asks it before the agent's own file, and it names administrators too"
)

// polkitGrants finds files that name administrators and win over the agent's own, and what people may
// do that only administrators may. A rule is a program: polkit itself is asked what it does, and its
// text only shows which file to blame.
func (k *Kind) polkitGrants(ctx context.Context, allow []string, people []facts.Account) (g polkitGrants) {
	j := newJudge(ctx, k.directory, allow, nil)
	var rules []ruleFile
	for _, dir := range ruleDirs() {
		for _, f := range k.list(dir, ".rules") {
			switch {
			case isComment(f.content):
			case f.wantsFirst() && namesAdmins.Match(f.content):
				g.neutralise(k, f, comment, wantsNone)
			default:
				rules = append(rules, f)
			}
		}
	}
	for _, f := range k.list(authorityDir, ".conf") {
		if path.Base(f.path) > path.Base(authority) && setsAdmins.Match(f.content) {
			g.neutralise(k, f, pklaMark, wantsNone)
		}
	}
	k.localAuthority(&g, j)
	if k.system.Running() { // in an image there is no polkit to ask
		k.inForce(ctx, &g, j, people, rules)
	}
	if g.err == nil {
		g.err = errors.Join(j.unsure...)
	}
	return g
}

// inForce asks polkit what the people who are not allowed may do, and finds out what to do about it.
func (k *Kind) inForce(ctx context.Context, g *polkitGrants, j *judge, people []facts.Account, rules []ruleFile) {
	people = k.askedAbout(people)
	mark := k.Mark()
	state := k.polkitState(ctx, people)
	if k.polkitBelieves(state) {
		return
	}
	pauses := []time.Duration{0}
	if k.justChanged() {
		// polkit is notified of a change at the same time as the agent and may not have read it yet: its
		// answers may be about the old rules.
		pauses = []time.Duration{100, 100, 150, 200}
	}
	var s survey
	var err error
	for _, pause := range pauses {
		if err = k.system.Clock.Sleep(ctx, pause*time.Millisecond); err != nil {
			break
		}
		if s, err = k.survey(ctx, j, people, rules); err != nil || len(s.granted) > 0 {
			break
		}
	}
	if errors.Is(err, system.ErrNotRunning) {
		return // not installed, so it allows nothing
	}
	if err != nil {
		g.err = fmt.Errorf("cannot tell what polkit allows: %w", err)
		return
	}
	g.granted = s.granted
	had := k.overruled()
	if s.strange != "" {
		k.strictly(g, s, had, rules)
		return
	}
	bare := slices.DeleteFunc(slices.Clone(s.all), func(over string) bool { return strings.Contains(over, " ") })
	for action, by := range k.bySelf(j, bare) {
		g.overrule(had, []string{action}, "by "+by+" one's own password may be enough")
	}
	k.takeBack(g, s, had, rules)
	g.overruleTexts(ctx, k, s, had, rules)
	if len(s.granted) > 0 && !g.change() && k.letsNobody(ctx, s) {
		s.strange = "it lets everybody do everything, whatever its rules say"
		k.strictly(g, s, had, rules)
	}
	if len(s.granted) == 0 && !g.change() && len(g.stuck) == 0 && len(j.unsure) == 0 && k.Since(mark) == nil {
		k.polkitBelieve(state)
	}
}

// justChanged reports whether rules or actions changed a moment ago.
func (k *Kind) justChanged() bool {
	const moment = 2 * time.Second
	now := k.system.Clock.Now()
	for _, dir := range slices.Concat(ruleDirs(), actionDirs(), k.entryDirs()) {
		info, err := k.system.FS.Stat(dir)
		if err != nil {
			continue
		}
		if now.Sub(info.Changed).Abs() < moment {
			return true
		}
		entries, _ := k.system.FS.Entries(dir)
		for _, e := range entries {
			if now.Sub(e.Changed).Abs() < moment { // or lies in the future, because the clock was ahead
				return true
			}
		}
	}
	return false
}

// strictly takes everything back, because polkit's answers cannot be trusted.
func (k *Kind) strictly(g *polkitGrants, s survey, had []string, rules []ruleFile) {
	g.overrule(had, s.all, "what polkit says cannot be believed: "+s.strange)
	for _, f := range rules {
		if f.first() && saysYes.Match(f.content) {
			g.neutralise(k, f, comment, "it may let others do what only administrators may")
		}
	}
	g.err = fmt.Errorf("cannot tell what polkit allows: %s; everything that makes root is taken back from all but the allowed", s.strange)
}

// takeBack decides how to take back what polkit allows. Grants of an action's own file, or of a
// package's rule, are overruled by the agent's rule; other rules are commented out.
func (k *Kind) takeBack(g *polkitGrants, s survey, had []string, rules []ruleFile) {
	g.overrule(had, s.own, "the action asks for no administrator's password")
	for _, f := range rules {
		text := jsComments.ReplaceAll(f.content, nil)
		if !saysSelf.Match(text) {
			continue
		}
		for _, over := range s.all {
			action, _, _ := strings.Cut(over, " ")
			if action == over && mayBeAbout(text, action) {
				if f.first() && slices.Contains(had, over) {
					g.neutralise(k, f, comment, "by it one's own password is enough to do "+action)
					break
				}
				g.overrule(had, []string{over}, "by "+f.path+" one's own password may be enough")
			}
		}
	}
	left := make([]granted, 0, len(s.granted)) // grants that no action file explains
	for _, to := range s.granted {
		one := granted{person: to.person}
		for i, a := range to.what {
			if !slices.Contains(g.over, a.action) {
				one.what, one.where = append(one.what, a), append(one.where, to.where[i])
			}
		}
		if len(one.what) > 0 {
			left = append(left, one)
		}
	}
	if len(left) > 0 && len(g.edits) == 0 {
		k.blame(g, left, had, rules)
	}
}

// overruleTexts takes back what a rule may grant at another time, or for another question than the
// agent could ask.
func (g *polkitGrants) overruleTexts(ctx context.Context, k *Kind, s survey, had []string, rules []ruleFile) {
	for _, f := range rules {
		word := k.goesBy(ctx, f)
		if word == "" || slices.ContainsFunc(g.edits, func(e polkitEdit) bool { return e.path == f.path }) {
			continue
		}
		over := couldGrant(f.content, s.actions())
		why := fmt.Sprintf("what %s gives goes by more than polkit can be asked about (%q)", f.path, word)
		if len(over) > 0 && f.first() {
			g.neutralise(k, f, comment, "polkit asks it before the agent's own file, and "+why)
			continue
		}
		g.overrule(had, over, why)
	}
}

// blame finds the files that explain a grant. A grant that none explains is overruled by the agent's
// own rule. If it already is, then a file that polkit evaluates earlier is the cause.
func (k *Kind) blame(g *polkitGrants, left []granted, had []string, rules []ruleFile) {
	why := func(to granted) string {
		return fmt.Sprintf("%s may do %s without an administrator's password", to.person.Name, strings.Join(to.actions(), ", "))
	}
	for _, suspects := range [][]ruleFile{matching(rules, saysYes), rules} {
		for _, f := range suspects {
			to, isLikely := likely(f, suspects, left)
			switch {
			case !isLikely:
			case k.editable(f.path):
				g.neutralise(k, f, comment, why(to))
			default:
				g.overrule(had, overs(to), why(to)+", by "+f.path)
			}
		}
		if len(g.edits) > 0 || len(g.over) > 0 {
			return
		}
	}
	for _, to := range left {
		g.overrule(had, overs(to), why(to))
	}
	if len(g.over) > 0 {
		return
	}
	for _, f := range rules {
		if f.first() {
			g.neutralise(k, f, comment, "polkit asks it before the agent's own file, and "+why(left[0]))
		}
	}
	if len(g.edits) > 0 || len(g.stuck) > 0 {
		return
	}
	// A rule is a program and may have changed the interpreter that reads the rules. That survives a
	// reload.
	if k.mayStartAnew() {
		g.anew = why(left[0]) + ", and no rule is left that says so"
		return
	}
	g.stuck = append(g.stuck, fmt.Sprintf("polkit lets %s do %s without an administrator's password; look for the rule that says so in %s",
		left[0].person.Name, left[0].what[0].over(), strings.Join(ruleDirs(), ", ")))
}

func overs(to granted) (all []string) {
	for _, a := range to.what {
		all = appendNew(all, a.over())
	}
	return all
}

func matching(files []ruleFile, text *regexp.Regexp) []ruleFile {
	return slices.DeleteFunc(slices.Clone(files), func(f ruleFile) bool { return !text.Match(f.content) })
}

// overrule adds what the agent's own rule does not take back yet.
func (g *polkitGrants) overrule(had, what []string, why string) {
	for _, over := range what {
		action, _, _ := strings.Cut(over, " ")
		if !slices.Contains(had, over) && !slices.Contains(had, action) && !slices.Contains(g.over, over) {
			g.over, g.whyOver = append(g.over, over), why
		}
	}
}

func (g *polkitGrants) neutralise(k *Kind, f ruleFile, mark []byte, why string) {
	if slices.ContainsFunc(g.edits, func(e polkitEdit) bool { return e.path == f.path }) {
		return
	}
	if !k.editable(f.path) {
		g.stuck = append(g.stuck, fmt.Sprintf("%s: %s; rename or remove it", f.path, why))
		return
	}
	g.edits = append(g.edits, polkitEdit{f.path, commented(f.content, mark), why})
}

// commented puts the mark in front of every line that is not a comment yet.
func commented(content, mark []byte) []byte {
	var out bytes.Buffer
	for line := range bytes.Lines(content) {
		if !bytes.HasPrefix(line, mark) {
			out.Write(mark)
		}
		out.Write(line)
	}
	return out.Bytes()
}

// isComment reports whether the agent has commented out every line.
func isComment(content []byte) bool {
	for line := range bytes.Lines(content) {
		if !bytes.HasPrefix(line, comment) {
			return false
		}
	}
	return true
}

// likely reports whether no other file explains more of a person's grants. If it was the wrong file,
// or not the only one, the next round takes the others.
func likely(f ruleFile, suspects []ruleFile, all []granted) (granted, bool) {
	for _, to := range all {
		explains := func(f ruleFile) (n int) {
			if !addsRules.Match(f.content) || narrows.Match(f.content) && !to.mentioned(f.content) {
				return 0 // it names administrators, or is limited to one unit or program
			}
			for _, action := range to.actions() {
				if mayBeAbout(f.content, action) {
					n++
				}
			}
			return n
		}
		most := 0
		for _, suspect := range suspects {
			most = max(most, explains(suspect))
		}
		if most > 0 && explains(f) == most {
			return to, true
		}
	}
	return granted{}, false
}

// mentioned reports whether a rule names a detail of a grant.
func (g granted) mentioned(text []byte) bool {
	return slices.ContainsFunc(g.what, func(q question) bool {
		for _, value := range q.details {
			if value != "root" && bytes.Contains(text, []byte(`"`+value+`"`)) {
				return true
			}
		}
		return false
	})
}

// mayBeAbout reports whether a rule may be the reason for a granted action: it names the action, a
// part of it, or no action at all.
func mayBeAbout(content []byte, action string) bool {
	named := actionID.FindAllSubmatch(content, -1)
	return len(named) == 0 || slices.ContainsFunc(named, func(match [][]byte) bool {
		return strings.Contains(action, strings.ReplaceAll(string(match[1]), `\`, ""))
	})
}
