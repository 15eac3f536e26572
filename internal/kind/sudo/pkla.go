package sudo

import (
	"bytes"
	"path"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/sudotext"
)

// localAuthority finds the entries of pklocalauthority(8), which polkit 0.105 reads instead of rules,
// that let others do what only administrators may. Each is commented out.
func (k *Kind) localAuthority(g *polkitGrants, j *judge) {
	for _, dir := range k.entryDirs() {
		for _, f := range k.list(dir, ".pkla") {
			content := withoutGrants(f.content, j)
			switch {
			case bytes.Equal(content, f.content):
			case k.editable(f.path):
				g.edits = append(g.edits, polkitEdit{f.path, content, "it lets others do what only administrators may"})
			default:
				g.stuck = append(g.stuck, "the policy's own "+f.path+" lets others than [sudo] allow do what only administrators may")
			}
		}
	}
}

// entryTops are the parents of the directories of entries.
func entryTops() []string {
	return []string{"/etc/polkit-1/localauthority", "/var/lib/polkit-1/localauthority"}
}

// entryDirs are the existing directories of entries.
func (k *Kind) entryDirs() (dirs []string) {
	for _, top := range entryTops() {
		names, _ := k.system.FS.ReadDir(top)
		for _, name := range names {
			dirs = append(dirs, path.Join(top, name))
		}
	}
	return dirs
}

// withoutGrants comments out the entries of a .pkla file that make somebody an administrator who is
// not allowed.
func withoutGrants(content []byte, j *judge) []byte {
	parts, whole := entriesOf(content)
	var out bytes.Buffer
	for _, part := range parts {
		// An entry stays if its subject cannot be resolved; the judge has recorded that.
		makes, err := surely(j, func() bool {
			e := newEntry(whole[heading(part)])
			return (e.yes || e.self) && slices.ContainsFunc(e.actions, isAboutAdministrators) && e.isForOthers(j)
		})
		if makes && err == nil {
			part = commented(part, pklaMark)
		}
		out.Write(part)
	}
	return out.Bytes()
}

// bySelf returns the actions, of some, that an entry opens to people who are not allowed with just
// their own password, each with the file.
func (k *Kind) bySelf(j *judge, actions []string) map[string]string {
	found := map[string]string{}
	for _, dir := range k.entryDirs() {
		for _, f := range k.list(dir, ".pkla") {
			_, whole := entriesOf(f.content)
			for _, part := range whole {
				e := newEntry(part)
				for _, action := range actions {
					if e.self && e.isAbout(action) && e.isForOthers(j) {
						found[action] = f.path
					}
				}
			}
		}
	}
	return found
}

// entriesOf splits a .pkla file at its headings, and returns by heading what GLib reads. Sections with
// the same heading are merged there.
func entriesOf(content []byte) (parts [][]byte, whole map[string][]byte) {
	whole = map[string][]byte{}
	for line := range bytes.Lines(content) {
		if bytes.HasPrefix(bytes.TrimSpace(line), []byte("[")) || len(parts) == 0 {
			parts = append(parts, nil)
		}
		parts[len(parts)-1] = append(parts[len(parts)-1], line...)
	}
	for _, part := range parts {
		whole[heading(part)] = append(append(whole[heading(part)], part...), '\n')
	}
	return parts, whole
}

func heading(part []byte) string {
	first, _, _ := bytes.Cut(part, []byte("\n"))
	return string(bytes.TrimSpace(first))
}

// A pklaEntry is one entry and what it may grant.
type pklaEntry struct {
	actions, identities []string // patterns
	yes, self           bool     // whether it grants without a password, or with the caller's own
}

func newEntry(text []byte) (e pklaEntry) {
	values := map[string]string{}
	for line := range bytes.Lines(text) {
		if key, value, ok := strings.Cut(string(line), "="); ok && !strings.HasPrefix(key, "#") {
			values[strings.TrimSpace(key)] = strings.TrimSpace(value)
		}
	}
	e.actions, e.identities = strings.Split(values["Action"], ";"), strings.Split(values["Identity"], ";")
	for _, key := range []string{"ResultAny", "ResultInactive", "ResultActive"} {
		e.yes = e.yes || values[key] == "yes"
		e.self = e.self || strings.HasPrefix(values[key], "auth_self")
	}
	return e
}

func (e pklaEntry) isAbout(action string) bool {
	return slices.ContainsFunc(e.actions, func(pattern string) bool { return matchesAction(pattern, action) })
}

func (e pklaEntry) isForOthers(j *judge) bool {
	return slices.ContainsFunc(e.identities, func(identity string) bool { return identity != "" && !j.allowsIdentity(identity) })
}

// isAboutAdministrators reports whether a pattern matches an action that leads to root.
func isAboutAdministrators(pattern string) bool {
	for action := range rooting() {
		if matchesAction(pattern, action) {
			return true
		}
	}
	return false
}

// matchesAction reports whether a pattern, in which * matches anything, matches an action. An invalid
// pattern counts as a match.
func matchesAction(pattern, action string) bool {
	pattern = strings.TrimSpace(pattern)
	matched, err := path.Match(pattern, action)
	return matched || (err != nil && pattern != "")
}

// allowsIdentity reports whether the policy allows a "unix-user:NAME" or "unix-group:NAME". A pattern
// counts as not allowed.
func (j *judge) allowsIdentity(identity string) bool {
	sort, name, _ := strings.Cut(strings.TrimSpace(identity), ":")
	if strings.ContainsAny(name, "*?[") {
		return false
	}
	isNumber := name != "" && strings.Trim(name, "0123456789") == ""
	switch {
	case sort == "unix-user" && isNumber:
		return j.allowsOne(sudotext.Subject{Form: sudotext.UID, Name: name}, 0)
	case sort == "unix-user":
		return j.allowsUser(name)
	case sort == "unix-group" && isNumber:
		return j.allowsOne(sudotext.Subject{Form: sudotext.GID, Name: name}, 0)
	case sort == "unix-group":
		return containsFold(j.groups, name)
	}
	return false
}
