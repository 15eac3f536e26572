package sudo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/protected"
	"github.com/soe-agent/soe-agent/internal/system"
)

// polkit(8) asks the rules of /etc and of the distribution together, by file
// name, and takes the first answer; polkit 0.105 reads the authorities' files
// instead and takes the last.
const (
	rulesDir     = "/etc/polkit-1/rules.d"
	rulesPath    = rulesDir + "/00-0soe-admin.rules" // sorts before ADsys's, and nearly all
	authorityDir = "/etc/polkit-1/localauthority.conf.d"
	authority    = authorityDir + "/99-soe-admin.conf"
	entriesPath  = "/etc/polkit-1/localauthority/90-mandatory.d/99-soe-admin.pkla"

	// The rules of Canonical's ADsys, which rewrites its administrators at each refresh.
	adsysRules     = rulesDir + "/00-adsys-privilege-enforcement.rules"
	adsysAuthority = authorityDir + "/99-adsys-privilege-enforcement.conf"

	// formerRules is the first name of rulesPath.
	formerRules = rulesDir + "/00-soe-admin.rules"
)

// ownFiles are the files that the agent writes, or wrote once.
func ownFiles() []string { return []string{rulesPath, authority, entriesPath, formerRules} }

const polkitHeader = "Written by soe-agent: [sudo] allow of the policy. Changes here are undone.\n"

func polkitAttr() system.Attr { return system.Attr{Mode: 0o644} } // polkitd is not root

// identity is a subject in polkit's notation.
func identity(subject string) string {
	if group, ok := strings.CutPrefix(subject, "%"); ok {
		return "unix-group:" + group
	}
	return "unix-user:" + subject
}

// quoted is a list of strings in JavaScript notation.
func quoted(all []string) string {
	var out []string
	for _, one := range all {
		var quoted bytes.Buffer
		encoder := json.NewEncoder(&quoted)
		encoder.SetEscapeHTML(false)
		_ = encoder.Encode(one) // encoding a string cannot fail
		out = append(out, strings.TrimSpace(quoted.String()))
	}
	return strings.Join(out, ", ")
}

// rules is the content of the agent's rules. What they take back, they take from everybody except the
// allowed and service accounts without a shell: the rights of those come from their packages.
func rules(allow, over, services []string) []byte {
	var identities, users, groups []string
	for _, subject := range allow {
		identities = append(identities, identity(subject))
		if group, ok := strings.CutPrefix(subject, "%"); ok {
			groups = append(groups, strings.ToLower(group))
		} else {
			users = append(users, strings.ToLower(subject))
		}
	}
	out := fmt.Appendf(nil, `// %spolkit.addAdminRule(function(action, subject) {
    return [%s];
});
`, polkitHeader, quoted(identities))
	if len(over) == 0 {
		return out
	}
	return fmt.Appendf(out, `polkit.addRule(function(action, subject) {
    %s%s];
    var program = action.id == "%s" ? action.id + " " + action.lookup("program") : "";
    if (over.indexOf(action.id) < 0 && over.indexOf(program) < 0) return null;
    if ([%s].indexOf(subject.user) >= 0 || [%s].indexOf(subject.user.toLowerCase()) >= 0) return null;
    var groups = [%s];
    for (var i = 0; i < subject.groups.length; i++) {
        if (groups.indexOf(subject.groups[i].toLowerCase()) >= 0) return null;
    }
    return polkit.Result.AUTH_ADMIN;
});
`, overBegins, quoted(over), execAction, quoted(services), quoted(users), quoted(groups))
}

const overBegins = "var over = ["

// entries is rules for polkit 0.105, for which the last entry decides.
func entries(over []string) []byte {
	var actions []string
	for _, one := range over {
		action, _, _ := strings.Cut(one, " ")
		actions = appendNew(actions, action)
	}
	return fmt.Appendf(nil, "# %s[soe-agent]\nIdentity=unix-user:*\n%s%s\nResultAny=auth_admin\nResultInactive=auth_admin\nResultActive=auth_admin\n",
		polkitHeader, entriesBegin, strings.Join(actions, ";"))
}

const entriesBegin = "Action="

var overName = regexp.MustCompile(`^[A-Za-z0-9._-]+( /[^"\\]+)?$`)

// overruled returns what the agent's current files take back. It stays taken back: as long as the
// files do so, polkit cannot be asked whether the reason still exists.
func (k *Kind) overruled() (over []string) {
	content, _ := k.system.FS.ReadFile(rulesPath)
	for line := range strings.Lines(string(content)) {
		list, found := strings.CutPrefix(strings.TrimSpace(line), overBegins)
		var named []string
		if found && json.Unmarshal([]byte("["+strings.TrimSuffix(list, ";")), &named) == nil {
			over = append(over, named...)
		}
	}
	content, _ = k.system.FS.ReadFile(entriesPath)
	for line := range strings.Lines(string(content)) {
		if list, found := strings.CutPrefix(strings.TrimSpace(line), entriesBegin); found {
			over = append(over, strings.Split(list, ";")...)
		}
	}
	over = slices.DeleteFunc(over, func(one string) bool { return !overName.MatchString(one) })
	slices.Sort(over)
	return slices.Compact(over)
}

// services are the local service accounts that nobody can log in to.
func (k *Kind) services() (names []string) {
	accounts, _ := facts.LocalAccounts(k.system)
	for _, a := range accounts {
		if isService(a) && !facts.CanLogIn(a.Shell) {
			names = append(names, a.Name)
		}
	}
	return names
}

func isService(a facts.Account) bool { return a.UID != 0 && a.UID < system.FirstPersonalUID }

// askedAbout are people, and service accounts with a shell: whoever gets that shell has the account's
// rights.
func (k *Kind) askedAbout(people []facts.Account) []facts.Account {
	all := slices.Clone(people)
	accounts, _ := facts.LocalAccounts(k.system)
	for _, a := range accounts {
		if isService(a) && facts.CanLogIn(a.Shell) && !protected.KeepsRights(a.Name) {
			all = append(all, a)
		}
	}
	return all
}

// authorities is the content of a GLib key file. There a semicolon ends each item of a list.
func authorities(allow []string) []byte {
	escape := strings.NewReplacer(`\`, `\\`, `;`, `\;`)
	var identities strings.Builder
	for _, subject := range allow {
		identities.WriteString(escape.Replace(identity(subject)) + ";")
	}
	return fmt.Appendf(nil, "# %s[Configuration]\nAdminIdentities=%s\n",
		polkitHeader, strings.TrimSuffix(identities.String(), ";"))
}

// polkitFiles are the files that this version of polkit needs, with their contents.
func (k *Kind) polkitFiles(allow, over []string) map[string][]byte {
	isDir := func(name string) bool {
		info, err := k.system.FS.Stat(name)
		return err == nil && info.IsDir()
	}
	files := map[string][]byte{}
	if isDir(rulesDir) || isDir(vendorRules) {
		files[rulesPath] = rules(allow, over, k.services())
	}
	if isDir(authorityDir) {
		files[authority] = authorities(allow)
	}
	if len(over) > 0 && isDir(path.Dir(path.Dir(entriesPath))) {
		files[entriesPath] = entries(over)
	}
	return files
}

// checkPolkitFiles checks the agent's own files, and who can write to polkit's files. It returns in
// words where others can, and whether polkit can be asked what it allows.
func (k *Kind) checkPolkitFiles(allow []string, r *converge.Resource) (stuck []string, asks bool) {
	files := k.polkitFiles(allow, k.overruled())
	if len(files) == 0 {
		r.Note("polkit is not installed, so there is nothing that it could allow")
		return nil, false
	}
	k.noteADsys(r)
	if k.former() {
		r.AddPublicDrift(formerRules, "absent: the agent's own file has another name", "present")
	}
	for _, name := range []string{rulesPath, authority, entriesPath} {
		want, wanted := files[name]
		if !wanted {
			continue
		}
		info, err := k.system.FS.Stat(name)
		if errors.Is(err, fs.ErrNotExist) {
			r.AddDrift(name, string(want), "")
			continue
		}
		if err == nil && !info.IsRegular() {
			r.SetFailed(fmt.Sprintf("%s is not a regular file; remove it", name))
			return nil, false
		}
		got, err2 := k.system.FS.ReadFile(name)
		if err = errors.Join(err, err2); err != nil {
			r.SetUnknownErr(err)
			return nil, false
		}
		if !bytes.Equal(got, want) {
			r.AddDrift(name, string(want), string(got))
		} else if info.Attr != polkitAttr() {
			r.AddPublicDrift("mode of "+name, "0644, owner 0, group 0", fmt.Sprintf("%04o, owner %d, group %d", info.Mode, info.UID, info.GID))
		}
	}
	mend, stuck := k.looseFiles()
	differsByLoose(r, mend)
	return stuck, true
}

// checkPolkitGrants checks what polkit lets other people do.
func (k *Kind) checkPolkitGrants(ctx context.Context, allow []string, people []facts.Account, stuck []string, r *converge.Resource) {
	g := k.polkitGrants(ctx, allow, people)
	g.stuck = append(g.stuck, stuck...)
	for _, e := range g.edits {
		r.AddPrivateDrift(e.path, "nobody is made an administrator", e.why)
	}
	if len(g.over) > 0 {
		r.AddPrivateDrift("rights", "only [sudo] allow may do "+strings.Join(g.over, ", "), g.whyOver)
	}
	if g.anew != "" {
		r.AddPrivateDrift("polkit.service", "goes by what its files say", g.anew)
	}
	switch {
	case r.State == converge.Drifted:
	case len(g.stuck) > 0:
		r.SetFailed(strings.Join(g.stuck, "\n"))
	case g.err != nil:
		r.SetUnknown(g.err.Error())
	}
}

// noteADsys explains how the agent and ADsys coexist: ADsys's files sort behind the agent's rules, and
// before its authorities, where they have no effect.
func (k *Kind) noteADsys(r *converge.Resource) {
	for _, name := range []string{adsysRules, adsysAuthority} {
		content, err := k.system.FS.ReadFile(name)
		if err == nil && (namesAdmins.Match(content) || setsAdmins.Match(content)) {
			r.Note(name + " is written by ADsys and names administrators, which has no effect beside [sudo] allow: " +
				"put them into [sudo] allow, or switch the privilege policy of ADsys off")
		}
	}
}

// former reports whether the agent's own file exists under a former name.
func (k *Kind) former() bool {
	content, err := k.system.FS.ReadFile(formerRules)
	return err == nil && bytes.HasPrefix(content, []byte("// "+polkitHeader))
}

// maxRounds limits how many files of others are commented out in one repair. polkit is asked again
// after each.
const maxRounds = 20

func (k *Kind) repairPolkit(ctx context.Context, allow []string) error {
	mark := k.Mark()
	over := k.overruled()
	if err := k.tighten(); err != nil {
		return err
	}
	changed, err := k.writePolkit(allow, over, mark)
	if err != nil {
		return err // the administrators must be in place before others lose rights
	}
	if k.former() {
		if err := k.system.FS.Remove(formerRules); err != nil {
			return err
		}
	}
	soon, enough := k.whileFilesStayFor(ctx, patienceBeforeRepair)
	people, _ := facts.People(soon, k.directory) // the next check asks about people who are missing here
	enough()
	for range maxRounds {
		inTime, enough := k.whileFilesStayFor(ctx, forPolkit(ctx)) // until the next file is written
		g := k.polkitGrants(inTime, allow, people)
		enough()
		if err := k.Since(mark); err != nil {
			return err // a judgement from incomplete data could take rights from the allowed
		}
		switch {
		case g.change():
		case changed:
			return nil // polkit did not answer; the next check asks again
		default:
			return g.err // or it would seem that nothing helps
		}
		changed = true
		if len(g.over) > 0 {
			over = slices.Compact(slices.Sorted(slices.Values(slices.Concat(over, g.over))))
			if _, err := k.writePolkit(allow, over, mark); err != nil {
				return err
			}
		}
		var errs []error
		for _, e := range g.edits {
			errs = append(errs, k.system.FS.WriteFile(e.path, e.content, polkitAttr()))
		}
		if err := errors.Join(errs...); err != nil {
			return err
		}
		if !k.system.Running() {
			return nil
		}
		if err := k.makePolkitRead(ctx, g); err != nil {
			return err
		}
	}
	return nil // the check after the repair reports what is left
}

// forPolkit is how long a repair waits for polkit. In the daemon the next pass asks again, and must not be
// kept from what has been granted since this one began.
func forPolkit(ctx context.Context) time.Duration {
	if converge.IsOnlyPass(ctx) {
		return patienceOnce
	}
	return patienceInRepair
}

// makePolkitRead waits until polkit uses its current files, or restarts it if it never would.
func (k *Kind) makePolkitRead(ctx context.Context, g polkitGrants) error {
	if g.anew != "" {
		return k.startAnew(ctx)
	}
	inTime, enough := k.whileFilesStayFor(ctx, forPolkit(ctx))
	defer enough()
	k.awaitPolkit(inTime, g.granted)
	return ctx.Err()
}

// writePolkit writes the agent's own files unless a read has failed since the mark, and reports
// whether any of them changed.
func (k *Kind) writePolkit(allow, over []string, mark int) (changed bool, err error) {
	files := k.polkitFiles(allow, over)
	if err := k.Since(mark); err != nil {
		return false, err
	}
	var errs []error
	for name, content := range files {
		if now, info, err := k.system.FS.Inspect(name); err == nil && bytes.Equal(now, content) && info.Attr == polkitAttr() {
			continue
		}
		changed = true
		errs = append(errs, k.system.FS.WriteFile(name, content, polkitAttr()))
	}
	return changed, errors.Join(errs...)
}
