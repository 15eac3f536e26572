package dropin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/policy"
)

const tmpfilesDir = "/etc/tmpfiles.d"

// checkWritten asks of what a file has others write whether a policy may write it. The
// policy was asked when it was read; since then its values have come.
func checkWritten(_ context.Context, c candidate) error {
	if why := policy.Written(c.name, string(c.content)); why != "" {
		return errors.New(why)
	}
	return nil
}

// takeTmpfiles runs the lines of files that are for any moment. What is for the boot alone,
// and what would empty directories that are in use, waits for the reboot.
func (b *batch) takeTmpfiles(ctx context.Context, names []string) map[string]error {
	failures := createTmpfiles.activate(ctx, b.system, names)
	if !b.system.Running() {
		return failures
	}
	if failures == nil {
		failures = map[string]error{}
	}
	mark := b.Mark()
	later := b.readNames(untilReboot)
	before := len(later)
	for _, name := range names {
		delete(later, name) // what it said before counts no more
		content, _ := b.system.FS.ReadFile(name)
		removes, waits := removal(string(content))
		if removes && !waits && failures[name] == nil {
			failures[name] = command(ctx, b.system, "systemd-tmpfiles", "--remove", name)
		}
		if waits {
			later[name] = true
		}
	}
	err := b.Since(mark)
	if err == nil && (before > 0 || len(later) > 0) {
		err = b.writeNames(untilReboot, later)
	}
	for _, name := range names {
		if failures[name] == nil {
			failures[name] = err
		}
	}
	return failures
}

// removal says whether a file has something removed, and whether lines of it wait.
func removal(content string) (removes, waits bool) {
	empties := false
	for _, line := range policy.TmpfilesLines(content) {
		switch {
		case line.Boot:
			waits = true
		case strings.IndexByte("rR", line.Kind) >= 0:
			removes = true
		case line.Kind == 'D':
			empties = true
		}
	}
	return removes, waits || removes && empties
}

// overruledTmpfiles says of which line of a file systemd-tmpfiles passes over at the boot, for
// another file, which it reads before and is not the policy's, has one for the same path.
func (k *Kind) overruledTmpfiles(name, content string) (string, error) {
	earlier := map[string]string{}
	for _, dir := range []string{tmpfilesDir, "/run/tmpfiles.d", "/usr/local/lib/tmpfiles.d", "/usr/lib/tmpfiles.d"} {
		bases, err := k.system.FS.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		for _, base := range bases {
			if base < path.Base(name) && strings.HasSuffix(base, ".conf") && earlier[base] == "" {
				earlier[base] = path.Join(dir, base)
			}
		}
	}
	ours := policy.TmpfilesLines(content)
	for _, base := range slices.Sorted(maps.Keys(earlier)) {
		if k.namesHere(earlier[base]) {
			continue
		}
		theirs, err := k.system.FS.ReadFile(earlier[base])
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		for _, their := range policy.TmpfilesLines(string(theirs)) {
			for _, our := range ours {
				if our.Conflicts(their) {
					return fmt.Sprintf("%s has a line for %s, and of two systemd-tmpfiles goes by the first that it reads: take a name that sorts before, or the same name", earlier[base], our.Path), nil
				}
			}
		}
	}
	return "", nil
}
