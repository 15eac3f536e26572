package dropin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/public"
	"github.com/soe-agent/soe-agent/internal/system"
)

// labelled is the number of files per call of restorecon.
const labelled = 1000

// relabelled matches restorecon's output for a file, of policycoreutils 3 and 2.5.
var relabelled = regexp.MustCompile(`^(?:Would relabel (.+) from (\S+) to (\S+)|restorecon reset (.+) context (\S+)->(\S+))$`)

// hasLabels reports whether SELinux is on, so that a wrong label may keep a program from reading a
// file.
func (k *Kind) hasLabels() (bool, error) {
	if !k.system.Running() {
		return false, nil
	}
	_, err := k.system.FS.Stat("/sys/fs/selinux/enforce")
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return err == nil, nil
	}
	return false, fmt.Errorf("cannot tell whether SELinux is on: %w", err)
}

// checkLabels compares the labels of otherwise correct files with what the machine's SELinux policy
// wants for their paths (restorecon(8)).
func (k *Kind) checkLabels(ctx context.Context, resources []converge.Resource) error {
	if has, err := k.hasLabels(); err != nil || !has {
		return err
	}
	byName := map[string]*converge.Resource{}
	var names []string
	for i := range resources {
		if r := &resources[i]; r.State == converge.Compliant {
			byName[fileOf(r.ID)] = r
			names = append(names, fileOf(r.ID))
		}
	}
	for some := range slices.Chunk(names, labelled) {
		out, err := k.system.Runner.Run(ctx, system.Command{Argv: append([]string{"restorecon", "-i", "-n", "-v", "--"}, some...), ReadOnly: true})
		if errors.Is(err, system.ErrNotInstalled) {
			return nil
		}
		if err == nil && out.ExitCode != 0 {
			err = fmt.Errorf("restorecon: %s", out.LastLine())
		}
		if err != nil {
			for _, name := range some {
				byName[name].SetUnknownErr(public.Because("cannot tell whether its SELinux label is right", err))
			}
			continue
		}
		for line := range strings.Lines(string(out.Stdout)) {
			if match := relabelled.FindStringSubmatch(strings.TrimSpace(line)); match != nil {
				if r := byName[match[1]+match[4]]; r != nil {
					r.AddPublicDrift("label", match[3]+match[6], match[2]+match[5])
				}
			}
		}
	}
	return nil
}
