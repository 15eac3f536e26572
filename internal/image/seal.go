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

// ssmDir is where amazon-ssm-agent keeps its registration, key and identity.
const ssmDir = "/var/lib/amazon/ssm"

// A Removal is one thing that is, or would be, taken away.
type Removal struct {
	Path    string `json:"path"`
	Section string `json:"section,omitempty"` // of the file, which stays with the others
	Secret  bool   `json:"secret,omitempty"`  // a secret of the policy is in it
	Left    string `json:"left,omitempty"`    // why it could not be

	rest []byte // of the file
}

// String is what is done.
func (r Removal) String() string {
	if r.Section != "" {
		return fmt.Sprintf("remove [%s] from %s", r.Section, r.Path)
	}
	if r.Secret {
		return "remove " + r.Path + ", which holds a secret of the policy"
	}
	return "remove " + r.Path
}

// Sealing lists what sealing takes away, in the order in which it does: what is in a
// directory comes before the directory, and files with secrets come before the state that
// knows of them. With registration also what belongs to this
// machine as a managed node.
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

// lock is the file in the agent's runtime directory by which it is alone.
const lock = "lock"

// Seal takes all of it away that can be. Whoever calls is the only agent at work.
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

// errKnowsOfSecret is why the state stays when not every secret could be taken away: the
// next seal would not know of it.
var errKnowsOfSecret = errors.New("it is needed to find the secret that could not be removed; mend that and seal again")

// secretFiles are the files of the policy that hold a secret: those that the ledger knows,
// and those of which the last good policy, the seed or a local fragment says so, for
// whichever persona.
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
			continue // it is not in force, and what it was before the ledger knows
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

// ssmAgentRests is an error while amazon-ssm-agent runs: it would write all of it anew.
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

// below is all there is below a directory, what is in a directory before the directory.
// No link is followed.
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

// sharedCredentials are those that amazon-ssm-agent shares with others, in a file that
// may have sections of somebody else.
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

// without is a shared credentials file without one of its sections.
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
