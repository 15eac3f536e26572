package sudo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/system"
)

// polkit(8) asks the rules of /etc and of the distribution together, by file
// name, and takes the first answer; polkit 0.105 reads the authorities' files
// instead and takes the last.
const (
	rulesDir     = "/etc/polkit-1/rules.d"
	rulesPath    = rulesDir + "/00-soe-admin.rules"
	authorityDir = "/etc/polkit-1/localauthority.conf.d"
	authority    = authorityDir + "/99-soe-admin.conf"
)

func polkitAttr() system.Attr { return system.Attr{Mode: 0o644} } // polkitd is not root

// identity is how polkit names a subject.
func identity(subject string) string {
	if group, ok := strings.CutPrefix(subject, "%"); ok {
		return "unix-group:" + group
	}
	return "unix-user:" + subject
}

func rules(allow []string) []byte {
	var identities []string
	for _, subject := range allow {
		var quoted bytes.Buffer
		encoder := json.NewEncoder(&quoted)
		encoder.SetEscapeHTML(false)
		_ = encoder.Encode(identity(subject)) // a string always can be
		identities = append(identities, strings.TrimSpace(quoted.String()))
	}
	return fmt.Appendf(nil, `// Written by soe-agent: [sudo] allow of the policy. Changes here are undone.
polkit.addAdminRule(function(action, subject) {
    return [%s];
});
`, strings.Join(identities, ", "))
}

// authorities is a key file of GLib, in which a semicolon ends each of a list.
func authorities(allow []string) []byte {
	escape := strings.NewReplacer(`\`, `\\`, `;`, `\;`)
	var identities strings.Builder
	for _, subject := range allow {
		identities.WriteString(escape.Replace(identity(subject)) + ";")
	}
	return fmt.Appendf(nil, "# Written by soe-agent: [sudo] allow of the policy. Changes here are undone.\n[Configuration]\nAdminIdentities=%s\n",
		strings.TrimSuffix(identities.String(), ";"))
}

// polkitFiles are the files that this machine's polkit wants, with their
// contents.
func (k *Kind) polkitFiles(allow []string) map[string][]byte {
	isDir := func(name string) bool {
		info, err := k.system.FS.Stat(name)
		return err == nil && info.IsDir()
	}
	files := map[string][]byte{}
	if isDir(rulesDir) || isDir("/usr/share/polkit-1/rules.d") {
		files[rulesPath] = rules(allow)
	}
	if isDir(authorityDir) {
		files[authority] = authorities(allow)
	}
	return files
}

func (k *Kind) checkPolkit(ctx context.Context, allow []string, people []facts.Account, r *converge.Resource) {
	files := k.polkitFiles(allow)
	if len(files) == 0 {
		r.Note("polkit is not installed, so there is nothing that it could allow")
		return
	}
	for _, name := range []string{rulesPath, authority} {
		want, wanted := files[name]
		if !wanted {
			continue
		}
		info, err := k.system.FS.Stat(name)
		if errors.Is(err, fs.ErrNotExist) {
			r.Differs(name, string(want), "")
			continue
		}
		if err == nil && !info.IsRegular() {
			r.Fail(fmt.Sprintf("%s is not a regular file; remove it", name))
			return
		}
		got, err2 := k.system.FS.ReadFile(name)
		if err = errors.Join(err, err2); err != nil {
			r.DoubtFor(err)
			return
		}
		if !bytes.Equal(got, want) {
			r.Differs(name, string(want), string(got))
		} else if info.Attr != polkitAttr() {
			r.DiffersOpenly("mode of "+name, "0644, owner 0, group 0", fmt.Sprintf("%04o, owner %d, group %d", info.Mode, info.UID, info.GID))
		}
	}
	if g := k.polkitGrants(ctx, allow, people); g.err != nil && r.State != converge.Drifted {
		r.Doubt(g.err.Error())
	} else if len(g.edits) > 0 {
		for _, e := range g.edits {
			r.DiffersVeiled(e.path, "nobody is made an administrator", e.why)
		}
	} else if r.State != converge.Drifted && len(g.stuck) > 0 {
		r.Fail(strings.Join(g.stuck, "\n"))
	}
}

func (k *Kind) repairPolkit(ctx context.Context, allow []string) error {
	var errs []error
	mark := k.Mark()
	files := k.polkitFiles(allow)
	if err := k.Since(mark); err != nil {
		return err
	}
	for name, content := range files {
		errs = append(errs, k.system.FS.WriteFile(name, content, polkitAttr()))
	}
	if err := errors.Join(errs...); err != nil {
		return err // the administrators must be named before others lose what they have
	}
	people, err := facts.People(ctx, k.system)
	if err != nil {
		return err
	}
	g := k.polkitGrants(ctx, allow, people)
	if err := errors.Join(g.err, k.Since(mark)); err != nil {
		return err // a judgement by half of what there is may take from the allowed
	}
	for _, e := range g.edits {
		errs = append(errs, k.system.FS.WriteFile(e.path, e.content, polkitAttr()))
	}
	if len(g.edits) > 0 {
		k.awaitPolkit(ctx, g.granted)
	}
	return errors.Join(errs...)
}
