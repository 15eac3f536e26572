package sudo

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/soe-agent/soe-agent/internal/converge"
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

func (k *Kind) checkPolkit(allow []string, r *converge.Resource) {
	files := k.polkitFiles(allow)
	if len(files) == 0 {
		r.Reason = "polkit is not installed, so there is nothing that it could allow"
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
			r.Doubt(err.Error())
			return
		}
		if !bytes.Equal(got, want) {
			r.Differs(name, string(want), string(got))
		} else if info.Attr != polkitAttr() {
			r.Differs("mode of "+name, "0644, owner 0, group 0", fmt.Sprintf("%04o, owner %d, group %d", info.Mode, info.UID, info.GID))
		}
	}
	if r.State == converge.Drifted {
		return
	}
	if rivals := k.rivals(files); len(rivals) > 0 {
		r.Fail(fmt.Sprintf("polkit asks %s before the agent's own rule, and it names administrators too; rename or remove it",
			strings.Join(rivals, ", ")))
	}
}

// rivals are the files of others that name administrators and win over the
// agent's own.
func (k *Kind) rivals(files map[string][]byte) []string {
	var rivals []string
	look := func(dir, word string, wins func(base string) bool) {
		names, _ := k.system.FS.ReadDir(dir)
		for _, base := range names {
			if !wins(base) {
				continue
			}
			content, err := k.system.FS.ReadFile(path.Join(dir, base))
			if err == nil && bytes.Contains(content, []byte(word)) {
				rivals = append(rivals, path.Join(dir, base))
			}
		}
	}
	if _, wanted := files[rulesPath]; wanted {
		for _, dir := range []string{rulesDir, "/run/polkit-1/rules.d", "/usr/local/share/polkit-1/rules.d", "/usr/share/polkit-1/rules.d"} {
			look(dir, "addAdminRule", func(base string) bool {
				return strings.HasSuffix(base, ".rules") && base < path.Base(rulesPath)
			})
		}
	}
	if _, wanted := files[authority]; wanted {
		look(authorityDir, "AdminIdentities", func(base string) bool {
			return strings.HasSuffix(base, ".conf") && base > path.Base(authority)
		})
	}
	return rivals
}

func (k *Kind) repairPolkit(allow []string) error {
	var errs []error
	for name, content := range k.polkitFiles(allow) {
		errs = append(errs, k.system.FS.WriteFile(name, content, polkitAttr()))
	}
	return errors.Join(errs...)
}
