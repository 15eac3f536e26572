package sudo

import (
	"bytes"
	"context"
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

// adminActions are those by which whoever may do them is root. polkit asks for an
// administrator's password before each, unless a rule says otherwise.
func adminActions() []string {
	return []string{
		"org.freedesktop.policykit.exec",
		"org.freedesktop.systemd1.manage-units",
		"org.freedesktop.systemd1.manage-unit-files",
		"org.freedesktop.accounts.user-administration",
	}
}

// A granted action is one that polkit lets somebody do who is not allowed.
type granted struct {
	person  facts.Account
	actions []string
}

// A polkitEdit makes comments of a file that makes administrators.
type polkitEdit struct {
	path    string
	content []byte
	why     string
}

// polkitGrants is what other files of polkit give to those who are not allowed.
type polkitGrants struct {
	edits   []polkitEdit
	stuck   []string
	granted []granted
	err     error
}

// ruleDirs are all directories of rules; polkit asks their files together, by
// name. Those of the last are a package's, and are not edited.
func ruleDirs() []string {
	return []string{rulesDir, "/run/polkit-1/rules.d", "/usr/local/share/polkit-1/rules.d", vendorRules}
}

const vendorRules = "/usr/share/polkit-1/rules.d"

// A ruleFile is a file of somebody else's.
type ruleFile struct {
	path    string
	content []byte
}

func (k *Kind) list(dir, suffix string) (files []ruleFile) {
	names, _ := k.system.FS.ReadDir(dir)
	for _, base := range names {
		name := path.Join(dir, base)
		if !strings.HasSuffix(base, suffix) || name == rulesPath || name == authority {
			continue
		}
		if content, err := k.system.FS.ReadFile(name); err == nil {
			files = append(files, ruleFile{name, content})
		}
	}
	return files
}

// editable says whether a file is neither a package's nor the policy's own.
func (k *Kind) editable(name string) bool {
	_, managed := k.policy.Lookup(policy.NewID("dropin", name))
	return !managed && path.Dir(name) != vendorRules
}

var (
	namesAdmins = regexp.MustCompile(`\baddAdminRule\b`)
	setsAdmins  = regexp.MustCompile(`(?m)^[ \t]*AdminIdentities`) // GLib's key files may be indented
	// mayGrant is in every rule that lets somebody do something without a password.
	mayGrant  = regexp.MustCompile(`(?s)\baddRule\b.*(\bYES\b|["']yes["'])`)
	actionID  = regexp.MustCompile(`["']([A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)+)\.?["']`)
	comment   = []byte("// soe-agent: makes administrators of others than [sudo] allow: ")
	pklaMark  = []byte("# soe-agent: makes administrators of others than [sudo] allow: ")
	wantsNone = "polkit asks it before the agent's own file, and it names administrators too"
)

// polkitGrants looks for files that name administrators and win over the agent's
// own, and for those that let people do what only administrators may. A rule is a
// program: whether it does is asked of polkit itself, where one looks as if.
func (k *Kind) polkitGrants(ctx context.Context, allow []string, people []facts.Account) (g polkitGrants) {
	files := k.polkitFiles(allow)
	if _, wanted := files[rulesPath]; wanted {
		var suspects []ruleFile
		for _, dir := range ruleDirs() {
			for _, f := range k.list(dir, ".rules") {
				switch {
				case namesAdmins.Match(f.content) && !isComment(f.content) && path.Base(f.path) < path.Base(rulesPath):
					g.neutralise(k, f, comment, wantsNone)
				case mayGrant.Match(f.content) && !isComment(f.content) && dir != vendorRules:
					suspects = append(suspects, f)
				}
			}
		}
		k.askPolkit(ctx, &g, newJudge(ctx, k.system, allow, nil), people, suspects)
	}
	if _, wanted := files[authority]; wanted {
		for _, f := range k.list(authorityDir, ".conf") {
			if path.Base(f.path) > path.Base(authority) && setsAdmins.Match(f.content) {
				g.neutralise(k, f, pklaMark, wantsNone)
			}
		}
		k.localAuthority(&g, newJudge(ctx, k.system, allow, nil))
	}
	return g
}

func (g *polkitGrants) neutralise(k *Kind, f ruleFile, mark []byte, why string) {
	if !k.editable(f.path) {
		g.stuck = append(g.stuck, fmt.Sprintf("%s: %s; rename or remove it", f.path, why))
		return
	}
	g.edits = append(g.edits, polkitEdit{f.path, commented(f.content, mark), why})
}

// commented puts mark in front of every line that is none.
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

// isComment says whether the agent has made a comment of every line.
func isComment(content []byte) bool {
	for line := range bytes.Lines(content) {
		if !bytes.HasPrefix(line, comment) {
			return false
		}
	}
	return true
}

// askPolkit asks what the people who are not allowed may do, if any rule may
// grant it, and takes the rules that may be the reason out of force.
func (k *Kind) askPolkit(ctx context.Context, g *polkitGrants, j *judge, people []facts.Account, suspects []ruleFile) {
	if len(suspects) == 0 || !k.system.Running() {
		return // in an image there is nobody to ask
	}
	mark := k.Mark()
	groups, _ := k.system.FS.ReadFile("/etc/group")
	state := fmt.Sprintf("%q %q %q", suspects, people, groups)
	if k.polkitBelieves(state) {
		return
	}
	if g.err = k.polkitIsSilent(); g.err != nil {
		return
	}
	for _, person := range people {
		if j.allowsUser(person.Name) {
			continue
		}
		actions, err := k.mayDo(ctx, person)
		if err != nil {
			g.err = err
			k.polkitSilent(err)
			return
		}
		if len(actions) > 0 {
			g.granted = append(g.granted, granted{person, actions})
		}
	}
	if len(g.granted) == 0 {
		if k.Since(mark) == nil {
			k.polkitBelieve(state)
		}
		return
	}
	for _, f := range suspects {
		if to, isLikely := likely(f, suspects, g.granted); isLikely {
			g.neutralise(k, f, comment, fmt.Sprintf("%s may do %s without an administrator's password",
				to.person.Name, strings.Join(to.actions, ", ")))
		}
	}
	if len(g.edits) == 0 && len(g.stuck) == 0 {
		g.stuck = append(g.stuck, fmt.Sprintf("polkit lets %s do %s without an administrator's password; look for the rule that says so in %s",
			g.granted[0].person.Name, g.granted[0].actions[0], strings.Join(ruleDirs(), ", ")))
	}
}

// likely says whether no other file explains more of what is granted to somebody.
// Should it not have been the one, or not alone, the next round takes the others.
func likely(f ruleFile, suspects []ruleFile, all []granted) (granted, bool) {
	for _, to := range all {
		explains := func(f ruleFile) (n int) {
			for _, action := range to.actions {
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

func (k *Kind) polkitBelieves(state string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.polkitInLine == state && k.system.Clock.Now().Sub(k.polkitAskedAt) < trusted
}

func (k *Kind) polkitBelieve(state string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.polkitInLine, k.polkitAskedAt = state, k.system.Clock.Now()
}

// silence is how long nobody is asked again when an answer did not come: whoever keeps it
// from coming is not to keep the agent from looking at sudo.
const silence = 10 * time.Second

func (k *Kind) polkitIsSilent() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.system.Clock.Now().Sub(k.silentSince) < silence {
		return k.silent
	}
	return nil
}

func (k *Kind) polkitSilent(why error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.silent, k.silentSince = why, k.system.Clock.Now()
}

// mayBeAbout says whether a rule may be the reason why an action is granted: it
// names the action, or the beginning of it, or no action at all.
func mayBeAbout(content []byte, action string) bool {
	named := actionID.FindAllSubmatch(content, -1)
	return len(named) == 0 || slices.ContainsFunc(named, func(match [][]byte) bool {
		return strings.HasPrefix(action, string(match[1]))
	})
}

// whatMayI prints of each action what pkcheck(1) says of the process that runs it: 0 when
// it may do that without a password, 1 to 3 when not, none when polkit does not know the
// action. Of those for which polkit asks for
// one, pkcheck does not say whose.
const whatMayI = `for action; do
said=$(pkcheck --action-id "$action" --process $$ 2>&1 >/dev/null)
code=$?
case $said in *"is not registered"*) code=none ;; esac
echo "$code $action"
done; :`

// polkitPatience is how long the programs may take that ask polkit. They are the person's,
// who can stop them.
const polkitPatience = 3 * time.Second

// mayDo has polkit itself say which of the administrators' actions a process of
// the person's may do. That is the person's word, as long as it is the person's process
// that asks; when it does not come, or not whole, nothing is known.
func (k *Kind) mayDo(ctx context.Context, person facts.Account) ([]string, error) {
	groups, err := facts.GroupIDs(ctx, k.system, person.Name)
	if err != nil {
		return nil, fmt.Errorf("cannot ask polkit what %s may do: %w", person.Name, err)
	}
	out, err := k.system.Runner.Run(ctx, system.Command{
		Argv: append([]string{"sh", "-c", whatMayI, "sh"}, adminActions()...), Timeout: polkitPatience, ReadOnly: true,
		Confined: &system.Confinement{UID: person.UID, GID: person.GID, Groups: groups, SharesPIDs: true},
	})
	if err != nil {
		return nil, fmt.Errorf("cannot ask polkit what %s may do: %w", person.Name, err)
	}
	if out.ExitCode != 0 || len(out.Stderr) > 0 {
		return nil, fmt.Errorf("cannot ask polkit what %s may do: %s", person.Name, out.LastLine())
	}
	return answersOf(person.Name, string(out.Stdout))
}

// answersOf are the actions that are granted by what whatMayI has printed.
func answersOf(person, printed string) (granted []string, err error) {
	lines := strings.Split(strings.TrimSuffix(printed, "\n"), "\n")
	for i, action := range adminActions() {
		code := ""
		if len(lines) == len(adminActions()) {
			code, _ = strings.CutSuffix(lines[i], " "+action)
		}
		switch code {
		case "0":
			granted = append(granted, action)
		case "1", "2", "3", "none":
		default:
			return nil, fmt.Errorf("cannot ask polkit what %s may do: pkcheck did not answer, it was killed or polkit does not work", person)
		}
	}
	return granted, nil
}

// awaitPolkit returns when polkit has noticed the change of its rules, which it
// does by inotify, or after a while: the check that follows says what is so.
func (k *Kind) awaitPolkit(ctx context.Context, was []granted) {
	for range 30 {
		left := slices.ContainsFunc(was, func(g granted) bool {
			actions, err := k.mayDo(ctx, g.person)
			return err == nil && len(actions) >= len(g.actions)
		})
		if !left || k.system.Clock.Sleep(ctx, 100*time.Millisecond) != nil {
			return
		}
	}
}
