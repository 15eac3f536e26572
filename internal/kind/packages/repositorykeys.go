package packages

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/public"
	"github.com/soe-agent/soe-agent/internal/system"
)

// imported returns the versions of gpg-pubkey in the rpm database. Each is the end of a key's
// fingerprint, at least eight digits.
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

// checkKeys compares the agent's copy of the keys, and the keys that rpm has imported, with the
// policy.
func (k *Repositories) checkKeys(r *converge.Resource, want policy.Want[policy.Repository], imported []string, err error) {
	wanted := strings.Join(want.Spec.Fingerprints, ", ")
	has, unread := k.hasKeys(want)
	if unread == nil && !has {
		r.AddPublicDrift("key file", wanted, "another, or none")
	}
	r.SetUnknownIf(unread)
	switch {
	case r.State == converge.Unknown:
	case err == nil && len(missing(want.Spec.Fingerprints, imported)) > 0:
		r.AddPublicDrift("key", strings.Join(missing(want.Spec.Fingerprints, imported), ", "), "not imported")
	case err != nil && r.State == converge.Compliant:
		r.SetUnknownErr(err)
	}
}

// missing returns the fingerprints of keys that are not imported.
func missing(fingerprints, imported []string) []string {
	return slices.DeleteFunc(slices.Clone(fingerprints), func(f string) bool { return slices.ContainsFunc(imported, isKey(f)) })
}

// hasKeys reports whether the agent's copy holds exactly the wanted keys.
func (k *Repositories) hasKeys(want policy.Want[policy.Repository]) (bool, error) {
	content, info, err := k.system.FS.Inspect(keyFile(want.ID.Name()))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil || info.UID != 0 || info.Mode != 0o644 {
		return false, err
	}
	keys, err := parseKeys(content)
	return err == nil && areWanted(keys, want.Spec.Fingerprints) == nil, nil
}

// areWanted returns an error unless the keys have exactly these fingerprints.
func areWanted(keys []publicKey, fingerprints []string) error {
	for _, key := range keys {
		if !slices.Contains(fingerprints, key.fingerprint) {
			return public.Error(fmt.Errorf("its fingerprint is %s, and the policy says %s", key.fingerprint, strings.Join(fingerprints, ", ")))
		}
	}
	for _, f := range fingerprints {
		if !slices.ContainsFunc(keys, func(key publicKey) bool { return key.fingerprint == f }) {
			return public.Error(fmt.Errorf("none of its keys has the fingerprint %s", f))
		}
	}
	return nil
}

// setKeys writes the agent's copy of the keys and imports them into the rpm database. If the keys
// cannot be had, a copy with wrong keys is removed. Without a key nothing is installed, because the
// repository's file always sets gpgcheck.
func (k *Repositories) setKeys(ctx context.Context, want policy.Want[policy.Repository]) error {
	file := keyFile(want.ID.Name())
	has, err := k.hasKeys(want)
	if err != nil {
		return err
	}
	if !has {
		keys, err := k.fetch(ctx, want.Spec)
		if err != nil {
			return errors.Join(public.Because("cannot use its key", err), k.system.FS.Remove(file))
		}
		var text bytes.Buffer
		for _, key := range keys {
			text.Write(key.armored())
		}
		if err := k.system.FS.WriteFile(file, text.Bytes(), system.Attr{Mode: 0o644}); err != nil {
			return err
		}
	}
	imported, err := k.imported(ctx)
	if err != nil || len(missing(want.Spec.Fingerprints, imported)) == 0 {
		return err
	}
	out, err := k.manager.unlocked(ctx, system.Command{Argv: []string{"rpm", "--import", file}})
	if err != nil {
		return err
	}
	k.keys.forget()
	if imported, err = k.imported(ctx); err == nil && len(missing(want.Spec.Fingerprints, imported)) > 0 {
		err = fmt.Errorf("cannot import its key: %s", out.LastLine())
	}
	return err
}

// fetch downloads the keys from the repository's URLs, without duplicates.
func (k *Repositories) fetch(ctx context.Context, want policy.Repository) ([]publicKey, error) {
	client, err := k.client(want.RepositorySettings)
	if err != nil {
		return nil, err
	}
	var keys []publicKey
	for _, from := range want.GPGKeys {
		content, err := fetchKey(ctx, client, k.system.FS, from)
		if err != nil {
			return nil, err
		}
		there, err := parseKeys(content)
		if err != nil {
			return nil, err
		}
		for _, key := range there {
			if !slices.ContainsFunc(keys, func(other publicKey) bool { return other.fingerprint == key.fingerprint }) {
				keys = append(keys, key)
			}
		}
	}
	return keys, areWanted(keys, want.Fingerprints)
}
