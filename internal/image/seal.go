package image

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/own"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/policysync"
	"github.com/soe-agent/soe-agent/internal/system"
)

// ssmDir is where amazon-ssm-agent stores its registration, key and identity.
const ssmDir = "/var/lib/amazon/ssm"

// A Removal is one thing that is, or would be, removed.
type Removal struct {
	Path    string `json:"path"`
	Section string `json:"section,omitempty"` // the section of the file that is removed; the others stay
	Secret  bool   `json:"secret,omitempty"`  // it contains a secret of the policy
	Left    string `json:"left,omitempty"`    // why it could not be removed

	rest []byte // what stays in the file
}

// String describes the removal.
func (r Removal) String() string {
	if r.Section != "" {
		return fmt.Sprintf("remove [%s] from %s", r.Section, r.Path)
	}
	if r.Secret {
		return "remove " + r.Path + ", which holds a secret of the policy"
	}
	return "remove " + r.Path
}

// Sealing lists what sealing removes, in order: the contents of a directory come before the
// directory, and files with secrets before the state that lists them. With registration, it
// includes what belongs to this machine as a managed node.
func Sealing(o Options, registration bool) ([]Removal, error) {
	all, err := secretFiles(o)
	errs := []error{err}
	for _, dir := range []string{o.StateDir, o.RunDir} {
		there, err := below(o.System.FS, dir)
		errs = append(errs, err)
		for _, name := range there {
			if name != path.Join(o.RunDir, lock) {
				all = append(all, Removal{Path: name})
			}
		}
	}
	if registration {
		shared, err := sharedCredentials(o.System.FS)
		errs = append(errs, err)
		there, err := below(o.System.FS, ssmDir)
		errs = append(errs, err)
		all = append(all, shared...)
		for _, name := range there {
			all = append(all, Removal{Path: name})
		}
	}
	return all, errors.Join(errs...)
}

// lock is the lock file in the agent's runtime directory. Whoever holds it is the only running
// agent.
const lock = "lock"

// Seal removes everything that Sealing lists, as far as possible. The caller must hold the agent's
// lock.
func Seal(ctx context.Context, o Options, registration bool) ([]Removal, error) {
	if registration {
		if err := ssmAgentRests(ctx, o.System); err != nil {
			return nil, err
		}
	}
	all, err := Sealing(o, registration)
	if err != nil {
		return nil, err
	}
	secretsLeft := false
	for i, r := range all {
		if err := ctx.Err(); err != nil {
			return all[:i], err
		}
		err := error(nil)
		switch {
		case secretsLeft && strings.HasPrefix(r.Path, o.StateDir+"/"):
			err = errKnowsOfSecret
		case r.Section != "":
			err = rewrite(o.System.FS, r)
		default:
			err = o.System.FS.Remove(r.Path)
		}
		if err != nil {
			all[i].Left = err.Error()
			secretsLeft = secretsLeft || r.Secret
		}
	}
	return all, nil
}

// errKnowsOfSecret is why the state stays if not every secret could be removed: without it the next
// seal would not find that secret.
var errKnowsOfSecret = errors.New("it is needed to find the secret that could not be removed; repair that and seal again")

// secretFiles returns the policy's files that contain a secret: those in the ledger, and those in
// the last good policy, the seed and the local fragments, for any persona.
func secretFiles(o Options) ([]Removal, error) {
	names, err := converge.SecretFiles(o.System.FS, o.StateDir)
	errs := []error{err}
	sources, err := policysync.Fragments(o.System.FS, o.StateDir)
	errs = append(errs, err)
	for dir, layer := range map[string]policy.Layer{o.SeedDir: policy.Seed, o.LocalDir: policy.Local} {
		of, err := policy.ReadDir(o.System.FS, dir, layer)
		errs = append(errs, err)
		sources = append(sources, of...)
	}
	for _, source := range sources {
		fragment, err := policy.Parse(source)
		if err != nil {
			continue // it is not in force, and the ledger knows what an earlier version wrote
		}
		for _, setting := range fragment.Settings {
			references, _ := policy.References(setting.Spec)
			if c, is := setting.Spec.(policy.Confidential); is && slices.ContainsFunc(references, policy.Reference.Secret) {
				_, file := c.Confidential(setting.ID)
				names = append(names, file)
			}
		}
	}
	slices.Sort(names)
	var all []Removal
	for _, name := range slices.Compact(names) {
		for _, file := range []string{name, own.Temporary(name)} {
			info, err := o.System.FS.Stat(file)
			switch {
			case errors.Is(err, fs.ErrNotExist):
			case err != nil:
				errs = append(errs, err)
			case !info.IsDir():
				all = append(all, Removal{Path: file, Secret: true})
			}
		}
	}
	return all, errors.Join(errs...)
}

// ssmAgentRests returns an error if amazon-ssm-agent is running, because it would write everything
// anew.
func ssmAgentRests(ctx context.Context, s *system.System) error {
	for _, unit := range []string{"amazon-ssm-agent.service", "snap.amazon-ssm-agent.amazon-ssm-agent.service"} {
		u, err := s.Units.Unit(ctx, unit)
		switch {
		case errors.Is(err, system.ErrNotRunning):
			return nil
		case err != nil:
			return fmt.Errorf("cannot seal: %w", err)
		case u.ActiveState == "active" || u.ActiveState == "activating" || u.ActiveState == "reloading":
			return fmt.Errorf("cannot remove the registration: %s runs, and would write its state anew; stop it first with: systemctl stop %s", unit, unit)
		}
	}
	return nil
}

// below returns everything below a directory, the contents of a directory before the directory
// itself. It does not follow links.
func below(files system.FileReader, dir string) ([]string, error) {
	info, err := files.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("cannot look below %s: it is not a directory", dir)
	}
	names, err := files.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var all []string
	for _, name := range names {
		entry := path.Join(dir, name)
		info, err := files.Stat(entry)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if info.IsDir() {
			inside, err := below(files, entry)
			if err != nil {
				return nil, err
			}
			all = append(all, inside...)
		}
		all = append(all, entry)
	}
	return all, nil
}

// sharedCredentials returns the credentials that amazon-ssm-agent shares with other programs, in a
// file that may have other sections.
func sharedCredentials(files system.FileReader) ([]Removal, error) {
	content, err := files.ReadFile(ssmDir + "/runtimeconfig/identity_config.json")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var says struct{ ShareFile, ShareProfile string }
	if err := json.Unmarshal(content, &says); err != nil {
		return nil, fmt.Errorf("cannot tell where amazon-ssm-agent has written its credentials: %w", err)
	}
	if !path.IsAbs(says.ShareFile) || path.Clean(says.ShareFile) != says.ShareFile {
		return nil, nil // it shares none
	}
	shared, info, err := files.Inspect(says.ShareFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !info.IsRegular() {
		return nil, fmt.Errorf("cannot remove the credentials in %s: it is not a regular file; remove by hand what it leads to", says.ShareFile)
	}
	name := cmp.Or(says.ShareProfile, "default")
	rest, had := without(shared, name)
	switch {
	case !had:
		return nil, nil
	case len(bytes.TrimSpace(rest)) == 0:
		return []Removal{{Path: says.ShareFile}}, nil
	}
	return []Removal{{Path: says.ShareFile, Section: name, rest: rest}}, nil
}

// without returns a shared credentials file without one of its sections, and whether it had that
// section.
func without(content []byte, section string) (rest []byte, had bool) {
	inside := false
	for line := range strings.Lines(string(content)) {
		if header := strings.TrimSpace(line); strings.HasPrefix(header, "[") && strings.HasSuffix(header, "]") {
			inside = strings.TrimSpace(header[1:len(header)-1]) == section
		}
		if inside {
			had = true
		} else {
			rest = append(rest, line...)
		}
	}
	return rest, had
}

func rewrite(files system.FS, r Removal) error {
	info, err := files.Stat(r.Path)
	if err != nil {
		return err
	}
	return files.WriteFile(r.Path, r.rest, info.Attr)
}
