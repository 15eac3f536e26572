package packages

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/public"
	"github.com/soe-agent/soe-agent/internal/system"
)

// brought is the ledger's kind for repositories that something else defines, such as a release
// package, and of which the agent has changed settings.
const brought = "brought"

var errNotBrought = errors.New("no file in " + repositoryDir + " defines it: name the package that brings it in [packages], or say its baseurl, gpgkey and fingerprint")

// checkBrought compares the settings of a repository that something else defines with the policy.
func (k *Repositories) checkBrought(r *converge.Resource, want policy.Want[policy.Repository], found definitions) {
	name := want.ID.Name()
	file := found.first(name)
	if file == "" {
		r.AddPublicDrift("defined", "by a file in "+repositoryDir, "by none")
		r.Note(errNotBrought.Error())
		return
	}
	text, err := k.system.FS.ReadFile(file)
	if err != nil {
		r.SetUnknownErr(err)
		return
	}
	if other := found.besides(name, file); other != "" {
		r.AddPublicDrift("defined in", file+" alone", other)
	}
	section := parseINI(text)[name]
	for _, s := range optional(want.Spec.RepositorySettings) {
		got, set := value(section, s.key)
		switch {
		case !set && s == setting{"enabled", "1"}, set && truth(got) == truth(s.value):
		case strings.Contains(s.value+got, "@"): // the value may contain a password
			r.AddDrift(s.key, public.Secret, "another")
		case !set:
			r.AddPublicDrift(s.key, s.value, "not set")
		default:
			r.AddPublicDrift(s.key, s.value, got)
		}
	}
}

// setBrought writes the settings that the policy names and keeps all other lines of the file.
func (k *Repositories) setBrought(want policy.Want[policy.Repository], found definitions) error {
	name := want.ID.Name()
	file := found.first(name)
	if file == "" {
		return public.Error(errNotBrought)
	}
	text, info, err := k.system.FS.Inspect(file)
	if err != nil {
		return err
	}
	section := parseINI(text)[name]
	for _, s := range optional(want.Spec.RepositorySettings) {
		if got, set := value(section, s.key); !set || truth(got) != truth(s.value) {
			text = withSetting(text, name, s.key, s.value, true)
		}
	}
	if strings.Contains(want.Spec.Proxy, "@") {
		info.Mode &= 0o600
	}
	k.ledger.Own(policy.NewID(brought, name))
	return k.system.FS.WriteFile(file, text, info.Attr)
}

// giveBackSettings restores the settings that a repository had before the agent changed them.
func (k *Repositories) giveBackSettings(name string, found definitions) error {
	file := found.first(name)
	if file == "" { // the package that defined the repository has removed the file
		k.ledger.Disown(policy.NewID(brought, name))
		return nil
	}
	original, kept, err := k.ledger.Original(file)
	if err != nil {
		return err
	}
	restore := func(original system.Original) error {
		text, info, err := k.system.FS.Inspect(file)
		if err != nil {
			return err
		}
		before := parseINI(original.Content)[name]
		for _, key := range optionalKeys() {
			was, set := value(before, key)
			if got, is := value(parseINI(text)[name], key); is != set || got != was {
				text = withSetting(text, name, key, was, set)
			}
		}
		attr := info.Attr
		attr.Mode = original.Info.Mode
		return k.system.FS.WriteFile(file, text, attr)
	}
	others := slices.ContainsFunc(k.ledger.Owned(brought), func(id policy.ID) bool { return id.Name() != name && found.first(id.Name()) == file })
	switch {
	case others && kept: // another repository of this file still needs the original
		err = restore(original)
	default:
		err = k.ledger.Release(file, restore, func() error { return fmt.Errorf("%s was made by the agent", file) })
	}
	if err == nil {
		k.ledger.Disown(policy.NewID(brought, name))
	}
	return err
}
