package packages

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
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

// Repositories keeps the policy's repositories.
type Repositories struct {
	*system.Unanswered
	system  *system.System
	ledger  *converge.Ledger
	wants   []policy.Want[policy.Repository]
	keys    *rpmdb
	manager manager
}

// NewRepositories returns the kind "repository". Another package manager is waited
// for as long as patience lasts.
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
	if len(k.wants)+len(k.ledger.Owned(k.Name())) == 0 {
		return nil
	}
	return append(databaseWatches(k.system.FS), converge.Watch{Dir: repositoryDir}, converge.Watch{Dir: keyDir})
}

func repositoryFile(name string) string { return path.Join(repositoryDir, name+".repo") }

func keyFile(name string) string { return path.Join(keyDir, "RPM-GPG-KEY-soe-"+name) }

// settings are what the file of a repository says. A repository that cannot be
// reached holds up nothing: it is given up soon, and skipped.
func settings(name string, r policy.Repository) []setting {
	title, enabled := r.Title, "1"
	if title == "" {
		title = name
	}
	if r.Disabled {
		enabled = "0"
	}
	all := []setting{
		{"name", title},
		{"baseurl", r.BaseURL},
		{"enabled", enabled},
		{"gpgcheck", "1"},
		{"gpgkey", "file://" + keyFile(name)},
		{"skip_if_unavailable", "1"},
		{"timeout", "10"},
		{"retries", "2"},
		{"metadata_expire", "1800"},
	}
	if r.Priority > 0 {
		all = append(all, setting{"priority", strconv.Itoa(r.Priority)})
	}
	return all
}

func content(name string, r policy.Repository) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "[%s]\n", name)
	for _, s := range settings(name, r) {
		fmt.Fprintf(&b, "%s=%s\n", s.key, s.value)
	}
	return []byte(b.String())
}

// attr is who may read the file: root alone when it holds a password.
func attr(want policy.Want[policy.Repository]) system.Attr {
	if len(want.Secrets) > 0 || strings.Contains(want.Spec.BaseURL, "@") {
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
	elsewhere, err := k.elsewhere()
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
				r.DiffersOpenly("file", "absent", "present")
			case !errors.Is(err, fs.ErrNotExist):
				r.Doubt(err.Error())
			}
			resources = append(resources, r)
			continue
		}
		k.checkFile(&r, want)
		if other := elsewhere[name]; other != "" {
			r.DiffersOpenly("defined in", repositoryFile(name)+" alone", other)
		}
		has, err := k.hasKey(want)
		if err == nil && !has {
			r.DiffersOpenly("key file", want.Spec.Fingerprint, "another, or none")
		}
		r.DoubtIf(err)
		switch {
		case r.State == converge.Unknown:
		case keysErr == nil && !slices.ContainsFunc(imported, isKey(want.Spec.Fingerprint)):
			r.DiffersOpenly("key", want.Spec.Fingerprint, "not imported")
		case keysErr != nil && r.State == converge.Compliant:
			r.DoubtFor(keysErr)
		}
		resources = append(resources, r)
	}
	return append(resources, unwanted...), nil
}

// unwanted are the repositories that the agent has set up and that the policy no
// longer names.
func (k *Repositories) unwanted() []converge.Resource {
	var resources []converge.Resource
	for _, id := range k.ledger.Owned(k.Name()) {
		if !slices.ContainsFunc(k.wants, func(w policy.Want[policy.Repository]) bool { return w.ID == id }) {
			resources = append(resources, converge.Unwanted(id, "the policy wanted it once, and no longer names it"))
		}
	}
	return resources
}

// imported are the versions of gpg-pubkey in the rpm database: of each key the end
// of its fingerprint, eight digits of it at least.
func (k *Repositories) imported(ctx context.Context) ([]string, error) {
	out, err := k.keys.ask(ctx)
	if err != nil {
		return nil, err
	}
	if out.ExitCode != 0 && !strings.Contains(string(out.Stdout), "is not installed") {
		k.keys.forget()
		return nil, fmt.Errorf("cannot ask the rpm database: %s", out.LastLine())
	}
	if out.ExitCode != 0 {
		return nil, nil
	}
	keys := strings.Fields(string(out.Stdout))
	if slices.ContainsFunc(keys, func(key string) bool { return strings.Trim(key, "0123456789abcdefABCDEF") != "" }) || len(keys) == 0 {
		k.keys.forget()
		return nil, fmt.Errorf("cannot ask the rpm database: of its keys it says %q", out.LastLine())
	}
	return keys, nil
}

func isKey(fingerprint string) func(string) bool {
	return func(version string) bool {
		return len(version) >= 8 && strings.HasSuffix(fingerprint, strings.ToUpper(version))
	}
}

// checkFile compares the file with what is wanted. What is in a URL is not shown
// when it holds a password.
func (k *Repositories) checkFile(r *converge.Resource, want policy.Want[policy.Repository]) {
	name := want.ID.Name()
	file := repositoryFile(name)
	info, err := k.system.FS.Stat(file)
	var got []byte
	if err == nil {
		got, err = k.system.FS.ReadFile(file)
	}
	if errors.Is(err, fs.ErrNotExist) {
		r.DiffersOpenly("file", "present", "absent")
		return
	}
	if err != nil {
		r.DoubtFor(err)
		return
	}
	if a := attr(want); info.Mode != a.Mode {
		r.DiffersOpenly("mode", fmt.Sprintf("%04o", a.Mode), fmt.Sprintf("%04o", info.Mode))
	}
	if info.UID != 0 || info.GID != 0 {
		r.DiffersOpenly("owner", "0:0", fmt.Sprintf("%d:%d", info.UID, info.GID))
	}
	if string(got) != string(content(name, want.Spec)) {
		compare(r, settings(name, want.Spec), parseINI(got)[name], attr(want).Mode == 0o600)
		if public.May(attr(want).Mode & info.Mode) {
			r.DifferencesOpenly()
		}
	}
}

// compare says in which settings a section differs from what is wanted, or that
// the file does in some other way.
func compare(r *converge.Resource, want, got []setting, secret bool) {
	before := len(r.Diff)
	effective := map[string]string{}
	for _, s := range got {
		effective[s.key] = s.value // the last one counts
	}
	shown := func(key, value string) string {
		if secret && key != "enabled" && key != "gpgcheck" && key != "gpgkey" {
			return "‹secret›"
		}
		return value
	}
	for _, s := range want {
		value, set := effective[s.key]
		delete(effective, s.key)
		switch {
		case value == s.value:
		case !set:
			r.Differs(s.key, shown(s.key, s.value), "not set")
		default:
			r.Differs(s.key, shown(s.key, s.value), shown(s.key, value))
		}
	}
	for _, s := range got {
		if value, extra := effective[s.key]; extra {
			r.DiffersVeiled(s.key, "not set", shown(s.key, value))
			delete(effective, s.key)
		}
	}
	if len(r.Diff) == before {
		r.DiffersOpenly("content", "as the agent writes it", "otherwise, with the same settings")
	}
}

// elsewhere are the repositories that are defined in a file other than their own:
// which of the two definitions counts is up to the order of the files.
func (k *Repositories) elsewhere() (map[string]string, error) {
	names, err := k.system.FS.ReadDir(repositoryDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	found := map[string]string{}
	for _, base := range names {
		file := path.Join(repositoryDir, base)
		if path.Ext(base) != ".repo" {
			continue
		}
		text, err := k.system.FS.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it is a link that leads nowhere, or went meanwhile
		}
		if err != nil {
			return nil, err
		}
		for section := range parseINI(text) {
			if section != strings.TrimSuffix(base, ".repo") {
				found[section] = file
			}
		}
	}
	return found, nil
}

// hasKey says whether the agent's copy of the key is the one wanted.
func (k *Repositories) hasKey(want policy.Want[policy.Repository]) (bool, error) {
	content, info, err := k.system.FS.Inspect(keyFile(want.ID.Name()))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil || info.UID != 0 || info.Mode != 0o644 {
		return false, err
	}
	key, err := parseKey(content)
	return err == nil && key.fingerprint == want.Spec.Fingerprint, nil
}

// Repair implements converge.Kind.
func (k *Repositories) Repair(ctx context.Context, drifted []converge.Resource) []converge.Outcome {
	var outcomes []converge.Outcome
	elsewhere, err := k.elsewhere()
	if err != nil {
		return all(drifted, err)
	}
	for _, want := range k.wants {
		if !slices.ContainsFunc(drifted, func(r converge.Resource) bool { return r.ID == want.ID }) {
			continue
		}
		name := want.ID.Name()
		var err error
		if want.Spec.Ensure == policy.Absent {
			k.ledger.Disown(want.ID)
			err = k.remove(name)
		} else {
			err = errors.Join(k.setKey(ctx, want), k.setFile(want))
			if other := elsewhere[name]; other != "" {
				err = errors.Join(err, public.Error(fmt.Errorf("%s defines it too; remove it there", other)))
			}
		}
		if err != nil {
			outcomes = append(outcomes, converge.Outcome{ID: want.ID, Err: public.Because("cannot set up the repository "+name, err)})
		}
	}
	for _, r := range k.unwanted() {
		if !slices.ContainsFunc(drifted, func(d converge.Resource) bool { return d.ID == r.ID }) {
			continue
		}
		if err := k.giveBack(r.ID); err != nil {
			outcomes = append(outcomes, converge.Outcome{ID: r.ID, Err: public.Because("cannot take the repository "+r.ID.Name()+" away", err)})
		}
	}
	return outcomes
}

// giveBack makes of the repository what it was before the agent. The imported key
// stays: with it the packages from there can still be verified.
func (k *Repositories) giveBack(id policy.ID) error {
	for _, file := range []string{repositoryFile(id.Name()), keyFile(id.Name())} {
		err := k.ledger.Release(file,
			func(original system.Kept) error {
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
	return nil
}

// remove takes the repository away, and the agent's copy of its key. The imported
// key stays: with it the packages from there can still be verified.
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

// setKey brings the key to the machine and into the rpm database. When it cannot be
// had, a wrong one does not stay: without a key nothing is installed, which the
// file says in any case.
func (k *Repositories) setKey(ctx context.Context, want policy.Want[policy.Repository]) error {
	file := keyFile(want.ID.Name())
	has, err := k.hasKey(want)
	if err != nil {
		return err
	}
	if !has {
		key, err := k.fetch(ctx, want.Spec)
		if err != nil {
			return errors.Join(public.Because("cannot use its key", err), k.system.FS.Remove(file))
		}
		if err := k.system.FS.WriteFile(file, key.armored(), system.Attr{Mode: 0o644}); err != nil {
			return err
		}
	}
	imported, err := k.imported(ctx)
	if err != nil || slices.ContainsFunc(imported, isKey(want.Spec.Fingerprint)) {
		return err
	}
	out, err := k.manager.unlocked(ctx, system.Command{Argv: []string{"rpm", "--import", file}})
	if err != nil {
		return err
	}
	k.keys.forget()
	if imported, err = k.imported(ctx); err == nil && !slices.ContainsFunc(imported, isKey(want.Spec.Fingerprint)) {
		err = fmt.Errorf("cannot import its key: %s", out.LastLine())
	}
	return err
}

func (k *Repositories) fetch(ctx context.Context, want policy.Repository) (publicKey, error) {
	content, err := fetchKey(ctx, k.system.FS, want.GPGKey)
	if err != nil {
		return publicKey{}, err
	}
	key, err := parseKey(content)
	if err != nil {
		return publicKey{}, err
	}
	if key.fingerprint != want.Fingerprint {
		return publicKey{}, public.Error(fmt.Errorf("its fingerprint is %s, and the policy says %s", key.fingerprint, want.Fingerprint))
	}
	return key, nil
}
