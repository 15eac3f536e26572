package dropin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"

	"github.com/soe-agent/soe-agent/internal/system"
)

// misread is how logrotate tells of what it cannot read in a file. Of logs that are not
// there it tells otherwise, and that is no fault of the file.
var misread = regexp.MustCompile(`(?m)^error: (\S+:\d+ .*)$`)

// checkLogrotate has logrotate read all that it reads, with the file in it and without: of
// two files with the same log it passes over the second, a package's perhaps.
func checkLogrotate(ctx context.Context, c candidate) error {
	if c.content == nil {
		return nil
	}
	main := logrotateMain
	if _, err := c.system.FS.Stat(main); errors.Is(err, fs.ErrNotExist) {
		main = c.name
	} else if err != nil {
		return err
	}
	wrong, err := misreadByLogrotate(ctx, c.system, main, system.Staged{c.name: c.content})
	if err != nil || len(wrong) == 0 {
		return err
	}
	before, err := misreadByLogrotate(ctx, c.system, main, system.Staged{c.name: nil})
	if err != nil {
		return err
	}
	for _, fault := range wrong {
		if !slices.Contains(before, fault) {
			return fmt.Errorf("logrotate refuses it: %s", c.quoted(fault))
		}
	}
	return nil
}

func misreadByLogrotate(ctx context.Context, s *system.System, main string, staged system.Staged) (faults []string, err error) {
	out, err := s.Runner.Run(ctx, system.Command{Argv: []string{"logrotate", "-d", main}, ReadOnly: true, Staged: staged})
	if errors.Is(err, system.ErrNotInstalled) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, match := range misread.FindAllStringSubmatch(string(out.Stderr)+"\n"+string(out.Stdout), -1) {
		faults = append(faults, strings.TrimSpace(match[1]))
	}
	return faults, nil
}
