package dropin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"syscall"

	"github.com/soe-agent/soe-agent/internal/policy"
)

const tmpfilesDir = "/etc/tmpfiles.d"

// checkWritten checks that a policy may write what a file makes others write. The policy was checked
// when it was read, before its references were resolved, and without the links of the machine.
func checkWritten(_ context.Context, c candidate) error {
	wrong := func(why string, otherwise error) error {
		switch {
		case why == "":
			return otherwise
		case c.secret:
			why = policy.UnquotedWritten(why)
		}
		return errors.New(why)
	}
	if path.Dir(c.name) != tmpfilesDir {
		return wrong(policy.Written(c.name, string(c.content)), nil)
	}
	var failed error
	seen := map[string]string{}
	why := policy.WrittenByTmpfiles(string(c.content), func(name string) string {
		if target, is := seen[name]; is {
			return target
		}
		target, err := c.system.FS.Readlink(name)
		switch {
		case err == nil && !path.IsAbs(target):
			target = path.Join(path.Dir(name), target)
		case err != nil:
			target = ""
			if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, syscall.ENOTDIR) {
				failed = cmp.Or(failed, err)
			}
		}
		seen[name] = target
		return target
	})
	return wrong(why, failed)
}

// takeTmpfiles runs those lines that may be run at any time. Lines for the boot alone, and those that
// would empty directories in use, wait for the reboot.
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
		delete(later, name) // its earlier content no longer counts
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

// removal reports whether a file removes something, and whether some of its lines wait.
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

// overruledTmpfiles returns the line of a file that systemd-tmpfiles skips at boot, because a file
// that is not the policy's is read earlier and has a line for the same path.
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
