package packages

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/public"
	"github.com/soe-agent/soe-agent/internal/system"
)

const (
	repositoryDir = "/etc/yum.repos.d"
	keyDir        = "/etc/pki/rpm-gpg"
)

// Repositories implements the kind "repository": it checks and repairs the policy's repositories.
type Repositories struct {
	*system.Unanswered
	system  *system.System
	ledger  *converge.Ledger
	wants   []policy.Want[policy.Repository]
	keys    *rpmdb
	manager manager
}

// NewRepositories returns the kind "repository". Commands that change the rpm database wait for
// another package manager for at most patience.
func NewRepositories(p *policy.Policy, s *system.System, l *converge.Ledger, patience time.Duration) *Repositories {
	s, unanswered := s.Observe()
	return &Repositories{
		Unanswered: unanswered,
		system:     s, ledger: l, wants: policy.Of[policy.Repository](p), manager: newManager(p, s, patience),
		keys: &rpmdb{system: s, question: []string{"-q", "--qf", `%{VERSION}\n`, "gpg-pubkey"}},
	}
}

// Name implements converge.Kind.
func (k *Repositories) Name() string { return "repository" }

// Watches implements converge.Watcher.
func (k *Repositories) Watches() []converge.Watch {
	if len(k.wants)+len(k.ledger.Owned(k.Name()))+len(k.ledger.Owned(brought)) == 0 {
		return nil
	}
	return append(databaseWatches(k.system.FS), converge.Watch{Dir: repositoryDir}, converge.Watch{Dir: keyDir})
}

func repositoryFile(name string) string { return path.Join(repositoryDir, name+".repo") }

func keyFile(name string) string { return path.Join(keyDir, "RPM-GPG-KEY-soe-"+name) }

func content(name string, r policy.Repository) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "[%s]\n", name)
	for _, s := range settings(name, r) {
		fmt.Fprintf(&b, "%s=%s\n", s.key, s.value)
	}
	return []byte(b.String())
}

// attr returns the mode of the repository's file. Only root may read it if it contains a password.
func attr(want policy.Want[policy.Repository]) system.Attr {
	for _, url := range []string{want.Spec.BaseURL, want.Spec.Metalink, want.Spec.MirrorList, want.Spec.Proxy} {
		if strings.Contains(url, "@") {
			return system.Attr{Mode: 0o600}
		}
	}
	if len(want.Secrets) > 0 {
		return system.Attr{Mode: 0o600}
	}
	return system.Attr{Mode: 0o644}
}

// Check implements converge.Kind.
func (k *Repositories) Check(ctx context.Context) ([]converge.Resource, error) {
	unwanted := k.unwanted()
	if len(k.wants) == 0 {
		return unwanted, nil
	}
	imported, keysErr := k.imported(ctx)
	found, err := k.manager.definitions()
	if err != nil {
		return nil, err
	}
	var resources []converge.Resource
	for _, want := range k.wants {
		r := converge.Wanted(want.Resource)
		name := want.ID.Name()
		if want.Spec.Ensure == policy.Absent {
			switch _, err := k.system.FS.Stat(repositoryFile(name)); {
			case err == nil:
				r.AddPublicDrift("file", "absent", "present")
			case !errors.Is(err, fs.ErrNotExist):
				r.SetUnknown(err.Error())
			}
			if other := found.besides(name, repositoryFile(name)); other != "" {
				r.AddPublicDrift("defined in", "none", other)
			}
			resources = append(resources, r)
			continue
		}
		if want.Spec.Brought() {
			k.checkBrought(&r, want, found)
			resources = append(resources, r)
			continue
		}
		k.checkFile(&r, want)
		if other := found.besides(name, repositoryFile(name)); other != "" {
			r.AddPublicDrift("defined in", repositoryFile(name)+" alone", other)
		}
		k.checkKeys(&r, want, imported, keysErr)
		resources = append(resources, r)
	}
	return append(resources, unwanted...), nil
}

// unwanted returns the repositories that the agent set up and that the policy no longer names.
func (k *Repositories) unwanted() []converge.Resource {
	var resources []converge.Resource
	owned := k.ledger.Owned(k.Name())
	for _, id := range k.ledger.Owned(brought) {
		if id = policy.NewID(k.Name(), id.Name()); !slices.Contains(owned, id) {
			owned = append(owned, id)
		}
	}
	for _, id := range owned {
		if !slices.ContainsFunc(k.wants, func(w policy.Want[policy.Repository]) bool { return w.ID == id }) {
			resources = append(resources, converge.Unwanted(id, "the policy wanted it once, and no longer names it"))
		}
	}
	return resources
}

// checkFile compares the repository's file with the policy. It does not show a URL that contains a
// password.
func (k *Repositories) checkFile(r *converge.Resource, want policy.Want[policy.Repository]) {
	name := want.ID.Name()
	file := repositoryFile(name)
	info, err := k.system.FS.Stat(file)
	var got []byte
	if err == nil {
		got, err = k.system.FS.ReadFile(file)
	}
	if errors.Is(err, fs.ErrNotExist) {
		r.AddPublicDrift("file", "present", "absent")
		return
	}
	if err != nil {
		r.SetUnknownErr(err)
		return
	}
	if a := attr(want); info.Mode != a.Mode {
		r.AddPublicDrift("mode", fmt.Sprintf("%04o", a.Mode), fmt.Sprintf("%04o", info.Mode))
	}
	if info.UID != 0 || info.GID != 0 {
		r.AddPublicDrift("owner", "0:0", fmt.Sprintf("%d:%d", info.UID, info.GID))
	}
	if string(got) != string(content(name, want.Spec)) {
		compare(r, settings(name, want.Spec), parseINI(got)[name], attr(want).Mode == 0o600)
		if public.May(attr(want).Mode & info.Mode) {
			r.DriftIsPublic()
		}
	}
}

// compare records the settings in which a section differs from the policy. If there are none, it
// records that the file differs in some other way.
func compare(r *converge.Resource, want, got []setting, secret bool) {
	before := len(r.Diff)
	effective := map[string]string{}
	for _, s := range got {
		effective[s.key] = s.value // the last one counts
	}
	shown := func(key, value string) string {
		if secret && key != "enabled" && key != "gpgcheck" && key != "gpgkey" {
			return public.Secret
		}
		return value
	}
	for _, s := range want {
		value, set := effective[s.key]
		delete(effective, s.key)
		switch {
		case value == s.value:
		case !set:
			r.AddDrift(s.key, shown(s.key, s.value), "not set")
		default:
			r.AddDrift(s.key, shown(s.key, s.value), shown(s.key, value))
		}
	}
	for _, s := range got {
		if value, extra := effective[s.key]; extra {
			r.AddPrivateDrift(s.key, "not set", shown(s.key, value))
			delete(effective, s.key)
		}
	}
	if len(r.Diff) == before {
		r.AddPublicDrift("content", "as the agent writes it", "otherwise, with the same settings")
	}
}

// Repair implements converge.Kind.
func (k *Repositories) Repair(ctx context.Context, drifted []converge.Resource) []converge.Outcome {
	var outcomes []converge.Outcome
	found, err := k.manager.definitions()
	if err != nil {
		return all(drifted, err)
	}
	for _, want := range k.wants {
		if !slices.ContainsFunc(drifted, func(r converge.Resource) bool { return r.ID == want.ID }) {
			continue
		}
		name := want.ID.Name()
		var err error
		switch {
		case want.Spec.Ensure == policy.Absent:
			k.ledger.Disown(want.ID)
			err = errors.Join(k.remove(name), definedToo(found.besides(name, repositoryFile(name))))
		case want.Spec.Brought():
			err = errors.Join(k.setBrought(want, found), definedToo(found.besides(name, found.first(name))))
		default:
			err = errors.Join(k.setKeys(ctx, want), k.setFile(want), definedToo(found.besides(name, repositoryFile(name))))
		}
		if err != nil {
			outcomes = append(outcomes, converge.Outcome{ID: want.ID, Err: public.Because("cannot set up the repository "+name, err)})
		}
	}
	for _, r := range k.unwanted() {
		if !slices.ContainsFunc(drifted, func(d converge.Resource) bool { return d.ID == r.ID }) {
			continue
		}
		if err := k.giveBack(r.ID, found); err != nil {
			outcomes = append(outcomes, converge.Outcome{ID: r.ID, Err: public.Because("cannot remove the repository "+r.ID.Name(), err)})
		}
	}
	return outcomes
}

// definedToo is the error of a repository that another file defines too. It is nil without a file.
func definedToo(other string) error {
	if other == "" {
		return nil
	}
	return public.Error(fmt.Errorf("%s defines it too; remove it there", other))
}

// giveBack restores the repository as it was before the agent. The imported key stays, because the
// packages from there can still be verified with it.
func (k *Repositories) giveBack(id policy.ID, found definitions) error {
	if k.ledger.Owns(policy.NewID(brought, id.Name())) && !k.ledger.Owns(id) {
		return k.giveBackSettings(id.Name(), found)
	}
	for _, file := range []string{repositoryFile(id.Name()), keyFile(id.Name())} {
		err := k.ledger.Release(file,
			func(original system.Original) error {
				if original.Link != "" {
					return k.system.FS.Symlink(original.Link, file)
				}
				return k.system.FS.WriteFile(file, original.Content, original.Info.Attr)
			},
			func() error { return k.system.FS.Remove(file) })
		if err != nil {
			return err
		}
	}
	k.ledger.Disown(id)
	k.ledger.Disown(policy.NewID(brought, id.Name()))
	return nil
}

// remove removes the repository's file and the agent's copy of its key. The imported key stays,
// because the packages from there can still be verified with it.
func (k *Repositories) remove(name string) error {
	err := k.system.FS.Remove(repositoryFile(name))
	if k.ledger.Made(keyFile(name)) {
		err = errors.Join(err, k.system.FS.Remove(keyFile(name)))
	}
	return err
}

func (k *Repositories) setFile(want policy.Want[policy.Repository]) error {
	r := converge.Wanted(want.Resource)
	if k.checkFile(&r, want); r.State == converge.Compliant {
		return nil
	}
	name := want.ID.Name()
	k.ledger.Own(want.ID)
	return k.system.FS.WriteFile(repositoryFile(name), content(name, want.Spec), attr(want))
}
