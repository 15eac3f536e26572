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

	// Those of Canonical's ADsys, which writes its administrators at each refresh.
	adsysRules     = rulesDir + "/00-adsys-privilege-enforcement.rules"
	adsysAuthority = authorityDir + "/99-adsys-privilege-enforcement.conf"

	// formerRules is what rulesPath was called at first.
	formerRules = rulesDir + "/00-soe-admin.rules"
)

// ownFiles are those that the agent writes, or wrote.
func ownFiles() []string { return []string{rulesPath, authority, entriesPath, formerRules} }

const polkitHeader = "Written by soe-agent: [sudo] allow of the policy. Changes here are undone.\n"

func polkitAttr() system.Attr { return system.Attr{Mode: 0o644} } // polkitd is not root

// identity is how polkit names a subject.
func identity(subject string) string {
	if group, ok := strings.CutPrefix(subject, "%"); ok {
		return "unix-group:" + group
	}
	return "unix-user:" + subject
}

// quoted is a list of strings as JavaScript has it.
func quoted(all []string) string {
	var out []string
	for _, one := range all {
		var quoted bytes.Buffer
		encoder := json.NewEncoder(&quoted)
		encoder.SetEscapeHTML(false)
		_ = encoder.Encode(one) // a string always can be
		out = append(out, strings.TrimSpace(quoted.String()))
	}
	return strings.Join(out, ", ")
}

// rules are the agent's own. What it takes back it takes from all but the allowed and the
// accounts of services without a shell, whose rights are their packages' business.
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

// overruled is what the agent's own files take back as they are. It stays so: whether the
// reason is still there cannot be asked while they do.
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

// services are the local accounts of services that nobody can log in to.
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

// askedAbout are people, and the accounts of services that have a shell: who gets one there is
// somebody to polkit as everybody is.
func (k *Kind) askedAbout(people []facts.Account) []facts.Account {
	all := slices.Clone(people)
	accounts, _ := facts.LocalAccounts(k.system)
	for _, a := range accounts {
		if isService(a) && facts.CanLogIn(a.Shell) && protected.Account(a.Name) == "" {
			all = append(all, a)
		}
	}
	return all
}

// authorities is a key file of GLib, in which a semicolon ends each of a list.
func authorities(allow []string) []byte {
	escape := strings.NewReplacer(`\`, `\\`, `;`, `\;`)
	var identities strings.Builder
	for _, subject := range allow {
		identities.WriteString(escape.Replace(identity(subject)) + ";")
	}
	return fmt.Appendf(nil, "# %s[Configuration]\nAdminIdentities=%s\n",
		polkitHeader, strings.TrimSuffix(identities.String(), ";"))
}

// polkitFiles are the files that this machine's polkit wants, with their
// contents.
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

// checkPolkitFiles looks at the agent's own files, and at who may write where polkit reads: in
// words it returns where that is others, and whether polkit can be asked what it allows.
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

// checkPolkitGrants looks at what polkit lets others do.
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

// noteADsys says how to live with ADsys: its files sort behind the agent's rules and before
// its authorities, where they do nothing.
func (k *Kind) noteADsys(r *converge.Resource) {
	for _, name := range []string{adsysRules, adsysAuthority} {
		content, err := k.system.FS.ReadFile(name)
		if err == nil && (namesAdmins.Match(content) || setsAdmins.Match(content)) {
			r.Note(name + " is written by ADsys and names administrators, which has no effect beside [sudo] allow: " +
				"put them into [sudo] allow, or switch the privilege policy of ADsys off")
		}
	}
}

// former says whether there is the agent's own file of a former name.
func (k *Kind) former() bool {
	content, err := k.system.FS.ReadFile(formerRules)
	return err == nil && bytes.HasPrefix(content, []byte("// "+polkitHeader))
}

// maxRounds bounds how many files of others may be made comments of in one repair: after
// each, polkit is asked again.
const maxRounds = 20

func (k *Kind) repairPolkit(ctx context.Context, allow []string) error {
	mark := k.Mark()
	over := k.overruled()
	if err := k.tighten(); err != nil {
		return err
	}
	changed, err := k.writePolkit(allow, over, mark)
	if err != nil {
		return err // the administrators must be named before others lose what they have
	}
	if k.former() {
		if err := k.system.FS.Remove(formerRules); err != nil {
			return err
		}
	}
	soon, enough := k.whileFilesStayFor(ctx, patienceBeforeRepair)
	people, _ := facts.People(soon, k.directory) // whom it leaves out the next look asks about
	enough()
	for range maxRounds {
		inTime, enough := k.whileFilesStayFor(ctx, patienceInRepair) // until this writes the next
		g := k.polkitGrants(inTime, allow, people)
		enough()
		if err := k.Since(mark); err != nil {
			return err // a judgement by half of what there is may take from the allowed
		}
		switch {
		case g.change():
		case changed:
			return nil // what polkit does not say the next look says
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
	return nil // the check that follows says what is so
}

// makePolkitRead waits until polkit goes by what its files say now, or starts it anew where it never would.
func (k *Kind) makePolkitRead(ctx context.Context, g polkitGrants) error {
	if g.anew != "" {
		return k.startAnew(ctx)
	}
	inTime, enough := k.whileFilesStayFor(ctx, patienceInRepair)
	defer enough()
	k.awaitPolkit(inTime, g.granted)
	return ctx.Err()
}

// writePolkit writes the agent's own files, by what has been seen since a mark, and says whether
// any of them was another.
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
